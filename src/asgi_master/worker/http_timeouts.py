"""How long an HTTP connection may wait for its peer, and a request for the application.

No timer runs: `Patience.is_over` is asked about once a second, with what the connection waits for and a number that
changes whenever that makes progress. A time-out is therefore up to one such period late.
"""

from enum import Enum, auto

from asgi_master.http.limits import HttpLimits


class Wait(Enum):
    """What a connection waits for, as far as that is bounded in time."""

    NOTHING = auto()
    WRITE = auto()
    """The peer does not read."""
    LINGER = auto()
    """The peer may still send what nobody wants, so that it comes to read the answer."""
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


class Patience:
    """Measures one connection's waiting."""

    __slots__ = ("_limits", "_since", "_waiting")

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._waiting: tuple[Wait, int] = (Wait.NOTHING, 0)
        self._since = 0.0

    def is_over(self, wait: Wait, progress: int, *, now: float, draining: bool) -> bool:
        """Whether this wait has lasted too long without progress."""
        waiting = (wait, progress)
        if waiting != self._waiting:
            self._waiting = waiting
            self._since = now
            return False
        limit = self._limit(wait, draining=draining)
        return limit > 0 and now - self._since >= limit

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
