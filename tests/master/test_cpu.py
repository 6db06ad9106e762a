"""CPU as a difference of two looks."""

import os

from asgi_master.master.cpu import CpuSampler
from asgi_master.telemetry.resources import cpu_seconds


def test_shares() -> None:
    used: dict[int, float | None] = {1: 10.0, 2: 20.0}
    now = [0.0]
    sampler = CpuSampler(used.get, lambda: now[0])
    assert sampler.sample([1, 2]) == {}
    now[0] = 2.0
    used |= {1: 11.0, 2: 20.0, 3: 5.0}
    assert sampler.sample([1, 2, 3]) == {1: 0.5, 2: 0.0}
    used[1] = None
    now[0] = 3.0
    assert sampler.sample([1, 3]) == {1: 0.5, 3: 0.0}, "one that has ended, and is still among them"
    assert sampler.sample([3]) == {3: 0.0}
    assert sampler.sample([]) == {}


def test_many_have_their_turns() -> None:
    looked: list[int] = []
    now = [0.0]

    def look(pid: int) -> float:
        looked.append(pid)
        return now[0]

    sampler = CpuSampler(look, lambda: now[0])
    for second in range(4):
        now[0] = float(second)
        shares = sampler.sample(range(100))
        assert len(looked) <= 64 * (second + 1)
    assert len(shares) == 100
    assert set(shares.values()) == {1.0}


def test_a_process() -> None:
    assert (cpu_seconds(os.getpid()) or 0) > 0
    assert cpu_seconds(2**22 + 1) is None
