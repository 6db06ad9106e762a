"""How long a WebSocket peer may be silent, and how long it may not read. Times, in seconds, are arguments."""

import math
from enum import Enum, auto


class Verdict(Enum):
    """What to do about a peer that was not heard."""

    WAIT = auto()
    PING = auto()
    GIVE_UP = auto()


class KeepAlive:
    """Pings a silent peer, and gives it up if it stays silent. Whatever it sends counts as a pong."""

    __slots__ = ("_heard_at", "_interval", "_pinged_at", "_timeout")

    def __init__(self, *, interval: float, timeout: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._heard_at = 0.0
        self._pinged_at: float | None = None

    def judge(self, now: float, *, heard: bool) -> Verdict:
        """Judge a peer, `heard` or not since the last time; the first time it must be."""
        if heard:
            self._heard_at = now
            self._pinged_at = None
        elif self._pinged_at is not None:
            if 0 < self._timeout <= now - self._pinged_at:
                return Verdict.GIVE_UP
        elif 0 < self._interval <= now - self._heard_at:
            self._pinged_at = now
            return Verdict.PING
        return Verdict.WAIT

    @property
    def due(self) -> float:
        """When a peer that is not heard until then is to be judged next; infinite if it may be silent."""
        since, limit = (
            (self._heard_at, self._interval) if self._pinged_at is None else (self._pinged_at, self._timeout)
        )
        return since + limit if limit else math.inf


class WriteStall:
    """Tells a peer that reads nothing from one that reads slowly."""

    __slots__ = ("_progress_at", "_timeout", "_unwritten")

    def __init__(self, now: float, unwritten: int, *, timeout: float) -> None:
        self._progress_at = now
        self._unwritten = unwritten
        self._timeout = timeout

    def is_over(self, now: float, unwritten: int) -> bool:
        """Whether the peer took nothing for the whole timeout; `unwritten` bytes still wait for it."""
        if unwritten < self._unwritten:
            self._progress_at = now
        self._unwritten = unwritten
        return 0 < self._timeout <= now - self._progress_at
