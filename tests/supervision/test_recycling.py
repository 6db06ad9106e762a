"""Workers that ask to leave, in virtual time: one at a time, the successor first."""

import pytest

from asgi_master.errors import ExitCode
from asgi_master.supervision import notices
from asgi_master.supervision.actions import DrainWorker, SpawnWorker
from asgi_master.supervision.events import (
    ReloadRequested,
    ScaleRequested,
    StopRequested,
    WorkerLeaving,
    WorkerReplacementRequested,
)
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.recycling import next_to_recycle
from asgi_master.supervision.states import Phase, WorkerState
from simulation import NEVER, Code, Simulation


def booted(workers=4, codes=None, **policy):
    world = Simulation(Policy(workers=workers, **policy), codes=codes or {})
    return world.until(lambda: world.supervisor.phase is Phase.STEADY)


def ask(world, *slots, reason="it served 1000 requests"):
    asked = [world.worker(slot) for slot in slots]
    for worker in asked:
        world.tell(WorkerReplacementRequested(worker.id, reason))
    return asked


def told(world):
    return [order.worker for order in world.orders(DrainWorker)]


def least(world, since):
    return min(ready for moment, ready in world.capacity if moment >= since)


def most_living(world, seconds):
    most = 0
    for _ in range(round(seconds / 0.05)):
        world.run(0.05)
        most = max(most, sum(worker.draining is None for worker in world.workers.values()))
    return most


# --- the choice


def worker(number, slot, requested_at=None, *, ready=True):
    state = WorkerState.READY if ready else WorkerState.BOOTING
    made = WorkerRecord(number, slot, 1, 0.0, None, state)
    if requested_at is not None:
        made.replacement_reason, made.replacement_requested_at = "old", requested_at
    return made


@pytest.mark.parametrize(
    ("serving", "held", "can_fork", "chosen"),
    [
        ([worker(1, 0), worker(2, 1)], (), True, None),
        ([worker(1, 0, 7.0), worker(2, 1, 6.0)], (), True, 2),
        ([worker(1, 0, 7.0), worker(2, 1, 7.0)], (), True, 1),
        ([worker(1, 0, 7.0), worker(2, 1, 6.0)], (1,), True, 1),
        ([worker(1, 0, 7.0), worker(2, 1, 6.0), worker(3, 0, ready=False)], (), True, 1),
        ([worker(1, 0, 7.0), worker(2, 1, 6.0), worker(3, 0, ready=False)], (0, 1), False, 1),
        ([worker(1, 0, 7.0), worker(2, 1, ready=False)], (), True, None),
        ([worker(1, 0, 7.0)], (0,), True, None),
        ([worker(1, 0, 6.0), worker(2, 1, 7.0), worker(3, 0)], (), True, 2),
        ([worker(1, 0, 7.0)], (), False, None),
        ([worker(1, 0, 7.0, ready=False)], (), True, None),
    ],
)
def test_who_is_next(serving, held, can_fork, chosen):
    assert next_to_recycle(serving, lambda slot: slot in held, can_fork=can_fork) == chosen


# --- the exchange


def test_the_successor_is_ready_before_the_worker_is_drained():
    world = booted(codes={1: Code(boot_time=3)})
    start = world.now
    (old,) = ask(world, 2)
    assert world.orders(SpawnWorker)[-1] == SpawnWorker(5, 2, 1)
    assert told(world) == []
    world.run(2.9)
    assert told(world) == []
    world.run(0.2)
    assert world.orders(DrainWorker) == [DrainWorker(old.id, 30.0, hand_off=True)]
    world.run(10)
    assert world.generations() == [1] * 4
    assert least(world, start) == 4
    assert len(world.workers) == 4


def test_it_is_said_once_and_is_no_loss():
    world = booted()
    ask(world, 1)
    ask(world, 1, reason="again")
    world.run(5)
    assert world.notices(notices.WorkerReplacementStarted) == [
        notices.WorkerReplacementStarted(2, 1, 1, "it served 1000 requests")
    ]
    assert world.notices(notices.WorkerLost) == []
    world.die(world.worker(1))
    assert world.notices(notices.WorkerLost)[0].retry_in == 0.0, "recycling is no strike"


def test_all_ask_together_and_leave_one_by_one():
    world = booted()
    start = world.now
    ask(world, 3, 1, 0, 2)
    assert most_living(world, 10) == 5
    assert told(world) == [4, 1, 2, 3], "the first at once; those of one moment by number"
    assert [o.slot for o in world.orders(SpawnWorker)[4:]] == [3, 0, 1, 2]
    assert least(world, start) == 4
    assert world.generations() == [1] * 4


def test_who_asked_first_leaves_first():
    world = booted()
    for slot in (2, 0, 3):
        ask(world, slot)
        world.run(0.01)
    world.run(10)
    assert [o.slot for o in world.orders(SpawnWorker)[4:]] == [2, 0, 3]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_surge_of_more_exchanges_no_more_at_once_and_the_successor_is_first(missing):
    world = booted(max_surge=3, max_unavailable=missing)
    start = world.now
    ask(world, 0, 1, 2, 3)
    assert most_living(world, 10) == 5
    assert least(world, start) == 4


def test_without_surge_the_worker_makes_room_if_it_may_be_missed():
    world = booted(max_surge=0, max_unavailable=2, codes={1: Code(boot_time=2)})
    start = world.now
    ask(world, 0, 1)
    assert most_living(world, 10) == 4
    assert least(world, start) == 3, "one at a time, even if two might be missed"
    assert told(world) == [1, 2]
    assert world.generations() == [1] * 4
    assert [n.slot for n in world.notices(notices.WorkerReplacementStarted)] == [0, 1]


def test_without_surge_it_takes_the_room_of_another_that_is_missed():
    world = booted(max_surge=0, max_unavailable=1, backoff_base=60.0, backoff_cap=60.0)
    for _ in range(2):
        world.die(world.worker(3))
        world.run(1)
    start = world.now
    ask(world, 0)
    assert most_living(world, 10) == 4
    assert told(world) == [1]
    assert least(world, start) == 3
    world.until(lambda: len(world.ready()) == 4, within=90)


def test_without_surge_it_waits_while_another_boots():
    world = booted(max_surge=0, max_unavailable=1, codes={1: Code(boot_time=3)})
    world.die(world.worker(3))
    ask(world, 0)
    world.run(2.9)
    assert told(world) == []
    world.run(5)
    assert told(world) == [1]
    assert world.generations() == [1] * 4


def test_with_neither_surge_nor_unavailability_one_more_is_used():
    world = booted(max_surge=0, max_unavailable=0)
    start = world.now
    ask(world, 0, 1)
    assert most_living(world, 10) == 5
    assert least(world, start) == 4
    assert told(world) == [1, 2]


def test_the_only_worker_is_replaced_without_a_gap():
    world = booted(workers=1)
    start = world.now
    ask(world, 0)
    world.run(5)
    assert told(world) == [1]
    assert least(world, start) == 1


# --- what goes wrong


@pytest.mark.parametrize(
    "bad", [Code(boot_error="database is down"), Code(boot_time=NEVER), Code(boot_time=0.2, boot_error="no")]
)
def test_the_old_one_serves_on_while_successors_fail_with_back_off(bad):
    world = booted(boot_timeout=5, backoff_cap=4.0)
    world.scripts = dict.fromkeys((5, 6, 7), bad)
    (old,) = ask(world, 2)
    start = world.now
    world.until(lambda: old.id not in world.workers, within=100)
    lost = world.notices(notices.WorkerLost)
    assert [n.retry_in for n in lost] == [0.0, 0.5, 1.0]
    assert {n.slot for n in lost} == {2}
    assert least(world, start) == 4
    assert len(world.notices(notices.WorkerReplacementStarted)) == 1
    world.run(5)
    assert world.generations() == [1] * 4


def test_a_slot_in_back_off_lets_others_go_first():
    world = booted(backoff_base=60.0, backoff_cap=60.0)
    world.scripts = {5: Code(boot_error="no"), 6: Code(boot_error="no")}
    ask(world, 0)
    world.run(1)
    ask(world, 1)
    world.run(5)
    assert told(world) == [2]
    world.run(60)
    assert told(world) == [2, 1]


def test_a_worker_that_crashes_while_its_successor_boots_has_one_already():
    world = booted(codes={1: Code(boot_time=3)})
    (old,) = ask(world, 2)
    world.run(1)
    world.die(old)
    spawned = len(world.orders(SpawnWorker))
    world.run(10)
    assert len(world.orders(SpawnWorker)) == spawned == 5
    assert world.generations() == [1] * 4


def test_a_worker_that_lost_patience_is_replaced_once():
    world = booted(codes={1: Code(boot_time=8)})
    (old,) = ask(world, 2, reason="SIGTERM")
    world.run(5)
    world.tell(WorkerLeaving(old.id, "SIGTERM, and no order"))
    world.die(old, 0)
    world.run(10)
    assert [o.slot for o in world.orders(SpawnWorker)[4:]] == [2]
    assert world.generations() == [1] * 4


def test_a_crash_elsewhere_comes_first_and_takes_the_room():
    world = booted(codes={1: Code(boot_time=3)})
    ask(world, 0)
    world.run(1)
    world.die(world.worker(3))
    assert [o.slot for o in world.orders(SpawnWorker)[4:]] == [0, 3]
    world.run(10)
    assert world.generations() == [1] * 4
    assert told(world) == [1]


def test_a_sibling_that_keeps_crashing_does_not_keep_others_from_being_replaced():
    world = booted(backoff_base=30.0, backoff_cap=30.0)
    for _ in range(2):
        world.die(world.worker(3))
        world.run(1)
    assert len(world.ready()) == 3
    ask(world, 0)
    world.run(5)
    assert told(world) == [1]
    assert len(world.ready()) == 3


def test_without_a_zygote_it_waits_for_the_next():
    world = booted(codes={2: Code(import_time=10)})
    world.zygote_dies(1)
    ask(world, 1)
    world.run(5)
    assert told(world) == []
    world.run(10)
    assert told(world) == [2]
    assert world.generations() == [1, 2, 1, 1]


def test_a_zygote_that_dies_leaves_the_successor_that_boots_already():
    world = booted(codes={1: Code(boot_time=3), 2: Code(import_time=30)})
    ask(world, 1)
    world.run(1)
    world.zygote_dies(1)
    world.run(5)
    assert told(world) == [2]
    assert world.generations() == [1] * 4


# --- what overtakes it


def test_a_reload_overtakes_the_wish():
    world = booted()
    start = world.now
    world.tell(ReloadRequested(world.policy))
    ask(world, 0, 1)
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    world.run(10)
    assert world.generations() == [2] * 4
    assert world.notices(notices.WorkerReplacementStarted) == []
    assert len(world.orders(SpawnWorker)) == 8
    assert least(world, start) == 4


@pytest.mark.parametrize("after", [0.0, 1.0])
def test_a_reload_does_not_wait_for_a_successor_of_the_old_code(after):
    world = booted(codes={1: Code(boot_time=50)})
    ask(world, 0)
    world.run(after)
    assert len(world.workers) == 5
    world.tell(ReloadRequested(world.policy))
    assert told(world) == [5], "it makes room for the canary"
    world.until(lambda: world.supervisor.phase is Phase.STEADY, within=20)
    world.run(60)
    assert world.generations() == [2] * 4
    assert world.notices(notices.WorkerLost) == []


def test_after_a_failed_reload_the_wish_still_counts():
    world = booted(codes={2: Code(boot_error="bad")})
    world.tell(ReloadRequested(world.policy))
    (old,) = ask(world, 1)
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    world.run(10)
    assert told(world) == [old.id]
    assert world.generations() == [1] * 4


def test_a_wish_during_the_first_boot_waits_for_its_end():
    world = Simulation(scripts={2: Code(boot_time=5)})
    world.until(lambda: len(world.ready()) == 3)
    ask(world, 0)
    world.run(2)
    assert told(world) == []
    world.run(10)
    assert told(world) == [1]
    assert world.exit_code is None


def test_a_worker_of_the_new_generation_may_ask_too():
    world = booted(watch_time=3.0)
    world.tell(ReloadRequested(world.policy))
    world.until(lambda: 2 in world.generations())
    canary = next(w for w in world.ready() if w.generation == 2)
    world.tell(WorkerReplacementRequested(canary.id, "it served 10 requests"))
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    assert canary.id in world.workers
    assert world.notices(notices.ReloadFailed) == []
    world.run(10)
    assert canary.id not in world.workers
    assert world.generations() == [2] * 4


def test_a_slot_that_is_scaled_away_has_no_successor():
    world = booted(codes={1: Code(boot_time=3)})
    ask(world, 3)
    world.run(1)
    world.tell(ScaleRequested(-1))
    assert sorted(told(world)) == [4, 5]
    world.run(10)
    assert world.generations() == [1] * 3


@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
def test_a_stop_overtakes_the_wish(after):
    world = booted()
    ask(world, 0, 1)
    world.run(after)
    spawned = len(world.orders(SpawnWorker))
    world.tell(StopRequested())
    assert world.run(20).exit_code is ExitCode.OK
    assert len(world.orders(SpawnWorker)) == spawned


def test_who_leaves_or_is_unknown_cannot_ask():
    world = booted(codes={1: Code(drain_time=5)})
    leaver = world.worker(3)
    world.tell(ScaleRequested(-1))
    before = len(world.actions)
    assert world.tell(WorkerReplacementRequested(leaver.id, "late")) == []
    assert world.tell(WorkerReplacementRequested(99, "who?")) == []
    assert len(world.actions) == before


def test_workers_that_ask_as_soon_as_they_are_ready_are_replaced_for_ever_without_a_gap():
    world = booted(workers=3)
    start = world.now
    for _ in range(300):
        for slot in range(3):
            if len([w for w in world.ready() if w.slot == slot]) == 1:
                ask(world, slot)
        world.run(0.2)
    assert least(world, start) == 3
    assert len(world.workers) <= 5
    recycled = [n.slot for n in world.notices(notices.WorkerReplacementStarted)]
    assert {recycled.count(slot) // 20 for slot in range(3)} != {0}, "each gets its turn"
    assert world.notices(notices.WorkerLost) == []
