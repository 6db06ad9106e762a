"""Whether this worker has served enough, lived long enough or grown too large, and so asks to be replaced.

Asking changes nothing here: the worker serves until the master, which starts a successor first, tells it to leave.
`Recycling` decides, without a clock or a file; `Recycler` carries it on the worker's timer.
"""

import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asgi_master.ipc.counters import Stats
from asgi_master.settings.model import ProcessSettings
from asgi_master.telemetry.failure_log import FailureLog

_SAMPLES = 3
"""So many looks in a row must find the memory above its limit: a peak is not a leak."""

_PAUSE = 2.0
"""Seconds between two such looks, at least."""

_SHARE = 100
"""The kernel walks all page tables for a look; the pause is so many times as long as that took."""

_PAGE = resource.getpagesize()
_PRIVATE = re.compile(rb"^Private_\w+: +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker asks to be replaced; 0 is never."""

    requests: int = 0
    lifetime: float = 0.0
    """Seconds since it was ready."""
    memory: int = 0
    """Bytes of its own (USS): pages it shares with the other workers are not won by replacing it."""
    memory_hard: int = 0
    """As many bytes of its own end it at once, whether a successor is there or not."""


def limits_of(settings: ProcessSettings, jitter: Callable[[], float]) -> Limits:
    """The limits of one worker: each draws its own, so that those who started together do not leave together.

    `jitter` returns a number from 0 to 1.
    """
    spread = settings.max_requests_jitter
    if spread < 0:
        spread = settings.max_requests // 10
    return Limits(
        requests=settings.max_requests and settings.max_requests + round(spread * jitter()),
        lifetime=settings.max_lifetime * (1.0 + 0.1 * jitter()),
        memory=settings.max_worker_memory,
        memory_hard=settings.max_worker_memory_hard,
    )


class Recycling:
    """The decision for one worker that became ready at `started`, in seconds on the clock of `now`."""

    def __init__(self, limits: Limits, started: float) -> None:
        self._limits = limits
        self._started = started
        self._next_look = started
        self._large = 0
        """Looks in a row that found the memory above its limit."""
        self._least_memory = min(filter(None, (limits.memory, limits.memory_hard)), default=0)

    def reason(self, now: float, requests: int) -> str:
        """Why to leave after so many requests; empty if there is no reason."""
        limits = self._limits
        if limits.requests and requests >= limits.requests:
            return f"it served {requests} requests"
        if limits.lifetime and now - self._started >= limits.lifetime:
            return f"it served for {now - self._started:.0f} s"
        return ""

    def wants_look(self, now: float, resident: int) -> bool:
        """Whether to look how many bytes are its own, which is dear, when so many are resident, which is cheap."""
        if not self._least_memory or now < self._next_look:
            return False
        if resident <= self._least_memory:
            self._large = 0
            return False
        return True

    def looked(self, now: float, own: int, took: float) -> str:
        """Take note of a look, which took so many seconds; why to leave, if it is a reason."""
        self._next_look = now + max(_PAUSE, _SHARE * took)
        self._large = self._large + 1 if 0 < self._limits.memory < own else 0
        return f"it has {own / 2**20:.0f} MiB of its own" if self._large >= _SAMPLES else ""

    def is_too_large(self, own: int) -> bool:
        """Whether so many bytes of its own are more than it may have for a moment longer."""
        return 0 < self._limits.memory_hard < own


class Recycler:
    """Asks once, or leaves at once if it must."""

    def __init__(
        self,
        limits: Limits,
        stats: Stats,
        ask: Callable[[str], bool],
        leave: Callable[[str], None],
        started: float,
    ) -> None:
        """`started`: when the worker became ready, on the clock that `tick` is told.

        `ask` tells the master why this worker wants to leave, and returns whether that could be said; `leave` does it.
        """
        self._recycling = Recycling(limits, started)
        self._stats = stats
        self._ask = ask
        self._leave = leave
        self._failures = FailureLog()
        self._has_asked = False
        self._is_done = limits == Limits()
        self._must_watch = limits.memory_hard > 0

    def tick(self, now: float) -> None:
        """Look, and ask if there is a reason. Called about once a second."""
        if self._is_done:
            return
        reason = self._recycling.reason(now, self._stats.requests)
        try:
            if (self._must_watch or not reason) and self._recycling.wants_look(now, resident_bytes()):
                before = time.perf_counter()
                own = own_bytes()
                reason = self._recycling.looked(now, own, time.perf_counter() - before) or reason
                if self._recycling.is_too_large(own):
                    self._is_done = True
                    self._leave(f"it has {own / 2**20:.0f} MiB of its own, above max-worker-memory-hard")
                    return
        except OSError as error:
            self._failures.failed(
                "telling this worker's memory", error, "its limits have no effect until that is known"
            )
        self._failures.sweep()
        if reason and not self._has_asked:
            self._has_asked = self._ask(reason)
            self._is_done = self._has_asked and not self._must_watch


def resident_bytes() -> int:
    """The resident memory of this process (RSS), shared pages included. See proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE


def own_bytes() -> int:
    """The memory of this process that no other shares (USS). See proc_pid_smaps(5)."""
    return 1024 * sum(map(int, _PRIVATE.findall(Path("/proc/self/smaps_rollup").read_bytes())))
