"""Answers that are still to come: whoever asked waits for an end, and the master does not. Pure."""

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
    """What a connection waits for."""

    def note(self, notice: Notice) -> None:
        """The supervisor announced something."""

    def poll(self, now: float, /) -> Reply | None:
        """The answer, once there is one. `now` is in seconds on a monotonic clock."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody waits any more."""


def reply_for(outcome: Outcome) -> Reply:
    """What whoever waited for the reload is told."""
    status = STATUS_OF[outcome.result]
    body = asdict(outcome)
    return Reply(status, body if status < 400 else body | {"error": outcome.message})


class PendingReload(PendingReply):
    """Until a reload or a rollback is over. `Reloads` follows the notices for all of them."""

    def __init__(self, reloads: Reloads, ticket: Ticket) -> None:
        self._reloads = reloads
        self._ticket = ticket

    def poll(self, _now: float, /) -> Reply | None:
        """See `PendingReply`."""
        return None if self._ticket.outcome is None else reply_for(self._ticket.outcome)

    def cancel(self) -> None:
        """See `PendingReply`."""
        self._reloads.cancel(self._ticket)


class PendingScale(PendingReply):
    """Until each of so many slots has a ready worker, and no other worker is left but spares."""

    def __init__(self, workers: int, status: Callable[[], FleetStatus]) -> None:
        self._workers = workers
        self._status = status
        self._failed: Refusal | None = None

    def note(self, notice: Notice) -> None:
        """See `PendingReply`. Ends at the second failed boot of a worker; after the first it is started again."""
        match notice:
            case Stopping():
                self._failed = Refusal(503, "the master is stopping")
            case WorkerLost(cause=cause, retry_in=retry_in) if _never_booted(cause) and retry_in:
                self._failed = Refusal(409, notices.render(notice)[1])

    def poll(self, _now: float, /) -> Reply | None:
        """See `PendingReply`."""
        if self._failed is not None:
            return refuse(self._failed)
        status = self._status()
        if status.workers_wanted != self._workers:
            return refuse(Refusal(409, f"{status.workers_wanted} workers are wanted by now"))
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
    """Until the workers that were asked have answered, or had time enough. Forgotten, it ends by itself."""

    def __init__(self, request: StackDumpRequest) -> None:
        self._request = request

    def poll(self, now: float, /) -> Reply | None:
        """See `PendingReply`."""
        if not self._request.poll(now):
            return None
        return Reply(200, {"workers": [asdict(stacks) for stacks in self._request.results()]})
