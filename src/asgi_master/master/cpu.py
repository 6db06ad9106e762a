"""The CPU that processes use, as differences of what the kernel counts."""

import time
from collections.abc import Callable, Collection

from asgi_master.telemetry.resources import cpu_seconds

_MOST_AT_ONCE = 64
"""Processes that are looked at in one call: it takes about 20 µs each, and the others have their turn later."""


class CpuSampler:
    """Remembers the last two looks at each process."""

    def __init__(
        self,
        look: Callable[[int], float | None] = cpu_seconds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._clock = clock
        self._looks: dict[int, tuple[float, float]] = {}
        """By process id, the one that was looked at longest ago first: when, and its CPU seconds."""
        self._shares: dict[int, float] = {}

    def sample(self, pids: Collection[int]) -> dict[int, float]:
        """CPU seconds a second, of each of these processes that was looked at twice: 1 is one core."""
        wanted = set(pids)
        self._looks = {pid: look for pid, look in self._looks.items() if pid in wanted}
        self._shares = {pid: share for pid, share in self._shares.items() if pid in wanted}
        new = [pid for pid in pids if pid not in self._looks]
        for pid in [*new, *self._looks][:_MOST_AT_ONCE]:
            used, now = self._look(pid), self._clock()
            before = self._looks.pop(pid, None)
            if used is None:
                continue
            self._looks[pid] = now, used
            if before is not None and now > before[0]:
                self._shares[pid] = max(0.0, (used - before[1]) / (now - before[0]))
        return self._shares
