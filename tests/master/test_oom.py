"""The kernel's count of OOM kills, from made-up control groups, and who died of one."""

import signal
from pathlib import Path

import pytest

from asgi_master.master.oom import OomKills, count_in

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 12\nmax 5\noom 3\noom_kill {}\noom_group_kill 0\n"

KILLED, CRASHED = -signal.SIGKILL, -signal.SIGSEGV


def write(root: Path, name: str, text: str) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


class Group:
    """A control group of version 2, and a clock."""

    def __init__(self, root: Path, count: int = 0) -> None:
        self.now = 100.0
        self.count = count
        write(root, "proc/self/cgroup", "0::/\n")
        self.file = write(root, "sys/fs/cgroup/memory.events", V2.format(count))
        self.kills = OomKills(root, lambda: self.now)

    def kill(self, processes: int = 1) -> None:
        self.count += processes
        self.file.write_text(V2.format(self.count))

    def pass_time(self, seconds: float) -> None:
        """The master's loop looks twice a second."""
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            self.kills.look()


@pytest.fixture
def group(tmp_path: Path) -> Group:
    return Group(tmp_path, count=7)


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
def test_each_kill_has_one_victim(tmp_path, groups, name, text):
    write(tmp_path, "proc/self/cgroup", groups)
    write(tmp_path, name, text.format(7))
    kills = OomKills(tmp_path)
    assert not kills.claim(KILLED), "those of before do not count"
    write(tmp_path, name, text.format(9))
    assert [kills.claim(KILLED) for _ in range(3)] == [True, True, False]


def test_a_victim_that_takes_long_to_die_is_not_passed_over(group):
    """The kernel counts first. Who dies meanwhile is another."""
    group.kill()
    assert not group.kills.claim(CRASHED)
    assert not group.kills.claim(0)
    group.pass_time(5)
    assert group.kills.claim(KILLED)


def test_the_kill_of_a_stranger_is_not_blamed_on_a_worker_later(group):
    """Such as a subprocess of the application, which is not ours to reap."""
    group.kill()
    group.pass_time(11)
    assert not group.kills.claim(KILLED)
    group.kill()
    assert group.kills.claim(KILLED)


def test_a_kill_of_long_ago_does_not_last_because_there_are_others(group):
    group.kill()
    group.pass_time(8)
    group.kill()
    assert group.kills.claim(KILLED)
    group.pass_time(8)
    assert not group.kills.claim(KILLED)


def test_those_who_died_together_died_of_the_same(group):
    group.kill(2)
    assert [group.kills.claim(status) for status in (KILLED, CRASHED, KILLED)] == [True, False, True]


def test_the_group_comes_before_the_mount_that_others_share(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/ours\n")
    write(tmp_path, "sys/fs/cgroup/ours/memory.events", V2.format(0))
    shared = "sys/fs/cgroup/memory.events"
    write(tmp_path, shared, V2.format(0))
    kills = OomKills(tmp_path)
    write(tmp_path, shared, V2.format(1))
    assert not kills.claim(KILLED)


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill many\n", "oom_kill -1\n", "no words of ours"])
def test_what_tells_nothing_counts_nothing(text):
    assert count_in(text) == 0


def test_without_control_groups_nothing_ever_rises(tmp_path):
    assert not OomKills(tmp_path).claim(KILLED)
    write(tmp_path, "proc/self/cgroup", "0::/a\nnonsense\n")
    assert not OomKills(tmp_path).claim(KILLED)


def test_a_count_that_cannot_be_read_for_a_while_did_not_rise(group):
    group.file.unlink()
    group.pass_time(1)
    assert not group.kills.claim(KILLED)
    group.kill(0)
    assert not group.kills.claim(KILLED)
    group.kill()
    assert group.kills.claim(KILLED)


def test_here_it_can_be_asked():
    assert OomKills().claim(KILLED) in {False, True}
