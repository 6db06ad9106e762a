"""One stream of an HTTP/2 connection: the request that runs on it, and its share of the connection's flow.

It is a `Stream` to the running request, and an `EngineStream` to the engine.
"""

from typing import Final, Protocol

from asgi_master.asgi.http_exchange import ResponseChunk, State
from asgi_master.asgi.scope import HttpScopes
from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.engine import HIGH_WATER, Engine, EngineStream, H2Request
from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.message import PLAIN_TEXT, Fields, ResponseHead
from asgi_master.worker.diagnostics.current_request import bind_context
from asgi_master.worker.http.h2_websocket import StreamTunnel, tunnel_websocket
from asgi_master.worker.http.request_task import RequestTask
from asgi_master.worker.http.running_request import RunningRequest
from asgi_master.worker.http.timeouts import DeadlineTimer, Wait
from asgi_master.worker.transport.context import ConnectionLog, WorkerContext
from asgi_master.worker.transport.flow_control import WriteFlow
from asgi_master.worker.transport.stream_transport import StreamTransport
from asgi_master.worker.transport.turns import CREDIT

_COMPLETE = State.COMPLETE
_UNREAD: Final = 1
"""Of `H2Stream.holds`: something of the body waits for the application."""
_UNYIELDING: Final = 128
"""Pieces of a response that one turn of the loop writes."""


class StreamOwner(Protocol):
    """The connection of streams."""

    context: WorkerContext
    engine: Engine
    transport: StreamTransport
    scopes: HttpScopes
    access_log: ConnectionLog | None
    starting: "list[H2Stream]"
    """Streams whose application is called once what came with their heads was read."""

    def stream_finished(self, stream: "H2Stream") -> None:
        """The application of a stream has returned."""

    async def rest(self) -> None:
        """See `Stream.rest`."""


class H2Stream(EngineStream):
    """From the head of a request until its application has returned and both sides have ended."""

    __slots__ = (
        "__weakref__",
        "_continue_sent",
        "_flow",
        "_pieces",
        "_received",
        "_timer",
        "_tunnel",
        "_unread",
        "access_log",
        "connection",
        "context",
        "credit",
        "current",
        "holds",
        "is_cancelled",
    )

    def __init__(self, connection: StreamOwner) -> None:
        self.connection = connection
        self.context: WorkerContext = connection.context
        self.access_log: ConnectionLog | None = connection.access_log
        self.current: RunningRequest | None = None
        self.is_cancelled = False
        self.holds = 0
        self.credit = CREDIT
        self._flow: WriteFlow | None = None  # most responses are over before anything is waited for
        self._pieces = 0
        self._received = 0
        self._unread = 0  # bytes of the body that the application did not take
        self._continue_sent = False
        self._timer: DeadlineTimer | None = None
        self._tunnel: StreamTunnel | None = None  # of a WebSocket, which has no request task

    # -- called by the engine ----------------------------------------------------------------------

    def request_received(self, request: H2Request, ends: bool) -> None:
        connection, context = self.connection, self.context
        if request.protocol is not None:
            if context.new_request is not None:
                self.refused(ProtocolError(501, "extended CONNECT is not served here"))
                return
            bind_context(self)
            self._tunnel, websocket = tunnel_websocket(
                context,
                self,
                connection.engine,
                connection.transport,
                request,
                connection.scopes,
                self._tunnel_ended,
            )
            websocket.start()
            return
        new_request = context.new_request
        if new_request is None:
            scope = connection.scopes.scope(request, context.state.copy())
            current: RunningRequest = RequestTask(self, request, scope)
        else:
            current = new_request(self, request, connection.scopes)
        self.current = current
        current.body_ended = ends
        if context.max_active_requests and context.stats.in_flight >= context.max_active_requests:
            current.answer(503, "Service Unavailable", (b"retry-after", b"1"))
            self.current = None
            connection.engine.finished(self)
            return
        if ends:
            self.start()
        else:
            connection.starting.append(
                self
            )  # what of the body came along is there before the application asks

    def start(self) -> None:
        """Call the application, unless the stream is over already. Called in the connection's context."""
        current = self.current
        assert current is not None
        if current.disconnected:
            self._drop_unread()
            self.current = None
            self.connection.stream_finished(self)
            return
        bind_context(self)
        current.start(self.context.app, self.context.loop)

    def data_received(self, data: bytes, ends: bool) -> None:
        current = self.current
        size = len(data)
        self._received += size
        if current is None:
            if self._tunnel is not None:
                self._tunnel.data_received(data, ends)
            elif size:
                self.connection.engine.consumed(self, size)
            return
        if current.state is _COMPLETE or current.disconnected:
            if size:
                self.connection.engine.consumed(self, size)
        elif size:
            self._unread += size
            self.holds = _UNREAD
            current.body_received(data)
        if ends:
            current.end_received()
        if current.receivers:
            current.wake()

    def refused(self, error: ProtocolError) -> None:
        connection, current = self.connection, self.current
        if current is not None:
            self.refuse(error)
            return
        body = error.reason.encode()
        head = ResponseHead(error.status, [PLAIN_TEXT])
        self.context.stats.responses[head.status_class] += 1
        if (access_log := self.context.access_log) is not None:
            access_log.refused(connection.scopes.client, b"", error.status, len(body))
        engine = connection.engine
        engine.send_head(self, head, body, True, len(body))
        engine.reset(self, ErrorCode.NO_ERROR)
        engine.finished(self)

    def closed(self, code: ErrorCode) -> None:  # noqa: ARG002 -- why is the peer's affair
        self.disconnect()

    def resumed(self) -> None:
        if self._flow is not None:
            self._flow.resume()
        elif self._tunnel is not None:
            self._tunnel.resumed()

    # -- called by the running request -------------------------------------------------------------

    @property
    def flow(self) -> WriteFlow:
        if self._flow is None:
            self._flow = WriteFlow(self.context.loop)
            self._regulate_writing()
        return self._flow

    def body_wanted(self, current: RunningRequest) -> None:
        if (
            not self._continue_sent
            and current.request.expect_continue
            and not (self._received or current.body_ended)
        ):
            self._continue_sent = True
            self.context.stats.responses[1] += 1
            self.connection.engine.send_interim(self, 100, ())

    def send_interim(self, current: RunningRequest, status: int, fields: Fields) -> None:  # noqa: ARG002
        self.context.stats.responses[1] += 1
        self.connection.engine.send_interim(self, status, fields)

    def advance_soon(self) -> None:
        """The application took what had arrived: as much may come again."""
        current = self.current
        assert current is not None
        unread = current.inbox_size
        taken = self._unread - unread
        self._unread = unread
        if not unread:
            self.holds = 0
        if taken:
            self.connection.engine.consumed(self, taken)

    def send_chunk(self, current: RunningRequest, part: ResponseChunk) -> None:
        head, body, is_last, length = part
        engine = self.connection.engine
        if head is not None:
            engine.send_head(self, head, body, is_last, None if current.bodyless and not length else length)
        elif body or is_last:
            engine.send_data(self, body, is_last)
        if is_last:
            self.context.write_batch.held += 1
            if not current.body_ended:
                self._end_request()
        else:
            self._pieces += 1
            if self._flow is not None:
                self._regulate_writing()

    def send_trailers(self, current: RunningRequest, fields: Fields) -> None:
        self.connection.engine.send_trailers(self, fields)
        if not current.body_ended:
            self._end_request()

    @property
    def file_sender(self) -> None:
        """Files are read: DATA frames have their bytes in their midst."""

    def take_back_head(self) -> bool:
        return self.connection.engine.take_back_head(self)

    def refuse(self, error: ProtocolError) -> None:
        current = self.current
        assert current is not None
        if current.state is _COMPLETE:
            self._end_request()
        elif current.head is not None:
            self.reset()
        else:
            current.answer(error.status, error.reason)
            current.peer_disconnected()
            current.wake()

    def reset(self) -> None:
        self.connection.engine.reset(self, ErrorCode.INTERNAL_ERROR)
        self.disconnect()

    def application_returned(self, current: RunningRequest) -> None:
        if current.state is not _COMPLETE:
            # It saw that the peer is gone and left it at that.
            self.connection.engine.reset(self, ErrorCode.CANCEL)
        self._drop_unread()
        self.current = None  # each has the other
        self.connection.stream_finished(self)

    async def rest(self) -> None:
        await self.connection.rest()
        self.credit = CREDIT

    def subject(self) -> str:
        """What is served, for a log. May be asked by another thread."""
        current = self.current
        return "" if current is None else current.title

    # -- called by the connection ------------------------------------------------------------------

    def disconnect(self) -> None:
        """The stream is over: nothing of a response can reach the peer."""
        current = self.current
        if current is not None:
            if current.state is not _COMPLETE:
                current.peer_disconnected()
            current.wake()
        if self._flow is not None:
            self._flow.resume()
        elif self._tunnel is not None:
            self._tunnel.closed()

    def _tunnel_ended(self) -> None:
        """Both the application and the transport of a WebSocket have ended."""
        self._tunnel = None
        self.connection.stream_finished(self)

    def peer_half_closed(self) -> None:
        """Nothing more comes on the connection; the response may still be read."""
        current = self.current
        if self._tunnel is not None:
            self._tunnel.data_received(b"", True)
        elif current is not None and current.state is not _COMPLETE:
            current.peer_half_closed()
            current.wake()

    def signal_disconnect(self) -> None:
        """Signal a disconnect to an application that still streams."""
        current = self.current
        if current is not None and current.head is not None and current.state is not _COMPLETE:
            current.peer_half_closed()
            current.wake()

    @property
    def is_running(self) -> bool:
        """Whether an application runs on it."""
        return self.current is not None or self._tunnel is not None

    @property
    def is_answered(self) -> bool:
        """Whether all of the response is framed. The application may still run."""
        current = self.current
        return self._tunnel is None and not self.unsent and (current is None or current.state is _COMPLETE)

    def cancel(self) -> None:
        """Cancel the application, since the worker ends."""
        self.is_cancelled = True
        if self.current is not None:
            self.current.cancel()

    def sweep(self, now: float, *, is_held_up: bool, has_final_window: bool) -> None:
        """Enforce the time-outs that have run out at loop time `now`.

        `has_final_window` is whether the peer has ended its side: a window that is used up then is never opened.
        """
        has_stalled = self.unsent > 0 and self.connection.engine.has_stalled(self)
        if has_stalled:
            timer = self._timer
            if timer is None:
                timer = self._timer = DeadlineTimer(self.context.http)
            if timer.is_over(Wait.WRITE, self.unsent, now=now) or has_final_window:
                self.connection.engine.reset(self, ErrorCode.CANCEL)
                self.disconnect()
        else:
            self._timer = None
        current = self.current
        if current is not None:
            current.notice_end()
            current.sweep(now, self._received, is_held_up=is_held_up or has_stalled)

    # -- inside ------------------------------------------------------------------------------------

    def _regulate_writing(self) -> None:
        flow = self._flow
        assert flow is not None
        if self.unsent > HIGH_WATER:
            flow.pause()
        elif self._pieces % _UNYIELDING == 0:
            flow.waits = True  # who writes little pieces may do so for ever

    def _end_request(self) -> None:
        """The response is complete: the peer need not send the rest of its request (RFC 9113 §8.1)."""
        self.connection.engine.reset(self, ErrorCode.NO_ERROR)
        self._drop_unread()

    def _drop_unread(self) -> None:
        self.holds = 0
        unread, self._unread = self._unread, 0
        if unread:
            self.connection.engine.consumed(self, unread)
