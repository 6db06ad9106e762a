"""Whether the peer of one WebSocket still takes part. Times, in seconds, are arguments."""

from enum import Enum, auto

from asgi_master.http.limits import WebSocketLimits
from asgi_master.http.websocket.keepalive import KeepAlive, Verdict, WriteStall


class Action(Enum):
    """What to do about the peer."""

    NOTHING = auto()
    PING = auto()
    CLOSE = auto()
    """It is silent: end the WebSocket with a close frame."""
    ABORT = auto()
    """It does not read, or does not close: end the connection."""


class PeerWatch:
    """Measures how long a peer reads nothing, says nothing, and leaves a close frame without an answer."""

    __slots__ = ("_close_timeout", "_deadline", "_keepalive", "_stall", "_write_timeout")

    def __init__(self, limits: WebSocketLimits) -> None:
        self._keepalive = KeepAlive(interval=limits.ping_interval, timeout=limits.ping_timeout)
        self._write_timeout = limits.write_timeout
        self._close_timeout = limits.close_timeout
        self._stall: WriteStall | None = None
        self._deadline = 0.0  # 0 while the connection need not end; not judged while the peer reads slowly

    def writing_paused(self, now: float, unsent: int) -> None:
        """The peer reads more slowly than is written: `unsent` bytes wait for it."""
        self._stall = WriteStall(now, unsent, timeout=self._write_timeout)

    def writing_resumed(self, now: float) -> None:
        """The peer caught up. If it is to close, its time for that begins anew."""
        self._stall = None
        if self._deadline:
            self.close_expected(now)

    def close_expected(self, now: float) -> None:
        """The connection is to end within the close timeout."""
        self._deadline = now + self._close_timeout

    def judge(self, now: float, unsent: int, *, was_heard: bool, is_open: bool) -> Action:
        """Judge the peer; `was_heard` since the last time, the first time it must be. `is_open` until a close frame."""
        if self._stall is not None:
            return Action.ABORT if self._stall.is_over(now, unsent) else Action.NOTHING
        if self._deadline and now >= self._deadline:
            return Action.ABORT
        if not is_open:
            return Action.NOTHING
        match self._keepalive.judge(now, heard=was_heard):
            case Verdict.PING:
                return Action.PING
            case Verdict.GIVE_UP:
                return Action.CLOSE
            case Verdict.WAIT:
                return Action.NOTHING

    @property
    def due(self) -> float:
        """When a peer that is open, and not heard until then, is to be judged next; 0 if that is not known.

        Infinite if it may be silent.
        """
        return 0.0 if self._deadline or self._stall is not None else self._keepalive.due
