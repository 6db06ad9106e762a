"""The kernel's count of OOM kills, from made-up control groups."""

from pathlib import Path

import pytest

from asgi_master.master.oom import OomKills, count_in

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 12\nmax 5\noom 3\noom_kill {}\noom_group_kill 0\n"


def write(root: Path, name: str, text: str) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("groups", "name", "text"),
    [
        ("0::/system.slice/app.service\n", "sys/fs/cgroup/system.slice/app.service/memory.events", V2),
        ("0::/\n", "sys/fs/cgroup/memory.events", V2),
        ("0::/host/path/of/the/container\n", "sys/fs/cgroup/memory.events", V2),
        ("9:cpu,cpuacct:/a\n4:memory:/a/b\n0::/\n", "sys/fs/cgroup/memory/a/b/memory.oom_control", V1),
        ("4:memory:/docker/0123\n", "sys/fs/cgroup/memory/memory.oom_control", V1),
    ],
)
def test_a_kill_is_seen_once(tmp_path, groups, name, text):
    write(tmp_path, "proc/self/cgroup", groups)
    write(tmp_path, name, text.format(7))
    kills = OomKills(tmp_path)
    assert not kills.rose(), "those of before do not count"
    write(tmp_path, name, text.format(9))
    assert kills.rose()
    assert not kills.rose()


def test_the_group_comes_before_the_mount_that_others_share(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/ours\n")
    write(tmp_path, "sys/fs/cgroup/ours/memory.events", V2.format(0))
    shared = "sys/fs/cgroup/memory.events"
    write(tmp_path, shared, V2.format(0))
    kills = OomKills(tmp_path)
    write(tmp_path, shared, V2.format(1))
    assert not kills.rose()


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill many\n", "oom_kill -1\n", "no words of ours"])
def test_what_tells_nothing_counts_nothing(text):
    assert count_in(text) == 0


def test_without_control_groups_nothing_ever_rises(tmp_path):
    assert not OomKills(tmp_path).rose()
    write(tmp_path, "proc/self/cgroup", "0::/a\nnonsense\n")
    assert not OomKills(tmp_path).rose()


def test_a_group_that_vanishes_does_not_rise(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    file = write(tmp_path, "sys/fs/cgroup/memory.events", V2.format(3))
    kills = OomKills(tmp_path)
    file.unlink()
    assert not kills.rose()


def test_here_it_can_be_asked():
    assert OomKills().rose() in {False, True}
