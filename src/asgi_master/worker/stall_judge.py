"""Whether an event loop is stalled, told from its stamps; and what to say of it. Pure: time is an argument.

Rules of this file:
  - Starved is not stalled: only time counts that the watcher itself ran through, or that the loop's thread computed.
  - One warning for each stall, and one line when it is over.
  - Two samples tell what is stuck from what is busy. What holds the GIL leaves no time for a second.
"""

from dataclasses import dataclass
from enum import StrEnum

from asgi_master.telemetry.code_ownership import CodeOwnership
from asgi_master.worker.code_location import CodeLocation, describe

_LEEWAY = 1.5
"""Periods that may pass between two looks before the watcher counts as late."""
_BUSY = 0.15
"""The share of a CPU from which on the loop's thread computes rather than waits. Who waits uses next to nothing; who
computes may get little of it on a busy host."""
_HELD = 0.8
"""The share from which on it was the loop's thread that kept the watcher from running, and no host short of CPU."""


class Verdict(StrEnum):
    """What to do after a look."""

    FINE = "fine"
    SUSPECT = "suspect"
    """Take the first sample."""
    TELL = "tell"
    """Take the second sample and tell."""
    TELL_HELD = "tell held"
    """The watcher could not run either, since the GIL was held: take the only sample, and tell."""
    TELL_PAST = "tell past"
    """It was over before the second sample: tell what the first one saw."""
    OVER = "over"
    """What was told is over."""


class StallJudge:
    """Judges the loop of one worker, look by look."""

    def __init__(self, *, threshold: float, period: float, now: float, cpu: float) -> None:
        self._threshold = threshold
        self._period = period
        self._looked = now
        self._cpu = cpu
        self._stamp = now
        self._lost = 0.0
        self._suspected = False
        self._told = False
        self.seconds = 0.0
        """How long the stall has lasted that the last verdict was about."""

    def look(self, now: float, stamp: float, cpu: float, gap: tuple[float, float]) -> Verdict:
        """Judge the loop.

        `stamp` is when the loop turned last, `cpu` the CPU seconds of its thread, and `gap` from when to when it did
        not turn the last time that it was late.
        """
        elapsed, used = now - self._looked, cpu - self._cpu
        self._looked, self._cpu = now, cpu
        # What the watcher missed was the host's doing, or that of a debugger; unless this very process computed.
        lost = elapsed - min(elapsed, max(used, _LEEWAY * self._period))
        if stamp != self._stamp:
            verdict = self._turned(gap)
            self._stamp, self._lost = stamp, min(lost, now - stamp)
            if verdict is not Verdict.FINE:
                return verdict
        else:
            self._lost += lost
        if self._told:
            return Verdict.FINE
        seconds = now - stamp - self._period - self._lost
        if seconds < self._threshold:
            return Verdict.FINE
        self.seconds = seconds
        if self._suspected:
            self._told = True
            return Verdict.TELL
        if elapsed - self._period >= self._threshold and used >= _HELD * elapsed:
            self._told = True
            return Verdict.TELL_HELD
        self._suspected = True
        return Verdict.SUSPECT

    def _turned(self, gap: tuple[float, float]) -> Verdict:
        """What the loop's turning means for the stall before it."""
        suspected, told = self._suspected, self._told
        self._suspected = self._told = False
        if not suspected and not told:
            return Verdict.FINE
        began, ended = gap
        if began == self._stamp:
            self.seconds = max(self.seconds, ended - began - self._period - self._lost)
        return Verdict.OVER if told else Verdict.TELL_PAST


@dataclass(frozen=True, slots=True)
class Standing:
    """One frame of a running stack: where it stands, and what tells it from another call of the same function."""

    frame: int
    instruction: int
    location: CodeLocation


@dataclass(frozen=True, slots=True)
class Sample:
    """What the loop's thread was seen doing."""

    stack: tuple[Standing, ...]
    """Innermost first."""
    subject: str
    """The request, or else the task, that it was done for; empty if neither is known."""
    at: float
    cpu: float

    @property
    def locations(self) -> list[CodeLocation]:
        """Where the frames stand, innermost first."""
        return [standing.location for standing in self.stack]


def is_busy(first: Sample, second: Sample) -> bool:
    """Whether the thread got on between two samples, or at least computed."""
    if second.cpu - first.cpu >= _BUSY * (second.at - first.at):
        return True
    return [(s.frame, s.instruction) for s in first.stack] != [(s.frame, s.instruction) for s in second.stack]


def lasting(first: Sample, second: Sample) -> list[CodeLocation]:
    """Where the calls stand that both samples saw, innermost first: what goes on, rather than what it just called."""
    locations: list[CodeLocation] = []
    for before, after in zip(reversed(first.stack), reversed(second.stack), strict=False):
        if before.frame != after.frame:
            break
        locations.append(after.location)
        if before.instruction != after.instruction:
            break  # what it calls now is another call
    locations.reverse()
    return locations or second.locations


def tell(verdict: Verdict, samples: list[Sample], seconds: float, ownership: CodeOwnership) -> str:
    """The warning, of one sample or two."""
    last = samples[-1]
    subject = f" in {last.subject}" if last.subject else ""
    if verdict is Verdict.TELL_HELD:
        what = f"was held for {seconds:.1f} s by code that does not release the GIL{subject}"
    elif verdict is Verdict.TELL_PAST:
        what = f"was blocked for {seconds:.1f} s{subject}"
    elif is_busy(*samples):
        location = describe(lasting(*samples), ownership)
        return f"the event loop is busy for {seconds:.1f} s{subject}, in {location}"
    else:
        what = f"is stuck for {seconds:.1f} s{subject}"
    return f"the event loop {what}, at {describe(last.locations, ownership)}"
