"""One WebSocket: carries frames between the peer's transport and the application's `receive` and `send`.

It begins with its opening handshake. From then on the transport is its own, be it that of an HTTP/1.1 connection.
"""

import asyncio
import logging

from asgi_master.asgi.errors import is_disconnect
from asgi_master.asgi.scope import HttpScopes
from asgi_master.asgi.types import Message
from asgi_master.asgi.websocket_session import (
    Accept,
    CloseWith,
    ContinueDenial,
    Order,
    Refuse,
    Send,
    StartDenial,
    State,
    WebSocketSession,
    data_of,
)
from asgi_master.http.errors import ProtocolError
from asgi_master.http.message import Request
from asgi_master.http.websocket.frames import (
    FRAGMENT,
    Close,
    CloseCode,
    Engine,
    Fragment,
    Ping,
    Pong,
    WebSocketError,
)
from asgi_master.http.websocket.peer_watch import Action, PeerWatch
from asgi_master.telemetry.failures import describe, exc_info
from asgi_master.telemetry.request_info import request_info
from asgi_master.worker.diagnostics.current_request import bind_context, runs_the_application
from asgi_master.worker.transport.connection_state import TransferConnection
from asgi_master.worker.transport.context import Connection, Ending, WorkerContext
from asgi_master.worker.transport.eager import begin
from asgi_master.worker.transport.stream_transport import StreamProtocol, StreamTransport
from asgi_master.worker.transport.turns import AHEAD, CREDIT, WEIGHT_SHIFT, TakesTurns
from asgi_master.worker.websocket.handshake import HandshakeStream, OpeningHandshake
from asgi_master.worker.websocket.inbox import Inbox

log = logging.getLogger("asgi_master")

_OPEN = State.OPEN
_NOT_ENDING = Ending.OPEN

_FRAGMENT_WEIGHT = 7
"""Of a part of a message, beyond 1: it may be much that was inflated. See `CREDIT`."""
_MESSAGE_WEIGHT = 4
"""Of a message that the application takes, since it does something with it."""
_LARGE_MESSAGE = 64 * 1024
"""Bytes of a message whose end is no small event."""
_PONGS = 16
"""Pings that are answered together; of more at once only the newest needs it (RFC 6455 §5.5.3)."""


class WebSocketConnection(TakesTurns, Connection, StreamProtocol):
    """A transport from its upgrade request on. `start` begins the handshake."""

    closes_gradually = True

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_close_sent",
        "_connect_told",
        "_early",
        "_ending",
        "_engine",
        "_heard",
        "_inbox",
        "_opening",
        "_pongs",
        "_request",
        "_session",
        "_task",
        "_watch",
        "_writable",
        "_write",
        "context",
        "rests_until",
    )

    def __init__(
        self,
        context: WorkerContext,
        transport: StreamTransport,
        request: Request,
        trailing: bytes,
        scopes: HttpScopes,
        stream: HandshakeStream,
    ) -> None:
        """`transport` carries frames, `stream` what comes before them; `trailing` came behind the request."""
        super().__init__(context.turns)
        self.context = context
        self._transport = transport
        self._write = transport.write
        self._request = request
        self._opening = OpeningHandshake(context, stream, scopes)
        self._session = WebSocketSession()
        self._engine: Engine | None = None
        """`None` until the application accepted."""
        self._early = trailing
        # The application.
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._connect_told = False
        self._inbox = Inbox(context.loop, context.websocket)
        # The transport.
        self._writable: asyncio.Event | None = None
        self._pongs: list[bytes] = []
        """What the pings asked back that are not answered yet."""
        self._close_sent = False
        self._ending = Ending.OPEN
        # What `sweep` judges.
        self._heard = True
        self._watch = PeerWatch(context.websocket)

    def start(self) -> None:
        """Check the handshake and let the application answer it."""
        context = self.context
        self._register(is_counted=not self._transport.is_shared)
        context.stats.websockets += 1
        try:
            self._opening.read(self._request)
        except ProtocolError as error:
            self._opening.refuse(error.status, error.reason)
            self._hang_up()
            return
        bind_context(self)
        self._task = begin(self._run(), context.loop)
        # Not at the end of `_run`: a task that is cancelled before its first step never comes there.
        self._task.add_done_callback(self._application_left)

    # The application's side.

    def subject(self) -> str:
        """What a log calls it."""
        return f"WebSocket {self._request.target.decode('ascii')}"

    @runs_the_application
    async def _run(self) -> None:
        try:
            await self.context.app(self._opening.scope, self.receive, self.send)
        except asyncio.CancelledError as error:
            # A cancelled application, or one whose peer is gone, has no one to answer.
            if not self._cancelled:
                self._application_ended(None if self._session.is_over else error)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 -- nothing an application does ends the worker
            self._application_ended(None if self._session.is_over and is_disconnect(error) else error)
        else:
            self._application_ended(None)

    def _application_left(self, _task: asyncio.Task[None]) -> None:
        if self._cancelled:
            self._abort()
        self._leave_if_done()

    def _application_ended(self, error: BaseException | None) -> None:
        """Say what the application left unsaid."""
        state = self._session.state
        # Who was cancelled may leave everything as it is.
        unanswered = (state is State.CONNECTING or state is State.DENYING) and not self._cancelled
        if error is not None:
            self._log_failure(f"raised {describe(error)}", error)
        elif unanswered:
            self._log_failure("returned without answering the handshake")
        if state is State.OPEN:
            self.context.stats.late_errors += error is not None
            self._close(CloseCode.NORMAL if error is None else CloseCode.INTERNAL_ERROR)
        elif unanswered and self._opening.answered:
            self.context.stats.late_errors += self._opening.answered_well
            self._abort()
        elif unanswered:
            self._session.disconnected(CloseCode.ABNORMAL)
            self._opening.refuse(500, "Internal Server Error")
            self._hang_up()

    def _log_failure(self, what: str, error: BaseException | None = None) -> None:
        self.context.stats.application_errors += 1
        request = request_info("WebSocket", self._request.target, self._opening.scope)
        extra = {"request": request}
        log.error("%s: the application %s", request.title, what, exc_info=exc_info(error), extra=extra)

    async def receive(self) -> Message:
        """The application's `receive`."""
        if not self._connect_told:
            self._connect_told = True
            return {"type": "websocket.connect"}
        if self.credit < 0:
            await self.rest()  # before a message is taken, so that none is lost if this is cancelled
        data = self._inbox.take()
        if data is None:
            while data is None:
                if self._session.disconnect is not None:
                    self.credit -= 1
                    return dict(self._session.disconnect)
                await self._inbox.wait()
                data = self._inbox.take()
            self.credit = CREDIT
        else:
            self.credit -= _MESSAGE_WEIGHT
        if self.holds:
            self._pump()
        if type(data) is str:
            return {"type": "websocket.receive", "text": data}
        return {"type": "websocket.receive", "bytes": data}

    async def send(self, message: Message) -> None:
        """The application's `send`. Waits while the peer does not read."""
        if self.credit < 0:
            await self.rest()
        while self._writable is not None:
            await self._writable.wait()
            self.credit = CREDIT
        if self._transport.is_closing():
            # It broke, and `connection_lost` is about to say so.
            self._session.disconnected(CloseCode.ABNORMAL)
        if self._session.state is not _OPEN or message["type"] != "websocket.send":
            self._carry_out(self._session.interpret(message))
            return
        data, engine = data_of(message), self._engine
        assert engine is not None
        self.credit -= 1 + (len(data) >> WEIGHT_SHIFT)
        self._write(engine.text(data) if type(data) is str else engine.binary(data))  # type: ignore[arg-type]

    def _carry_out(self, order: Order) -> None:
        match order:
            case Accept():
                self._engine = self._opening.accept(order)
                self._session.advance(order)
                self._begin_frames()
            case Refuse():
                self._session.advance(order)
                self._opening.refuse(403, "Forbidden")
                self._session.disconnected(CloseCode.ABNORMAL)
                self._hang_up()
            case StartDenial():
                self._session.advance(order)
            case ContinueDenial():
                self.credit -= 1 + (len(order.chunk[1]) >> WEIGHT_SHIFT)
                self._opening.deny(order.chunk)
                self._session.advance(order)
                if order.is_last:
                    self._session.disconnected(CloseCode.ABNORMAL)
                    self._hang_up()
            case Send():
                raise AssertionError("messages of an open WebSocket are sent without an order")
            case CloseWith():
                self._session.advance(order)
                self._inbox.clear()
                self._begin_close(order.code, order.reason)

    def _begin_frames(self) -> None:
        assert self._engine is not None
        self._engine.receive_data(self._early)
        self._early = b""
        self._pump()
        if self.context.draining:
            self.drain()

    # The peer's side.

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._heard = True
        self._wake()
        engine = self._engine
        if self._ending is not _NOT_ENDING:
            return
        if engine is None:
            # A client should wait for the answer. What comes earlier is kept, and no more is read.
            self._early += data
            self._hold(AHEAD)
        else:
            engine.receive_data(data)
            if self._turns.is_spent and engine.held >= _LARGE_MESSAGE:
                self._queue_up()  # the end of a large message is no small event, however few bytes it comes in
                return
            self._pump()

    def _go_on(self) -> None:
        if self._ending is _NOT_ENDING:
            self._pump()

    def _pump(self) -> None:
        """Turn received bytes into messages, as long as there is room for them and this turn of the loop allows."""
        if self.holds and (self._is_queued or not (self._close_sent or self._inbox.has_room)):
            return
        assert self._engine is not None
        next_event = self._engine.next_event
        inbox = self._inbox
        credit, until = CREDIT, 0.0
        try:
            while (event := next_event()) is not None:
                if isinstance(event, (str, bytes)):
                    if not self._close_sent and not inbox.put(event):
                        self._hold(AHEAD)
                        break
                elif event is FRAGMENT:
                    credit -= _FRAGMENT_WEIGHT
                elif not self._goes_on_after(event):
                    break
                credit -= 1
                if credit < 0:
                    until = until or self._turns.slice()
                    if self._turns.is_over(until):
                        self._queue_up()
                        break
                    credit = CREDIT
            else:
                if self.holds:
                    self._release(AHEAD)
        except WebSocketError as error:
            self._stop_reading()
            self._close(error.code, error.reason)
            self._hang_up()
        if self._pongs:
            self._write_pongs()
        inbox.wake()

    def _goes_on_after(self, event: Ping | Pong | Close | Fragment) -> bool:
        """Answer a control frame; false if it is the last one."""
        assert self._engine is not None
        if isinstance(event, Close):
            if not self._close_sent:
                self._write_pongs()
                self._close_sent = True
                self._write(self._engine.close(event.code, ""))
            self._session.disconnected(event.code, event.reason)
            self._stop_reading()
            self._expect_close()
            self._transport.close()
            return False
        if isinstance(event, Ping) and not self._close_sent:
            if self._writable is not None or len(self._pongs) >= _PONGS:
                self._pongs.clear()  # more would pile up unread
            self._pongs.append(event.payload)
        return True

    def _write_pongs(self) -> None:
        """Answer the pings, once the peer reads."""
        if self._close_sent:
            self._pongs.clear()
        elif self._pongs and self._writable is None and self._engine is not None:
            pongs, self._pongs = self._pongs, []
            self._write(b"".join([self._engine.pong(payload) for payload in pongs]))

    def connection_lost(self) -> None:
        """The transport is gone."""
        self._ending = Ending.LOST
        if not self._transport.is_shared:
            self._transport_lost()
        self.context.stats.websockets -= 1
        self._opening.lost()
        self._session.disconnected(CloseCode.ABNORMAL)
        self._let_write()
        self._inbox.wake()
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        """The drain waits for the application too: it may still be tidying up."""
        has_left = self._ending is Ending.LOST and (self._task is None or self._task.done())
        if has_left and self in self.context.connections:
            self._unregister()
            self._opening.ended()

    def pause_writing(self) -> None:
        """The peer does not read fast enough."""
        self._wake()
        self._writable = asyncio.Event()
        self._watch.writing_paused(self.context.loop.time(), self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The peer caught up."""
        self._let_write()
        self._heard = True  # it reads, so it lives
        if self._pongs:
            self._write_pongs()

    def _let_write(self) -> None:
        self._watch.writing_resumed(self.context.loop.time())
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # Endings.

    def _close(self, code: int, reason: str = "") -> None:
        """Close for the server's reasons; the application learns the same code."""
        self._session.disconnected(code, reason)
        self._begin_close(code, reason)

    def _begin_close(self, code: int, reason: str) -> None:
        """Send the first close frame, and give the peer its time to answer."""
        if not self._close_sent and self._engine is not None:
            self._write_pongs()
            self._close_sent = True
            self._write(self._engine.close(code, reason))
            self._expect_close()
            if self.holds and self._ending is _NOT_ENDING:
                self._pump()
        self._inbox.wake()

    def _hang_up(self) -> None:
        """End our side, and read on: closing at once could reset the connection under our last bytes."""
        self._stop_reading()
        self._expect_close()
        self._let_off()
        self._transport.write_eof()
        self._inbox.wake()

    def _stop_reading(self) -> None:
        """From now on what the peer sends is dropped."""
        if self._ending is _NOT_ENDING:
            self._ending = Ending.LINGERING

    def _abort(self) -> None:
        self._session.disconnected(CloseCode.ABNORMAL)
        self._transport.abort()
        self._inbox.wake()

    def _wake(self) -> None:
        if self.rests_until:
            self.context.sweeps.wake(self)

    def _expect_close(self) -> None:
        """The connection is to end soon: by the peer, or once what is written has left."""
        self._wake()
        self._watch.close_expected(self.context.loop.time())

    def sweep(self, now: float) -> float:
        is_open = self._session.state is State.OPEN
        # While reading is paused nothing can be heard, and that is not the peer's fault.
        was_heard = self._heard or self.holds > 0
        self._heard = self._heard and not is_open
        match self._watch.judge(
            now, self._transport.get_write_buffer_size(), was_heard=was_heard, is_open=is_open
        ):
            case Action.ABORT:
                self._abort()
            case Action.CLOSE:
                self._close(CloseCode.INTERNAL_ERROR, "no pong in time")
            case Action.PING:
                assert self._engine is not None
                self._write(self._engine.ping(b""))
            case Action.NOTHING:
                pass
        return self._watch.due if is_open and not self.holds else 0.0

    def drain(self, transfer: TransferConnection | None = None) -> None:  # noqa: ARG002 -- a WebSocket cannot move
        """A handshake that is not answered yet is closed right after it was."""
        if self._session.state is State.OPEN:
            self._close(CloseCode.SERVICE_RESTART, "service restart")

    def cancel(self) -> None:
        self._cancelled = True
        if self._task is None or self._task.done():
            self._abort()
        else:
            self._task.cancel()

    def signal_disconnect(self) -> None:
        """A peer that got 1012 knows enough."""
