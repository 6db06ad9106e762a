"""Answers that are still to come: whoever asked waits for an end, and the master does not. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Protocol

from asgi_master.control.api import Answer, Refusal, refuse
from asgi_master.control.reloads import Outcome, Reloads, Result, Ticket
from asgi_master.control.stacks import WorkerStacks
from asgi_master.control.status import FleetStatus
from asgi_master.supervision.notices import BootRefused, BootTimedOut, Died, Notice, Stopping, WorkerLost
from asgi_master.telemetry import notices

STATUS_OF: Mapping[Result, int] = {
    Result.COMMITTED: 200,
    Result.CALLED_OFF: 200,
    Result.FAILED: 409,
    Result.SUPERSEDED: 409,
    Result.REFUSED: 422,
    Result.STOPPED: 503,
}


class Wait:
    """What a connection waits for."""

    def note(self, notice: Notice) -> None:
        """The supervisor announced something."""

    def look(self, now: float, /) -> Answer | None:
        """The answer, once there is one. `now` is in seconds on a monotonic clock."""
        raise NotImplementedError

    def forget(self) -> None:
        """Nobody waits any more."""


def answer_of(outcome: Outcome) -> Answer:
    """What whoever waited for the reload is told."""
    status = STATUS_OF[outcome.result]
    body = asdict(outcome)
    return Answer(status, body if status < 400 else body | {"error": outcome.message})


class ReloadWait(Wait):
    """Until a reload or a rollback is over. `Reloads` follows the notices for all of them."""

    def __init__(self, reloads: Reloads, ticket: Ticket) -> None:
        self._reloads = reloads
        self._ticket = ticket

    def look(self, _now: float, /) -> Answer | None:
        """See `Wait`."""
        return None if self._ticket.outcome is None else answer_of(self._ticket.outcome)

    def forget(self) -> None:
        """See `Wait`."""
        self._reloads.forget(self._ticket)


class ScaleWait(Wait):
    """Until each of so many slots has a ready worker, and no other worker is left but spares."""

    def __init__(self, workers: int, status: Callable[[], FleetStatus]) -> None:
        self._workers = workers
        self._status = status
        self._failed: Refusal | None = None

    def note(self, notice: Notice) -> None:
        """See `Wait`. A worker that does not boot is tried again; a second failure is one too many to wait for."""
        match notice:
            case Stopping():
                self._failed = Refusal(503, "the master is stopping")
            case WorkerLost(cause=cause, retry_in=retry_in) if _never_booted(cause) and retry_in:
                self._failed = Refusal(409, notices.render(notice)[1])

    def look(self, _now: float, /) -> Answer | None:
        """See `Wait`."""
        if self._failed is not None:
            return refuse(self._failed)
        status = self._status()
        if status.workers_wanted != self._workers:
            return refuse(Refusal(409, f"{status.workers_wanted} workers are wanted by now"))
        ready = {worker.slot for worker in status.workers if worker.state == "ready"}
        above = [worker for worker in status.workers if worker.slot >= self._workers and not worker.standby]
        if not ready.issuperset(range(self._workers)) or above:
            return None
        return Answer(200, {"workers": self._workers})


def _never_booted(cause: object) -> bool:
    match cause:
        case BootRefused() | BootTimedOut() | Died(ready_for=None):
            return True
    return False


class StackInquiry(Protocol):
    """A question to some workers. See `asgi_master.control.stacks.Inquiry`."""

    def look(self, now: float) -> bool:
        """Whether everybody has answered, or had time enough."""

    def found(self) -> list[WorkerStacks]:
        """The answers."""


class StacksWait(Wait):
    """Until the workers that were asked have answered, or had time enough. Forgotten, it ends by itself."""

    def __init__(self, inquiry: StackInquiry) -> None:
        self._inquiry = inquiry

    def look(self, now: float, /) -> Answer | None:
        """See `Wait`."""
        if not self._inquiry.look(now):
            return None
        return Answer(200, {"workers": [asdict(stacks) for stacks in self._inquiry.found()]})
