"""Numbers as a person reads them, in a few characters."""

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
UNKNOWN = "-"


def number(value: float | None) -> str:
    """A rate or a count in at most five characters: `0.2`, `12`, `1.2k`, `35M`."""
    if value is None:
        return UNKNOWN
    if value and value < 9.95:
        return f"{value:.1f}"
    for unit, size in (("", 1.0), ("k", 1e3), ("M", 1e6)):
        if value < 999.5 * size:
            scaled = value / size
            return f"{scaled:.1f}{unit}" if unit and scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{value / 1e9:.1f}G"


def seconds(value: float | None) -> str:
    """A duration: `0.3 ms`, `12 ms`, `1.2 s`, `45 s`, `3 m`, `5 h`, `2 d`."""
    if value is None:
        return UNKNOWN
    if value < 0.9995:
        ms = value * 1000
        return f"{ms:.0f} ms" if ms >= 9.95 or ms < 0.05 else f"{ms:.1f} ms"
    for unit, size, until in (("s", 1, 60), ("m", 60, 60), ("h", 3600, 48)):
        if value < until * size:
            scaled = value / size
            return f"{scaled:.1f} {unit}" if unit == "s" and scaled < 9.95 else f"{scaled:.0f} {unit}"
    return f"{value / 86400:.0f} d"


def share(value: float | None) -> str:
    """`47%`."""
    return UNKNOWN if value is None else f"{value * 100:.0f}%"


def size(value: float | None) -> str:
    """Bytes: `640K`, `45M`, `1.2G`."""
    if value is None:
        return UNKNOWN
    if value < 999.5 * 1024:
        return f"{value / 1024:.0f}K"
    if value < 999.5 * 1024**2:
        return f"{value / 1024**2:.0f}M"
    return f"{value / 1024**3:.1f}G"


def growth(bytes_a_second: float | None) -> str:
    """Bytes an hour, with a sign: `+12M`, `-1M`, `0`."""
    if bytes_a_second is None:
        return UNKNOWN
    hourly = bytes_a_second * 3600
    if abs(hourly) < 512 * 1024:
        return "0"
    return f"{'+' if hourly > 0 else '-'}{size(abs(hourly))}"


def sparkline(values: Sequence[float | None], width: int, full: float) -> str:
    """The newest values as bars, `width` of them; the peak of several is shown where they have no room.

    `full` is a value that fills the height; larger ones scale all bars. A space is an unknown value.
    """
    per_bar = max(1, -(-len(values) // width))
    groups = [values[max(0, end - per_bar) : end] for end in range(len(values), 0, -per_bar)][::-1][-width:]
    peaks = [max((value for value in group if value is not None), default=None) for group in groups]
    top = max([full, *(peak for peak in peaks if peak is not None)])
    return "".join(" " if peak is None else _BARS[min(7, int(peak / top * 8))] for peak in peaks)
