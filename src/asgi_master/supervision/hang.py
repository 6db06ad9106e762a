"""Whether a worker's event loop is stuck, judged by its heartbeats; and whether the master was on time itself.

Rules of this file:
  - Starved is not hung: time in which the master itself did not run is not held against a worker.
  - Busy is not hung: a worker that was seen to get on, though its loop does not turn, is left alone.
  - A hung worker's stacks are dumped twice before it is killed: two samples tell "stuck here" from "slow".
"""

from enum import StrEnum

from asgi_master.records import mutable_record
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.policy import Policy

_PULSE = 1.0
"""Maximum seconds between two readings of the heartbeats."""


class HangAction(StrEnum):
    """What to do about a worker whose heartbeat was read."""

    FINE = "fine"
    RECOVERED = "recovered"
    BUSY = "busy"
    """Announce that its loop does not turn, though it makes progress."""
    DUMP = "dump"
    WAIT = "wait"
    KILL = "kill"


def judge(worker: WorkerRecord, now: float, policy: Policy) -> HangAction:
    """Judge one worker whose newest heartbeat was just read."""
    if policy.hang_timeout <= 0 or not worker.beats:
        return HangAction.FINE
    if now - max(worker.alive_at, worker.moved_at) <= policy.hang_timeout:
        if worker.dumps:
            return HangAction.RECOVERED
        is_silent = now - worker.alive_at > policy.hang_timeout
        return HangAction.BUSY if is_silent and not worker.is_busy else HangAction.FINE
    if worker.dumps == 0:
        return HangAction.DUMP
    if now < worker.dumped_at + policy.dump_interval:
        return HangAction.WAIT
    return HangAction.DUMP if worker.dumps == 1 else HangAction.KILL


def note_heartbeat(worker: WorkerRecord, stamp: float, now: float) -> None:
    """Record the newest heartbeat of a worker."""
    if stamp > worker.stamp:
        worker.stamp = stamp
        worker.alive_at = max(worker.alive_at, min(stamp, now))
        worker.is_busy = False


def note_progress(worker: WorkerRecord, stamp: float, now: float) -> None:
    """Record the last progress of a worker, with or without turns of its loop. Self-reported, as heartbeats are."""
    if stamp > worker.progress:
        worker.progress = stamp
        worker.moved_at = max(worker.moved_at, min(stamp, now))


def forgive(worker: WorkerRecord, seconds: float, now: float) -> None:
    """Do not count the `seconds` that the master was late against the worker."""
    if worker.ready_at is not None:
        worker.alive_at = min(now, worker.alive_at + seconds)
        worker.moved_at = min(now, worker.moved_at + seconds)
        worker.dumped_at += seconds


def next_look(workers: list[WorkerRecord], now: float, policy: Policy) -> float | None:
    """When heartbeats are to be read next; `None` if no worker has any."""
    beating = [worker for worker in workers if worker.beats]
    if policy.hang_timeout <= 0 or not beating:
        return None
    looks = [now + min(_PULSE, policy.hang_timeout / 4)]
    looks += [worker.dumped_at + policy.dump_interval for worker in beating if worker.dumps]
    return min(look for look in looks if look > now)


@mutable_record
class ClockWatch:
    """Detects that the master itself runs late.

    After it was stopped (a debugger, a throttled container, a suspended host), the events of that time are still in
    its queues. So no deadline is enforced for a grace period; once, as a master that is always late must enforce them
    too.
    """

    now: float
    """The time of the last call; it never decreases."""
    promised: float | None = None
    """When the next call is expected at the latest."""
    lenient_until: float = float("-inf")
    judged: bool = True
    """Whether deadlines were enforced since it was last late."""

    def tick(self, now: float, tolerance: float) -> float:
        """Note the time of a call; returns how many seconds it came late, 0 within `tolerance`."""
        self.now = max(self.now, now)
        late = 0.0 if self.promised is None else self.now - self.promised
        if late <= tolerance:
            late = 0.0
        if late and self.judged:
            self.lenient_until = self.now + tolerance
            self.judged = False
        elif not self.in_grace:
            self.judged = True
        return late

    @property
    def in_grace(self) -> bool:
        """Whether deadlines are suspended right now."""
        return self.now < self.lenient_until
