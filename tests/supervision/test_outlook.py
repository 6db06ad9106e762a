"""What will happen next, in fleets on paper."""

from dataclasses import replace

import pytest

from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.desired import Desired, Held, Rollout
from asgi_master.supervision.fleet import Fleet, WorkerRecord, ZygoteRecord
from asgi_master.supervision.hang import ClockWatch
from asgi_master.supervision.outlook import Step, Upcoming, outlook
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import Phase, WorkerState, ZygoteState
from asgi_master.telemetry.outlook import render

NOW = 1000.0
POLICY = Policy(workers=3)


def state(phase: Phase = Phase.STEADY, *workers: WorkerRecord) -> SupervisorState:
    fleet = Fleet(workers={worker.id: worker for worker in workers})
    desired = Desired(POLICY, POLICY, phase=phase, committed=1)
    return SupervisorState(fleet, desired, ClockWatch(NOW))


def worker(
    number: int, generation: int = 1, how: WorkerState = WorkerState.READY, **known: object
) -> WorkerRecord:
    is_ready = how in {WorkerState.READY, WorkerState.DRAINING}
    deadline = None if how is WorkerState.READY else NOW + 12
    found = WorkerRecord(number, number % 10, generation, NOW - 100, deadline, how)
    found.ready_at, found.alive_at = (NOW - 90 if is_ready else None), NOW
    for name, value in known.items():
        setattr(found, name, value)
    return found


def told(found: SupervisorState) -> list[str]:
    return [render(upcoming) for upcoming in outlook(found, NOW)]


def test_nothing_is_due() -> None:
    assert outlook(state(Phase.STEADY, worker(0), worker(1)), NOW) == []


def test_a_stop() -> None:
    delayed = state(Phase.TERMINATING, worker(0))
    delayed.shutdown.delayed_until = NOW + 8
    assert told(delayed) == ["stop in 8 s"]
    leaving = state(Phase.STOPPING, worker(0, how=WorkerState.DRAINING), worker(1, how=WorkerState.DRAINING))
    assert told(leaving) == ["stop: waiting for 2 processes, at most 12 s left"]
    assert told(state(Phase.STOPPING)) == []
    assert told(state(Phase.STOPPING, worker(0))) == ["stop: waiting for 1 process"]


@pytest.mark.parametrize(
    ("is_back", "generation", "words"),
    [(False, 2, "reload to"), (True, 2, "rollback to"), (False, 1, "start of")],
)
def test_an_import(is_back: bool, generation: int, words: str) -> None:
    found = state(Phase.RELOADING, worker(0))
    returns_to = Held(generation, POLICY, NOW + 9) if is_back else None
    found.desired.rollout = Rollout(generation, NOW - 1, proven=False, returns_to=returns_to)
    found.fleet.zygotes[generation] = ZygoteRecord(generation, NOW + 57)
    assert told(found) == [f"{words} generation {generation}: importing the application, at most 57 s left"]


def test_a_canary() -> None:
    found = state(Phase.RELOADING, worker(0), worker(1))
    found.desired.rollout = Rollout(2, NOW - 3, proven=False)
    found.fleet.zygotes[2] = ZygoteRecord(2, None, ZygoteState.READY)
    assert told(found) == ["reload to generation 2: starting its first worker"]
    found.fleet.workers[12] = worker(12, 2, WorkerState.BOOTING)
    assert told(found) == ["reload to generation 2: proving itself in worker 2, at most 12 s left"]
    found.fleet.workers[12] = worker(12, 2, ready_at=NOW - 0.5)
    assert outlook(found, NOW) == [Upcoming(Step.CANARY, 0.5, 2, 2)]


def test_a_rollout() -> None:
    found = state(Phase.RELOADING, worker(0, 2), worker(1, 2, WorkerState.BOOTING), worker(12, 1), worker(3))
    found.desired.rollout = Rollout(2, NOW - 3, proven=True)
    assert told(found) == ["reload to generation 2: 1 of 3 workers ready, at most 12 s left"]


def test_workers() -> None:
    found = state(
        Phase.STEADY,
        worker(0, how=WorkerState.BOOTING),
        worker(1, how=WorkerState.DRAINING),
        worker(2, replacement_reason="old"),
        worker(4, alive_at=NOW - 10, moved_at=NOW - 5),
    )
    assert told(found) == [
        "worker 4 is blocked: killed in 27 s unless it goes on",
        "start of worker 0, at most 12 s left",
        "worker 2 is due to be replaced",
        "worker 1 (generation 1) leaves, at most 12 s left",
    ]
    found.desired.policy = Policy(workers=3, hang_timeout=0)
    assert "blocked" not in told(found)[0]


def test_back_offs() -> None:
    found = state(Phase.STEADY, worker(0))
    for slot, until in ((0, NOW + 1), (1, NOW + 4), (2, NOW - 1), (7, NOW + 9)):
        found.fleet.backoff(slot).until = until
    found.desired.stand_in_backoff.until = NOW + 6
    found.desired.committed_policy = replace(POLICY, services=("cron", "queue"))
    found.services.backoffs["cron"] = Backoff(until=NOW + 3)
    found.desired.held = Held(1, POLICY, NOW + 900)
    assert told(found) == [
        "restart of worker 1 in 4 s",
        "restart of service cron in 3 s",
        "another zygote in 6 s",
        "rollback to generation 1 possible for 15 min",
    ]


def test_every_step_has_a_sentence() -> None:
    assert all(render(Upcoming(step, None)) for step in Step)
