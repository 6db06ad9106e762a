"""What happens each second: two looks at growing numbers, and the difference."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_SHORTEST = 0.1
"""Seconds between two counts that say anything."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Rates:
    """What there was a second, by pid."""

    requests: Mapping[int, float]
    cpu: Mapping[int, float]
    """Seconds of CPU a second, of processes that could be looked at: 1.0 is a whole core."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look."""

    at: float
    requests: Mapping[int, tuple[float, int]]
    """By pid: when the worker counted, and what. It does so with its heartbeat, four times a second."""
    cpu: Mapping[int, float]

    @classmethod
    def take(cls, status: Mapping[str, Any], pids: Iterable[int | None]) -> Self:
        """The numbers of `status`, and those of the kernel about these processes."""
        now = time.monotonic()
        requests = {
            worker["pid"]: (now - worker["heartbeat_age"], worker["requests"])
            for worker in status.get("workers", [])
            if worker["pid"] and worker["heartbeat_age"] is not None
        }
        used = {pid: seconds for pid in pids if pid and (seconds := _cpu_of(pid)) is not None}
        return cls(now, requests, used)

    def since(self, before: Self) -> Rates:
        """What there was since that look. A worker whose loop did not turn meanwhile has counted nothing."""
        requests = {}
        for pid, (at, count) in self.requests.items():
            then, counted = before.requests.get(pid, (at, count))
            if at - then >= _SHORTEST:
                requests[pid] = max(0.0, (count - counted) / (at - then))
        period = max(self.at - before.at, _SHORTEST)
        cpu = {pid: (used - before.cpu[pid]) / period for pid, used in self.cpu.items() if pid in before.cpu}
        return Rates(requests, cpu)


def _cpu_of(pid: int) -> float | None:
    """Seconds that the process has used; `None` if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, ValueError, IndexError):
        return None
