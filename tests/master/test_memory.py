"""Whose memory is looked at, and when, and what is found."""

import errno
import os

import psutil
import pytest

from asgi_master.master.memory import MemorySampler, SampledProcess
from asgi_master.telemetry.resources import Memory, memory_of

MASTER, ZYGOTE = SampledProcess(1, "master"), SampledProcess(2, "zygote")
WORKERS = [SampledProcess(3, "worker", 0), SampledProcess(4, "worker", 1)]


class Looker:
    """Processes that have as many bytes as their pid says, and a clock that a look moves."""

    def __init__(self) -> None:
        self.now = 50.0
        self.takes = 0.0
        self.looked: list[int] = []
        self.gone: set[int] = set()
        self.hidden: set[int] = set()
        self.sampler = MemorySampler(self.look, lambda: self.now)

    def look(self, pid):
        self.looked.append(pid)
        self.now += self.takes
        if pid in self.hidden:
            return Memory(rss=pid, pss=None, uss=None, unknown_reason="hidden")
        return None if pid in self.gone else Memory(rss=pid, pss=pid, uss=pid)

    def known(self):
        return {(process.kind, process.slot): process.pss for process in self.sampler.processes()}


def test_in_turn():
    looker = Looker()
    for _ in range(6):
        looker.sampler.sample([MASTER, ZYGOTE, *WORKERS])
    assert looker.looked == [1, 2, 3, 4, 1, 2]
    assert looker.known() == {("master", None): 1, ("zygote", None): 2, ("worker", 0): 3, ("worker", 1): 4}


def test_the_new_first_and_the_gone_forgotten():
    looker = Looker()
    for _ in range(4):
        looker.sampler.sample([MASTER, ZYGOTE, *WORKERS])
    looker.sampler.sample([MASTER, SampledProcess(9, "worker", 1)])
    assert looker.looked[-1] == 9
    assert looker.known() == {("master", None): 1, ("worker", 1): 9}


def test_two_processes_of_one_slot_are_added_up():
    looker = Looker()
    for _ in range(2):
        looker.sampler.sample([SampledProcess(3, "worker", 0), SampledProcess(30, "worker", 0)])
    assert looker.known() == {("worker", 0): 33}


def test_a_process_that_ended_meanwhile_has_none():
    looker = Looker()
    looker.gone = {1}
    looker.sampler.sample([MASTER])
    looker.sampler.sample([])
    assert looker.known() == {}


def test_who_tells_only_a_part_is_shown_and_spoken_of_once(caplog):
    looker = Looker()
    looker.hidden = {3, 4}
    for _ in range(5):
        looker.sampler.sample([MASTER, *WORKERS, SampledProcess(5, "worker", 1)])
    assert looker.known() == {("master", None): 1, ("worker", 0): None, ("worker", 1): None}
    assert [process.rss for process in looker.sampler.processes()] == [1, 3, 9]
    assert [record.getMessage() for record in caplog.records] == [
        "the metrics lack the PSS and USS of some processes: hidden"
    ]


@pytest.mark.parametrize(("takes", "pause"), [(0.0, 1.0), (0.01, 1.0), (0.2, 10.0)])
def test_slow_looks_are_rare(takes, pause):
    looker = Looker()
    looker.takes = takes
    assert looker.sampler.is_due
    looker.sampler.sample([MASTER])
    looker.now += pause - 0.001
    assert not looker.sampler.is_due
    looker.now += 0.002
    assert looker.sampler.is_due


def test_a_real_process():
    sampler = MemorySampler()
    sampler.sample([SampledProcess(os.getpid(), "master")])
    (process,) = sampler.processes()
    assert 0 < process.uss <= process.pss <= process.rss


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("asks", ["memory_info", "memory_full_info"])
def test_what_is_not_about_the_process_ends_nothing(monkeypatch, error, asks):
    def fail(self):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(psutil.Process, asks, fail)
    assert memory_of(os.getpid()) is None


@pytest.mark.parametrize("pid", [-1, 0, 2**40, 2**63 - 1])
def test_what_can_be_no_process_has_no_memory(pid):
    assert memory_of(pid) is None


def test_a_kernel_that_tells_no_shares(monkeypatch):
    monkeypatch.setattr(psutil.Process, "memory_full_info", psutil.Process.memory_info)
    found = memory_of(os.getpid())
    assert found.rss > 1_000_000
    assert (found.pss, found.uss) == (None, None)
    assert found.unknown_reason == "this kernel does not report them"


def test_a_process_that_may_not_be_looked_into(monkeypatch):
    def fail(self):
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", fail)
    found = memory_of(os.getpid())
    assert found.rss > 1_000_000
    assert (found.pss, found.uss) == (None, None)
    assert "CAP_SYS_PTRACE" in found.unknown_reason
