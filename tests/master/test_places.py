"""Places of sessions: who gets which, and what becomes of it. With queues, and without processes."""

import os
import socket
from typing import Any, cast

import pytest

from asgi_master.ipc.hand_off import LARGE_METADATA, HandOff
from asgi_master.ipc.messages import Message, TakePlace, UsePlace, UsePlaces
from asgi_master.master.places import Places
from asgi_master.settings.model import AffinitySettings, Settings
from asgi_master.supervision.fleet import Fleet, WorkerRecord
from asgi_master.supervision.states import Role, WorkerState


class Disposal:
    def close(self, what: Any) -> None:
        what.close()


class Children:
    """What `Places` asks of them."""

    def __init__(self) -> None:
        self.disposal = Disposal()
        self.sticky = {1}
        self.deaf: set[int] = set()
        self.sent: list[tuple[int, Message, int]] = []
        self.given: list[HandOff] = []

    def settings_of(self, generation: int) -> Settings | None:
        if generation == 0:
            return None
        return Settings(affinity=AffinitySettings(sticky=("cookie:@",) if generation in self.sticky else ()))

    def give(self, worker: int, message: Message, fds: tuple[int, ...] = ()) -> bool:
        if worker in self.deaf:
            return False
        self.sent.append((worker, message, len(fds)))
        if isinstance(message, TakePlace):
            self.given.append(HandOff.of_fds(*map(os.dup, fds), LARGE_METADATA))
        return True


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.children = Children()
        self.fleet = Fleet()
        self.places = Places(cast("Any", self.children), lambda: self.fleet, lambda: self.now)

    def worker(self, id: int, slot: int, *, generation: int = 1, **changes: Any) -> WorkerRecord:  # noqa: A002
        record = WorkerRecord(id, slot, generation, ordered_at=0.0, deadline=None, **changes)
        self.fleet.workers[id] = record
        return record

    def turn(self) -> None:
        self.children.sent.clear()
        self.places.sweep()

    def listed(self, worker: int) -> dict[int, int]:
        """What the worker was sent last: slots by place."""
        told = [m for w, m, _ in self.children.sent if w == worker and isinstance(m, UsePlaces)]
        return dict(zip(told[-1].places, told[-1].slots, strict=True)) if told else {}

    def placed(self) -> dict[int, int]:
        return {w: m.place for w, m, _ in self.children.sent if isinstance(m, UsePlace)}


@pytest.fixture
def world():
    world = World()
    yield world
    for queue in world.children.given:
        queue.close()
    for place in list(world.places._places.values()):
        place.queue.close()
    world.places.close() if world.places._table is not None else None


@pytest.fixture
def two(world):
    """Two workers that are ready."""
    for worker in (1, 2):
        world.worker(worker, worker - 1, state=WorkerState.READY)
    world.turn()
    world.turn()
    assert world.listed(1) == {1: 0, 2: 1}
    return world


def test_without_sticky_there_is_nothing(world):
    world.worker(1, 0, generation=2)
    world.worker(2, 0, generation=0)
    world.worker(3, 0, role=Role.SERVICE)
    world.turn()
    assert world.children.sent == []
    assert world.places.export_state() is None


def test_a_worker_gets_its_place_before_it_is_ready_and_then_sessions(world):
    record = world.worker(1, 0)
    world.turn()
    assert world.placed() == {1: 1}
    assert world.listed(1) == {1: -1}
    record.state = WorkerState.READY
    world.turn()
    assert world.listed(1) == {1: 0}
    world.turn()
    assert world.children.sent == []


def test_descriptors_are_given_once(two):
    two.worker(3, 2, state=WorkerState.READY)
    two.turn()
    [message] = [m for w, m, _ in two.children.sent if w == 1]
    assert isinstance(message, UsePlaces)
    assert message.new == [3]


def test_what_could_not_be_sent_is_sent_later(world):
    world.children.deaf = {1}
    world.worker(1, 0, state=WorkerState.READY)
    world.turn()
    assert world.children.sent == []
    world.children.deaf = set()
    world.turn()
    assert world.placed() == {1: 1}


def test_the_successor_of_one_that_died_inherits_its_place(two):
    del two.fleet.workers[1]
    two.turn()
    assert two.listed(2) == {}, "its slot is still where its sessions are"
    two.worker(3, 0)
    two.turn()
    assert two.placed() == {3: 1}
    assert two.listed(3) == {1: 0, 2: 1}
    two.now += 4
    two.fleet.workers[3].state = WorkerState.READY
    two.now += 4
    two.turn()
    assert two.children.sent == [], "it was ready in time"


def test_without_a_successor_another_worker_serves_what_waits(two):
    client, server = socket.socketpair()
    two.places._places[1].queue.put(server, b"waits")
    server.close()
    del two.fleet.workers[1]
    two.turn()
    two.worker(3, 0)
    two.turn()
    two.now += 6
    two.turn()
    [(worker, _message, fds)] = [each for each in two.children.sent if isinstance(each[1], TakePlace)]
    assert (worker, fds) == (2, 2)
    [queue] = two.children.given
    [taken] = queue.take(10)
    assert taken.metadata == b"waits"
    assert queue.is_over or list(queue.take(10)) == []
    taken.connection.close()
    client.close()
    assert two.listed(2) == {2: 1}
    # The successor gets a place of its own.
    two.fleet.workers[3].state = WorkerState.READY
    two.turn()
    two.turn()
    assert two.listed(2) == {2: 1, 3: 0}


def test_if_nobody_else_serves_it_goes_on_waiting(world):
    world.worker(1, 0, state=WorkerState.READY)
    world.turn()
    world.turn()
    del world.fleet.workers[1]
    world.turn()
    world.now += 6
    world.turn()
    world.worker(2, 0)
    world.turn()
    assert world.placed() == {2: 1}


def test_a_reload_begins_new_sessions_in_the_new_worker_and_keeps_the_old_place(two):
    new = two.worker(3, 0, state=WorkerState.READY)
    two.turn()
    two.turn()
    assert two.placed() == {}
    assert two.listed(2) in ({}, {1: -1, 2: 1, 3: 0})
    two.fleet.workers[1].state = WorkerState.DRAINING
    two.turn()
    two.fleet.workers[1].state = WorkerState.GONE
    del two.fleet.workers[1]
    two.turn()
    assert two.listed(2) == {2: 1, 3: 0}
    assert new.id in {place.worker for place in two.places._places.values()}


def test_one_that_never_was_ready_leaves_nothing(two):
    two.worker(3, 2)
    two.turn()
    del two.fleet.workers[3]
    two.turn()
    assert two.listed(1) == {1: 0, 2: 1}


def test_an_upgrade_goes_on_with_all_of_it(two):
    section = two.places.export_state()
    assert section is not None
    section.fds = {name: os.dup(fd) for name, fd in section.fds.items()}
    again = World()
    again.fleet = two.fleet
    again.places.import_state(section)
    again.turn()
    # Their places stay; what they know of each other is said once more.
    assert again.placed() == {}
    assert again.listed(1) == {1: 0, 2: 1}
    again.worker(3, 2)
    again.turn()
    assert again.placed() == {3: 3}
    for place in again.places._places.values():
        place.queue.close()
    again.places._table.close()


def test_numbers_come_round(two):
    two.places._last = (1 << 16) - 1
    two.worker(3, 2)
    two.turn()
    assert two.placed() == {3: 3}
