"""Whose memory is looked at, and when."""

import os

import pytest

from asgi_master.master.memory import MemorySampler, Subject
from asgi_master.telemetry.resources import Memory

MASTER, ZYGOTE = Subject(1, "master"), Subject(2, "zygote")
WORKERS = [Subject(3, "worker", 0), Subject(4, "worker", 1)]


class Looker:
    """Processes that have as many bytes as their pid says, and a clock that a look moves."""

    def __init__(self) -> None:
        self.now = 50.0
        self.takes = 0.0
        self.looked: list[int] = []
        self.gone: set[int] = set()
        self.sampler = MemorySampler(self.look, lambda: self.now)

    def look(self, pid):
        self.looked.append(pid)
        self.now += self.takes
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
    looker.sampler.sample([MASTER, Subject(9, "worker", 1)])
    assert looker.looked[-1] == 9
    assert looker.known() == {("master", None): 1, ("worker", 1): 9}


def test_two_processes_of_one_slot_are_added_up():
    looker = Looker()
    for _ in range(2):
        looker.sampler.sample([Subject(3, "worker", 0), Subject(30, "worker", 0)])
    assert looker.known() == {("worker", 0): 33}


def test_whoever_is_gone_meanwhile_has_none():
    looker = Looker()
    looker.gone = {1}
    looker.sampler.sample([MASTER])
    looker.sampler.sample([])
    assert looker.known() == {}


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
    sampler.sample([Subject(os.getpid(), "master")])
    (process,) = sampler.processes()
    assert 0 < process.uss <= process.pss <= process.rss
