"""When a worker has lived long enough."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.ipc.counters import Stats
from asgi_master.settings.model import ProcessSettings
from asgi_master.worker import recycling
from asgi_master.worker.recycling import Limits, Recycler, Recycling, limits_of

# --- limits


def test_nothing_is_limited_unless_asked_for():
    assert limits_of(ProcessSettings(), lambda: 1.0) == Limits()


@pytest.mark.parametrize(
    ("requests", "spread", "jitter", "limit"),
    [
        (1000, -1, 0.0, 1000),
        (1000, -1, 1.0, 1100),
        (1000, 0, 1.0, 1000),
        (1000, 500, 0.5, 1250),
        (5, -1, 1.0, 5),
        (0, 500, 1.0, 0),
    ],
)
def test_requests_get_their_jitter_on_top(requests, spread, jitter, limit):
    settings = ProcessSettings(max_requests=requests, max_requests_jitter=spread)
    assert limits_of(settings, lambda: jitter).requests == limit


def test_a_lifetime_gets_up_to_a_tenth_more():
    settings = ProcessSettings(max_lifetime=60.0)
    assert limits_of(settings, lambda: 0.0).lifetime == 60.0
    assert limits_of(settings, lambda: 1.0).lifetime == pytest.approx(66.0)


@given(st.integers(1, 10**6), st.integers(-1, 10**6), st.floats(0, 1))
def test_no_worker_leaves_before_its_maximum(requests, spread, jitter):
    settings = ProcessSettings(max_requests=requests, max_requests_jitter=spread)
    limit = limits_of(settings, lambda: jitter).requests
    assert requests <= limit <= requests + (spread if spread >= 0 else requests // 10)


# --- the decision


def test_requests_and_lifetime_are_reasons_when_they_are_reached():
    decision = Recycling(Limits(requests=10, lifetime=60.0), 1000.0)
    assert decision.reason(1059.9, 9) == ""
    assert decision.reason(1059.9, 10) == "it served 10 requests"
    assert decision.reason(1060.0, 9) == "it served for 60 s"


def test_zero_is_never():
    decision = Recycling(Limits(), 0.0)
    assert decision.reason(1e9, 10**9) == ""
    assert not decision.should_measure(1e9, 2**60)


def look(decision, now, own, resident=2**30, took=0.0):
    return decision.record_measurement(now, own, took) if decision.should_measure(now, resident) else ""


def test_memory_is_a_reason_after_several_looks_in_a_row():
    decision = Recycling(Limits(memory=100 << 20), 0.0)
    said = [look(decision, float(now), own=150 << 20) for now in range(6)]
    assert said == ["", "", "", "", "it has 150 MiB of unshared memory", ""]


def test_a_peak_is_forgotten():
    decision = Recycling(Limits(memory=100 << 20), 0.0)
    sizes = [150, 150, 50, 150, 150, 50]
    assert [look(decision, 10.0 * n, own=size << 20) for n, size in enumerate(sizes)] == [""] * 6


def test_what_is_not_even_resident_is_not_looked_at_and_forgets_the_peak():
    decision = Recycling(Limits(memory=100), 0.0)
    assert [look(decision, 10.0 * n, own=101) for n in range(2)] == ["", ""]
    assert not decision.should_measure(20.0, resident=100)
    assert [look(decision, 30.0 + 10.0 * n, own=101) for n in range(3)][:2] == ["", ""]


def test_shared_memory_is_no_reason():
    decision = Recycling(Limits(memory=100), 0.0)
    assert [look(decision, 10.0 * n, own=50, resident=1000) for n in range(9)] == [""] * 9


def test_dear_looks_are_rarer():
    decision = Recycling(Limits(memory=100), 0.0)
    assert decision.should_measure(0.0, 200)
    decision.record_measurement(0.0, 150, took=0.1)
    assert not decision.should_measure(9.9, 200)
    assert decision.should_measure(10.0, 200)


# --- its edge


class Recorder:
    def __init__(self, *answers):
        self.reasons = []
        self._answers = list(answers)

    def __call__(self, reason):
        self.reasons.append(reason)
        return self._answers.pop(0) if self._answers else True


def recycler(limits, asked, stats=None, leave=None):
    return Recycler(limits, stats or Stats(), asked, leave or Recorder(), 0.0)


def test_it_asks_once():
    stats, asked = Stats(), Recorder()
    worker = recycler(Limits(requests=3), asked, stats)
    for requests in range(10):
        stats.requests = requests
        worker.tick(float(requests))
    assert asked.reasons == ["it served 3 requests"]


def test_it_asks_again_if_it_could_not_be_said():
    asked = Recorder(False, False, True)
    worker = recycler(Limits(lifetime=1.0), asked)
    for now in range(6):
        worker.tick(float(now))
    assert asked.reasons == ["it served for 1 s", "it served for 2 s", "it served for 3 s"]


def test_its_own_memory_is_measured():
    before = recycling.unshared_bytes()
    kept = bytearray(b"x") * (32 << 20)
    assert recycling.unshared_bytes() - before > 24 << 20
    assert recycling.resident_bytes() >= recycling.unshared_bytes() - (8 << 20)
    asked = Recorder()
    worker = recycler(Limits(memory=1 << 20), asked)
    for now in range(0, 3000, 1000):
        worker.tick(float(now))
    assert len(asked.reasons) == 1
    assert len(kept) == 32 << 20


def test_beyond_the_hard_limit_it_leaves_at_once():
    kept = bytearray(b"x") * (32 << 20)
    asked, left = Recorder(), Recorder()
    worker = recycler(Limits(memory_hard=16 << 20), asked, leave=left)
    for now in range(3):
        worker.tick(1000.0 * now)
    assert asked.reasons == []
    (reason,) = left.reasons
    assert reason.endswith("MiB of unshared memory, above max-worker-memory-hard")
    assert len(kept) == 32 << 20


def test_the_hard_limit_holds_also_for_one_that_asked_to_be_replaced():
    asked, left = Recorder(), Recorder()
    worker = recycler(Limits(lifetime=1.0, memory_hard=1 << 40), asked, leave=left)
    for now in range(1, 4):
        worker.tick(1000.0 * now)
    assert (len(asked.reasons), left.reasons) == (1, [])
    worker._recycling._limits = Limits(lifetime=1.0, memory_hard=1)
    worker._recycling._min_memory = 1
    worker.tick(4000.0)
    assert (len(asked.reasons), len(left.reasons)) == (1, 1)


def test_below_the_soft_limit_alone_nothing_is_hard():
    decision = Recycling(Limits(memory=100), 0.0)
    assert not decision.is_too_large(2**60)
    decision = Recycling(Limits(memory_hard=100), 0.0)
    assert decision.should_measure(0.0, 101)
    assert not decision.is_too_large(100)
    assert decision.is_too_large(101)


def test_where_memory_cannot_be_measured_it_is_said_once(monkeypatch, caplog):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    asked = Recorder()
    worker = recycler(Limits(memory=1), asked)
    for now in range(5):
        worker.tick(float(now))
    assert asked.reasons == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "/proc/self/statm" in caplog.text
    monkeypatch.undo()
    for now in (1000.0, 2000.0, 3000.0):
        worker.tick(now)
    assert len(asked.reasons) == 1, "its limits hold again as soon as it can"
