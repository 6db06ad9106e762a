"""Asks for the replacement of this worker after a number of requests, a lifetime, or above a memory limit.

The worker goes on serving until the master, which first starts a successor, orders it to drain. `Recycling` decides,
without a clock or a file; `Recycler` runs it on the worker's timer.
"""

import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

from asgi_master.ipc.counters import Stats
from asgi_master.records import record
from asgi_master.settings.model import ProcessSettings
from asgi_master.telemetry.failure_log import FailureLog

_SAMPLES = 3
"""Number of consecutive measurements that must exceed the memory limit: a peak is not a leak."""

_MIN_PAUSE = 2.0
"""Minimum number of seconds between two such measurements."""

_PAUSE_FACTOR = 100
"""A measurement walks all page tables; the pause after it is this many times its duration."""

_PAGE = resource.getpagesize()
_PRIVATE = re.compile(rb"^Private_\w+: +(\d+) kB$", re.MULTILINE)


@record
class Limits:
    """The limits at which a worker asks for its replacement; 0 is never."""

    requests: int = 0
    lifetime: float = 0.0
    """Seconds since it became ready."""
    memory: int = 0
    """Unshared bytes (USS): replacing a worker frees no shared pages."""
    memory_hard: int = 0
    """Unshared bytes at which it stops at once, whether a successor is ready or not."""


def limits_of(settings: ProcessSettings, jitter: Callable[[], float]) -> Limits:
    """The limits of one worker, with random jitter, so that workers of the same age are not replaced together.

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
        self._next_measurement = started
        self._large = 0
        """Number of consecutive measurements above the memory limit."""
        self._min_memory = min(filter(None, (limits.memory, limits.memory_hard)), default=0)

    def reason(self, now: float, requests: int) -> str:
        """The reason for a replacement after this many requests; empty if there is none."""
        limits = self._limits
        if limits.requests and requests >= limits.requests:
            return f"it served {requests} requests"
        if limits.lifetime and now - self._started >= limits.lifetime:
            return f"it served for {now - self._started:.0f} s"
        return ""

    def should_measure(self, now: float, resident: int) -> bool:
        """Whether to measure USS (expensive), given the current RSS (cheap)."""
        if not self._min_memory or now < self._next_measurement:
            return False
        if resident <= self._min_memory:
            self._large = 0
            return False
        return True

    def record_measurement(self, now: float, own: int, took: float) -> str:
        """Record a USS measurement that took `took` seconds; returns the reason for a replacement, if any."""
        self._next_measurement = now + max(_MIN_PAUSE, _PAUSE_FACTOR * took)
        self._large = self._large + 1 if 0 < self._limits.memory < own else 0
        return f"it has {own / 2**20:.0f} MiB of unshared memory" if self._large >= _SAMPLES else ""

    def is_too_large(self, own: int) -> bool:
        """Whether USS exceeds the hard limit."""
        return 0 < self._limits.memory_hard < own


class Recycler:
    """Asks for the replacement once, or leaves at once if it must."""

    def __init__(
        self,
        limits: Limits,
        stats: Stats,
        request_replacement: Callable[[str], bool],
        leave: Callable[[str], None],
        started: float,
    ) -> None:
        """`started` is when the worker became ready, on the clock of `tick`.

        `request_replacement` sends the reason to the master, and returns whether it could; `leave` starts the drain.
        """
        self._recycling = Recycling(limits, started)
        self._stats = stats
        self._request_replacement = request_replacement
        self._leave = leave
        self._failures = FailureLog()
        self._has_requested = False
        self._is_done = limits == Limits()
        self._must_watch = limits.memory_hard > 0

    def tick(self, now: float) -> None:
        """Check the limits, and ask for the replacement if one is reached. Called about once a second."""
        if self._is_done:
            return
        reason = self._recycling.reason(now, self._stats.requests)
        try:
            if (self._must_watch or not reason) and self._recycling.should_measure(now, resident_bytes()):
                before = time.perf_counter()
                own = unshared_bytes()
                reason = self._recycling.record_measurement(now, own, time.perf_counter() - before) or reason
                if self._recycling.is_too_large(own):
                    self._is_done = True
                    self._leave(
                        f"it has {own / 2**20:.0f} MiB of unshared memory, above max-worker-memory-hard"
                    )
                    return
        except OSError as error:
            self._failures.failed(
                "measuring this worker's memory", error, "its limits have no effect until that is known"
            )
        self._failures.sweep()
        if reason and not self._has_requested:
            self._has_requested = self._request_replacement(reason)
            self._is_done = self._has_requested and not self._must_watch


def resident_bytes() -> int:
    """The resident memory of this process (RSS), shared pages included. See proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE


def unshared_bytes() -> int:
    """The unshared memory of this process (USS). See proc_pid_smaps(5)."""
    return 1024 * sum(map(int, _PRIVATE.findall(Path("/proc/self/smaps_rollup").read_bytes())))
