"""Commands carried out: what the control room may ask of the master, and what it answers. Pure."""

from dataclasses import asdict
from typing import Any, Protocol

from asgi_master.control.api import (
    Answer,
    Command,
    Drain,
    Refusal,
    Reload,
    Rollback,
    Scale,
    ShowHealth,
    ShowStacks,
    ShowStatus,
    Stop,
)
from asgi_master.control.health import Condition, judge
from asgi_master.control.reloads import Reloads, Result
from asgi_master.control.status import FleetStatus
from asgi_master.control.waits import STATUS_OF, ReloadWait, ScaleWait, StackInquiry, StacksWait, Wait


class Steering(Protocol):
    """What the control room may ask of the master. Nothing here waits."""

    @property
    def stopping(self) -> bool:
        """Whether the master is on its way out."""

    def status(self) -> FleetStatus:
        """The fleet as it is now."""

    def condition(self) -> Condition:
        """What health is judged by."""

    def reload(self) -> list[str]:
        """Ask for a reload; returns why not, a line for each error, if the settings are wrong."""

    def rollback(self) -> bool:
        """Ask for a rollback; false if there is nothing to go back to."""

    def scale(self, workers: int) -> None:
        """Ask for so many workers."""

    def drain(self, slot: int) -> bool:
        """Ask for the exchange of the worker that serves in the slot; false if none does."""

    def stacks(self, slot: int | None) -> StackInquiry | None:
        """Ask the workers of the slot, or all, what they do; `None` if there is none."""

    def stop(self, *, quick: bool) -> None:
        """Ask for a stop."""


def carry_out(command: Command, steering: Steering, reloads: Reloads) -> Answer | Wait:
    """Do it; a `Wait` means that the answer is still to come. Raises `Refusal`."""
    if steering.stopping and isinstance(command, Reload | Rollback | Scale | Drain):
        raise Refusal(503, "the master is stopping")
    match command:
        case ShowStatus():
            return Answer(200, _status(steering.status(), reloads))
        case ShowHealth(question):
            verdict = judge(question, steering.condition())
            text = verdict.text(verbose=False).strip()
            return Answer(200 if verdict.passes else 503, {"healthy": verdict.passes, "text": text})
        case Reload(wait):
            return _reload(steering, reloads, wait=wait)
        case Rollback(wait):
            if not steering.rollback():
                raise Refusal(409, "there is nothing to roll back to: no earlier generation is held")
            return ReloadWait(reloads, reloads.ask(rollback=True)) if wait else _accepted()
        case Scale(workers, wait):
            steering.scale(workers)
            return ScaleWait(workers, steering.status) if wait else Answer(202, {"workers": workers})
        case Drain(slot):
            if not steering.drain(slot):
                raise Refusal(409, f"no worker serves in slot {slot}")
            return Answer(202, {"slot": slot})
        case ShowStacks(slot):
            inquiry = steering.stacks(slot)
            if inquiry is None:
                raise Refusal(409, "no worker is there" if slot is None else f"no worker is in slot {slot}")
            return StacksWait(inquiry)
        case Stop(quick):
            steering.stop(quick=quick)
            return Answer(202, {"stopping": "quick" if quick else "graceful"})


def _reload(steering: Steering, reloads: Reloads, *, wait: bool) -> Answer | Wait:
    errors = steering.reload()
    if errors:
        why = f"not reloading: {'; '.join(errors)}"
        return Answer(STATUS_OF[Result.REFUSED], {"result": Result.REFUSED, "errors": errors, "error": why})
    return ReloadWait(reloads, reloads.ask()) if wait else _accepted()


def _accepted() -> Answer:
    return Answer(202, {"result": "accepted"})


def _status(status: FleetStatus, reloads: Reloads) -> dict[str, Any]:
    last = None if reloads.last is None else asdict(reloads.last)
    return asdict(status) | {
        "generation": reloads.generation,
        "starting_generation": reloads.starting,
        "last_reload": last,
    }
