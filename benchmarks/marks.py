"""How an application under test says when it started: a line in the file that `BENCHMARK_MARKS` names.

Written by the worker itself, so all servers are timed by the same event. The clock is the system-wide monotonic one.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "BENCHMARK_MARKS"
STARTING = "starting"
"""The worker's lifespan startup begins."""
STARTED = "started"
"""It is over."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of the file."""

    event: str
    pid: int
    at: float
    """By `time.monotonic`."""


def mark(event: str) -> None:
    """Write one; without such a file nothing happens."""
    if path := os.environ.get(VARIABLE):
        line = f"{event} {os.getpid()} {time.monotonic():.6f}\n".encode()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, line)
        os.close(fd)


def read(path: Path) -> list[Mark]:
    """What was written so far."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        event, pid, at = line.split()
        found.append(Mark(event, int(pid), float(at)))
    return found
