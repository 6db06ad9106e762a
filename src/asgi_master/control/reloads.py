"""What became of reloads: the generation that serves, the last result, and who waits for which.

Pure: notices in, outcomes out. A reload that was asked for gets its generation from the first `ReloadStarted` after
the asking; requests that come before that melt into it and share its outcome.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from asgi_master.supervision.notices import (
    BootFailed,
    MasterReady,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    ReloadStarted,
    ReloadSuperseded,
    Stopping,
    ZygoteReplaced,
)
from asgi_master.telemetry import notices


class Result(StrEnum):
    """How a reload ended."""

    COMMITTED = "committed"
    """Every worker runs the new generation."""
    FAILED = "failed"
    """The new generation did not prove itself; the old one stays."""
    SUPERSEDED = "superseded"
    """It was dropped for a newer request."""
    REFUSED = "refused"
    """The settings, read again, are wrong: nothing was started."""
    STOPPED = "stopped"
    """The master was told to stop first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one reload."""

    result: Result
    generation: int | None
    """The one that was to take over; `None` if there never was one."""
    message: str
    """The whole in one line, as the log says it."""
    at: float
    """Seconds since the epoch."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request that waits for the outcome of its reload."""

    generation: int | None = None
    """Known once its reload has started."""


@dataclass(slots=True)
class Reloads:
    """Follows the notices."""

    generation: int | None = None
    """The one that serves; `None` before the first is ready."""
    starting: int | None = None
    """The one that is to follow it."""
    last: Outcome | None = None
    _tickets: list[Ticket] = field(default_factory=list)

    def ask(self) -> Ticket:
        """Wait for the reload that was just asked for (before any notice about it was noted)."""
        ticket = Ticket()
        self._tickets.append(ticket)
        return ticket

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits any more."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def refuse(self, errors: list[str], at: float) -> Outcome:
        """A reload was not even begun."""
        self.last = Outcome(Result.REFUSED, None, f"not reloading: {'; '.join(errors)}", at)
        return self.last

    def note(self, notice: Notice, at: float) -> list[tuple[Ticket, Outcome]]:
        """Follow a notice; returns whose waiting is over. `at` is in seconds since the epoch."""
        match notice:
            case ReloadStarted(generation):
                self.starting = generation
                for ticket in self._tickets:
                    if ticket.generation is None:
                        ticket.generation = generation
            case MasterReady(generation=generation) | ReloadCommitted(generation=generation):
                self.generation = generation
                return self._end(Result.COMMITTED, generation, notice, at)
            case ReloadFailed(generation=generation) | BootFailed(generation=generation):
                return self._end(Result.FAILED, generation, notice, at)
            case ReloadSuperseded(generation):
                return self._end(Result.SUPERSEDED, generation, notice, at)
            case ZygoteReplaced(generation=generation):
                self.generation = generation
            case Stopping():
                return self._answer(list(self._tickets), Result.STOPPED, None, notice, at)
        return []

    def _end(
        self, result: Result, generation: int, notice: Notice, at: float
    ) -> list[tuple[Ticket, Outcome]]:
        if self.starting == generation:
            self.starting = None
            self.last = _outcome(result, generation, notice, at)
        waiting = [ticket for ticket in self._tickets if ticket.generation == generation]
        return self._answer(waiting, result, generation, notice, at)

    def _answer(
        self, tickets: list[Ticket], result: Result, generation: int | None, notice: Notice, at: float
    ) -> list[tuple[Ticket, Outcome]]:
        for ticket in tickets:
            self._tickets.remove(ticket)
        return [(ticket, _outcome(result, generation, notice, at)) for ticket in tickets]


def _outcome(result: Result, generation: int | None, notice: Notice, at: float) -> Outcome:
    _level, line = notices.render(notice)
    return Outcome(result, generation, line, at)
