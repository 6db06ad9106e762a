"""Timestamps of log lines: local time, or a fixed zone that the application's environment cannot change."""

from datetime import UTC, datetime, tzinfo

LOCAL = "local"
_zone: list[tzinfo | None] = [None]
"""One item; `None` is local time. A list, so that objects created before `set_zone` see the change."""


def set_zone(name: str) -> None:
    """Write timestamps in this zone: `local`, `utc`, or a name such as `Europe/Berlin`. Raises `ValueError`."""
    _zone[0] = _zone_of(name)


def _zone_of(name: str) -> tzinfo | None:
    if name.lower() == LOCAL:
        return None
    if name.lower() == "utc":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 -- few name one

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"no time zone {name!r} is known here") from None


def at(seconds: float) -> datetime:
    """The time `seconds` since the epoch, in the configured zone."""
    zone = _zone[0]
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone)
