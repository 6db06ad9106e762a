import os
from pathlib import Path

import pytest

from asgi_master.settings.cpus import available_cpus, cgroup_quotas, cpu_count


@pytest.mark.parametrize(
    ("affinity", "quotas", "count"),
    [
        (8, [], 8),
        (8, [2.0], 2),
        (8, [1.5], 2),
        (8, [0.1], 1),
        (2, [16.0], 2),
        (8, [4.0, 2.5, 6.0], 3),
    ],
)
def test_the_smallest_limit_counts(affinity, quotas, count):
    assert cpu_count(affinity, quotas) == count


def _host(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text(mountinfo)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


_V2 = "35 23 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_v2_counts_the_own_group_and_every_ancestor(tmp_path):
    root = _host(
        tmp_path,
        "0::/system.slice/app.service\n",
        f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{_V2}",
        {
            "sys/fs/cgroup/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/app.service/cpu.max": "250000 100000\n",
        },
    )
    assert sorted(cgroup_quotas(root)) == [2.5, 8.0]


def test_v2_in_a_container_with_its_own_namespace(tmp_path):
    root = _host(tmp_path, "0::/\n", _V2, {"sys/fs/cgroup/cpu.max": "150000 100000\n"})
    assert cgroup_quotas(root) == [1.5]


def test_a_group_seen_from_outside_of_its_namespace_is_the_mount(tmp_path):
    root = _host(tmp_path, "0::/../../other\n", _V2, {"sys/fs/cgroup/cpu.max": "100000 100000\n"})
    assert cgroup_quotas(root) == [1.0]


_V1 = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"


def test_v1_counts_the_own_group_and_every_ancestor(tmp_path):
    group = "sys/fs/cgroup/cpu,cpuacct"
    root = _host(
        tmp_path,
        "5:memory:/elsewhere\n4:cpu,cpuacct:/docker/abc\n0::/\n",
        f"31 23 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n{_V1}",
        {
            f"{group}/cpu.cfs_quota_us": "-1\n",
            f"{group}/cpu.cfs_period_us": "100000\n",
            f"{group}/docker/cpu.cfs_quota_us": "400000\n",
            f"{group}/docker/cpu.cfs_period_us": "100000\n",
            f"{group}/docker/abc/cpu.cfs_quota_us": "75000\n",
            f"{group}/docker/abc/cpu.cfs_period_us": "50000\n",
        },
    )
    assert sorted(cgroup_quotas(root)) == [1.5, 4.0]


def test_v1_where_only_the_own_group_is_mounted(tmp_path):
    mounted = _V1.replace("0:30 / ", "0:30 /docker/abc ")
    root = _host(
        tmp_path,
        "4:cpu,cpuacct:/docker/abc\n",
        mounted,
        {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup_quotas(root) == [3.0]


def test_both_versions_at_once(tmp_path):
    root = _host(
        tmp_path,
        "1:cpu:/a\n0::/b\n",
        "33 31 0:30 / /cg/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /cg/two\\040words rw - cgroup2 cgroup2 rw\n",
        {
            "cg/cpu/a/cpu.cfs_quota_us": "200000",
            "cg/cpu/a/cpu.cfs_period_us": "100000",
            "cg/two words/b/cpu.max": "300000 100000",
        },
    )
    assert sorted(cgroup_quotas(root)) == [2.0, 3.0]


@pytest.mark.parametrize(
    "text", ["", "max\n", "max 100000\n", "0 100000\n", "100000 0\n", "nonsense 100000\n", "1 2 3\n"]
)
def test_files_without_a_limit_are_none(tmp_path, text):
    assert cgroup_quotas(_host(tmp_path, "0::/\n", _V2, {"sys/fs/cgroup/cpu.max": text})) == []


def test_a_host_that_tells_nothing_has_no_quotas(tmp_path):
    assert cgroup_quotas(tmp_path) == []
    assert cgroup_quotas(_host(tmp_path, "garbage\n", "garbage\n - \n", {})) == []


def test_the_mask_of_this_process_counts(tmp_path):
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))
    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))


def test_a_group_beside_what_is_mounted_is_the_mount(tmp_path: Path) -> None:
    mountinfo = _V2.replace("0:30 / ", "0:30 /docker/one ")
    root = _host(tmp_path, "0::/docker/two\n", mountinfo, {"sys/fs/cgroup/cpu.max": "100000 100000\n"})
    assert cgroup_quotas(root) == [1.0]


def test_a_hierarchy_without_our_group_has_no_quota(tmp_path: Path) -> None:
    root = _host(tmp_path, "3:memory:/\n", _V2, {"sys/fs/cgroup/cpu.max": "100000 100000\n"})
    assert cgroup_quotas(root) == []
