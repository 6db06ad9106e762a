"""The time of lines: in the local zone, or in one that is the same in every process whatever the application sets."""

from datetime import UTC, datetime, tzinfo

LOCAL = "local"
_zone: list[tzinfo | None] = [None]
"""One, and none for local time: what was made before it was set reads it after."""


def set_zone(name: str) -> None:
    """Tell times in this zone: `local`, `utc`, or a name such as `Europe/Berlin`. Raises `ValueError` for no zone."""
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
    """This moment, given in seconds since the epoch, with the offset of the zone."""
    zone = _zone[0]
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone)
