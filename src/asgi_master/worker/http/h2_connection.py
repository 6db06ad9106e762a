"""One HTTP/2 connection: bytes between a transport and the engine, whose streams run requests side by side (RFC 9113).

Rules of this file:
  - What was written leaves at the end of the turn, as far as the transport takes it; the engine holds the rest.
  - Frames are read while bodies wait for the peer's windows: those that open them come the same way. When so much waits
    for the peer to read that no window could help, nothing is read either: heads have no window.
  - All time-outs are enforced by `sweep`, so a request costs no timer.
"""

import logging
from typing import Final, cast

from asgi_master.asgi.http_extensions import PATHSEND
from asgi_master.http.h2.drain import Drain, Step
from asgi_master.http.h2.engine import Engine, EngineStream
from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113
from asgi_master.worker.diagnostics.current_request import bind_context
from asgi_master.worker.http.h2_held_stream import HeldStream
from asgi_master.worker.http.h2_stream import H2Stream
from asgi_master.worker.http.timeouts import DeadlineTimer, Wait
from asgi_master.worker.transport.connection_state import NEW, ConnectionState, TransferConnection
from asgi_master.worker.transport.context import Connection, Ending, WorkerContext
from asgi_master.worker.transport.stream_transport import StreamProtocol, StreamTransport
from asgi_master.worker.transport.turns import AHEAD, FREE, TakesTurns

log = logging.getLogger("asgi_master")

_OPEN, _CLOSING, _LINGERING, _LOST = Ending
_GOAWAYS: Final = {ErrorCode.NO_ERROR: 1, ErrorCode.PROTOCOL_ERROR: 2, ErrorCode.ENHANCE_YOUR_CALM: 3}
"""Where `Stats.http2_goaways` counts them; all others at 4."""

_WRITE_SIZE: Final = 64 * 1024
"""Bytes that are taken from the engine at once."""
_WRITES: Final = 8
"""Of them in one turn: a peer that reads as fast as is written has no more of it."""
_SMALL_READ: Final = 4096
"""Bytes that hold no frame which takes long: a large field block takes milliseconds."""
_MOST_BACKLOG: Final = 64 * 1024
"""Bytes that the engine has framed, beside those that the transport keeps, beyond which nothing is read."""


class H2Connection(TakesTurns, Connection, StreamProtocol):
    """The protocol of a connection from its preface until it closes."""

    __slots__ = (
        "__weakref__",
        "_acked",
        "_drain",
        "_ending",
        "_eof",
        "_frames",
        "_given_endpoints",
        "_held",
        "_idle_timer",
        "_is_paused",
        "_is_serial",
        "_passed_on",
        "_resets",
        "_served",
        "_timer",
        "access_log",
        "context",
        "engine",
        "is_cancelled",
        "rests_until",
        "scopes",
        "starting",
        "transport",
    )

    def __init__(self, context: WorkerContext, state: ConnectionState = NEW) -> None:
        super().__init__(context.turns)
        self.context = context
        self._given_endpoints = state.ends
        self.access_log = None if context.access_log is None else context.access_log.of_connection()
        self.starting: list[H2Stream] = []
        """Streams whose application is called once what came with their heads was read."""
        self.is_cancelled = False
        bind_context(self)
        self.engine: Engine = context.h2_engine(self)
        self._ending = _OPEN
        self._eof = False
        self._is_paused = False  # whether the peer reads more slowly than is written
        self._frames = 0
        self._resets = 0  # of the engine's, those that were counted
        self._served = 0
        self._passed_on = 0  # bytes that were given to the transport
        self._acked = 0  # of them, those that the kernel took, as far as the sweep saw
        self._is_serial = True  # whether the peer never sent two requests at once
        self._drain: Drain | None = None
        self._held: list[HeldStream] = []  # by the drain, in the order of their numbers
        self._timer = DeadlineTimer(context.http)
        self._idle_timer = DeadlineTimer(context.http)

    # -- called by the transport -------------------------------------------------------------------

    def connection_made(self, transport: StreamTransport) -> None:
        """The connection was accepted, and speaks HTTP/2."""
        self.transport = self._transport = transport
        self.scopes = self.context.scopes(
            self._given_endpoints or transport.endpoints, transport.tls, (PATHSEND,)
        )
        self._register()
        self.context.stats.http2_connections += 1
        self.engine.start()

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self.rests_until:
            self.context.sweeps.wake(self)
        if self._ending is _OPEN:
            self.engine.receive_data(data, self.context.loop.time())
            self._advance(FREE if len(data) <= _SMALL_READ else 0)

    def eof_received(self) -> bool:
        """The peer sends no more. It may be gone, or wait for the rest of its responses."""
        self._eof = True
        if self._ending is not _OPEN or not self.engine.streams:
            self.flush()
            return False
        self._release_held()
        for stream in self._streams():
            stream.peer_half_closed()
        return True

    def pause_writing(self) -> None:
        """The peer reads more slowly than is written."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The peer caught up."""
        self._is_paused = False
        self.output_ready()

    def connection_lost(self) -> None:
        """The transport is closed."""
        self._ending = _LOST
        self._transport_lost()
        self.engine.connection_lost()
        self._leave_when_done()

    # -- called by the engine, and by its streams --------------------------------------------------

    def new_stream(self) -> EngineStream:
        self._served += 1
        self.context.stats.http2_streams += 1
        if self._drain is not None:
            self._drain.stream_opens(self.context.loop.time(), is_alone=self._is_answered())
            if self._drain.is_holding:
                held = HeldStream(self)
                self._held.append(held)
                return held
        return H2Stream(self)

    def output_ready(self) -> None:
        self.context.write_batch.add(self)

    def output_due(self) -> None:
        if not self._is_paused:
            self.flush()

    def flush(self) -> None:
        """Give to the transport what was written in this turn, as far as it takes that."""
        if self._ending is _LOST:
            return
        transport, take = self._transport, self.engine.data_to_send
        for _ in range(_WRITES):
            if self._is_paused:
                return
            if self._drain is not None and self._drain.owes_response and self._is_answered():
                self._announce_end(self._drain)
            data = take(_WRITE_SIZE)
            if not data:
                if self.holds & AHEAD:
                    self._queue_up()  # for what was received and not handled
                    self._release(AHEAD)
                self._close_when_done()
                return
            self._passed_on += len(data)
            transport.write(data)
        self.output_ready()

    def stream_finished(self, stream: H2Stream) -> None:
        """The application of a stream has returned."""
        self.engine.finished(stream)
        if self._ending is _LOST:
            self._leave_when_done()
        elif self.is_cancelled and not self._is_running():
            self._transport.abort()
        elif self._drain is not None or self._eof:
            # When this has left, the connection may follow.
            self.output_ready()
            if self._drain is not None and self._drain.watches_streams:
                self._go_on_leaving(self._drain)

    def _is_running(self) -> bool:
        """Whether an application runs on one of the streams."""
        return any(stream.is_running for stream in self._streams())

    def _streams(self) -> list[H2Stream]:
        return cast("list[H2Stream]", list(self.engine.streams))

    # -- frames ------------------------------------------------------------------------------------

    def _advance(self, free: int = 0) -> None:
        """Handle the frames that have arrived, as far as this turn allows; `free` of them in any case."""
        if self._is_queued:
            return
        if self._is_paused and self.engine.backlog > _MOST_BACKLOG:
            self._hold(AHEAD)
            return
        advance, clock = self.engine.advance, self._turns.clock
        served, frames, until = self._served, 0, 0.0 if free else self._turns.slice()
        try:
            while advance():
                frames += 1
                if frames > free:
                    until = until or self._turns.slice()
                    if clock() >= until:
                        self._queue_up()
                        break
        except ConnectionError as error:
            self._fail(error)
        self._frames += frames
        if self._served > served + 1:
            self._is_serial = False
        if self.engine.resets != self._resets:
            if self.context.stream_quota.refused:
                self.context.refused_streams.log(self.context.stream_quota, self.context.loop.time())
            self.context.stats.http2_resets += self.engine.resets - self._resets
            self._resets = self.engine.resets
        if self.starting:
            self._start_streams()

    def _start_streams(self) -> None:
        starting, self.starting = self.starting, []
        for stream in starting:
            stream.start()

    def _go_on(self) -> None:
        if self._ending is _OPEN:
            self._advance()

    # -- called by the worker ----------------------------------------------------------------------

    def sweep(self, now: float) -> float:
        """A time-out is at most one sweep late."""
        is_held_up = self._is_paused or self._is_queued
        for stream in self._streams():
            stream.sweep(now, is_held_up=is_held_up, has_final_window=self._eof)
        self.engine.renew_stream_limit()
        wait, progress = self._waiting()
        idle = self._idle()
        is_leaving = self._is_leaving()
        if self._timer.is_over(wait, progress, now=now):
            self._time_out(wait)
        elif self._idle_timer.is_over(idle, self._served, now=now, draining=is_leaving):
            self._time_out(idle)
        elif idle is not Wait.NOTHING and wait is Wait.NOTHING and not (is_leaving or self._is_queued):
            return self._idle_timer.ends(idle)
        return 0.0

    def drain(self, transfer: TransferConnection | None = None) -> None:
        """Announce the end; while others serve, at a moment at which it costs the peer no request (`Drain`)."""
        if self._ending is not _OPEN:
            return
        drain = self._drain = self._drain or Drain(
            self.context.loop.time(), is_serial=self._is_serial, gives_up=self.engine.peer_gives_up
        )
        drain.others_serve = transfer is not None
        self._go_on_leaving(drain)
        self.flush()

    def _go_on_leaving(self, drain: Drain) -> None:
        self._take_step(drain, drain.next_step(self.context.loop.time(), self._served, self._unheld))

    def _take_step(self, drain: Drain, step: Step) -> None:
        match step:
            case Step.PROBE:
                self.engine.probe()
            case Step.RELEASE:
                self._release_held()
            case Step.ANNOUNCE:
                self._announce_end(drain)
            case Step.FINISH:
                self.engine.finish_shutdown()
            case Step.WAIT:
                pass

    def probe_answered(self) -> None:
        if (drain := self._drain) is not None:
            now = self.context.loop.time()
            self._take_step(drain, drain.probe_answered(now, self._served, self._unheld))

    @property
    def _unheld(self) -> int:
        """Streams that are served."""
        return len(self.engine.streams) - len(self._held)

    def held_stream_ended(self, stream: HeldStream) -> None:
        """A stream that is held is over: nothing of it was served."""
        self._held.remove(stream)
        self.stream_finished(stream)

    def _release_held(self) -> None:
        """Serve the streams that are held, soon: this may be called in the context of another stream."""
        if self._held:
            self.context.loop.call_soon(self._serve_held, context=self._transport.context)

    def _serve_held(self) -> None:
        held, self._held = self._held, []
        for stream in held:
            stream.release()
        self._start_streams()
        if self._eof:
            for stream in held:
                stream.peer_half_closed()

    def _is_leaving(self) -> bool:
        """Whether GOAWAY announced the end, for no fault of the peer."""
        return self._drain is not None and self._drain.is_announced

    def _announce_end(self, drain: Drain) -> None:
        """Send GOAWAY: with the last stream that was served if all are answered, and else with the last possible."""
        drain.announced(self.context.loop.time())
        self._count_goaway(ErrorCode.NO_ERROR)
        if self._is_answered():
            self.engine.finish_shutdown(max(0, self._held[0].stream_id - 2) if self._held else None)
        else:
            self._release_held()
            self.engine.shut_down()
        if self.rests_until:
            self.context.sweeps.wake(self)

    def _is_answered(self) -> bool:
        """Whether each stream has its response, as far as this side is concerned."""
        return all(stream.is_answered for stream in self._streams())

    def signal_disconnect(self) -> None:
        for stream in self._streams():
            stream.signal_disconnect()

    def cancel(self) -> None:
        self.is_cancelled = True
        for stream in self._streams():
            stream.cancel()
        if not self._is_running() and self._ending is not _LOST:
            self._transport.abort()

    def subject(self) -> str:
        """What is being served, for a log. May be asked by another thread."""
        subjects = [subject for stream in self._streams() if (subject := stream.subject())]
        return ", ".join(subjects[:2]) + (f" and {len(subjects) - 2} more" if len(subjects) > 2 else "")

    # -- the end -----------------------------------------------------------------------------------

    def _fail(self, error: ConnectionError) -> None:
        """The peer broke the protocol: what the engine says of it is the last that is sent."""
        log.debug("ended a connection: %s", error)
        self._end(error.code)

    def _count_goaway(self, code: ErrorCode) -> None:
        self.context.stats.http2_goaways[_GOAWAYS.get(code, 4)] += 1

    def _end(self, code: ErrorCode) -> None:
        """Send what may still leave, which ends with GOAWAY, and tell the streams that they are over."""
        self._count_goaway(code)
        self.flush()
        if self._is_paused and (data := self.engine.data_to_send(_WRITE_SIZE)):
            self._transport.write(data)  # no body is among that, as the streams are over
        self._linger()
        for stream in self._streams():
            stream.disconnect()

    def _close_when_done(self) -> None:
        """Close once nothing is left to serve or to send."""
        if self._ending is not _OPEN:
            return
        if self._eof and not self.engine.streams:
            self._ending = _CLOSING
            self._transport.close()
        elif self._is_leaving() and self.engine.is_shut_down and not self.engine.streams:
            self._linger()

    def _linger(self) -> None:
        """End our side, and for a while drop what arrives: closing over unread bytes resets the connection."""
        if self._eof:
            self._ending = _CLOSING
            self._transport.close()
            return
        self._ending = _LINGERING
        self._transport.write_eof()
        self._let_off()

    def _leave_when_done(self) -> None:
        if self._ending is _LOST and not self.engine.streams:
            self._unregister()

    # -- time --------------------------------------------------------------------------------------

    def _waiting(self) -> tuple[Wait, int]:
        """What the peer has begun and is waited for, and a number that changes whenever it makes progress."""
        if self._ending is _LOST:
            return Wait.NOTHING, 0
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            self._acked = max(self._acked, self._passed_on - unsent)
            return Wait.WRITE, self._acked
        if self._ending is _LINGERING:
            return Wait.LINGER, 0
        if self._ending is _CLOSING or self._is_queued:
            return Wait.NOTHING, 0
        if self.engine.is_mid_frame:
            return Wait.HEADER, self._frames
        return Wait.NOTHING, 0

    def _idle(self) -> Wait:
        """What is waited for without a stream: whatever else the peer sends, or does not read, does not prolong that.

        With streams it is nothing, as a request looks after its own time-outs.
        """
        if self._ending is not _OPEN or self.engine.streams:
            return Wait.NOTHING
        return Wait.NEXT_REQUEST if self._served else Wait.FIRST_BYTE

    def _time_out(self, wait: Wait) -> None:
        match wait:
            case Wait.WRITE | Wait.LINGER:
                self._transport.abort()
            case Wait.HEADER:
                self.engine.go_away(ErrorCode.PROTOCOL_ERROR, "a frame did not arrive in time")
                self._end(ErrorCode.PROTOCOL_ERROR)
            case _:
                self.engine.go_away(ErrorCode.NO_ERROR)
                self._end(ErrorCode.NO_ERROR)
