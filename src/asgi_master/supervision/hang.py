"""Whether a worker's event loop is stuck, told from its heartbeats; and whether we may judge at all.

Rules of this file:
  - Starved is not hung: time in which the master itself did not run is not held against a worker.
  - Busy is not hung: a worker that was seen to get on, though its loop does not turn, is left alone.
  - A hung worker's stacks are dumped twice before it is killed: two samples tell "stuck here" from "slow".
"""

from dataclasses import dataclass
from enum import StrEnum

from asgi_master.supervision.fleet import Worker
from asgi_master.supervision.policy import Policy

_PULSE = 1.0
"""How often, in seconds, heartbeats are wanted at least."""


class Verdict(StrEnum):
    """What to do about a worker after its heartbeat was read."""

    FINE = "fine"
    RECOVERED = "recovered"
    BUSY = "busy"
    """Say that its loop does not turn, and that it gets on."""
    DUMP = "dump"
    WAIT = "wait"
    KILL = "kill"


def judge(worker: Worker, now: float, policy: Policy) -> Verdict:
    """Judge one worker whose newest heartbeat was just read."""
    if policy.hang_timeout <= 0 or not worker.beats:
        return Verdict.FINE
    if now - max(worker.alive_at, worker.moved_at) <= policy.hang_timeout:
        if worker.dumps:
            return Verdict.RECOVERED
        is_silent = now - worker.alive_at > policy.hang_timeout
        return Verdict.BUSY if is_silent and not worker.is_busy else Verdict.FINE
    if worker.dumps == 0:
        return Verdict.DUMP
    if now < worker.dumped_at + policy.dump_interval:
        return Verdict.WAIT
    return Verdict.DUMP if worker.dumps == 1 else Verdict.KILL


def note_heartbeat(worker: Worker, stamp: float, now: float) -> None:
    """Record the newest heartbeat of a worker."""
    if stamp > worker.stamp:
        worker.stamp = stamp
        worker.alive_at = max(worker.alive_at, min(stamp, now))
        worker.is_busy = False


def note_progress(worker: Worker, stamp: float, now: float) -> None:
    """Record when a worker was last seen to get on, its loop turning or not. It is its own word, as a heartbeat is."""
    if stamp > worker.progress:
        worker.progress = stamp
        worker.moved_at = max(worker.moved_at, min(stamp, now))


def forgive(worker: Worker, seconds: float, now: float) -> None:
    """Do not count the `seconds` that the master was late against the worker."""
    if worker.ready_at is not None:
        worker.alive_at = min(now, worker.alive_at + seconds)
        worker.moved_at = min(now, worker.moved_at + seconds)
        worker.dumped_at += seconds


def next_look(workers: list[Worker], now: float, policy: Policy) -> float | None:
    """When heartbeats are wanted next, or `None` if nobody's are."""
    beating = [worker for worker in workers if worker.beats]
    if policy.hang_timeout <= 0 or not beating:
        return None
    looks = [now + min(_PULSE, policy.hang_timeout / 4)]
    looks += [worker.dumped_at + policy.dump_interval for worker in beating if worker.dumps]
    return min(look for look in looks if look > now)


@dataclass(slots=True)
class Punctuality:
    """Knows whether the master itself runs when it wants to.

    After it was stopped (a debugger, a throttled container, a host that slept), the facts of the time between
    are still in its queues. So for a moment no deadline is enforced; once, as a master that is always late
    must judge too.
    """

    now: float
    """Never goes back."""
    promised: float | None = None
    """When we had asked to be called at the latest."""
    lenient_until: float = float("-inf")
    judged: bool = True
    """Whether deadlines were enforced since it was last late."""

    def arrive(self, now: float, tolerance: float) -> float:
        """Note the time of a call; returns how many seconds it came late, 0 within `tolerance`."""
        self.now = max(self.now, now)
        late = 0.0 if self.promised is None else self.now - self.promised
        if late <= tolerance:
            late = 0.0
        if late and self.judged:
            self.lenient_until = self.now + tolerance
            self.judged = False
        elif not self.lenient:
            self.judged = True
        return late

    @property
    def lenient(self) -> bool:
        """Whether deadlines are not enforced right now."""
        return self.now < self.lenient_until
