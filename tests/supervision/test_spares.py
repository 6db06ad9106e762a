"""Workers that stand by until another one is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.supervision import notices
from asgi_master.supervision.actions import AdmitWorker, DrainWorker, SpawnWorker
from asgi_master.supervision.events import (
    ReloadRequested,
    RollbackRequested,
    ScaleRequested,
    StopRequested,
    WorkerLeaving,
    WorkerReplacementRequested,
)
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.spares import SparePlan, spare_changes
from asgi_master.supervision.states import Phase, Role, WorkerState
from simulation import NEVER, Code, Simulation


def steady(world):
    return world.until(lambda: world.supervisor.phase is Phase.STEADY)


def booted(workers=3, spares=1, codes=None, **policy):
    world = steady(Simulation(Policy(workers=workers, spares=spares, **policy), codes=codes or {}))
    return world.until(lambda: len(world.standing_by()) == spares)


def admitted(world):
    return [order.worker for order in world.orders(AdmitWorker)]


def slots(workers):
    return sorted(worker.slot for worker in workers)


# --- standing by


def test_spares_boot_after_the_others_and_accept_nothing():
    world = booted(spares=2)
    assert [n.workers for n in world.notices(notices.MasterReady)] == [3]
    assert [(o.slot, o.role) for o in world.orders(SpawnWorker)] == [
        (0, Role.WORKER),
        (1, Role.WORKER),
        (2, Role.WORKER),
        (3, Role.SPARE),
        (4, Role.SPARE),
    ]
    assert slots(world.standing_by()) == [3, 4]
    assert [n.slot for n in world.notices(notices.WorkerBecameReady) if n.standby] == [3, 4]
    world.run(100)
    assert admitted(world) == []


def test_a_crash_is_made_up_for_by_the_spare_at_once_and_it_leaves_afterwards():
    world = booted(codes={1: Code(boot_time=5)})
    (spare,) = world.standing_by()
    world.die(world.worker(1))
    assert admitted(world) == [spare.id], "in the same breath"
    assert slots(world.ready()) == [0, 2, 3]
    world.run(5.5)
    assert slots(world.ready()) == [0, 1, 2, 3], "the successor has to prove itself"
    world.run(0.7)
    assert slots(world.ready()) == [0, 1, 2]
    assert world.orders(DrainWorker) == [DrainWorker(spare.id, 30.0, hand_off=True)]
    assert [n.worker for n in world.notices(notices.SpareReleased)] == [spare.id]
    world.run(6)
    (fresh,) = world.standing_by()
    assert fresh.slot == 3
    assert fresh.id != spare.id


def test_as_many_are_admitted_as_are_missing():
    world = booted(workers=4, spares=2, codes={1: Code(boot_time=5)})
    for slot in (0, 1, 2):
        world.die(world.worker(slot))
    assert slots(world.ready()) == [3, 4, 5]
    world.run(20)
    assert slots(world.ready()) == [0, 1, 2, 3]
    assert slots(world.standing_by()) == [4, 5]


def test_a_slot_that_keeps_crashing_keeps_the_spare():
    world = booted(codes={1: Code()})
    world.scripts = {n: Code(dies_after=0.3) for n in range(5, 500)}
    (spare,) = world.standing_by()
    world.die(world.worker(0))
    world.run(60)
    assert spare in world.ready()
    assert len(world.notices(notices.WorkerLost)) > 4
    world.scripts = {}
    world.run(60)
    assert slots(world.ready()) == [0, 1, 2]
    assert slots(world.standing_by()) == [3]


def test_a_spare_that_crashes_is_replaced_with_back_off_and_none_is_admitted():
    world = booted()
    world.scripts = {n: Code(dies_after=0.1) for n in range(5, 500)}
    world.die(world.standing_by()[0])
    world.run(20)
    delays = [n.retry_in for n in world.notices(notices.WorkerLost)]
    assert delays[:4] == [0.0, 0.5, 1.0, 2.0]
    assert {n.slot for n in world.notices(notices.WorkerLost)} == {3}
    assert admitted(world) == []
    assert world.generations() == [1] * 3


def test_an_admitted_spare_that_crashes_is_followed_by_the_next():
    world = booted(spares=2, codes={1: Code(boot_time=5)})
    world.die(world.worker(0))
    world.die(world.worker(3))
    assert slots(world.ready()) == [1, 2, 4]


def test_a_spare_that_still_boots_is_admitted_when_it_is_ready():
    world = steady(Simulation(Policy(workers=2, spares=1), scripts={3: Code(boot_time=2)}))
    world.scripts[4] = Code(boot_time=NEVER)
    world.die(world.worker(0))
    assert admitted(world) == []
    world.run(3)
    assert admitted(world) == [3]


def test_a_worker_that_leaves_unasked_is_missed_too():
    world = booted(codes={1: Code(boot_time=5)})
    (spare,) = world.standing_by()
    leaving = world.worker(0)
    world.tell(WorkerLeaving(leaving.id, "SIGTERM"))
    assert admitted(world) == [spare.id]


@pytest.mark.parametrize(("surge", "missing"), [(1, 0), (0, 1)])
def test_no_worker_is_missing_in_an_exchange(surge, missing):
    world = booted(max_surge=surge, max_unavailable=missing)
    world.tell(WorkerReplacementRequested(world.worker(0).id, "old"))
    world.run(10)
    world.tell(ReloadRequested(world.policy))
    steady(world).run(10)
    assert world.generations() == [2] * 3
    assert admitted(world) == []


def test_a_spare_that_asks_to_leave_is_exchanged():
    world = booted()
    (spare,) = world.standing_by()
    world.tell(WorkerReplacementRequested(spare.id, "it served for a day"))
    assert world.orders(DrainWorker) == [DrainWorker(spare.id, 30.0, hand_off=True)]
    assert [n.reason for n in world.notices(notices.WorkerReplacementStarted)] == ["it served for a day"]
    world.run(2)
    assert slots(world.standing_by()) == [3]


# --- scaling


def test_a_spare_whose_slot_is_wanted_is_its_worker():
    world = booted()
    (spare,) = world.standing_by()
    world.tell(ScaleRequested(+1))
    assert admitted(world) == [spare.id]
    world.run(5)
    assert slots(world.ready()) == [0, 1, 2, 3]
    assert slots(world.standing_by()) == [4]
    assert world.notices(notices.SpareReleased) == []
    world.die(spare)
    assert world.orders(SpawnWorker)[-1].slot == 3


def test_a_spare_that_boots_when_its_slot_is_wanted_serves_when_it_is_ready():
    world = steady(Simulation(Policy(workers=2, spares=1), scripts={3: Code(boot_time=3)}))
    world.tell(ScaleRequested(+1))
    assert admitted(world) == []
    world.run(4)
    assert admitted(world) == [3]
    assert slots(world.ready()) == [0, 1, 2]
    assert slots(world.standing_by()) == [3]


def test_scaling_down_moves_the_place_of_the_spare_not_the_spare():
    world = booted()
    (old,) = world.standing_by()
    world.tell(ScaleRequested(-1))
    world.run(2)
    assert slots(world.ready()) == [0, 1]
    (new,) = world.standing_by()
    assert (old.slot, new.slot) == (3, 2)


# --- generations


def test_spares_follow_a_reload():
    world = booted(spares=2)
    world.tell(ReloadRequested(world.policy))
    world.until(lambda: len(world.ready()) > 3)
    assert {w.generation for w in world.standing_by()} == {1}, "they stay until the commit"
    steady(world)
    assert world.notices(notices.ReloadCommitted)
    world.run(2)
    assert [(w.slot, w.generation) for w in world.standing_by()] == [(3, 2), (4, 2)]


def test_spares_that_cannot_boot_do_not_hold_a_reload_up():
    world = booted(codes={2: Code()})
    world.scripts = {n: Code(boot_time=NEVER) for n in range(8, 100)}
    world.tell(ReloadRequested(world.policy))
    steady(world).run(1)
    assert world.generations() == [2] * 3
    assert world.standing_by() == []


def test_a_failed_reload_leaves_the_spares_alone():
    world = booted(codes={2: Code(boot_error="no")})
    before = world.standing_by()
    world.tell(ReloadRequested(world.policy))
    steady(world).run(5)
    assert world.standing_by() == before


def test_a_crash_during_a_reload_is_made_up_for():
    world = booted(codes={1: Code(boot_time=4), 2: Code(boot_time=4)})
    world.tell(ReloadRequested(world.policy))
    world.run(1)
    (spare,) = world.standing_by()
    world.die(world.worker(2))
    assert admitted(world) == [spare.id]
    steady(world).run(10)
    assert world.generations() == [2] * 3
    assert [w.generation for w in world.standing_by()] == [2]


def test_spares_follow_a_rollback():
    world = booted(rollback_window=100.0)
    world.tell(ReloadRequested(world.policy))
    steady(world).run(5)
    world.tell(RollbackRequested())
    steady(world).run(5)
    assert world.generations() == [1] * 3
    assert [w.generation for w in world.standing_by()] == [1]


@pytest.mark.parametrize("spares", [0, 1, 3])
def test_a_reload_changes_their_number(spares):
    world = booted(spares=2)
    world.tell(ReloadRequested(Policy(workers=3, spares=spares)))
    steady(world).run(5)
    assert slots(world.standing_by()) == list(range(3, 3 + spares))


def test_a_reload_to_more_workers_takes_the_slots_of_spares():
    world = booted(spares=2)
    world.tell(ReloadRequested(Policy(workers=5, spares=1)))
    steady(world).run(5)
    assert slots(world.ready()) == [0, 1, 2, 3, 4]
    assert slots(world.standing_by()) == [5]
    assert {w.generation for w in world.workers.values()} == {2}


def test_without_a_zygote_spares_go_on_and_are_admitted():
    world = booted(codes={n: Code(import_error="gone") for n in range(2, 100)})
    world.zygote_dies(1)
    world.run(1)
    world.die(world.worker(0))
    assert slots(world.ready()) == [1, 2, 3]
    world.run(30)
    assert slots(world.ready()) == [1, 2, 3]


def test_spares_stop_with_the_others():
    world = booted()
    world.tell(StopRequested())
    world.run(5)
    assert world.exit_code == 0


# --- the rule by itself


def spare(number, slot, generation, reason, *, ready, standby):
    state = WorkerState.READY if ready else WorkerState.BOOTING
    # No spare is admitted before it is ready.
    return WorkerRecord(
        number,
        slot,
        generation,
        0.0,
        None,
        state,
        role=Role.SPARE,
        standby=standby or not ready,
        replacement_reason=reason,
    )


@given(
    spares=st.lists(
        st.tuples(st.integers(1, 2), st.sampled_from(["", "", "old"]), st.booleans(), st.booleans()),
        max_size=6,
    ),
    first=st.integers(0, 3),
    count=st.integers(0, 4),
    settled=st.booleans(),
    missing=st.integers(0, 4),
    healing=st.integers(0, 2),
)
def test_whatever_stands_by_the_bounds_are_kept(spares, first, count, settled, missing, healing):
    there = [
        spare(n, n, generation, reason, ready=ready, standby=standby)
        for n, (generation, reason, ready, standby) in enumerate(spares)
    ]
    plan = SparePlan(
        frozenset(range(first, first + count)), frozenset({2}), settled, missing, missing + healing
    )
    todo = spare_changes(there, plan)
    leaving = {w.id for w in todo.drain}
    before = sum(not w.standby for w in there)
    after = sum(not w.standby and w.id not in leaving for w in there) + len(todo.admit)
    assert len(leaving) == len(todo.drain)
    assert all(w.standby and w.state is WorkerState.READY and w.generation == 2 for w in todo.admit)
    assert not leaving & {w.id for w in todo.admit}
    assert after <= max(missing, min(before, plan.unwell))
    if not settled:
        assert todo.spawn == []
        assert not any(w.standby for w in todo.drain)
    else:
        staying = {w.slot for w in there if w.id not in leaving}
        assert staying | set(todo.spawn) >= plan.slots
        assert not staying & set(todo.spawn)
        assert all(w.slot in plan.slots for w in there if w.standby and w.id not in leaving)
