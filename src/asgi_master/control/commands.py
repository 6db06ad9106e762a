"""Executes commands. Pure."""

from dataclasses import asdict
from typing import Any, Protocol

from asgi_master.control.api import (
    Command,
    Drain,
    Refusal,
    Reload,
    Reply,
    Rollback,
    Scale,
    ShowHealth,
    ShowStacks,
    ShowStatus,
    Stop,
)
from asgi_master.control.health import HealthState, check_health
from asgi_master.control.pending_replies import (
    STATUS_OF,
    PendingReload,
    PendingReply,
    PendingScale,
    PendingStackDumps,
)
from asgi_master.control.reloads import Reloads, Result
from asgi_master.control.stack_dumps import StackDumpRequest
from asgi_master.control.status import FleetStatus


class MasterControl(Protocol):
    """Control of the master. No method blocks."""

    @property
    def stopping(self) -> bool:
        """Whether the master is stopping."""

    def status(self) -> FleetStatus:
        """The current state of the fleet."""

    def health_state(self) -> HealthState:
        """The input of the health checks."""

    def reload(self) -> list[str]:
        """Request a reload; returns the errors in the settings, a line each, if it is refused."""

    def rollback(self) -> bool:
        """Request a rollback; false if no previous generation is kept."""

    def scale(self, workers: int) -> None:
        """Set the number of workers."""

    def drain(self, slot: int) -> bool:
        """Request the replacement of the worker that serves in the slot; false if none does."""

    def stacks(self, slot: int | None) -> StackDumpRequest | None:
        """Request stack dumps of the workers in the slot, or of all; `None` if there is none."""

    def stop(self, *, quick: bool) -> None:
        """Request a stop."""


def execute(command: Command, master: MasterControl, reloads: Reloads) -> Reply | PendingReply:
    """Execute a command; a `PendingReply` is returned if the reply is not known yet. Raises `Refusal`."""
    if master.stopping and isinstance(command, Reload | Rollback | Scale | Drain):
        raise Refusal(503, "the master is stopping")
    match command:
        case ShowStatus():
            return Reply(200, show_status(master.status(), reloads))
        case ShowHealth(question):
            result = check_health(question, master.health_state())
            text = result.text(verbose=False).strip()
            return Reply(200 if result.passes else 503, {"healthy": result.passes, "text": text})
        case Reload(wait):
            return _reload(master, reloads, wait=wait)
        case Rollback(wait):
            if not master.rollback():
                raise Refusal(409, "there is nothing to roll back to: no earlier generation is held")
            return PendingReload(reloads, reloads.open_ticket(rollback=True)) if wait else _accepted()
        case Scale(workers, wait):
            master.scale(workers)
            return PendingScale(workers, master.status) if wait else Reply(202, {"workers": workers})
        case Drain(slot):
            if not master.drain(slot):
                raise Refusal(409, f"no worker serves in slot {slot}")
            return Reply(202, {"slot": slot})
        case ShowStacks(slot):
            request = master.stacks(slot)
            if request is None:
                raise Refusal(409, "there is no worker" if slot is None else f"no worker is in slot {slot}")
            return PendingStackDumps(request)
        case Stop(quick):
            master.stop(quick=quick)
            return Reply(202, {"stopping": "quick" if quick else "graceful"})


def _reload(master: MasterControl, reloads: Reloads, *, wait: bool) -> Reply | PendingReply:
    errors = master.reload()
    if errors:
        why = f"not reloading: {'; '.join(errors)}"
        return Reply(STATUS_OF[Result.REFUSED], {"result": Result.REFUSED, "errors": errors, "error": why})
    return PendingReload(reloads, reloads.open_ticket()) if wait else _accepted()


def _accepted() -> Reply:
    return Reply(202, {"result": "accepted"})


def show_status(status: FleetStatus, reloads: Reloads) -> dict[str, Any]:
    """The reply to `GET /status`."""
    last = None if reloads.last is None else asdict(reloads.last)
    return asdict(status) | {
        "generation": reloads.generation,
        "starting_generation": reloads.starting,
        "last_reload": last,
    }
