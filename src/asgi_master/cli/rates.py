"""Rates: the difference of two samples of counters."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Self

from asgi_master.records import record
from asgi_master.telemetry.resources import cpu_seconds

_SHORTEST = 0.1
"""Minimum number of seconds between two samples."""


@record
class Rates:
    """Rates per second, by pid."""

    requests: Mapping[int, float]
    cpu: Mapping[int, float]
    """CPU seconds per second, for readable processes: 1.0 is one core."""


@record
class Sample:
    """Counters at one moment."""

    at: float
    requests: Mapping[int, tuple[float, int]]
    """By pid: the time and the value of the count, which the worker updates with its heartbeat, four times a second."""
    cpu: Mapping[int, float]

    @classmethod
    def take(cls, status: Mapping[str, Any], pids: Iterable[int | None]) -> Self:
        """The counters in `status`, and the kernel's for these processes."""
        now = time.monotonic()
        requests = {
            worker["pid"]: (now - worker["heartbeat_age"], worker["requests"])
            for worker in status.get("workers", [])
            if worker["pid"] and worker["heartbeat_age"] is not None
        }
        used = {pid: seconds for pid in pids if pid and (seconds := cpu_seconds(pid)) is not None}
        return cls(now, requests, used)

    def since(self, before: Self) -> Rates:
        """The rates since another sample. A worker whose loop has not run since counts as 0."""
        requests = {}
        for pid, (at, count) in self.requests.items():
            then, counted = before.requests.get(pid, (at, count))
            if at - then >= _SHORTEST:
                requests[pid] = max(0.0, (count - counted) / (at - then))
        period = max(self.at - before.at, _SHORTEST)
        cpu = {pid: (used - before.cpu[pid]) / period for pid, used in self.cpu.items() if pid in before.cpu}
        return Rates(requests, cpu)
