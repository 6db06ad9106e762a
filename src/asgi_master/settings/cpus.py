"""Number of usable CPUs: the affinity mask, and the quotas of the cgroups (v1 and v2)."""

import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from asgi_master.records import record


def available_cpus(root: Path = Path("/")) -> int:
    """The number of CPUs that affinity and quota allow, at least one. `root` holds /proc and the cgroup mounts."""
    return cpu_count(len(os.sched_getaffinity(0)), cgroup_quotas(root))


def cpu_count(affinity: int, quotas: Iterable[float]) -> int:
    """The number of CPUs for this affinity and these quotas, in CPUs. Fractions are rounded up."""
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def cgroup_quotas(root: Path) -> list[float]:
    """The quotas, in CPUs, of this process's cgroups and of all their visible ancestors."""
    groups = list(_read_lines(root / "proc/self/cgroup"))
    quotas = []
    for mount in _mounts(_read_lines(root / "proc/self/mountinfo")):
        path = _path_of_group(groups, mount.unified)
        if path is None:
            continue
        top = root / mount.point.lstrip("/")
        for directory in _upwards(top, _below(path, mount.root)):
            quota = _unified_quota(directory) if mount.unified else _legacy_quota(directory)
            if quota is not None:
                quotas.append(quota)
    return quotas


@record
class _Mount:
    unified: bool
    """Whether it is the cgroup v2 hierarchy; else the v1 hierarchy of the cpu controller."""
    root: str
    """The mounted part of the hierarchy."""
    point: str
    """The mount point."""


def _mounts(lines: Iterable[str]) -> Iterator[_Mount]:
    """The cgroup mounts that limit CPU time. See proc_pid_mountinfo(5)."""
    for line in lines:
        before, separator, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if not separator or len(place) < 5 or len(kind) < 3:
            continue
        root, point = _unescape(place[3]), _unescape(place[4])
        if kind[0] == "cgroup2":
            yield _Mount(unified=True, root=root, point=point)
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            yield _Mount(unified=False, root=root, point=point)


def _path_of_group(lines: Iterable[str], unified: bool) -> str | None:
    """The cgroup in the v2 hierarchy, or in the v1 hierarchy of the cpu controller. See cgroups(7)."""
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (unified and hierarchy == "0" and not controllers) or (
            not unified and "cpu" in controllers.split(",")
        ):
            return path
    return None


def _below(path: str, mounted: str) -> PurePosixPath:
    """The path of the cgroup relative to the mount point."""
    try:
        relative = PurePosixPath(path).relative_to(mounted)
    except ValueError:
        # Outside the mounted part, as in a container that shares its cgroup namespace: the mount is this cgroup.
        return PurePosixPath()
    return PurePosixPath() if ".." in relative.parts else relative


def _upwards(top: Path, group: PurePosixPath) -> Iterator[Path]:
    yield top / group
    for parent in group.parents:
        yield top / parent


def _unified_quota(directory: Path) -> float | None:
    words = _read_words(directory / "cpu.max")
    return _quota(*words) if len(words) == 2 else None


def _legacy_quota(directory: Path) -> float | None:
    quota = _read_words(directory / "cpu.cfs_quota_us")
    period = _read_words(directory / "cpu.cfs_period_us")
    return _quota(quota[0], period[0]) if quota and period else None


def _quota(quota: str, period: str) -> float | None:
    """CPUs, or `None` if there is no limit: `max` in v2, -1 in v1."""
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0 or int(quota) == 0:
        return None
    return int(quota) / int(period)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


def _read_words(path: Path) -> list[str]:
    return [word for line in _read_lines(path) for word in line.split()]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
