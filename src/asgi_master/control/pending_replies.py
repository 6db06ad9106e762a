"""Replies that are not known yet: the client waits, the master does not. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from asgi_master.control.api import Refusal, Reply, refuse
from asgi_master.control.reloads import Outcome, Reloads, Result, Ticket
from asgi_master.control.stack_dumps import StackDumpRequest
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


class PendingReply:
    """A reply that a connection waits for."""

    def note(self, notice: Notice) -> None:
        """Handle a notice of the supervisor."""

    def poll(self, now: float, /) -> Reply | None:
        """The reply, once it is known. `now` is in seconds on a monotonic clock."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Release what the wait holds: the client has gone."""


def reply_for(outcome: Outcome) -> Reply:
    """The reply to a client that waited for a reload."""
    status = STATUS_OF[outcome.result]
    body = asdict(outcome)
    return Reply(status, body if status < 400 else body | {"error": outcome.message})


class PendingReload(PendingReply):
    """Waits for the end of a reload or rollback, which `Reloads` follows for all clients."""

    def __init__(self, reloads: Reloads, ticket: Ticket) -> None:
        self._reloads = reloads
        self._ticket = ticket

    def poll(self, _now: float, /) -> Reply | None:
        return None if self._ticket.outcome is None else reply_for(self._ticket.outcome)

    def cancel(self) -> None:
        self._reloads.cancel(self._ticket)


class PendingScale(PendingReply):
    """Waits until that many slots have a ready worker and no other worker but spares is left."""

    def __init__(self, workers: int, status: Callable[[], FleetStatus]) -> None:
        self._workers = workers
        self._status = status
        self._failed: Refusal | None = None

    def note(self, notice: Notice) -> None:
        """Fails at the second failed boot of a worker; after the first it is started again."""
        match notice:
            case Stopping():
                self._failed = Refusal(503, "the master is stopping")
            case WorkerLost(cause=cause, retry_in=retry_in) if _never_booted(cause) and retry_in:
                self._failed = Refusal(409, notices.render(notice)[1])

    def poll(self, _now: float, /) -> Reply | None:
        if self._failed is not None:
            return refuse(self._failed)
        status = self._status()
        if status.workers_wanted != self._workers:
            return refuse(Refusal(409, f"{status.workers_wanted} workers are configured now"))
        ready = {worker.slot for worker in status.workers if worker.state == "ready"}
        above = [worker for worker in status.workers if worker.slot >= self._workers and not worker.standby]
        if not ready.issuperset(range(self._workers)) or above:
            return None
        return Reply(200, {"workers": self._workers})


def _never_booted(cause: object) -> bool:
    match cause:
        case BootRefused() | BootTimedOut() | Died(ready_for=None):
            return True
    return False


class PendingStackDumps(PendingReply):
    """Waits until the workers have answered, or the time for that has passed. Needs no `cancel`: it ends by itself."""

    def __init__(self, request: StackDumpRequest) -> None:
        self._request = request

    def poll(self, now: float, /) -> Reply | None:
        if not self._request.poll(now):
            return None
        return Reply(200, {"workers": [asdict(stacks) for stacks in self._request.results()]})
