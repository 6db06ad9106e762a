"""What a tree of processes uses: its members, their CPU time and their memory, from /proc."""

import contextlib
import os
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(entry)[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes so far; those that are gone count as nothing."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = _stat(Path(f"/proc/{pid}"))
            total += (int(fields[11]) + int(fields[12])) * _TICK
    return total


def proportional_bytes(pids: list[int]) -> int:
    """The PSS of these processes: each page once, however many of them share it."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def _stat(process: Path) -> list[str]:
    """The fields after the program's name, which may hold anything."""
    return (process / "stat").read_text().rpartition(")")[2].split()
