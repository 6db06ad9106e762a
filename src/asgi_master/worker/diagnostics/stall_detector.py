"""Decides from the stamps of an event loop whether it is stalled, and describes the stall. Pure: time is an argument.

Rules of this file:
  - Starved is not stalled: only time counts in which the watcher itself ran, or the loop's thread used the CPU.
  - One warning for each stall, and one line when it is over.
  - Two samples distinguish stuck from busy. A call that holds the GIL allows no second one.
"""

from enum import StrEnum

from asgi_master.records import record
from asgi_master.telemetry.code_ownership import CodeOwnership
from asgi_master.worker.diagnostics.code_location import CodeLocation, describe

_LEEWAY = 1.5
"""Periods that may pass between two checks before the watcher counts as late."""
_BUSY = 0.15
"""Share of a CPU above which the loop's thread computes rather than waits.

A waiting thread uses next to nothing; a computing one may get little on a busy host.
"""
_HELD = 0.8
"""Share above which the loop's thread itself kept the watcher from running, not a lack of CPU."""


class StallAction(StrEnum):
    """The result of a check."""

    NONE = "fine"
    SAMPLE = "suspect"
    """Take the first sample."""
    REPORT = "tell"
    """Take the second sample, and report."""
    REPORT_HELD = "tell held"
    """The watcher could not run either, as the GIL was held: take a single sample, and report."""
    REPORT_PAST = "tell past"
    """The stall ended before the second sample: report the first."""
    OVER = "over"
    """A reported stall has ended."""


class StallDetector:
    """Judges the loop of one worker, check by check."""

    def __init__(self, *, threshold: float, period: float, now: float, cpu: float) -> None:
        self._threshold = threshold
        self._period = period
        self._checked_at = now
        self._cpu = cpu
        self._stamp = now
        self._lost = 0.0
        self._sampled = False
        self._reported = False
        self.seconds = 0.0
        """Duration of the stall that the last result is about."""

    def check(self, now: float, stamp: float, cpu: float, gap: tuple[float, float]) -> StallAction:
        """Check the loop.

        `stamp` is when the loop last ran, `cpu` the CPU seconds of its thread, and `gap` the interval of its last
        delay.
        """
        elapsed, used = now - self._checked_at, cpu - self._cpu
        self._checked_at, self._cpu = now, cpu
        # Time that the watcher missed was lost to the host or a debugger, unless this process used the CPU.
        lost = elapsed - min(elapsed, max(used, _LEEWAY * self._period))
        if stamp != self._stamp:
            action = self._turned(gap)
            self._stamp, self._lost = stamp, min(lost, now - stamp)
            if action is not StallAction.NONE:
                return action
        else:
            self._lost += lost
        if self._reported:
            return StallAction.NONE
        seconds = now - stamp - self._period - self._lost
        if seconds < self._threshold:
            return StallAction.NONE
        self.seconds = seconds
        if self._sampled:
            self._reported = True
            return StallAction.REPORT
        if elapsed - self._period >= self._threshold and used >= _HELD * elapsed:
            self._reported = True
            return StallAction.REPORT_HELD
        self._sampled = True
        return StallAction.SAMPLE

    def _turned(self, gap: tuple[float, float]) -> StallAction:
        """The result for a loop that runs again."""
        was_sampled, was_reported = self._sampled, self._reported
        self._sampled = self._reported = False
        if not was_sampled and not was_reported:
            return StallAction.NONE
        began, ended = gap
        if began == self._stamp:
            self.seconds = max(self.seconds, ended - began - self._period - self._lost)
        return StallAction.OVER if was_reported else StallAction.REPORT_PAST


@record
class SampledFrame:
    """A frame of a running stack: its location, and its identity among calls of the same function."""

    frame: int
    instruction: int
    location: CodeLocation


@record
class Sample:
    """A sample of the loop's thread."""

    stack: tuple[SampledFrame, ...]
    """Innermost first."""
    subject: str
    """The request, or else the task, for which it ran; empty if neither is known."""
    at: float
    cpu: float

    @property
    def locations(self) -> list[CodeLocation]:
        """The locations of the frames, innermost first."""
        return [sampled.location for sampled in self.stack]


def is_busy(first: Sample, second: Sample) -> bool:
    """Whether the thread advanced between two samples, or at least used the CPU."""
    if second.cpu - first.cpu >= _BUSY * (second.at - first.at):
        return True
    return [(s.frame, s.instruction) for s in first.stack] != [(s.frame, s.instruction) for s in second.stack]


def lasting(first: Sample, second: Sample) -> list[CodeLocation]:
    """The locations of the calls in both samples, innermost first: the lasting call, not the one it happens to make."""
    locations: list[CodeLocation] = []
    for before, after in zip(reversed(first.stack), reversed(second.stack), strict=False):
        if before.frame != after.frame:
            break
        locations.append(after.location)
        if before.instruction != after.instruction:
            break  # from here on the calls differ
    locations.reverse()
    return locations or second.locations


def describe_stall(
    action: StallAction, samples: list[Sample], seconds: float, ownership: CodeOwnership
) -> str:
    """The text of the warning, from one sample or two."""
    last = samples[-1]
    subject = f" in {last.subject}" if last.subject else ""
    if action is StallAction.REPORT_HELD:
        what = f"was held for {seconds:.1f} s by code that does not release the GIL{subject}"
    elif action is StallAction.REPORT_PAST:
        what = f"was blocked for {seconds:.1f} s{subject}"
    elif is_busy(*samples):
        location = describe(lasting(*samples), ownership)
        return f"the event loop is busy for {seconds:.1f} s{subject}, in {location}"
    else:
        what = f"is stuck for {seconds:.1f} s{subject}"
    return f"the event loop {what}, at {describe(last.locations, ownership)}"
