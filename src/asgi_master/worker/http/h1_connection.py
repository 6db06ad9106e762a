"""One HTTP/1 connection: bytes between a transport, the parser and the running request, whose stream it is.

Requests are served one at a time and in order; what a peer sends ahead waits in the parser, and beyond a bound in the
kernel. What is around requests, from time-outs to the hand-over to another worker, is `h1_lifecycle`.
"""

import logging
from http import HTTPStatus
from typing import Final

from asgi_master.asgi.http_exchange import ResponseChunk, State
from asgi_master.asgi.http_extensions import PATHSEND, ZEROCOPYSEND
from asgi_master.http.errors import ProtocolError
from asgi_master.http.h1.parser import END_OF_MESSAGE, NEED_DATA
from asgi_master.http.h1.request_head import H1Request
from asgi_master.http.h1.upgrade import is_websocket_upgrade
from asgi_master.http.h2.engine import PREFACE
from asgi_master.http.message import Fields
from asgi_master.worker.diagnostics.current_request import bind_context
from asgi_master.worker.http.h1_files import H1FileSender
from asgi_master.worker.http.h1_lifecycle import H1Lifecycle
from asgi_master.worker.http.h1_upgrade import H1Upgrade
from asgi_master.worker.http.h1_writer import H1Writer
from asgi_master.worker.http.h2_connection import H2Connection
from asgi_master.worker.http.request_task import RequestTask
from asgi_master.worker.http.running_request import RunningRequest
from asgi_master.worker.transport.connection_state import NEW, ConnectionState
from asgi_master.worker.transport.context import Ending, Leaving, WorkerContext
from asgi_master.worker.transport.stream_transport import StreamTransport
from asgi_master.worker.transport.turns import AHEAD, FREE
from asgi_master.worker.websocket.connection import WebSocketConnection

log = logging.getLogger("asgi_master")

_READ_AHEAD = 64 * 1024
"""Bytes of body, or of requests sent ahead, that may wait here before reading pauses."""
_DISCARD_LIMIT = 256 * 1024
"""Bytes of a body that the application did not read, which are taken in to save the connection."""


# Module constants are looked up faster than members.
_OPEN, _LOST = Ending.OPEN, Ending.LOST
_NO, _MOVE = Leaving.NO, Leaving.MOVE
_COMPLETE = State.COMPLETE
_EXTENSIONS: Final = {True: (PATHSEND, ZEROCOPYSEND), False: (PATHSEND,)}
"""Of ASGI, by whether the kernel can send a file: what would be copied is not offered as zero-copy."""
_P = PREFACE[0]


class H1Connection(H1Lifecycle):
    """The protocol of an accepted connection until it closes, is given away or becomes a WebSocket."""

    __slots__ = (
        "__weakref__",
        "_advance_scheduled",
        "_advancing",
        "_continue_sent",
        "_discarded",
        "_has_more",
        "_is_last",
        "_scopes",
        "_speaks_only_http_1",
        "access_log",
    )

    def __init__(self, context: WorkerContext, state: ConnectionState = NEW) -> None:
        """`state` is that of the connection in another worker, if it comes from there."""
        H1Lifecycle.__init__(self, context, state)
        self.access_log = None if context.access_log is None else context.access_log.of_connection()
        bind_context(self)
        self._advancing = False
        self._advance_scheduled = False
        self._is_last = False  # whether the connection ends with the current response in any case
        self._continue_sent = False  # whether `100 Continue` was sent for the current request
        self._discarded = 0  # bytes of the current body that the application did not read
        self._has_more = False  # whether something of the next request came with the last

    # -- called by the transport -------------------------------------------------------------------

    def connection_made(self, transport: StreamTransport) -> None:
        """The connection was accepted, or taken over."""
        self._transport = transport
        self.writer = self.flow = H1Writer(self.context, transport)
        ends = self._given_endpoints or transport.endpoints
        self._scopes = self.context.scopes(ends, transport.tls, _EXTENSIONS[transport.sends_files])
        # Over TLS the handshake has agreed on it (RFC 9113 §3.2). One that was used before goes on as it began.
        self._speaks_only_http_1 = self.context.http2 is None or transport.tls is not None or self._served > 0
        self._register()

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self.rests_until:
            self.context.sweeps.wake(self)
        if self._ending is not _OPEN:
            return
        if not self._received and (data[0] == _P or self._undecided):
            data = self._first_bytes(data)
            if not data:
                return
        self._received += len(data)
        self._parser.receive_data(data)
        self._advance()

    def _first_bytes(self, data: bytes) -> bytes:
        """What to give to the parser of the first bytes: none if they begin HTTP/2, or may do so (RFC 9113 §3.3)."""
        data = self._undecided + data
        if not PREFACE.startswith(data[: len(PREFACE)]) or self._speaks_only_http_1:
            self._undecided = b""
            return data
        if len(data) < len(PREFACE):
            self._undecided = data
            return b""
        self._become_http_2(data)
        return b""

    def _become_http_2(self, data: bytes) -> None:
        """Leave the connection to another protocol, which begins with these bytes."""
        transport = self._transport
        self._abandon()
        self._unregister()
        following = H2Connection(self.context, ConnectionState(self._given_endpoints))
        transport.set_protocol(following)
        following.connection_made(transport)
        following.data_received(data)

    def eof_received(self) -> bool:
        """The peer sends no more. It may be gone, or wait for the rest of its responses: both are served."""
        self._eof = True
        self.writer.flush()  # what is left when the transport closes is lost
        current = self._current
        if self._ending is not _OPEN:
            return False
        if current is None:
            # What it asked for ahead waits until it reads, or for its turn, or for the one that comes.
            waits = self.writer.is_paused or self._is_queued or self._advance_scheduled
            return waits and self._parser.buffered > 0
        if current.is_complete:
            return False
        current.peer_half_closed()
        current.wake()
        return True

    def pause_writing(self) -> None:
        """The peer reads more slowly than the application writes."""
        self.writer.pause()

    def resume_writing(self) -> None:
        """The peer caught up."""
        self.writer.resume()
        if self._current is None and (self._parser.buffered or self._eof or self.holds):
            self.advance_soon()

    # -- called by the running request -------------------------------------------------------------

    def body_wanted(self, current: RunningRequest) -> None:
        """Send `100 Continue` to a peer that waits for it (RFC 9110 §10.1.1)."""
        if (
            current is self._current
            and current.request.expect_continue
            and not (self._continue_sent or self._ending is not _OPEN or current.head or current.body_ended)
        ):
            self._continue_sent = True
            self.writer.write_interim(HTTPStatus.CONTINUE)

    def send_chunk(self, current: RunningRequest, part: ResponseChunk) -> None:
        head, body, is_last, length = part
        if head is None:
            self.writer.write_next(body, is_last)
        else:
            is_1_1 = current.request.http_version == "1.1"
            # The usual case in place, as a call would cost each request (ADR 20).
            goes_on = (
                current.body_ended
                and self._leaving is _NO
                and not (self._is_last or self._eof or self.context.draining)
            ) or self._may_go_on(current, is_last)
            self.writer.write_first(head, body, is_last, length, current.bodyless, is_1_1, goes_on)
        if is_last:
            self._served += 1
            if not self.writer.encoder.keep_alive:
                self._close_after(current)
                return
            self._has_more = True
            if current.body_ended:
                self._current = None
                self._has_more = self._parser.start_next_cycle()
            if self._leaving is _MOVE:
                self._loop.call_soon(self._hand_over_if_idle, context=self._transport.context)
            if not self._advancing and (self._has_more or self._eof or self.holds):
                self.advance_soon()

    def send_trailers(self, current: RunningRequest, fields: Fields) -> None:
        self.writer.write_trailers(fields)
        self.send_chunk(current, (None, b"", True, None))

    def send_interim(self, current: RunningRequest, status: int, fields: Fields) -> None:  # noqa: ARG002 -- it comes first
        self.writer.write_interim(status, fields)

    @property
    def file_sender(self) -> H1FileSender | None:
        if not self._transport.sends_files:
            return None
        return H1FileSender(self, self.writer, self._transport)

    def take_back_head(self) -> bool:
        return self.writer.take_back_head()

    def reset(self) -> None:
        self._transport.abort()

    def application_returned(self, current: RunningRequest) -> None:
        self._running.discard(current)
        if self._ending is _OPEN:
            if current.state is not _COMPLETE:
                self._close()  # it saw that the peer is gone and left it at that
        elif self._ending is _LOST:
            self._leave_when_done()
            return
        if self.is_cancelled and not self._running:
            self._transport.abort()

    def advance_soon(self) -> None:
        """Go on with what has arrived, from the loop and outside the application's context."""
        if not self._advance_scheduled:
            self._advance_scheduled = True
            self._loop.call_soon(self._advance_scheduled_now, context=self._transport.context)

    # -- requests ----------------------------------------------------------------------------------

    def _advance_scheduled_now(self) -> None:
        self._advance_scheduled = False
        if self._ending is _OPEN:
            self._advance()

    def _go_on(self) -> None:
        if self._ending is _OPEN:
            self._advance()

    def _advance(self) -> None:
        """Take out of the parser what can be used now, as far as this turn of the loop allows."""
        # While the application runs inside `_begin`, the loop below goes on when it waits or returns.
        if self._advancing or self._is_queued:
            return
        self._advancing = True
        was_busy = self._current is not None
        events, until = 0, 0.0
        try:
            while self._ending is _OPEN:
                current = self._current
                if current is not None:
                    if current.body_ended or not self._take_body(current):
                        break
                else:
                    if self.writer.is_paused:
                        break  # who does not read is not asked what else it wants
                    backlog = self.context.backlog
                    if backlog is not None and backlog.is_full and not self._parser.is_idle:
                        self._queue_up(backlog)
                        break
                    request = self._parser.next_request()
                    if request is None:
                        if self._eof:
                            self._close()
                        break
                    self._begin(request)
                    if self._current is None and not (self._has_more or self._eof):
                        break  # answered at once, and there is no more: to ask the parser would cost each request
                events += 1
                if events > FREE:
                    until = until or self._turns.slice()
                    if self._turns.clock() >= until:
                        self._queue_up()
                        break
        except ProtocolError as error:
            self.refuse(error)
        finally:
            self._advancing = False
        current = self._current
        if (
            self.holds
            or self.writer.is_paused
            # Of what is sent ahead, the bytes that came with the request itself are here already: others are held.
            or (current is not None and (was_busy or current.inbox_size > _READ_AHEAD))
        ):
            self._regulate_reading()

    def _take_body(self, current: RunningRequest) -> bool:
        """Give the request a piece of its body, or what is left of it away; false if there is nothing to do now."""
        if current.inbox_size > _READ_AHEAD:
            return False
        event = self._parser.next_event()
        if event is NEED_DATA:
            return False
        if event is END_OF_MESSAGE:
            current.end_received()
            if current.is_complete:
                self._current = None
                self._parser.start_next_cycle()
                return True
        else:
            assert isinstance(event, bytes)
            if current.is_complete:
                self._discarded += len(event)
                if self._discarded > _DISCARD_LIMIT:
                    self._linger()
            current.body_received(event)
        current.wake()
        return True

    def _begin(self, request: H1Request) -> None:
        if request.upgrade is not None and self._upgrade(request):
            return
        context = self.context
        new_request = context.new_request
        if new_request is None:
            scope = self._scopes.scope(request, context.state.copy())
            current: RunningRequest = RequestTask(self, request, scope)
        else:
            current = new_request(self, request, self._scopes)
        self._current = current
        self._is_last = not request.keep_alive
        if context.max_active_requests and context.stats.in_flight >= context.max_active_requests:
            current.answer(503, "Service Unavailable", (b"retry-after", b"1"))
            return
        if request.body_length != 0:
            self._continue_sent = False
            self._discarded = 0
            # A body that came along is there before the application asks for it.
            body = self._parser.take_complete_body()
            if body is not None:
                current.complete_body_received(body)
            else:
                pieces, until = 0, 0.0
                while not current.body_ended and self._take_body(current):
                    pieces += 1
                    if pieces > FREE:
                        until = until or self._turns.slice()
                        if self._turns.clock() >= until:
                            break  # `_advance` sees to the rest
        self._running.add(current)
        current.start(context.app, self._loop)

    def _upgrade(self, request: H1Request) -> bool:
        """Become a WebSocket, if that is what is asked for; any other upgrade is ignored (RFC 9110 §7.8)."""
        if self.context.new_request is not None:
            return False  # only ASGI has WebSockets
        if request.method != "GET" or request.body_length != 0 or not is_websocket_upgrade(request):
            return False
        transport = self._transport
        self.writer.flush()
        self._let_off()
        self._abandon()
        upgrade = H1Upgrade(self.context, transport, request)
        websocket = WebSocketConnection(
            self.context, transport, request, self._parser.trailing_data(), self._scopes, upgrade
        )
        transport.set_protocol(websocket)
        if self.writer.is_paused:
            websocket.pause_writing()
        if not self._running:
            self._unregister()
        websocket.start()
        return True

    def _regulate_reading(self) -> None:
        """Leave in the kernel what cannot be used yet."""
        current = self._current
        if self._ending is not _OPEN or (current is None and not self.writer.is_paused):
            waiting = 0
        elif current is None or current.body_ended:
            waiting = self._parser.buffered
        else:
            waiting = current.inbox_size
        if waiting > _READ_AHEAD:
            self._hold(AHEAD)
        else:
            self._release(AHEAD)

    def refuse_queued(self, error: ProtocolError) -> None:
        """Answer a request that waits in a backlog with an error, if the connection is still there."""
        if self._is_queued and self._ending is _OPEN:
            self.refuse(error)

    # -- responses ---------------------------------------------------------------------------------

    def _may_go_on(self, current: RunningRequest, is_all: bool) -> bool:
        """Whether the connection can serve another request after this response; `is_all`: it is complete already."""
        # One that is given away needs no end; else the drain closes the connection after this response.
        leaving = self._leaving
        is_leaving = self.context.draining if leaving is _NO else leaving is not _MOVE
        if is_leaving or self._is_last:
            return False
        if self._eof and not self._parser.buffered:
            return False
        if current.body_ended:
            return True
        if current.request.expect_continue and not self._continue_sent:
            return False  # the peer alone knows whether it will send its body now
        remaining = self._parser.body_remaining
        return not is_all or remaining is None or remaining <= _DISCARD_LIMIT

    def refuse(self, error: ProtocolError) -> None:
        """Answer a peer that broke the protocol, a limit or a time-out, and close."""
        log.debug("refused a request: %s", error)
        current = self._current
        if current is None:
            if (access_log := self.context.access_log) is not None:
                access_log.refused(
                    self._scopes.client, self._parser.first_line, error.status, len(error.reason)
                )
            self.writer.write_refusal(error)
            self._linger()
        elif current.is_complete:
            self._linger()
        elif current.head is not None:
            self._transport.abort()
        else:
            self._is_last = True
            current.answer(error.status, error.reason)
            current.peer_disconnected()
            current.wake()
