"""Whether a reload's generation fails more requests than the one it is to replace, counted over the same time.

Both see the same clients: what fails equally often in both is no fault of the new code.
"""

from dataclasses import field

from asgi_master.records import mutable_record, record
from asgi_master.supervision.notices import TooManyErrors

LEAST_FAILURES = 5
"""Fewer are chance."""


@record
class Tally:
    """How many requests were answered, and how many of them badly."""

    answered: int = 0
    failed: int = 0
    """Answered with 5xx, or broken off."""
    broken_off: int = 0
    """Of those, the ones whose client saw another response, or a WebSocket, begin and not end as it should."""

    def plus(self, before: "Tally", after: "Tally") -> "Tally":
        """This, and what was added between two readings of a worker's totals."""
        return Tally(
            self.answered + max(0, after.answered - before.answered),
            self.failed + max(0, after.failed - before.failed),
            self.broken_off + max(0, after.broken_off - before.broken_off),
        )

    @property
    def percent(self) -> float:
        """The share that failed."""
        return 100 * self.failed / max(self.answered, self.failed, 1)


@mutable_record
class ErrorWatch:
    """What was answered since the new generation's first worker was ready."""

    new: Tally = field(default_factory=Tally)
    old: Tally = field(default_factory=Tally)

    def note(self, before: Tally, after: Tally, *, is_new: bool) -> None:
        """A worker's totals were read again."""
        if is_new:
            self.new = self.new.plus(before, after)
        else:
            self.old = self.old.plus(before, after)

    def verdict(self, old_generation: int, max_error_share: float) -> TooManyErrors | None:
        """Why the new generation must not take over; `None` if nothing speaks against it. 0 percent: never."""
        new, old = self.new, self.old
        if (
            max_error_share <= 0
            or new.failed < LEAST_FAILURES
            or new.percent - old.percent <= max_error_share
        ):
            return None
        return TooManyErrors(
            new.failed, new.answered, old_generation, old.failed, old.answered, new.broken_off
        )
