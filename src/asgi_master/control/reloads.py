"""Follows reloads and rollbacks: the serving generation, the last outcome, and the clients that wait for one.

Pure: notices in, outcomes out. A requested reload gets its generation from the next `ReloadStarted`; requests that
arrive before that are coalesced with it and share its outcome. A rollback gets it from `RollbackStarted`, unless a
reload is in progress: then it ends when that is called off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from asgi_master import codec
from asgi_master.records import mutable_record, record
from asgi_master.supervision.notices import (
    BootFailed,
    Cause,
    MasterReady,
    NothingToRollBackTo,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    ReloadRefused,
    ReloadStarted,
    ReloadSuperseded,
    RollbackAsked,
    RollbackStarted,
    Stopping,
    ZygoteReplaced,
)
from asgi_master.telemetry import notices


class Result(StrEnum):
    """How a reload ended."""

    COMMITTED = "committed"
    """Every worker runs the new generation."""
    CALLED_OFF = "called-off"
    """A rollback during a reload: the reload was given up."""
    FAILED = "failed"
    """The new generation failed to prove itself; the old one stays."""
    SUPERSEDED = "superseded"
    """A newer request replaced it."""
    REFUSED = "refused"
    """The settings contain errors: nothing was started."""
    STOPPED = "stopped"
    """The master was stopped first."""


@record
class Outcome:
    """The end of one reload."""

    result: Result
    generation: int | None
    """The new generation; `None` if there never was one."""
    message: str
    """One line, as in the log."""
    at: float
    """Seconds since the epoch."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A client that waits for the outcome of its reload or rollback."""

    is_rollback: bool = False
    generation: int | None = None
    """Known once the reload has started."""
    outcome: Outcome | None = None
    """Known once it has ended."""


@mutable_record
class Reloads:
    """Follows the notices of the supervisor."""

    generation: int | None = None
    """The serving generation; `None` before the first is ready."""
    starting: int | None = None
    """The generation that is being started; `None` if none is."""
    last: Outcome | None = None
    _tickets: list[Ticket] = field(default_factory=list)

    def dump(self) -> dict[str, Any]:
        """What survives a live upgrade, as data. Tickets do not: their connections close."""
        return {"generation": self.generation, "last": codec.dump(self.last)}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """From the result of `dump`, possibly of another version of this program. Raises `ValueError`."""
        return cls(
            generation=codec.load(int | None, data.get("generation")),
            last=codec.load(Outcome | None, data.get("last")),
        )

    def open_ticket(self, *, rollback: bool = False) -> Ticket:
        """A ticket for the request that was just made; to be called before the next notice."""
        ticket = Ticket(rollback)
        self._tickets.append(ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Drop a ticket: its client has gone."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def note(self, notice: Notice, at: float) -> None:
        """Handle a notice. `at` is in seconds since the epoch."""
        match notice:
            case ReloadStarted(generation):
                self._begin(generation, rollback=False)
            case RollbackStarted(generation):
                self._begin(generation, rollback=True)
            case MasterReady(generation=generation) | ReloadCommitted(generation=generation):
                self.generation = generation
                self._end(_outcome(Result.COMMITTED, generation, notice, at))
            case ReloadFailed(generation, cause) | BootFailed(generation, cause):
                self._end(_outcome(Result.FAILED, generation, notice, at))
                self._call_off(cause, _outcome(Result.CALLED_OFF, generation, notice, at))
            case ReloadSuperseded(generation):
                self._end(_outcome(Result.SUPERSEDED, generation, notice, at))
            case ZygoteReplaced(generation=generation):
                self.generation = generation
            case ReloadRefused(errors=errors):
                self.last = Outcome(Result.REFUSED, None, f"not reloading: {'; '.join(errors)}", at)
            case NothingToRollBackTo():
                self._answer(self._rollbacks_not_begun(), _outcome(Result.FAILED, None, notice, at))
            case Stopping():
                self._answer(list(self._tickets), _outcome(Result.STOPPED, None, notice, at))

    def _begin(self, generation: int, *, rollback: bool) -> None:
        self.starting = generation
        for ticket in self._tickets:
            if ticket.generation is None and ticket.is_rollback is rollback:
                ticket.generation = generation

    def _end(self, outcome: Outcome) -> None:
        if self.starting == outcome.generation:
            self.starting = None
            self.last = outcome
        self._answer([ticket for ticket in self._tickets if ticket.generation == outcome.generation], outcome)

    def _call_off(self, cause: Cause, outcome: Outcome) -> None:
        if isinstance(cause, RollbackAsked):
            self._answer(self._rollbacks_not_begun(), outcome)

    def _rollbacks_not_begun(self) -> list[Ticket]:
        return [ticket for ticket in self._tickets if ticket.is_rollback and ticket.generation is None]

    def _answer(self, tickets: list[Ticket], outcome: Outcome) -> None:
        for ticket in tickets:
            self._tickets.remove(ticket)
            ticket.outcome = outcome


def _outcome(result: Result, generation: int | None, notice: Notice, at: float) -> Outcome:
    _level, line = notices.render(notice)
    return Outcome(result, generation, line, at)
