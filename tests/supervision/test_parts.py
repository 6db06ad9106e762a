"""The small parts: back-off, capacity, hang verdicts, punctuality."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.capacity import Plan, plan_changes
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.hang import ClockWatch, HangAction, forgive, judge, note_heartbeat
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import WorkerState

# --- back-off

POLICY = Policy(backoff_base=1.0, backoff_cap=10.0)


def strikes(count, backoff=None, jitter=1.0, *, stable=False, generation=1):
    backoff = backoff or Backoff()
    return [
        backoff.strike(100.0, generation=generation, stable=stable, policy=POLICY, jitter=lambda: jitter)
        for _ in range(count)
    ]


def test_the_first_failure_is_free_then_delays_double_up_to_the_cap():
    assert strikes(7) == [0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_half_of_the_delay_is_random():
    assert strikes(3, jitter=0.0) == [0.0, 0.5, 1.0]


def test_stability_and_new_code_forget_the_past():
    backoff = Backoff()
    assert strikes(3, backoff) == [0.0, 1.0, 2.0]
    assert strikes(1, backoff, stable=True) == [0.0]
    assert strikes(1, backoff) == [1.0]
    assert strikes(1, backoff, generation=2) == [0.0]


def test_only_the_code_that_failed_has_to_wait():
    backoff = Backoff()
    strikes(2, backoff)
    assert backoff.holds(1, 100.5)
    assert not backoff.holds(2, 100.5)
    assert not backoff.holds(1, 101.0)


def test_a_thousand_failures_do_not_overflow():
    assert strikes(2000)[-1] == 10.0


# --- capacity


def worker(number, slot, generation=1, *, ready=True):
    state = WorkerState.READY if ready else WorkerState.BOOTING
    return WorkerRecord(number, slot, generation, 0.0, None, state)


def plan(workers=3, kept_generations=(1,), surge=1, missing=0, *, replace=True, can_fork=True, recycle=None):
    return Plan(
        workers, frozenset(kept_generations), workers + surge, workers - missing, replace, can_fork, recycle
    )


def result(serving, plan, held=()):
    todo = plan_changes(serving, plan, lambda slot: slot in held)
    return [w.id for w in todo.drain], todo.spawn


def test_nothing_to_do():
    assert result([worker(1, 0), worker(2, 1), worker(3, 2)], plan()) == ([], [])


def test_empty_slots_are_filled_unless_they_wait_or_no_zygote_can_fork():
    assert result([worker(1, 1)], plan()) == ([], [0, 2])
    assert result([worker(1, 1)], plan(), held={0}) == ([], [2])
    assert result([worker(1, 1)], plan(can_fork=False)) == ([], [])


def test_surplus_leaves_from_the_top_whatever_its_state():
    serving = [worker(1, 0), worker(2, 1, ready=False), worker(3, 2)]
    assert result(serving, plan(workers=1)) == ([3, 2], [])


def test_an_outdated_worker_leaves_once_its_successor_is_ready():
    old = [worker(1, 0), worker(2, 1), worker(3, 2)]
    assert result(old, plan(kept_generations={2})) == ([], [0])
    assert result([*old, worker(4, 0, 2, ready=False)], plan(kept_generations={2})) == ([], [])
    assert result([*old, worker(4, 0, 2)], plan(kept_generations={2})) == ([1], [1])


def test_an_outdated_worker_that_still_boots_leaves_at_once():
    assert result([worker(1, 0, ready=False), worker(2, 0, 2)], plan(workers=1, kept_generations={2})) == (
        [1],
        [],
    )


def test_empty_slots_are_filled_before_served_ones():
    assert result([worker(1, 0), worker(2, 1)], plan(kept_generations={2})) == ([], [2, 0])


def test_without_replacement_outdated_workers_keep_their_slots():
    assert result([worker(1, 0), worker(2, 1), worker(3, 2)], plan(kept_generations={2}, replace=False)) == (
        [],
        [],
    )


def test_slots_no_longer_wanted_are_given_up_first():
    serving = [worker(1, 0), worker(2, 1), worker(3, 2), worker(4, 0, 2)]
    assert result(serving, plan(workers=1, kept_generations={2})) == ([3, 2, 1], [])


def test_who_is_to_be_recycled_gets_a_successor_and_leaves_once_that_is_ready():
    old = [worker(1, 0), worker(2, 1), worker(3, 2)]
    assert result(old, plan(recycle=2)) == ([], [1])
    assert result(old, plan(recycle=2), held={1}) == ([], [])
    assert result([*old, worker(4, 1, ready=False)], plan(recycle=2)) == ([], [])
    assert result([*old, worker(4, 1)], plan(recycle=2)) == ([2], [])
    assert result([*old, worker(4, 1)], plan()) == ([2], [])


def test_a_successor_without_need_leaves():
    assert result([worker(1, 0), worker(2, 0, ready=False)], plan(workers=1)) == ([2], [])


def test_empty_slots_come_before_a_successor():
    assert result([worker(1, 0), worker(2, 1)], plan(recycle=1)) == ([], [2, 0])
    assert result([worker(1, 0), worker(2, 1)], plan(surge=0, recycle=1)) == ([], [2])


def test_without_room_who_is_to_be_recycled_makes_it_if_it_may_be_missed():
    old = [worker(1, 0), worker(2, 1), worker(3, 2)]
    assert result(old, plan(surge=0, missing=1, recycle=2)) == ([2], [1])
    assert result(old, plan(surge=0, missing=0, recycle=2)) == ([], [])
    booting = [worker(1, 0), worker(2, 1), worker(3, 2, ready=False)]
    assert result(booting, plan(surge=0, missing=2, recycle=2)) == ([], [])
    assert result([*old, worker(4, 3, ready=False)], plan(surge=0, missing=1, recycle=2)) == ([4, 2], [1])


@given(
    slots=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3), st.booleans()), max_size=12),
    workers=st.integers(1, 6),
    surge=st.integers(0, 3),
    missing=st.integers(0, 6),
    replace=st.booleans(),
    held=st.sets(st.integers(0, 6)),
    recycle=st.none() | st.integers(0, 11),
)
def test_whatever_serves_the_bounds_are_kept(slots, workers, surge, missing, replace, held, recycle):
    serving = [worker(n, slot, generation, ready=ready) for n, (slot, generation, ready) in enumerate(slots)]
    wanted = plan(workers, {3}, surge, missing, replace=replace, recycle=recycle)
    todo = plan_changes(serving, wanted, lambda slot: slot in held)
    leaving = {w.id for w in todo.drain}
    assert len(leaving) == len(todo.drain)
    assert len(todo.spawn) == len(set(todo.spawn))
    assert not set(todo.spawn) & held
    assert all(slot < workers for slot in todo.spawn)
    staying = [w for w in serving if w.id not in leaving]
    if todo.spawn:
        assert len(staying) + len(todo.spawn) <= workers + surge
    assert not {w.slot for w in staying if w.generation == 3 and w.id != recycle} & set(todo.spawn)
    kept = [w.slot for w in staying if w.generation == 3 and w.is_ready]
    assert len(kept) == len(set(kept)), "one for each slot"
    assert {w.slot for w in serving if w.generation == 3 and w.is_ready and w.slot < workers} - set(kept) <= {
        w.slot for w in todo.drain if w.id == recycle
    }, "of those that may stay, only the recycled one leaves without a successor"
    if any(w.generation != 3 and w.is_ready for w in todo.drain):
        assert sum(w.is_ready for w in staying) >= workers - missing


# --- hangs


def test_verdicts_follow_each_other():
    policy = Policy(hang_timeout=10, dump_interval=2)
    w = worker(1, 0)
    assert judge(w, 1000.0, policy) is HangAction.FINE, "never ready: its loop may not run"
    w.ready_at = w.alive_at = 0.0
    assert judge(w, 10.0, policy) is HangAction.FINE
    assert judge(w, 10.1, policy) is HangAction.DUMP
    w.dumps, w.dumped_at = 1, 10.1
    assert judge(w, 11.0, policy) is HangAction.WAIT
    assert judge(w, 12.2, policy) is HangAction.DUMP
    w.dumps, w.dumped_at = 2, 12.2
    assert judge(w, 13.0, policy) is HangAction.WAIT
    assert judge(w, 14.3, policy) is HangAction.KILL
    note_heartbeat(w, 13.9, 14.3)
    assert judge(w, 14.3, policy) is HangAction.RECOVERED


def test_an_old_or_future_heartbeat_does_not_fool():
    w = worker(1, 0)
    w.ready_at = w.alive_at = 50.0
    note_heartbeat(w, 20.0, 60.0)
    assert w.alive_at == 50.0
    note_heartbeat(w, 999.0, 61.0)
    assert w.alive_at == 61.0


def test_time_the_master_slept_is_forgiven():
    w = worker(1, 0)
    w.ready_at = w.alive_at = 50.0
    forgive(w, 100.0, 151.0)
    assert w.alive_at == 150.0
    forgive(w, 100.0, 152.0)
    assert w.alive_at == 152.0


# --- punctuality


def test_being_late_is_lenient_once():
    clock = ClockWatch(0.0)
    clock.promised = 1.0
    assert clock.tick(1.5, 1.0) == 0.0
    assert not clock.in_grace
    assert clock.tick(10.0, 1.0) == 9.0
    assert clock.in_grace
    assert clock.tick(10.5, 1.0) == 9.5
    assert clock.in_grace
    assert clock.tick(20.0, 1.0) == 19.0
    assert not clock.in_grace, "always late: it has to judge now"
    assert clock.tick(30.0, 1.0) == 29.0
    assert clock.in_grace


@pytest.mark.parametrize("promised", [None, 100.0])
def test_being_early_is_not_being_late(promised):
    clock = ClockWatch(0.0)
    clock.promised = promised
    assert clock.tick(50.0, 1.0) == 0.0
    assert not clock.in_grace
