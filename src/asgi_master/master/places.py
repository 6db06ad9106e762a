"""Where sessions are, with `sticky`: a place for each worker, which its successor inherits after a crash.

A place is a number and a queue, which other workers put connections and relayed requests into. Each worker of a
generation with `sticky` gets one, and all get the put ends of all. The slots of requests whose session is new are those
of the places that are listed with a slot.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Self

from asgi_master.control.component import Component
from asgi_master.ipc.hand_off import LARGE_METADATA, HandOff
from asgi_master.ipc.messages import TakePlace, UsePlace, UsePlaces
from asgi_master.ipc.stick_table import MOST_PLACES, StickTable
from asgi_master.master.children import Children
from asgi_master.master.upgrade_state import StateSection
from asgi_master.records import mutable_record
from asgi_master.supervision.fleet import Fleet, WorkerRecord
from asgi_master.supervision.states import Role

log = logging.getLogger("asgi_master")

_SECRET_SIZE = 32
_MOST_DESCRIPTORS = 200
"""In one message; the kernel's limit is 253."""
_WAIT_FOR_SUCCESSOR = 5.0
"""Seconds for which the sessions of a worker that died wait for its successor; then other workers serve them."""
NO_SLOT = -1


@mutable_record
class Place:
    """Where the sessions of one worker are."""

    number: int
    slot: int
    worker: int
    """0 while there is none."""
    queue: HandOff
    vacant_since: float = 0.0
    """When its worker died; 0 if it did not, or its successor has been ready."""
    was_ready: bool = False
    is_leaving: bool = False


@mutable_record
class _Known:
    """What a worker was sent."""

    is_placed: bool = False
    listed: list[tuple[int, int]] = field(default_factory=list)
    given: set[int] = field(default_factory=set)
    """Places whose put end it has."""


class Places(Component):
    """Gives the workers their places, and follows the fleet in each turn of the loop."""

    def __init__(
        self, children: Children, fleet: Callable[[], Fleet], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is made before a generation asks for it."""
        self._children = children
        self._fleet = fleet
        self._clock = clock
        self._table: StickTable | None = None
        self._secret = ""
        self._last = 0
        self._places: dict[int, Place] = {}
        self._known: dict[int, _Known] = {}

    # -- each turn ---------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Bring the places to the fleet as it is, and say so to the workers."""
        workers = self._fleet().workers
        if not self._places and not any(map(self._is_sticky, workers.values())):
            return
        now = self._clock()
        for worker in self._known.keys() - workers.keys():
            del self._known[worker]
        for place in list(self._places.values()):
            self._follow(place, workers.get(place.worker), now)
        placed = {place.worker for place in self._places.values()}
        for record in workers.values():
            if record.id not in placed and record.serves and self._is_sticky(record):
                self._settle(record)
        for place in list(self._places.values()):
            if place.vacant_since and now >= place.vacant_since + _WAIT_FOR_SUCCESSOR:
                self._give_up(place)
        self._tell(workers)

    def _is_sticky(self, record: WorkerRecord) -> bool:
        if record.role is Role.SERVICE:
            return False
        settings = self._children.settings_of(record.generation)
        return settings is not None and bool(settings.affinity.sticky)

    def _follow(self, place: Place, record: WorkerRecord | None, now: float) -> None:
        if not place.worker:
            return
        if record is None or not record.lives:
            if place.is_leaving or not place.was_ready:
                self._remove(place)
            else:
                place.worker, place.vacant_since = 0, place.vacant_since or now
        elif record.is_ready:
            place.was_ready, place.vacant_since = True, 0.0
        elif not record.serves:
            place.is_leaving = True

    def _settle(self, record: WorkerRecord) -> None:
        """Give a worker its place: that of the one in its slot that died, or a new one."""
        vacant = [place for place in self._places.values() if not place.worker and place.slot == record.slot]
        if vacant and record.role is Role.WORKER:
            vacant[0].worker = record.id
            return
        self._last = self._last % (MOST_PLACES - 1) + 1
        while self._last in self._places:
            self._last = self._last % (MOST_PLACES - 1) + 1
        self._places[self._last] = Place(self._last, record.slot, record.id, HandOff.create())

    def _give_up(self, place: Place) -> None:
        """Have another worker serve what waits for one that died and is not replaced."""
        place.vacant_since = 0.0
        heirs = [
            other
            for other in self._places.values()
            if other is not place and other.worker and self._slot_of(other) >= 0
        ]
        if not heirs:
            # Nobody else serves: it goes on waiting.
            place.vacant_since = self._clock()
            return
        log.warning(
            "worker %d is not back after %g s: other workers serve its sessions, without what it had in memory",
            place.slot,
            _WAIT_FOR_SUCCESSOR,
        )
        place.queue.end()
        self._children.give(heirs[0].worker, TakePlace(), place.queue.fds)
        self._remove(place)
        if place.worker:
            # Its successor, which is not ready yet, gets a new one: the old queue is another worker's now.
            self._known.pop(place.worker, None)

    def _remove(self, place: Place) -> None:
        del self._places[place.number]
        self._children.disposal.close(place.queue)

    # -- what workers are sent ---------------------------------------------------------------------

    def _slot_of(self, place: Place) -> int:
        """The slot that it serves: of two in one slot the newer one does."""
        if place.is_leaving or not place.was_ready:
            return NO_SLOT
        others = (other for other in self._places.values() if other.slot == place.slot)
        is_newest = all(
            other.number == place.number
            or not other.was_ready
            or other.is_leaving
            or self._age(other) < self._age(place)
            for other in others
        )
        return place.slot if is_newest else NO_SLOT

    @staticmethod
    def _age(place: Place) -> int:
        return place.worker

    def _tell(self, workers: dict[int, WorkerRecord]) -> None:
        listed = sorted((place.number, self._slot_of(place)) for place in self._places.values())
        for place in self._places.values():
            record = workers.get(place.worker)
            if record is None or not record.lives:
                continue
            known = self._known.setdefault(place.worker, _Known())
            if not known.is_placed:
                known.is_placed = self._place(place)
            if known.is_placed and (known.listed != listed):
                self._list(place.worker, known, listed)

    def _place(self, place: Place) -> bool:
        if self._table is None:
            self._table = StickTable.create()
            self._secret = secrets.token_hex(_SECRET_SIZE)
        return self._children.give(
            place.worker, UsePlace(place.number, self._secret), (self._table.fd, *place.queue.fds)
        )

    def _list(self, worker: int, known: _Known, listed: list[tuple[int, int]]) -> None:
        known.given &= {number for number, _slot in listed}
        new = [number for number, _slot in listed if number not in known.given]
        for part in _parts(new):
            message = UsePlaces([number for number, _ in listed], [slot for _, slot in listed], part)
            fds = tuple(self._places[number].queue.fds[0] for number in part)
            if not self._children.give(worker, message, fds):
                return
            known.given |= set(part)
        known.listed = listed

    def close(self) -> None:
        """Leave the queues to the exit: a close could wait for what a worker put there."""
        for place in self._places.values():
            place.queue.leave_to_exit()
        if self._table is not None:
            self._table.close()

    # -- upgrade -----------------------------------------------------------------------------------

    def export_state(self) -> StateSection | None:
        """All places, and what workers were sent."""
        if self._table is None:
            return None
        fds = {"table": self._table.fd}
        for place in self._places.values():
            fds[f"put {place.number}"], fds[f"take {place.number}"] = place.queue.fds
        places = [
            [place.number, place.slot, place.worker, place.vacant_since, place.was_ready, place.is_leaving]
            for place in self._places.values()
        ]
        placed = [worker for worker, known in self._known.items() if known.is_placed]
        values = {"secret": self._secret, "last": self._last, "places": places, "placed": placed}
        return StateSection(values, fds)

    def import_state(self, section: StateSection) -> Self:
        """Go on with the places of the program before this one."""
        values, fds = section.values, section.fds
        self._secret, self._last = values["secret"], values["last"]
        self._table = StickTable(fds["table"])
        for number, slot, worker, vacant_since, was_ready, is_leaving in values["places"]:
            queue = HandOff.of_fds(fds[f"put {number}"], fds[f"take {number}"], LARGE_METADATA)
            self._places[number] = Place(number, slot, worker, queue, vacant_since, was_ready, is_leaving)
        self._known = {worker: _Known(is_placed=True) for worker in values["placed"]}
        return self


def _parts(numbers: list[int]) -> Iterator[list[int]]:
    """In parts whose descriptors fit a message; one part, if there are none."""
    for start in range(0, max(1, len(numbers)), _MOST_DESCRIPTORS):
        yield numbers[start : start + _MOST_DESCRIPTORS]
