"""A supervisor that another one's memory was put into decides as that one would have."""

import json
from dataclasses import fields
from enum import IntEnum, StrEnum

import pytest
from hypothesis import settings
from hypothesis.stateful import precondition, rule

from asgi_master.supervision.events import ReloadRequested
from asgi_master.supervision.fleet import Urgency, Worker
from asgi_master.supervision.memento import MementoError, recall, remember
from asgi_master.supervision.notices import ReloadCommitted, WorkerLost
from asgi_master.supervision.plain import from_plain, to_plain
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import Phase
from asgi_master.supervision.supervisor import Supervisor
from fleet_machine import FleetMachine
from simulation import Simulation


def through_json(memory):
    return json.loads(json.dumps(memory))


def again(supervisor: Supervisor) -> Supervisor:
    return recall(through_json(remember(supervisor)), lambda: 0.5)


class TwinMachine(FleetMachine):
    """The random lives of a fleet, with a second supervisor that is told the same from some moment on."""

    twin = None

    @precondition(lambda self: self.supervisor.phase is Phase.STEADY)
    @rule()
    def another_one_recalls(self):
        if self.twin is None:
            first, alone = self.supervisor, self.supervisor.handle

            def both(event, now):
                actions = alone(event, now)
                assert self.twin.handle(event, now) == actions
                assert self.twin.next_deadline() == first.next_deadline()
                assert self.twin.state == first.state
                return actions

            first.handle = both
        self.twin = again(self.supervisor)


TestTwins = TwinMachine.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_life_goes_on_in_another_supervisor():
    world = Simulation(Policy(workers=3))
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    world.die(world.worker(1))
    world.until(lambda: len(world.ready()) == 3)
    world.supervisor = again(world.supervisor)
    world.tell(ReloadRequested(Policy(workers=3)))
    world.until(lambda: world.notices(ReloadCommitted))
    assert world.generations() == [2, 2, 2]
    world.die(world.worker(0))
    world.until(lambda: len(world.ready()) == 3)
    assert len(world.notices(WorkerLost)) == 2


def steady():
    world = Simulation(Policy(workers=1))
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    return through_json(remember(world.supervisor))


def test_unknown_words_are_ignored_and_missing_ones_have_their_default():
    memory = steady()
    memory["novelty"] = memory["fleet"]["novelty"] = 1
    del memory["desired"]["policy"]["drain_timeout"]
    supervisor = recall(memory, lambda: 0.0)
    assert supervisor.phase is Phase.STEADY
    assert supervisor.policy.drain_timeout == Policy().drain_timeout


def test_a_version_without_roles_says_which_workers_are_spares():
    world = Simulation(Policy(workers=1, spares=1))
    world.until(world.standing_by)
    memory = through_json(remember(world.supervisor))
    workers = [worker for _, worker in memory["fleet"]["workers"]]
    assert [worker["spare"] for worker in workers] == [False, True]
    for worker in workers:
        del worker["role"]
    assert recall(memory, lambda: 0.5).state == world.supervisor.state


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda memory: memory.pop("fleet"), "fleet"),
        (lambda memory: memory["fleet"].update(last_worker="many"), "many"),
        (lambda memory: memory["fleet"]["workers"][0][1].update(state="asleep"), "asleep"),
        (lambda memory: memory["fleet"].update(workers=3), "not iterable"),
        (lambda memory: memory["desired"].update(phase="reloading"), "the running master is reloading"),
    ],
)
def test_what_cannot_be_recalled_says_why(spoil, why):
    memory = steady()
    spoil(memory)
    with pytest.raises(MementoError, match=why):
        recall(memory, lambda: 0.0)


def test_every_kind_of_field_has_a_plain_form():
    worker = Worker(1, 0, 1, ordered_at=2.5, deadline=None, urgency=Urgency.DRAIN)
    plain = through_json(to_plain(worker))
    assert set(plain) == {field.name for field in fields(Worker)}
    assert from_plain(Worker, plain) == worker
    assert from_plain(dict[int, tuple[str, ...]], through_json(to_plain({1: ("a", "b")}))) == {1: ("a", "b")}
    assert from_plain(frozenset[int], to_plain(frozenset({2, 1}))) == {1, 2}
    assert from_plain(float, 1) == 1.0
    with pytest.raises(TypeError, match="object has no plain form"):
        to_plain(object())


def test_an_enumeration_is_its_value():
    assert to_plain(Phase.STEADY) == "steady"
    assert isinstance(from_plain(Phase, "steady"), StrEnum)
    assert isinstance(from_plain(Urgency, 2), IntEnum)
