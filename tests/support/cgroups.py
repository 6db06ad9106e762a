"""Real control groups with limits, in whichever version this host has them. See cgroups(7)."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from fleet import wait_until

MOUNT = Path("/sys/fs/cgroup")

_numbers = itertools.count(1)


def own_groups() -> dict[str, str]:
    """The paths of this process' control groups by controller, cgroup v2 under the empty name."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _hierarchy, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


@contextlib.contextmanager
def control_groups(*, memory: int | None = None, cpus: float | None = None) -> Iterator[list[Path]]:
    """New groups below ours, with limits in bytes and CPUs; removed when empty. Raises `OSError` where that is not allowed."""
    made: list[Path] = []
    try:
        if memory is not None:
            legacy = {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}
            _make(made, "memory", legacy, {"memory.max": memory, "memory.swap.max": 0})
        if cpus is not None:
            quota = round(cpus * 100_000)
            legacy = {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": quota}
            _make(made, "cpu", legacy, {"cpu.max": f"{quota} 100000"})
        yield made
    finally:
        for group in made:
            wait_until(partial(_removed, group), f"{group} is empty and removed")


def _make(
    made: list[Path], controller: str, legacy: Mapping[str, object], unified: Mapping[str, object]
) -> None:
    groups = own_groups()
    if controller in groups:
        top, limits = MOUNT / controller / groups[controller].lstrip("/"), legacy
    else:
        top, limits = MOUNT / groups.get("", "").lstrip("/"), unified
    group = top / f"asgi-master-test-{os.getpid()}-{next(_numbers)}"
    group.mkdir()
    made.append(group)
    needed, *_ = limits
    if not (group / needed).exists():
        raise FileNotFoundError(f"the {controller} controller is not on in {top}")
    for file, value in limits.items():
        # Where swap is not accounted for, its limit has no file.
        if (group / file).exists():
            (group / file).write_text(str(value))


def _removed(group: Path) -> bool:
    with contextlib.suppress(OSError):  # whose last process is not quite gone
        group.rmdir()
    return not group.exists()
