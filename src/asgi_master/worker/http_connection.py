"""One HTTP/1.1 connection: bytes between a transport, the parser and the running request.

Requests are served one at a time and in order; what a peer sends ahead waits in the parser, and beyond a bound in the
kernel. All time-outs are enforced by `sweep`, so a request costs no timer.
"""

import asyncio
import contextvars
import logging
from time import monotonic
from typing import cast

from asgi_master.asgi.http_exchange import Part, State
from asgi_master.http.errors import ProtocolError
from asgi_master.http.parser import END_OF_MESSAGE, NEED_DATA
from asgi_master.http.request import Request
from asgi_master.http.response import ResponseHead
from asgi_master.ipc.counters import SHORT
from asgi_master.worker.context import ConnectionLog, GiveAway, WorkerContext
from asgi_master.worker.endpoints import Endpoints, scopes_of
from asgi_master.worker.http_request import HttpRequest
from asgi_master.worker.http_timeouts import BodyRate, Patience, Wait
from asgi_master.worker.http_writer import PLAIN_TEXT, HttpWriter
from asgi_master.worker.standing import FRESH, Standing
from asgi_master.worker.stream_socket import has_unread_bytes, move
from asgi_master.worker.subject import mark
from asgi_master.worker.tls import tls_extension
from asgi_master.worker.turns import AHEAD, FREE, LARGE, TakesTurns
from asgi_master.worker.websocket_connection import WebSocketConnection

log = logging.getLogger("asgi_master")

_COMPLETE = State.COMPLETE

_CLIENT_CLOSED_REQUEST = 499
"""What the access log says of a request whose client left before the response began; nginx' number."""

_READ_AHEAD = 64 * 1024
"""Bytes of body, or of requests sent ahead, that may wait here before reading pauses."""
_DISCARD_LIMIT = 256 * 1024
"""Bytes of a body that nobody read, which are taken in to save the connection."""


class HttpConnection(TakesTurns, asyncio.Protocol):
    """The protocol of an accepted connection until it closes, is given away or becomes a WebSocket."""

    closes_gradually = False

    __slots__ = (
        "__weakref__",
        "_access_log",
        "_advance_scheduled",
        "_advancing",
        "_body_rate",
        "_clean_context",
        "_closing",
        "_continued",
        "_current",
        "_discarded",
        "_draining",
        "_eof",
        "_give_away",
        "_has_more",
        "_is_plaintext",
        "_is_staying",
        "_lingering",
        "_loop",
        "_lost",
        "_parser",
        "_patience",
        "_received",
        "_response_patience",
        "_running",
        "_scopes",
        "_served",
        "_taken",
        "_told_ends",
        "context",
        "flow",
        "is_cancelled",
        "writer",
    )

    def __init__(self, context: WorkerContext, standing: Standing = FRESH) -> None:
        """`standing` is what it was in another worker, if it was."""
        super().__init__(context.turns)
        self.context = context
        self._told_ends = standing.ends
        self.is_cancelled = False
        self._loop = context.loop
        self._access_log = None if context.access_log is None else context.access_log.of_connection()
        self._parser = context.engines.parser(context.http)
        self._patience = Patience(context.http)
        self._body_rate: BodyRate | None = None  # once there is a body that does not come at once
        self._response_patience = Patience(context.http) if context.http.request_timeout else None
        mark(self)
        self._clean_context = contextvars.copy_context()
        self._current: HttpRequest | None = None  # whose response, or whose body, is not complete
        self._running: set[HttpRequest] = set()  # whose application has not returned
        self._advancing = False
        self._advance_scheduled = False
        self._continued = False  # whether `100 Continue` was sent for the current request
        self._discarded = 0
        self._eof = False
        self._has_more = False  # whether something of the next request came with the last
        self._closing = False  # what still arrives is of no interest
        self._lingering = False
        self._lost = False
        self._draining = False
        self._give_away: GiveAway | None = None
        self._is_staying = False  # cannot move, and is told of the end when it asks again
        self._received = 0
        self._served = standing.served
        if standing.idle_since is not None:
            self._patience.resume(*self._idling(), standing.idle_since, now=self._loop.time())
        self._taken = 0  # bytes that were written and sent, as far as the sweep saw

    # -- called by the loop ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection was accepted, or taken over."""
        self._transport = cast("asyncio.Transport", transport)
        self.writer = self.flow = HttpWriter(self.context, self._transport)
        self._is_plaintext = transport.get_extra_info("sslcontext") is None
        ends = self._told_ends or Endpoints.of(transport)
        self._scopes = scopes_of(self.context, ends, tls_extension(transport))
        self.context.connections.add(self)
        self.context.stats.connections += 1

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._closing:
            if len(data) >= LARGE:
                self._queue_up()
            return
        self._received += len(data)
        self._parser.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """The peer sends no more. It may be gone, or wait for the rest of its responses: both are served."""
        self._eof = True
        self.writer.flush()  # after this, what is left unsent over TLS is lost
        current = self._current
        if self._closing or not self._is_plaintext:
            return False  # a peer that ended TLS gets no more, whatever is said here
        if current is None:
            # What it asked for ahead waits until it reads, or for its turn.
            return (self.writer.is_paused or self._is_queued) and self._parser.buffered > 0
        if current.is_complete:
            return False
        current.peer_stopped()
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

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the loop gives it
        """The transport is closed."""
        self._abandon()
        self._leave_when_done()

    # -- called by the running request -------------------------------------------------------------

    def body_wanted(self, current: HttpRequest) -> None:
        """The application waits for a body: tell a peer that waits for us (RFC 9110 §10.1.1)."""
        if (
            current is self._current
            and current.request.expect_continue
            and not (self._continued or self._closing or current.status or current.body_ended)
        ):
            self._continued = True
            self.writer.write_continue()

    def send_part(self, current: HttpRequest, part: Part) -> None:
        """Write a part of the current response."""
        head, body, is_last, length = part
        if head is None:
            self.writer.write_next(body, is_last)
        else:
            current.status = head.status
            current.response_fields = head.block
            is_1_1 = current.request.http_version == "1.1"
            goes_on = self._may_go_on(current, is_last)
            self.writer.write_first(head, body, is_last, length, current.bodyless, is_1_1, goes_on)
        current.body_bytes += len(body)
        if is_last:
            self._response_complete(current)
        elif head is not None and head.content_length is None:
            current.is_stream = True

    def answer_failure(self, current: HttpRequest) -> None:
        """The application failed: 500 if nothing has left, else the connection breaks, so that the peer can tell."""
        if current.disconnected or current.is_complete:
            return
        if current.status and not current.body_bytes and self.writer.take_back_head():
            self.context.stats.responses[min(current.status // 100, 5)] -= 1
            current.status = 0
            current.is_stream = False
        if current.status == 0:
            self._answer(current, 500, "Internal Server Error")
        else:
            is_excused = current.peer_is_gone or self.is_cancelled
            self.context.stats.late_errors += current.status < 500 and not is_excused
            self._transport.abort()

    def application_returned(self, current: HttpRequest) -> None:
        """The application has come to its end."""
        self.context.stats.in_flight -= 1
        self._running.discard(current)
        if current.state is not _COMPLETE:
            if self._access_log is not None:
                status, duration = current.status or _CLIENT_CLOSED_REQUEST, monotonic() - current.started_at
                self._record(self._access_log, current, status, duration)
            if not self._closing:
                self._close()  # it saw that the peer is gone and left it at that
        if self._lost:
            self._leave_when_done()
        elif self.is_cancelled and not self._running:
            self._transport.abort()

    def advance_soon(self) -> None:
        """Go on with what has arrived, from the loop and outside the application's context."""
        if not self._advance_scheduled:
            self._advance_scheduled = True
            self._loop.call_soon(self._advance_scheduled_now, context=self._clean_context)

    # -- called by the worker ----------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """See `Connection.sweep`. A time-out is at most one sweep late."""
        for running in list(self._running):
            running.notice_end()
        wait, progress = self._waiting()
        stays = self._give_away is not None or self._is_staying
        draining = not stays and (self._draining or self.context.draining)
        if self._patience.is_over(wait, progress, now=now, draining=draining):
            self._time_out(wait)
        elif self.context.http.body_min_rate:
            self._sweep_body(now)
        if self._response_patience is not None:
            self._sweep_response(self._response_patience, now)

    def drain(self, give_away: GiveAway | None = None) -> None:
        """See `Connection.drain`."""
        was_told = self._draining and not self._is_staying
        self._draining = True
        self._give_away = give_away if self._is_plaintext else None
        # While others take over, nobody has to hurry. One that asks again is told to come back to them.
        self._is_staying = give_away is not None and not self._is_plaintext
        if self._give_away is not None:
            self._hand_over_if_idle()
        elif self._is_staying:
            return
        elif not was_told and self._served and self.is_idle() and not has_unread_bytes(self._transport):
            self._close()
        # Others may have a request on its way: a fresh connection its first, and one whose last response began before
        # the drain has not been told of it. The sweep ends those that have not.

    def hurry(self) -> None:
        """See `Connection.hurry`."""
        self._give_away = None
        current = self._current
        if current is not None and current.status and not current.is_complete:
            current.peer_stopped()
            current.wake()

    def cancel(self) -> None:
        """See `Connection.cancel`."""
        self.is_cancelled = True
        if not self._running and not self._lost:
            self._transport.abort()
        for running in list(self._running):
            running.cancel()

    def is_idle(self) -> bool:
        """Whether no request is in flight and no unparsed byte is buffered."""
        return (
            self._current is None
            and not (self._lost or self._closing)
            and not self._transport.is_closing()
            and self._parser.is_idle
            and not self._is_queued
        )

    def subject(self) -> str:
        """What is being served, for a log. May be asked by another thread."""
        served = [request for request in (self._current, *tuple(self._running)) if request is not None]
        return served[0].title if served else ""

    def hand_over(self, give_away: GiveAway) -> bool:
        """Give an idle plaintext connection away; false if it cannot move, or nobody takes it.

        Nothing is shut down and unread bytes stay in the kernel; this object leaves the worker's connections.
        """
        transport = self._transport
        self.writer.flush()
        if not self.is_idle() or not self._is_plaintext or self._eof or transport.get_write_buffer_size():
            return False
        standing = Standing(
            ends=self._told_ends,
            served=self._served,
            idle_since=self._patience.since(*self._idling(), now=self._loop.time()),
        )
        if not move(transport, give_away, standing):
            return False
        self._abandon()
        self._leave_when_done()
        return True

    def _hand_over_if_idle(self) -> None:
        if self._give_away is not None and self.is_idle():
            self.hand_over(self._give_away)

    # -- requests ----------------------------------------------------------------------------------

    def _advance_scheduled_now(self) -> None:
        self._advance_scheduled = False
        if not self._closing:
            self._advance()

    def _go_on(self) -> None:
        if self._closing:
            self._turns.set_aside()  # for what is read next, and dropped
        else:
            self._clean_context.run(self._advance)

    def _advance(self) -> None:
        """Take out of the parser what can be used now, as far as this turn of the loop allows."""
        # While the application runs inside `_begin`, the loop below goes on when it waits or returns.
        if self._advancing or self._is_queued:
            return
        self._advancing = True
        was_busy = self._current is not None
        events, until = 0, 0.0
        try:
            while not self._closing:
                current = self._current
                if current is not None:
                    if current.body_ended or not self._take_body(current):
                        break
                else:
                    if self.writer.is_paused:
                        break  # who does not read is not asked what else it wants
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
            self._refuse(error)
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

    def _take_body(self, current: HttpRequest) -> bool:
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

    def _begin(self, request: Request) -> None:
        if request.upgrade is not None and self._upgrade(request):
            return
        context = self.context
        stats = context.stats
        stats.requests += 1
        scope = self._scopes.scope(request, context.state.copy())
        current = self._current = HttpRequest(self, request, scope)
        if context.is_timed:
            current.started_at = monotonic()
        if context.max_active_requests and stats.in_flight >= context.max_active_requests:
            self._answer(current, 503, "Service Unavailable", (b"retry-after", b"1"))
            return
        if request.body_length != 0:
            self._continued = False
            self._discarded = 0
            # A body that came along is there before the application asks for it.
            body = self._parser.whole_body()
            if body is not None:
                current.whole_body_received(body)
            else:
                pieces, until = 0, 0.0
                while not current.body_ended and self._take_body(current):
                    pieces += 1
                    if pieces > FREE:
                        until = until or self._turns.slice()
                        if self._turns.clock() >= until:
                            break  # `_advance` sees to the rest
        stats.in_flight += 1
        self._running.add(current)
        current.start(context.app, self._loop)

    def _upgrade(self, request: Request) -> bool:
        """Become a WebSocket, if that is what is asked for; any other upgrade is ignored (RFC 9110 §7.8)."""
        upgrade = request.upgrade or b""
        if (
            request.method != "GET"
            or request.body_length != 0
            or b"websocket" not in [protocol.strip() for protocol in upgrade.split(b",")]
        ):
            return False
        transport = self._transport
        self.writer.flush()
        self._let_off()
        self._abandon()
        websocket = WebSocketConnection(
            self.context, transport, request, self._parser.trailing_data(), self._scopes
        )
        transport.set_protocol(websocket)
        if self.writer.is_paused:
            websocket.pause_writing()
        if not self._running:
            self.context.connections.discard(self)
        websocket.start()
        return True

    def _regulate_reading(self) -> None:
        """Leave in the kernel what cannot be used yet."""
        current = self._current
        if self._closing or (current is None and not self.writer.is_paused):
            waiting = 0
        elif current is None or current.body_ended:
            waiting = self._parser.buffered
        else:
            waiting = current.inbox_size
        if waiting > _READ_AHEAD:
            self._hold(AHEAD)
        else:
            self._release(AHEAD)

    def _may_read(self) -> bool:
        return not (self._lost or self._eof or self._transport.is_closing())

    # -- responses ---------------------------------------------------------------------------------

    def _may_go_on(self, current: HttpRequest, is_all: bool) -> bool:
        """Whether the connection can serve another request after this response; `is_all`: it is complete already."""
        # One that is given away needs no end; else the drain closes the connection after this response.
        ends = self._give_away is None if self._draining else self.context.draining
        if ends or current.is_last or not current.request.keep_alive:
            return False
        if self._eof and not self._parser.buffered:
            return False
        if current.body_ended:
            return True
        if current.request.expect_continue and not self._continued:
            return False  # the peer alone knows whether it will send its body now
        remaining = self._parser.body_remaining
        return not is_all or remaining is None or remaining <= _DISCARD_LIMIT

    def _response_complete(self, current: HttpRequest) -> None:
        self._served += 1
        context = self.context
        duration = 0.0
        if context.is_timed:
            duration = monotonic() - current.started_at
            stats = context.stats
            if duration > SHORT or current.is_stream:
                stats.response_ended(duration, is_stream=current.is_stream)
            else:
                stats.short_responses += 1
                stats.response_time += duration
        if self._access_log is not None:
            self._record(self._access_log, current, current.status, duration)
        if current.receivers:
            current.wake()
        if not self.writer.keep_alive:
            self._close_after(current)
            return
        self._has_more = True
        if current.body_ended:
            self._current = None
            self._has_more = self._parser.start_next_cycle()
        if self._give_away is not None:
            self._loop.call_soon(self._hand_over_if_idle, context=self._clean_context)
        if not self._advancing and (self._has_more or self._eof or self.holds):
            self.advance_soon()

    @staticmethod
    def _record(access_log: ConnectionLog, current: HttpRequest, status: int, duration: float) -> None:
        access_log.record(
            current.request, current.scope, status, current.body_bytes, duration, current.response_fields
        )

    def _answer(
        self, current: HttpRequest, status: int, text: str, *headers: tuple[bytes, bytes], close: bool = False
    ) -> None:
        """Answer in the place of the application."""
        if close:
            current.is_last = True
        body = text.encode()
        head = ResponseHead(status, [PLAIN_TEXT, *headers])
        self.send_part(current, current.answer_instead(head, body))

    def _refuse(self, error: ProtocolError) -> None:
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
        elif current.status:
            self._transport.abort()
        else:
            self._answer(current, error.status, error.reason, close=True)
            current.peer_left()
            current.wake()

    # -- the end -----------------------------------------------------------------------------------

    def _close_after(self, current: HttpRequest) -> None:
        """Close after the last response, such that the peer gets to read it."""
        if current.body_ended and not self._parser.buffered:
            self._close()
        else:
            self._linger()

    def _close(self) -> None:
        self.writer.flush()
        self._closing = True
        self._current = None
        self._transport.close()

    def _linger(self) -> None:
        """End our side, and for a while drop what arrives: closing over unread bytes resets the connection."""
        transport = self._transport
        if self._eof:
            self._close()
            return
        self.writer.flush()
        self._closing = self._lingering = True
        self._current = None
        if transport.can_write_eof():
            self._end_writing()
        # TLS has no half of an end: the response says that it is the last, and the peer leaves or the time is over.
        self._let_off()

    def _abandon(self) -> None:
        """The transport is no longer ours."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._current = None
        self.context.stats.connections -= 1
        for running in list(self._running):
            if not running.is_complete:
                running.peer_left()
            running.wake()
        self.writer.resume()

    def _leave_when_done(self) -> None:
        if self._lost and not self._running and self in self.context.connections:
            self.context.connections.discard(self)
            if self.context.on_connection_lost is not None:
                self.context.on_connection_lost()

    # -- time --------------------------------------------------------------------------------------

    def _waiting(self) -> tuple[Wait, int]:
        """What is waited for now, and a number that changes whenever it makes progress."""
        if self._lost:
            return Wait.NOTHING, 0
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            # More to send, which some who do not read ask for, is no progress; TLS adds a little to what was written.
            self._taken = max(self._taken, self.writer.passed_on - unsent)
            return Wait.WRITE, self._taken
        if self._lingering:
            return Wait.LINGER, 0
        if self._closing or self._is_queued:
            return Wait.NOTHING, 0  # while its turn has not come, nothing is wanted of the peer
        current = self._current
        if current is not None:
            return (Wait.BODY, self._received) if current.body_is_due else (Wait.NOTHING, 0)
        if not self._parser.is_idle:
            return Wait.HEADER, self._served
        return self._idling()

    def _idling(self) -> tuple[Wait, int]:
        return (Wait.NEXT_REQUEST if self._served else Wait.FIRST_BYTE), self._served

    def _sweep_body(self, now: float) -> None:
        """End a body that comes too slowly, also beside a response that goes on meanwhile."""
        current, rate = self._current, self._body_rate
        if current is None or self._closing or not current.body_is_due:
            if rate is not None:
                rate.interrupt()
            return
        if rate is None:
            rate = self._body_rate = BodyRate(self.context.http)
        if rate.is_too_low(self._served, self._received, now=now):
            self._refuse(ProtocolError(408, "the request body arrives too slowly"))

    def _sweep_response(self, patience: Patience, now: float) -> None:
        """Answer for an application that does not; a response that has begun may take its time."""
        current = self._current
        if current is None or current.status:
            patience.is_over(Wait.NOTHING, 0, now=now, draining=False)
        elif patience.is_over(Wait.RESPONSE, self._served, now=now, draining=False):
            self._answer(current, 504, "Gateway Timeout")
            current.give_up()

    def _time_out(self, wait: Wait) -> None:
        match wait:
            case Wait.WRITE:
                self._transport.abort()
            case Wait.HEADER:
                self._refuse(ProtocolError(408, "the request did not arrive in time"))
            case Wait.BODY:
                self._refuse(ProtocolError(408, "the request body did not arrive in time"))
            case _:
                self._close()
