"""Whatever happens again and again is told once, and then seldom: nothing that repeats may fill a disk. Pure."""

from collections.abc import Hashable


class Seldom:
    """Judges when to tell of something again."""

    def __init__(self, period: float) -> None:
        """`period`: the least seconds between two times that the same is told."""
        self._period = period
        self._told_at: dict[Hashable, float] = {}
        self._untold: dict[Hashable, int] = {}

    def count(self, what: Hashable, now: float) -> int:
        """It happened: how often since it was told last, if it is to be told now; 0 if it is not."""
        times = self._untold.pop(what, 0) + 1
        if what in self._told_at and now < self._told_at[what] + self._period:
            self._untold[what] = times
            return 0
        self._told_at[what] = now
        return times
