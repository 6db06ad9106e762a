"""The history of a fleet, second by second."""

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from asgi_master.history import history as module
from asgi_master.history.history import (
    COARSE_LENGTH,
    FINE_LENGTH,
    FLEET,
    History,
    generation_key,
    slot_key,
)
from asgi_master.history.percentiles import percentile
from asgi_master.history.rings import Ring
from asgi_master.history.samples import FIELDS, FleetReading, Window, WorkerReading
from asgi_master.ipc.counters import BUCKET_COUNT, DURATION_BOUNDS, Stats
from live_samples import STARTED, history, stats


def reading(*workers: WorkerReading, requests: int = 0, **fleet: Any) -> FleetReading:
    return FleetReading(workers, stats(requests), fleet.get("queue"), fleet.get("cpus", 2.0))


def worker(
    requests: int, *, number: int = 1, slot: int = 0, generation: int = 1, **known: Any
) -> WorkerReading:
    values = {"lag": None, "cpu": None, "memory": None} | known
    return WorkerReading(number, slot, generation, stats(requests), **values)


def test_a_second_of_a_fleet() -> None:
    recorded = history(10)
    fleet = recorded.latest(FLEET)
    assert (fleet["rate"], fleet["errors"], fleet["cpu"], fleet["in_flight"]) == (20.0, 2.0, 0.5, 2.0)
    assert (fleet["queue"], fleet["saturation"], fleet["lag"]) == (1.0, 0.25, 0.002)
    # All in the bucket from 10 to 25 ms.
    assert fleet["p50"] == pytest.approx(0.0175, rel=1e-3)
    assert fleet["p99"] == pytest.approx(0.02485, rel=1e-3)
    assert recorded.worker(1)["rate"] == 10.0
    assert recorded.worker(7) == dict.fromkeys(FIELDS)
    slot = recorded.latest(slot_key(1))
    assert (slot["rate"], slot["queue"], slot["saturation"]) == (10.0, None, None)
    assert recorded.latest(generation_key(3))["rate"] == 20.0
    assert recorded.latest(slot_key(7)) == dict.fromkeys(FIELDS)
    assert recorded.slots() == [0, 1]
    assert recorded.generations() == [3]


def test_threads_of_wsgi_can_be_the_limit() -> None:
    recorded = History()
    for second, cpu in ((0, None), (1, None), (2, 1.5)):
        one = worker(0, cpu=cpu)
        one.stats.wsgi_threads, one.stats.wsgi_busy = 8, 4
        recorded.record(STARTED + second, reading(one))
        assert recorded.latest(FLEET)["saturation"] == (None, 0.5, 0.75)[second]


def test_the_first_reading_only_begins() -> None:
    recorded = History()
    assert recorded.latest(FLEET) == dict.fromkeys(FIELDS)
    assert recorded.record(STARTED, reading(worker(1_000_000), requests=1_000_000))
    assert recorded.latest(FLEET)["rate"] is None
    assert not recorded.record(STARTED + 0.9, reading(worker(2_000_000), requests=2_000_000)), (
        "the same second"
    )
    assert recorded.record(STARTED + 1, reading(worker(1_000_005), requests=1_000_005))
    assert recorded.latest(FLEET)["rate"] == 5.0


def test_workers_come_and_go() -> None:
    recorded = History()
    recorded.record(STARTED, reading(worker(100), requests=100))
    # One is replaced by another of a new generation, which has answered three since.
    recorded.record(STARTED + 1, reading(worker(110), worker(3, number=2, generation=2), requests=113))
    assert recorded.latest(slot_key(0))["rate"] == 13.0
    assert recorded.latest(generation_key(2))["rate"] == 3.0
    recorded.record(STARTED + 2, reading(worker(4, number=2, generation=2), requests=120))
    # What the first answered last is known of the fleet alone.
    assert recorded.latest(slot_key(0))["rate"] == 1.0
    assert recorded.latest(FLEET)["rate"] == 7.0
    assert recorded.latest(generation_key(1)) == dict.fromkeys(FIELDS), "it is gone"
    # A worker whose counts fall lies.
    recorded.record(STARTED + 3, reading(worker(0, number=2, generation=2), requests=120))
    assert recorded.latest(slot_key(0))["rate"] == 0.0


def test_a_minute_and_fifteen() -> None:
    recorded = history(16 * 60)
    assert recorded.minute(FLEET, "rate") == [20.0] * FINE_LENGTH
    assert recorded.quarter(FLEET, "rate") == [20.0] * COARSE_LENGTH
    assert recorded.quarter(slot_key(0), "lag") == [0.002] * COARSE_LENGTH
    assert recorded.minute(slot_key(9), "rate") == [None] * FINE_LENGTH
    assert recorded.quarter(slot_key(9), "rate") == [None] * COARSE_LENGTH
    assert history(10).minute(FLEET, "rate")[-10:] == [None] + [20.0] * 9


def test_seconds_in_which_the_master_did_not_run_are_unknown() -> None:
    recorded = history(30)
    later = stats(900)
    recorded.record(STARTED + 39, FleetReading([], later, None, 2.0))
    minute = recorded.minute(FLEET, "rate")
    assert minute[-10:-1] == [None] * 9
    assert minute[-1] == 32.0, "over all of that time"
    recorded.record(STARTED + 10_000, FleetReading([], later, None, 2.0))
    assert recorded.minute(FLEET, "rate") == [None] * (FINE_LENGTH - 1) + [0.0]


def test_what_is_gone_for_long_is_forgotten() -> None:
    recorded = history(30)
    for second in range(30, 30 + 16 * 60):
        recorded.record(STARTED + second, FleetReading([], stats(600), None, 2.0))
    assert recorded.slots() == []
    assert recorded.generations() == []
    assert set(recorded._series) == {FLEET}


def test_few_generations_are_remembered() -> None:
    recorded = History()
    for second in range(101):
        recorded.record(STARTED + second, reading(worker(0, generation=min(9, second // 10))))
    assert recorded.generations() == [6, 7, 8, 9]


def test_memory_that_grows() -> None:
    recorded = history(20 * 60)
    slope = recorded.memory_slope(0, age=10_000.0)
    assert slope == pytest.approx((1 << 20) / 60, rel=0.02)
    assert recorded.memory_slope(0, age=30.0) is None, "a worker that is young"
    assert recorded.memory_slope(5, age=10_000.0) is None
    assert history(30).memory_slope(0, age=10_000.0) is None


def test_the_largest_fleet_fits() -> None:
    recorded = History()
    for second in range(20):
        workers = [worker(second, number=slot, slot=slot) for slot in range(1000)]
        recorded.record(STARTED + second, reading(*workers, requests=second))
    assert len(recorded.slots()) == module.MOST_SLOTS
    sizes = [
        sum(map(sys.getsizeof, (each, each.fine, each.fine._codes, each.coarse, each.coarse._codes)))
        for each in recorded._series.values()
    ]
    assert sum(sizes) < 2 << 20
    assert len(json.dumps(recorded.dump())) < 512 * 1024, "what a live upgrade takes along"


def test_over_a_live_upgrade() -> None:
    before = history(16 * 60)
    after = History.load(json.loads(json.dumps(before.dump())))
    assert after.minute(FLEET, "rate") == before.minute(FLEET, "rate")
    assert after.quarter(slot_key(1), "memory") == before.quarter(slot_key(1), "memory")
    assert after.slots() == before.slots()
    assert after.latest(generation_key(3)) == before.latest(generation_key(3))
    # It counts from its first reading.
    again = STARTED + 16 * 60
    after.record(again, reading(worker(9600), requests=19_200))
    assert after.latest(FLEET)["rate"] is None
    after.record(again + 1, reading(worker(9610), requests=19_210))
    assert after.latest(FLEET)["rate"] == 10.0


def test_a_young_one_over_an_upgrade() -> None:
    before = history(5)
    after = History.load(json.loads(json.dumps(before.dump())))
    # Its first reading is in another period than what it knows.
    after.record(STARTED + 10, reading(worker(9600), requests=19_200))
    assert after.minute(FLEET, "rate")[-10:-6] == before.minute(FLEET, "rate")[-4:] == [20.0] * 4


def test_an_empty_one_over_an_upgrade() -> None:
    assert History.load(History().dump()).tick == -1


@pytest.mark.parametrize(
    "spoiled",
    [
        {},
        {"fields": ["rate"]},
        {"fields": list(FIELDS)},
        {"fields": list(FIELDS), "tick": 1, "series": {"fleet": {"fine": {}}}},
        {"fields": list(FIELDS), "tick": 1, "series": {"fleet": {"fine": {"newest": 1, "codes": "AAAA"}}}},
        {"fields": list(FIELDS), "tick": 1, "series": {"fleet": {"fine": {"newest": 1, "codes": "!"}}}},
        {"fields": list(FIELDS), "tick": "x", "series": {}},
        {"fields": list(FIELDS), "tick": 1, "series": []},
    ],
)
def test_what_another_version_left_is_not_read(spoiled: dict[str, Any]) -> None:
    assert History.load(spoiled)._series == {}


def test_a_ring_ignores_what_is_old() -> None:
    ring = Ring(3)
    one = Window(1.0).values()
    ring.put(5, one)
    ring.put(5, replace_first(one, 9.0))
    ring.put(4, replace_first(one, 9.0))
    assert ring.read("rate", 5) == [None, None, 0.0]
    assert ring.read("rate", 7) == [0.0, None, None]
    assert ring.read("rate", 9) == [None, None, None]


def replace_first(values: list[float | None], first: float) -> list[float | None]:
    return [first, *values[1:]]


def test_windows_add_up() -> None:
    total = Window()
    total.add_later(Window(1.0, lag=0.1, cpu=1.0, memory=10.0, in_flight=3, queue=2.0))
    total.add_later(Window(3.0, lag=0.3, cpu=0.2, memory=20.0, in_flight=1, saturation=0.5))
    total.add_later(Window(1.0))
    assert (total.lag, total.memory, total.in_flight, total.queue) == (0.3, 20.0, 3, 2.0)
    assert total.cpu == pytest.approx(0.4)
    assert total.saturation == 0.5
    none = [0] * (2 + BUCKET_COUNT)
    both = Window.of_worker(1.0, none, replace(worker(0), memory=5))
    both = both.beside(Window.of_worker(1.0, none, replace(worker(0), memory=6)))
    both = both.beside(Window.of_worker(1.0, none, worker(0)))
    assert (both.memory, both.cpu) == (11, None)


def test_percentiles() -> None:
    assert percentile([0] * BUCKET_COUNT, 0.5) is None
    counts = Stats(short_responses=50).buckets
    assert percentile(counts, 0.5) == pytest.approx(0.0005)
    counts[-1] = 50
    assert percentile(counts, 0.99) == DURATION_BOUNDS[-1], "of the last bucket only the lower bound is known"
    assert percentile(counts, 0.0) == 0.0
