"""How long an HTTP connection may wait for its peer, and a request for the application.

No timer of the loop runs: `DeadlineTimer.is_over` is asked about once a second, with what is waited for and a number
that changes whenever that makes progress. A time-out is therefore up to one such period late.
"""

import math
from enum import Enum, auto

from asgi_master.http.limits import HttpLimits


class Wait(Enum):
    """What a connection waits for, as far as that is bounded in time."""

    NOTHING = auto()
    WRITE = auto()
    """The peer does not read."""
    LINGER = auto()
    """What the peer still sends is dropped, so that it comes to read the answer."""
    BODY = auto()
    HEADER = auto()
    FIRST_BYTE = auto()
    """Of a fresh connection."""
    RESPONSE = auto()
    """Of the application. It runs beside the others: the peer may be waited for meanwhile."""
    NEXT_REQUEST = auto()
    """Of a connection that was used before."""


_LINGER = 2.0
_IDLE_WHILE_DRAINING = 1.0
"""Seconds a connection may stay idle when the worker drains; normally it is given to another worker before."""


_RATE_WINDOW = 30.0
"""Seconds over which the rate of a body is averaged where `body_timeout` is unlimited."""
_LONGEST_STEP = 2.0
"""Seconds between two looks that are held against the peer; what is more is the loop's own delay."""


class BodyRate:
    """Measures how fast the body of one request arrives, while it is waited for.

    The peer has a credit of seconds. Waiting takes from it, bytes add to it, and it never has more than at the
    beginning of the body: a peer that was fast before may not be slow for ever.
    """

    __slots__ = ("_credit", "_most", "_rate", "_received", "_then")

    def __init__(self, limits: HttpLimits) -> None:
        """`limits.body_min_rate` is not 0."""
        self._rate = limits.body_min_rate
        self._most = self._credit = limits.body_timeout or _RATE_WINDOW
        self._received = 0
        self._then: float | None = None

    def is_too_low(self, received: int, *, now: float) -> bool:
        """Whether the body comes too slowly. Asked at each look that finds it waited for.

        `received` counts the bytes of the stream.
        """
        if self._then is not None:
            waited = min(now - self._then, _LONGEST_STEP)
            self._credit = min(self._most, self._credit - waited + (received - self._received) / self._rate)
        self._received = received
        self._then = now
        return self._credit <= 0

    def interrupt(self) -> None:
        """The body is not waited for now: the time until it is again does not count."""
        self._then = None


class DeadlineTimer:
    """Measures one connection's waiting."""

    __slots__ = ("_limits", "_since", "_waiting")

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._waiting: tuple[Wait, int] = (Wait.NOTHING, 0)
        self._since = 0.0

    def since(self, wait: Wait, progress: int, *, now: float) -> float:
        """Since when it has waited so, without progress, as far as was seen."""
        return self._since if (wait, progress) == self._waiting else now

    def resume(self, wait: Wait, progress: int, since: float, *, now: float) -> None:
        """Go on with a wait that began in another worker at `since`, or now if that is earlier."""
        self._waiting = (wait, progress)
        self._since = min(since, now)

    def is_over(self, wait: Wait, progress: int, *, now: float, draining: bool = False) -> bool:
        """Whether this wait has lasted too long without progress."""
        waiting = (wait, progress)
        if waiting != self._waiting:
            self._waiting = waiting
            self._since = now
            return False
        limit = self._limit(wait, draining=draining)
        return limit > 0 and now - self._since >= limit

    def ends(self, wait: Wait, *, draining: bool = False) -> float:
        """When this wait, which `is_over` was just asked about, will have lasted too long; infinite if it may last."""
        limit = self._limit(wait, draining=draining)
        return self._since + limit if limit else math.inf

    def _limit(self, wait: Wait, *, draining: bool) -> float:
        """In seconds; 0 is unlimited."""
        limits = self._limits
        if draining and wait in (Wait.FIRST_BYTE, Wait.NEXT_REQUEST):
            return _IDLE_WHILE_DRAINING
        match wait:
            case Wait.WRITE:
                return limits.write_timeout
            case Wait.LINGER:
                return _LINGER
            case Wait.BODY:
                return limits.body_timeout
            case Wait.HEADER | Wait.FIRST_BYTE:
                return limits.header_timeout
            case Wait.NEXT_REQUEST:
                return limits.keep_alive_timeout
            case Wait.RESPONSE:
                return limits.request_timeout
            case Wait.NOTHING:
                return 0.0


class RequestTimeouts:
    """Measures how long one request waits for its body, and for the application to begin its response."""

    __slots__ = ("_body", "_rate", "_response")

    def __init__(self, limits: HttpLimits) -> None:
        self._body = DeadlineTimer(limits)
        self._rate = BodyRate(limits) if limits.body_min_rate else None
        self._response = DeadlineTimer(limits)

    def body(self, now: float, received: int, *, is_due: bool, is_held_up: bool) -> str:
        """Why the body is waited for no longer; empty if it may still come.

        `is_due` is whether it is waited for; `is_held_up`, whether something else than the peer holds it back.
        """
        wait, progress = (Wait.BODY, received) if is_due and not is_held_up else (Wait.NOTHING, 0)
        if self._body.is_over(wait, progress, now=now):
            return "the request body did not arrive in time"
        if self._rate is None:
            return ""
        if not is_due:
            self._rate.interrupt()
            return ""
        return "the request body arrives too slowly" if self._rate.is_too_low(received, now=now) else ""

    def response_is_over(self, now: float, *, is_due: bool) -> bool:
        """Whether the application had its time to begin its response, which `is_due` until it does."""
        return self._response.is_over(Wait.RESPONSE if is_due else Wait.NOTHING, 0, now=now)
