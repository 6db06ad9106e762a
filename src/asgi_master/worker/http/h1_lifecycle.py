"""The life of an HTTP/1 connection around its requests: time-outs, the drain, the hand-over to another worker, the end.

It is the half of `H1Connection` that a request does not pass through. Both halves are one object: a second one would
cost each request its calls (ADR 10). All time-outs are enforced by `sweep`, so a request costs no timer.
"""

from abc import abstractmethod

from asgi_master.http.errors import ProtocolError
from asgi_master.worker.http.h1_writer import H1Writer
from asgi_master.worker.http.running_request import RunningRequest
from asgi_master.worker.http.timeouts import DeadlineTimer, Wait
from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.context import Connection, Ending, Leaving, WorkerContext
from asgi_master.worker.transport.stream_transport import StreamProtocol
from asgi_master.worker.transport.turns import TakesTurns

# Module constants are looked up faster than members.
_OPEN, _CLOSING, _LINGERING, _LOST = Ending
_NO, _MOVE, _STAY, _CLOSE = Leaving
_IDLE = (Wait.FIRST_BYTE, Wait.NEXT_REQUEST)


class H1Lifecycle(TakesTurns, Connection, StreamProtocol):
    """What `H1Connection` is to the worker, from its making until it closes or is given away."""

    __slots__ = (
        "_acked",
        "_current",
        "_ending",
        "_eof",
        "_given_endpoints",
        "_leaving",
        "_loop",
        "_parser",
        "_received",
        "_running",
        "_served",
        "_timer",
        "_transfer",
        "_undecided",
        "context",
        "flow",
        "is_cancelled",
        "rests_until",
        "writer",
    )

    writer: H1Writer

    def __init__(self, context: WorkerContext, state: ConnectionState) -> None:
        """`state` is that of the connection in another worker, if it comes from there."""
        TakesTurns.__init__(self, context.turns)
        self.context = context
        self._given_endpoints = state.ends
        self.is_cancelled = False
        self._loop = context.loop
        self._parser = context.engines.parser(context.http)
        self._current: RunningRequest | None = None  # whose response, or whose body, is not complete
        self._running: set[RunningRequest] = set()  # whose application has not returned
        self._eof = False
        self._ending = _OPEN
        self._leaving = _NO
        self._transfer: TransferConnection | None = None
        self._received = 0
        self._undecided = b""  # what may be the beginning of HTTP/2's preface
        self._served = state.served
        self._timer: DeadlineTimer | None = None  # most connections are over before a sweep finds them
        if state.idle_since is not None:
            self._timer = DeadlineTimer(context.http)
            self._timer.resume(*self._idling(), state.idle_since, now=self._loop.time())
        self._acked = 0  # bytes that were written and taken by the kernel, as far as the sweep saw

    @abstractmethod
    def refuse(self, error: ProtocolError) -> None:
        """Answer a peer that broke the protocol, a limit or a time-out, and close."""

    def connection_lost(self) -> None:
        """The transport is closed."""
        self._abandon()
        self._leave_when_done()

    # -- called by the worker ----------------------------------------------------------------------

    def sweep(self, now: float) -> float:
        """A time-out is at most one sweep late."""
        for running in list(self._running):
            running.notice_end()
        timer = self._timer
        if timer is None:
            timer = self._timer = DeadlineTimer(self.context.http)
        wait, progress = self._waiting()
        is_leaving = self._leaving is _CLOSE or (self._leaving is _NO and self.context.draining)
        if timer.is_over(wait, progress, now=now, draining=is_leaving):
            self._time_out(wait)
        elif self._current is not None:
            is_held_up = wait is Wait.WRITE or self._is_queued
            self._current.sweep(now, self._received, is_held_up=is_held_up)
        elif wait in _IDLE:
            return timer.ends(wait, draining=is_leaving)
        return 0.0

    def drain(self, transfer: TransferConnection | None = None) -> None:
        before = self._leaving
        if transfer is None:
            self._leaving = _CLOSE
        else:
            self._leaving = _MOVE if self._transport.tls is None else _STAY
        self._transfer = transfer
        if self._leaving is _MOVE:
            self._hand_over_if_idle()
        elif (
            self._leaving is _CLOSE
            and before in (_NO, _STAY)
            and self._served
            and self.is_idle()
            and not self._transport.has_unread_bytes()
        ):
            self._close()
        # Others may have a request on its way: a fresh connection its first, and one whose last response began before
        # the drain did not announce the end. The sweep closes those without one.

    def signal_disconnect(self) -> None:
        if self._leaving is _MOVE:
            self._leaving = _CLOSE
        current = self._current
        if current is not None and current.head is not None and not current.is_complete:
            current.peer_half_closed()
            current.wake()

    def cancel(self) -> None:
        self.is_cancelled = True
        if not self._running and self._ending is not _LOST:
            self._transport.abort()
        for running in list(self._running):
            running.cancel()

    def is_idle(self) -> bool:
        """Whether no request is in flight and no unparsed byte is buffered."""
        return (
            self._current is None
            and self._ending is _OPEN
            and not self._transport.is_closing()
            and self._parser.is_idle
            and not (self._is_queued or self._undecided)
        )

    def subject(self) -> str:
        """What is being served, for a log. May be asked by another thread."""
        served = [request for request in (self._current, *tuple(self._running)) if request is not None]
        return served[0].title if served else ""

    def hand_over(self, transfer: TransferConnection) -> bool:
        """Transfer an idle plaintext connection; false if it cannot move, or no other worker takes it.

        Nothing is shut down and unread bytes stay in the kernel; this object leaves the worker's connections.
        """
        self.writer.flush()
        if not self.is_idle() or self._eof:
            return False
        now, timer = self._loop.time(), self._timer
        state = ConnectionState(
            ends=self._given_endpoints,
            served=self._served,
            idle_since=now if timer is None else timer.since(*self._idling(), now=now),
        )
        if not self._transport.move(transfer, state):
            return False
        self._abandon()
        self._leave_when_done()
        return True

    def _hand_over_if_idle(self) -> None:
        if self._leaving is _MOVE and self._transfer is not None and self.is_idle():
            self.hand_over(self._transfer)

    # -- the end -----------------------------------------------------------------------------------

    def _close_after(self, current: RunningRequest) -> None:
        """Close after the last response, such that the peer gets to read it."""
        if current.body_ended and not self._parser.buffered:
            self._close()
        else:
            self._linger()

    def _close(self) -> None:
        self.writer.flush()
        self._ending = _CLOSING
        self._current = None
        self._transport.close()

    def _linger(self) -> None:
        """End our side, and for a while drop what arrives: closing over unread bytes resets the connection."""
        if self._eof:
            self._close()
            return
        self.writer.flush()
        self._ending = _LINGERING
        self._current = None
        self._transport.write_eof()
        self._let_off()

    def _abandon(self) -> None:
        """The transport is no longer ours."""
        if self._ending is _LOST:
            return
        self._ending = _LOST
        self._current = None
        self._transport_lost()
        for running in list(self._running):
            if not running.is_complete:
                running.peer_disconnected()
            running.wake()
        if self.writer.is_paused:
            self.writer.resume()

    def _leave_when_done(self) -> None:
        if self._ending is _LOST and not self._running:
            self._unregister()

    # -- time --------------------------------------------------------------------------------------

    def _waiting(self) -> tuple[Wait, int]:
        """What is waited for now, and a number that changes whenever it makes progress."""
        if self._ending is _LOST:
            return Wait.NOTHING, 0
        unsent = self._transport.get_write_buffer_size()
        if unsent or self.writer.is_paused:
            # Bytes that the kernel took, not bytes that were queued: a peer that does not read, but goes on asking,
            # makes no progress. TLS adds a little to what was written.
            self._acked = max(self._acked, self.writer.passed_on - unsent)
            return Wait.WRITE, self._acked
        if self._ending is _LINGERING:
            return Wait.LINGER, 0
        if self._ending is _CLOSING or self._is_queued or self._current is not None:
            # While its turn has not come, nothing is wanted of the peer; a request looks after its own time-outs.
            return Wait.NOTHING, 0
        if not self._parser.is_idle:
            return Wait.HEADER, self._served
        return self._idling()

    def _idling(self) -> tuple[Wait, int]:
        return (Wait.NEXT_REQUEST if self._served else Wait.FIRST_BYTE), self._served

    def _time_out(self, wait: Wait) -> None:
        match wait:
            case Wait.WRITE:
                self._transport.abort()
            case Wait.HEADER:
                self.refuse(ProtocolError(408, "the request did not arrive in time"))
            case _:
                self._close()
