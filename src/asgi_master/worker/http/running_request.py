"""One running request, whatever interface calls its application: its accounting, its time-outs and its end.

It knows its stream, and nothing of what is below that: bytes, transports and versions of HTTP. `request_task` calls
applications by ASGI, `worker.wsgi` by WSGI.
"""

import asyncio
import logging
from abc import abstractmethod
from time import monotonic
from typing import Any, Protocol

from asgi_master.asgi.errors import ClientDisconnectedError, is_disconnect
from asgi_master.asgi.http_exchange import HttpExchange, ResponseChunk, State
from asgi_master.asgi.http_extensions import FileBody
from asgi_master.asgi.types import Scope
from asgi_master.http.errors import ProtocolError
from asgi_master.http.message import PLAIN_TEXT, Field, Fields, Request, ResponseHead
from asgi_master.ipc.counters import SHORT
from asgi_master.telemetry.failures import describe, exc_info
from asgi_master.telemetry.request_info import request_info
from asgi_master.worker.diagnostics.current_request import RequestOwner
from asgi_master.worker.http.files import PIECE, BodyFile, opened
from asgi_master.worker.http.timeouts import RequestTimeouts
from asgi_master.worker.transport.context import ConnectionLog, WorkerContext
from asgi_master.worker.transport.flow_control import WriteFlow

log = logging.getLogger("asgi_master")

_COMPLETE = State.COMPLETE

_CLIENT_CLOSED_REQUEST = 499
"""The access log's status of a request whose client left before the response began; nginx's number."""


class FileSender(Protocol):
    """What has the kernel send a file, so that its bytes do not pass through here."""

    async def send(self, current: "RunningRequest", file: BodyFile, size: int) -> None:
        """Send the next `size` bytes of a file, which are more than one, as a piece of the body.

        Counts them in `current.body_bytes` as they leave. Raises `ClientDisconnectedError` if the peer is gone, and
        `RuntimeError` or `OSError` if the file does not give them.
        """


class Stream(RequestOwner, Protocol):
    """Where a request runs: a connection of HTTP/1, which serves one after the other, or a stream of HTTP/2.

    Attributes are slots of the class that implements this: what every request reads is found fastest there (ADR 10).
    """

    context: WorkerContext
    access_log: ConnectionLog | None
    """Of the connection."""
    is_cancelled: bool
    """Whether the application was cancelled because the worker ends: its failure is not the application's."""
    holds: int
    """The reasons not to read from the peer now, one bit each; see `advance_soon`."""
    credit: int
    """What the application may still do until `rest` is due; see `transport.turns.TakesTurns`."""

    @property
    def flow(self) -> WriteFlow:
        """The flow control of what the application sends."""

    def body_wanted(self, current: "RunningRequest") -> None:
        """The application waits for a body (RFC 9110 §10.1.1)."""

    def advance_soon(self) -> None:
        """The application took what had arrived: go on reading, if nothing else holds that back."""

    def send_chunk(self, current: "RunningRequest", part: ResponseChunk) -> None:
        """Write a part of the response."""

    def send_trailers(self, current: "RunningRequest", fields: Fields) -> None:
        """Write the end of the response, with these trailer fields (RFC 9110 §6.5); at least one, checked.

        Called in place of `send_chunk` with the last part, and only where the request accepts them.
        """

    def send_interim(self, current: "RunningRequest", status: int, fields: Fields) -> None:
        """Write an interim response (RFC 9110 §15.2), before the head of the response; only where it is accepted."""

    @property
    def file_sender(self) -> FileSender | None:
        """What has the kernel send a file in the midst of a response; `None` if files are read and sent by chunks."""

    def take_back_head(self) -> bool:
        """Drop the head of a response that was written last and without a body; false if it has left."""

    def refuse(self, error: ProtocolError) -> None:
        """Answer the current request with an error, if its response has not begun, and end the stream."""

    def reset(self) -> None:
        """End the stream in the middle of a response, so that the peer sees that it is incomplete."""

    def application_returned(self, current: "RunningRequest") -> None:
        """The application has returned, whether or not its response is complete."""

    async def rest(self) -> None:
        """Let the loop turn, if the application has had its share of this turn."""


class RunningRequest(HttpExchange):
    """A request from its head until its application returns.

    It inherits from the exchange instead of holding one: a second object would cost each request its making (ADR 10).
    """

    # What stands on the class instead is found slowly (ADR 10).
    __slots__ = ("_stream", "_timeouts", "receivers", "request", "scope", "started_at", "task")

    def __init__(self, stream: Stream, request: Request, scope: Scope) -> None:
        HttpExchange.__init__(self, request.method, request.body_length != 0)
        context = stream.context
        context.stats.requests += 1
        self._stream = stream
        self.request = request
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self.started_at = monotonic() if context.is_timed else 0.0
        """In seconds on the monotonic clock: the loop's own counts only milliseconds. 0 if it is not asked for."""
        self.receivers: tuple[asyncio.Future[None], ...] = ()
        """Calls of `receive` that wait."""
        self._timeouts: RequestTimeouts | None = None
        """Made by the first sweep that finds the request: most are over by then."""

    @abstractmethod
    def start(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Call the application, in this turn of the loop or later."""

    @abstractmethod
    def _give_up(self) -> None:
        """Answer for the application, which did not begin its response in time, and have it end if that can be."""

    @property
    def accepts_trailers(self) -> bool:
        return self.request.accepts_trailers

    @property
    def title(self) -> str:
        """What a log calls it: `GET /path?query`."""
        return f"{self.request.method} {self.request.target.decode('ascii')}"

    @property
    def body_is_due(self) -> bool:
        """Whether more of the request is waited for, by the application or to come to the next one."""
        return not self.body_ended and (bool(self.receivers) or self.state is _COMPLETE)

    async def send_file(self, body: FileBody) -> None:
        """Send a file as a piece of the body: by the kernel if it is large and the stream can, else as chunks.

        What can be known to fail raises before anything was sent.
        """
        with opened(body) as file:
            first, left = self.begin_file(body, file.available)
            if first is not None:
                self.respond(first)
            if left > PIECE and (sender := self._stream.file_sender) is not None:
                await sender.send(self, file, left)
                left = 0
            piece = b""
            while left:
                piece = await file.read(min(left, PIECE))
                self.check_connected()
                left -= len(piece)
                if left:
                    self.body_bytes += len(piece)
                    self.respond((None, piece, False, None))
                    if self._stream.flow.waits:
                        await self.wait_for_room()
            self.respond(self.end_file(piece))

    async def wait_for_room(self) -> None:
        """Wait while the peer reads more slowly than is written. Raises `ClientDisconnectedError` if it is gone."""
        stream = self._stream
        flow = stream.flow
        if not flow.is_paused:
            flow.waits = False
            # A peer that reads as fast as this is written would never let the loop turn.
            await stream.rest()
        if flow.is_paused:
            await flow.wait_until_resumed()
        self.check_connected()

    def check_connected(self) -> None:
        """Raise `ClientDisconnectedError` if the peer is gone."""
        if self.disconnected:
            raise ClientDisconnectedError("the client disconnected")

    def wake(self) -> None:
        """Have every waiting `receive` look again."""
        for waiter in self.receivers:
            if not waiter.done():
                waiter.set_result(None)

    def subject(self) -> str:
        return self.title

    def _failed(self, error: BaseException) -> None:
        if self.peer_is_gone and is_disconnect(error):
            return
        self._log_failure(f"raised {describe(error)}", error)
        self._answer_failure()

    def _log_failure(self, what: str, error: BaseException | None = None) -> None:
        self._stream.context.stats.application_errors += 1
        request = request_info(self.request.method, self.request.target, self.scope)
        extra = {"request": request}
        log.error("%s: the application %s", request.title, what, exc_info=exc_info(error), extra=extra)

    def respond(self, part: ResponseChunk, trailers: Fields = ()) -> None:
        """Send a part of the response, and account for the response where it begins and where it is complete.

        `trailers` come with the last part, which is empty then.
        """
        stream = self._stream
        context = stream.context
        head = part[0]
        if head is not None:
            context.stats.responses[head.status_class] += 1
        if trailers:
            stream.send_trailers(self, trailers)
        else:
            stream.send_chunk(self, part)
        if self.state is not _COMPLETE:
            return
        if self.receivers:
            self.wake()
        duration = 0.0
        if context.is_timed:
            duration = monotonic() - self.started_at
            stats = context.stats
            if duration > SHORT or self.is_stream:
                stats.response_ended(duration, is_stream=self.is_stream)
            else:
                stats.short_responses += 1
                stats.response_time += duration
        if stream.access_log is not None:
            self._record(stream.access_log, self.status, duration)

    def answer(self, status: int, text: str, *headers: Field) -> None:
        """Answer in the place of the application, whose response has not begun."""
        body = text.encode()
        self.respond(self.server_response(ResponseHead(status, [PLAIN_TEXT, *headers]), body))

    def _answer_failure(self) -> None:
        """The application failed: answer 500 if nothing has left, else reset the stream, so that the peer sees it."""
        if self.disconnected or self.state is _COMPLETE:
            return
        stream = self._stream
        stats = stream.context.stats
        head = self.head
        if head is not None and not self.body_bytes and stream.take_back_head():
            stats.responses[head.status_class] -= 1
            self.head_taken_back()
            head = None
        if head is None:
            self.answer(500, "Internal Server Error")
        else:
            is_excused = self.peer_is_gone or stream.is_cancelled
            stats.late_errors += head.status < 500 and not is_excused
            stream.reset()

    def _ended(self) -> None:
        """The application has come to its end."""
        stream = self._stream
        stream.context.stats.in_flight -= 1
        if self.state is not _COMPLETE and stream.access_log is not None:
            status = self.status or _CLIENT_CLOSED_REQUEST
            self._record(stream.access_log, status, monotonic() - self.started_at)
        stream.application_returned(self)

    def _record(self, access_log: ConnectionLog, status: int, duration: float) -> None:
        fields = () if self.head is None else self.head.fields
        access_log.record(self.request, self.scope, status, self.body_bytes, duration, fields)

    def sweep(self, now: float, received: int, *, is_held_up: bool) -> None:
        """Enforce the time-outs that have run out at loop time `now`.

        `received` counts what came from the peer, in bytes; `is_held_up` is whether something else than the peer holds
        back the body: nothing is read, or the response has yet to be taken.
        """
        stream = self._stream
        is_due = self.body_is_due
        timeouts = self._timeouts
        if timeouts is None:
            limits = stream.context.http
            if not is_due and not limits.request_timeout:
                return
            timeouts = self._timeouts = RequestTimeouts(limits)
        if reason := timeouts.body(now, received, is_due=is_due, is_held_up=is_held_up):
            stream.refuse(ProtocolError(408, reason))
        if timeouts.response_is_over(now, is_due=self.head is None and self.state is not _COMPLETE):
            self._give_up()

    def notice_end(self) -> None:
        """See whether the application was cancelled before its first step: then it never came to `_run`'s end."""
        if self.task is not None and self.task.cancelled():
            self.task = None
            self._ended()

    def cancel(self) -> None:
        """Cancel the application."""
        if self.task is not None:
            self.task.add_done_callback(lambda _task: self.notice_end())
            self.task.cancel()
