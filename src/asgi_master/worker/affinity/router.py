"""Decides where the session of a request is: here, or at another place."""

import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from asgi_master.http.affinity import SessionKeys, slot_of
from asgi_master.ipc.hand_off import PutEnd
from asgi_master.ipc.stick_table import StickTable

_MOST_SESSIONS = 1 << 16
"""Sessions of which the worker remembers that it had them."""


class SessionState(StrEnum):
    """What a worker knows about the session of a request: for the application."""

    NEW = "new"
    """No worker has served it, as far as is known."""
    KEPT = "kept"
    """This worker has served it before."""
    LOST = "lost"
    """A worker that has ended had it: what was kept in memory is gone."""


class Place:
    """Where sessions are: a worker, or its successor after a crash."""

    __slots__ = ("number", "put_end", "slot")

    def __init__(self, number: int, slot: int, put_end: PutEnd) -> None:
        self.number = number
        self.slot = slot
        """-1 if it takes no new sessions."""
        self.put_end = put_end
        """Of the queue that is read there."""


class SessionRouter:
    """What one worker knows about sessions and places."""

    def __init__(
        self,
        keys: SessionKeys,
        table: StickTable,
        own: int,
        idle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`own` is the number of this worker's place. A session that is unused for `idle` seconds is over."""
        self.keys = keys
        self._table = table
        self._own = own
        self._idle = idle
        self._clock = clock
        self._places: dict[int, Place] = {}
        self._by_slot: dict[int, Place] = {}
        self._slots: list[int] = []
        self._is_leaving = False
        self._used: dict[int, float] = {}
        """When each session was used last, the newest at the end."""
        self._active: dict[int, int] = {}
        """Requests and WebSockets of each session that are being served."""

    def use_places(self, places: Sequence[int], slots: Sequence[int], new: dict[int, PutEnd]) -> None:
        """These are all places, and the slots that they serve. `new` has the queues of those not known yet."""
        before, self._places = self._places, {}
        for number, slot in zip(places, slots, strict=True):
            known = before.pop(number, None)
            put_end = new.get(number) or (known.put_end if known is not None else None)
            if put_end is None:
                continue
            if known is None or known.put_end is not put_end:
                if known is not None:
                    known.put_end.close()
                known = Place(number, slot, put_end)
            known.slot = slot
            self._places[number] = known
        for gone in before.values():
            gone.put_end.close()
        self._by_slot = {place.slot: place for place in self._places.values() if place.slot >= 0}
        self._slots = sorted(self._by_slot)

    def leave(self) -> None:
        """Take no new sessions."""
        self._is_leaving = True

    def elsewhere(self, key: int | None) -> Place | None:
        """The place that a request of this session belongs to; `None` if it is to be served here."""
        if key is None:
            # A session may begin with it, which should not begin in a worker that leaves.
            return self._choose(time.monotonic_ns()) if self._is_leaving else None
        number = self._table.find(key)
        if number == self._own:
            return None
        place = self._places.get(number) if number is not None else None
        return self._choose(key) if place is None else place

    def _choose(self, key: int) -> Place | None:
        if not self._slots:
            return None
        place = self._by_slot[slot_of(key, self._slots)]
        return None if place.number == self._own else place

    def forget(self, place: Place) -> None:
        """The queue of the place is over."""
        if self._places.get(place.number) is place:
            del self._places[place.number]
            place.put_end.close()
            if self._by_slot.get(place.slot) is place:
                del self._by_slot[place.slot]
                self._slots.remove(place.slot)

    def begin(self, key: int) -> SessionState:
        """A request or WebSocket of this session is served here from now on, until `end`."""
        used = self._used
        self._active[key] = self._active.get(key, 0) + 1
        if used.pop(key, None) is not None:
            state = SessionState.KEPT
        elif self._table.find(key) is None:
            state = SessionState.NEW
        else:
            state = SessionState.LOST
        self._note(key)
        return state

    def end(self, key: int) -> None:
        """A request or WebSocket of this session has ended."""
        left = self._active[key] - 1
        if left:
            self._active[key] = left
        else:
            del self._active[key]
        self._used.pop(key, None)
        self._note(key)

    def learned(self, key: int) -> None:
        """A response of this worker named a session."""
        self._used.pop(key, None)
        self._note(key)

    def _note(self, key: int) -> None:
        now = self._clock()
        self._used[key] = now
        if len(self._used) > _MOST_SESSIONS:
            del self._used[next(iter(self._used))]
        self._table.store(key, self._own, now)

    @property
    def has_sessions(self) -> bool:
        """Whether one is in use, or was used lately."""
        if self._active:
            return True
        return bool(self._used) and next(reversed(self._used.values())) > self._clock() - self._idle
