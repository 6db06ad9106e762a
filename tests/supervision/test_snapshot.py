"""A supervisor that was loaded from a snapshot decides as the one that was dumped."""

import json
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import precondition, rule

from asgi_master.supervision.events import ReloadRequested
from asgi_master.supervision.notices import ReloadCommitted, WorkerLost
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.snapshot import SnapshotError, dump, load
from asgi_master.supervision.states import Phase
from asgi_master.supervision.supervisor import Supervisor
from fleet_machine import FleetMachine
from simulation import Simulation


def through_json(snapshot):
    return json.loads(json.dumps(snapshot))


def again(supervisor: Supervisor) -> Supervisor:
    return load(through_json(dump(supervisor)), lambda: 0.5)


class TwinMachine(FleetMachine):
    """The random lives of a fleet, with a second supervisor that gets the same events from some moment on."""

    twin = None

    @precondition(lambda self: self.supervisor.phase is Phase.STEADY)
    @rule()
    def another_one_is_loaded(self):
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
    return through_json(dump(world.supervisor))


def test_unknown_words_are_ignored_and_missing_ones_have_their_default():
    snapshot = steady()
    snapshot["novelty"] = snapshot["fleet"]["novelty"] = 1
    del snapshot["desired"]["policy"]["drain_timeout"]
    supervisor = load(snapshot, lambda: 0.0)
    assert supervisor.phase is Phase.STEADY
    assert supervisor.policy.drain_timeout == Policy().drain_timeout


def keys_of(data):
    """Every key, with the keys on the way to it."""
    if isinstance(data, dict):
        return {(key, *more) for key, value in data.items() for more in [(), *keys_of(value)]}
    return {more for item in data for more in keys_of(item)} if isinstance(data, list) else set()


def test_keys_are_those_of_an_earlier_version():
    earlier = (Path(__file__).parent / "earlier_snapshot.json").read_text()
    again = dump(load(json.loads(earlier), lambda: 0.5))
    assert keys_of(json.loads(earlier)) <= keys_of(again)


def test_a_version_without_roles_says_which_workers_are_spares():
    world = Simulation(Policy(workers=1, spares=1))
    world.until(world.standing_by)
    snapshot = through_json(dump(world.supervisor))
    workers = [worker for _, worker in snapshot["fleet"]["workers"]]
    assert [worker["spare"] for worker in workers] == [False, True]
    for worker in workers:
        del worker["role"]
    assert load(snapshot, lambda: 0.5).state == world.supervisor.state


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda snapshot: snapshot.pop("fleet"), "fleet"),
        (lambda snapshot: snapshot["fleet"].update(last_worker="many"), "many"),
        (lambda snapshot: snapshot["fleet"]["workers"][0][1].update(state="asleep"), "asleep"),
        (lambda snapshot: snapshot["fleet"].update(workers=3), "not iterable"),
        (lambda snapshot: snapshot["desired"].update(phase="reloading"), "the running master is reloading"),
    ],
)
def test_what_cannot_be_loaded_says_why(spoil, why):
    snapshot = steady()
    spoil(snapshot)
    with pytest.raises(SnapshotError, match=why):
        load(snapshot, lambda: 0.0)
