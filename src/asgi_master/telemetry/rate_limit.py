"""A limit for log lines that repeat: nothing that repeats may fill a disk. Pure."""

from collections.abc import Hashable

_MAX_KEYS = 256
"""Maximum number of keys. Further ones are not logged: they are not kinds, but texts that differ each time."""


class RateLimit:
    """Allows one line per key and period, and counts the occurrences in between."""

    def __init__(self, period: float = 60.0) -> None:
        """`period`: minimum number of seconds between two lines of one key."""
        self._period = period
        self._logged_at: dict[Hashable, float] = {}
        self._unlogged: dict[Hashable, int] = {}

    def count(self, key: Hashable, now: float) -> int:
        """Count one occurrence. Returns their number since the last line if a line is due now, else 0."""
        if key not in self._logged_at and len(self._logged_at) >= _MAX_KEYS and not self._expire(now):
            return 0
        times = self._unlogged.pop(key, 0) + 1
        if key in self._logged_at and now < self._logged_at[key] + self._period:
            self._unlogged[key] = times
            return 0
        self._logged_at[key] = now
        return times

    def _expire(self, now: float) -> bool:
        """Drop the keys whose period is over; returns whether there were any."""
        expired = [key for key, logged_at in self._logged_at.items() if now >= logged_at + self._period]
        for key in expired:
            del self._logged_at[key]
            self._unlogged.pop(key, None)
        return bool(expired)
