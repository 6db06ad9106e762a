"""The last events of a fleet: what the supervisor announced, as a person reads it."""

import logging
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from asgi_master import codec
from asgi_master.records import record
from asgi_master.supervision import notices as n

MOST_EVENTS = 200
_LONGEST_TEXT = 300
_LEVELS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


class Kind(StrEnum):
    """What an event is about."""

    DEPLOY = "deploy"
    """A start, reload or rollback: begun, done or failed."""
    FAILURE = "failure"
    """A worker or zygote that crashed, hung, was killed or left."""
    SCALING = "scaling"
    """The number of workers was changed; a spare was admitted or released."""
    RECYCLING = "recycling"
    """A worker is replaced because of its age, requests, memory, or because somebody asked for it."""
    SERVICE = "service"
    """A service was started, stopped, or has completed."""
    STOP = "stop"
    """A stop was requested, or has begun."""


@record
class Event:
    """One event. The field names are the JSON's keys."""

    number: int
    """Counts up by one; an event that a client has seen has a lower one."""
    at: float
    """Seconds since the epoch."""
    kind: Kind
    level: str
    """`info`, `warning` or `error`, as in the log."""
    text: str
    """One line, as in the log."""
    slot: int | None = None
    generation: int | None = None


class Events:
    """The last events, oldest first."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self.last_number = 0

    def note(self, notice: n.Notice, level: int, text: str, at: float) -> None:
        """Add a notice, with its line of the log, if it is of a kind that is kept."""
        kind = _kind_of(notice)
        if kind is not None:
            self.last_number += 1
            slot, generation = getattr(notice, "slot", None), getattr(notice, "generation", None)
            text = text[:_LONGEST_TEXT]
            self._events.append(
                Event(self.last_number, at, kind, _LEVELS.get(level, "info"), text, slot, generation)
            )

    def after(self, number: int) -> list[Event]:
        """The events with a higher number, oldest first."""
        return [event for event in self._events if event.number > number]

    def dump(self) -> dict[str, Any]:
        """All of them as data."""
        return {"events": codec.dump(list(self._events))}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """From the result of `dump`; what cannot be read is left out."""
        events = cls()
        try:
            events._events.extend(codec.load(list[Event], data.get("events", [])))
        except ValueError:
            return events
        events.last_number = max((event.number for event in events._events), default=0)
        return events


def _kind_of(notice: n.Notice) -> Kind | None:
    match notice:
        case (
            n.MasterReady()
            | n.BootFailed()
            | n.ReloadStarted()
            | n.ReloadCommitted()
            | n.ReloadFailed()
            | n.ReloadRefused()
            | n.ReloadSuperseded()
            | n.RollbackStarted()
            | n.NothingToRollBackTo()
        ):
            return Kind.DEPLOY
        case n.ScaledTo() | n.SpareAdmitted() | n.SpareReleased():
            return Kind.SCALING
        case n.WorkerReplacementStarted():
            return Kind.RECYCLING
        case n.StopDelayed() | n.StoppingForMemory() | n.Stopping():
            return Kind.STOP
        case n.ServiceStarted() | n.ServiceStopping() | n.ServiceCompleted():
            return Kind.SERVICE
        case n.WorkerBecameReady() | n.HeldLetGo() | n.Stopped():
            return None
    return Kind.FAILURE
