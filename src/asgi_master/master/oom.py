"""Whether the kernel killed for lack of memory in our control group: as opposed to a `kill -9`."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

_CONTROL_GROUPS = "sys/fs/cgroup"
"""Where systemd and every container runtime mount them."""
_DYING = 10.0
"""Seconds that a process may take to die once its kill was counted: the kernel counts first, and a large one has a lot
to give back. A kill that was not claimed by then was of a process that is not our child."""


class OomKills:
    """The kernel's count of processes that it killed in this control group, as far as it can be read."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        """`root` holds /proc and /sys."""
        self._files = _counters(root)
        self._clock = clock
        self._seen = self._count()
        self._unclaimed: list[float] = []
        """When each kill was seen whose victim was not, the oldest first."""

    def look(self) -> None:
        """Take note of the kills since the last look (or since this was made); call it each half second or so."""
        now = self._clock()
        # It never falls: if it seems to, it could not be read.
        before, self._seen = self._seen, max(self._seen, self._count())
        self._unclaimed = [seen for seen in self._unclaimed if now <= seen + _DYING]
        self._unclaimed += [now] * (self._seen - before)

    def claim(self, status: int) -> bool:
        """Whether a child that died just now with this status was killed so. Each kill has one victim."""
        if status != -signal.SIGKILL:
            return False
        self.look()
        if not self._unclaimed:
            return False
        # Most die at once: the newest is the likeliest, and what is left is forgotten the sooner.
        self._unclaimed.pop()
        return True

    def _count(self) -> int:
        for file in self._files:
            try:
                return count_in(file.read_text())
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            except OSError:
                # It is there, and cannot be read now. The next one counts for others too.
                break
        return 0


def count_in(text: str) -> int:
    """The `oom_kill` of `memory.events` (cgroup v2) or `memory.oom_control` (v1); 0 if it is missing."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return 0


def _counters(root: Path) -> list[Path]:
    """The files that may hold the count, the most exact first. See cgroups(7).

    In a container that sees the host's paths but only its own mount, the group's path leads nowhere, and the
    top is ours.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    top, found = root / _CONTROL_GROUPS, []
    for line in groups:
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            mount, name = top / "memory", "memory.oom_control"
        elif hierarchy == "0":
            mount, name = top, "memory.events"
        else:
            continue
        found += [mount / path.lstrip("/") / name, mount / name]
    return found
