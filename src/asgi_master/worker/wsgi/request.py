"""One request of a WSGI application: its half in the loop, and its half in the thread that calls the application.

A response that is complete when the loop comes to look is sent as one. What is given earlier is sent earlier: the pool
looks within milliseconds, while the application produces its next piece (PEP 3333, "Buffering and Streaming").
"""

import asyncio
import contextvars
import io
import logging
import stat
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from os import fstat
from typing import Any, Final, Protocol

from asgi_master.asgi.errors import ClientDisconnectedError, is_disconnect
from asgi_master.asgi.http_exchange import State
from asgi_master.asgi.http_extensions import FileBody
from asgi_master.asgi.scope import HttpScopes
from asgi_master.asgi.types import Scope
from asgi_master.asgi.wsgi.environ import Environs
from asgi_master.asgi.wsgi.file_wrapper import FileWrapper
from asgi_master.asgi.wsgi.response import ExcInfo, Response
from asgi_master.http.errors import ProtocolError
from asgi_master.http.message import BODYLESS, Request
from asgi_master.telemetry.failures import describe, exc_info
from asgi_master.telemetry.request_info import RequestInfo, request_info
from asgi_master.worker.diagnostics.current_request import runs_the_application
from asgi_master.worker.http.running_request import RunningRequest, Stream
from asgi_master.worker.transport.context import ConnectionLog
from asgi_master.worker.transport.eager import begin
from asgi_master.worker.wsgi.body import BUFFER_SIZE, BodyPipe
from asgi_master.worker.wsgi.error_stream import ErrorStream

log = logging.getLogger("asgi_master")

_COMPLETE, _STREAMING = State.COMPLETE, State.STREAMING
_IN_MEMORY: Final = 64 * 1024
"""Bytes of a request's body that are waited for before a thread is used: it should not wait for a slow client."""
_AHEAD: Final = 64 * 1024
"""Bytes of a response that the application may give before the loop took them."""
_NO_SCOPE: Final[Scope] = {}


class Pool(Protocol):
    """Whose threads run requests."""

    app: Any
    environs: Environs

    def submit(self, request: "WsgiRequest") -> None:
        """Have a thread call `request.run`. Called in the loop."""

    def hold(self, request: "WsgiRequest") -> None:
        """Have the loop call `request.deliver` within milliseconds. Called in a thread, with `is_posted` set."""

    def post(self, request: "WsgiRequest") -> None:
        """The same as soon as it can."""

    def wake(self) -> None:
        """Do not wait with what is held. Called in a thread."""

    def location(self, request: "WsgiRequest") -> str:
        """Where the thread is that runs the request; empty if none does."""

    def call_in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call a function. Called in a thread."""


class WsgiRequest(RunningRequest):
    """From its head until the application's iterable is closed."""

    __slots__ = (
        "_ahead",
        "_awaits_body",
        "_awaits_flow",
        "_context",
        "_file",
        "_has_begun",
        "_has_failed",
        "_has_finished",
        "_input",
        "_is_over",
        "_is_started",
        "_is_submitted",
        "_is_waiting",
        "_is_whole",
        "_pieces",
        "_pipe",
        "_pool",
        "_response",
        "_result",
        "_room",
        "_scopes",
        "is_posted",
        "progress",
        "queued_at",
        "taken_at",
    )

    def __init__(self, pool: Pool, stream: Stream, request: Request, scopes: HttpScopes) -> None:
        RunningRequest.__init__(self, stream, request, _NO_SCOPE)
        self._pool = pool
        self._scopes = scopes
        self._input: io.BufferedIOBase | None = None
        self._pipe: BodyPipe | None = None
        self._is_started = False
        self._is_submitted = False
        self._is_over = False
        self._awaits_body = False
        self._awaits_flow = False
        self.is_posted = False
        """Whether the loop is going to call `deliver`. Set by the thread; cleared by the loop before it looks."""
        self.queued_at = self.taken_at = 0.0
        """When it began to wait for a thread, and when that took it; on the monotonic clock."""
        self.progress = 0
        """Bytes that went to the application and from it, since it was called: whoever moves some is not stuck."""
        self._has_begun = False
        # Written by the thread, and read by the loop in the opposite order.
        self._response = Response(request.method)
        self._pieces: deque[bytes] = deque()
        self._file: FileBody | None = None
        self._is_whole = False
        self._has_failed = False
        self._has_finished = False
        # For a thread that waits until the loop has taken what it gave.
        self._ahead = 0
        self._is_waiting = False
        self._room: LockType | None = None
        # Kept while the loop sends a file.
        self._context: contextvars.Context | None = None
        self._result: Any = None

    def info(self) -> RequestInfo:
        """What a record of the log says of the request. Any thread may ask."""
        return request_info(self.request.method, self.request.target, self._described())

    def _described(self) -> Scope:
        """Its scope, as logs read it: nothing else wants one."""
        if not self.scope:
            self.scope = self._scopes.scope(self.request, {})
        return self.scope

    def _record(self, access_log: ConnectionLog, status: int, duration: float) -> None:
        self._described()
        RunningRequest._record(self, access_log, status, duration)  # noqa: SLF001 -- of its own base

    # -- in the loop: the request ------------------------------------------------------------------

    @property
    def body_is_due(self) -> bool:
        is_wanted = not self._is_submitted or self._awaits_body or self.state is _COMPLETE
        return not self.body_ended and is_wanted

    def start(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ARG002 -- the pool's
        """Have a thread call the application, once the body has arrived as far as it is kept in memory."""
        self._is_started = True
        self._stream.context.stats.in_flight += 1
        if self.body_ended or self.request.expect_continue or self.inbox_size >= _IN_MEMORY:
            self._submit()

    def _submit(self) -> None:
        self._is_submitted = True
        pieces, self._inbox = self._inbox, ()
        if self.body_ended:
            self._input = io.BytesIO(b"".join(pieces) if pieces else b"")
            if pieces:
                self._took(self.inbox_size)
        else:
            call, want, took = self._pool.call_in_loop, self._want_body, self._took
            pipe = self._pipe = BodyPipe(lambda: call(want), lambda size: call(took, size))
            self._input = io.BufferedReader(pipe, BUFFER_SIZE)
            for piece in pieces:
                pipe.put(bytes(piece))
            if self._stopped:
                self._lose_body()
        self._pool.submit(self)

    def _want_body(self) -> None:
        """The application waits for a piece of the body."""
        if not (self._is_over or self.body_ended):
            self._awaits_body = True
            self._stream.body_wanted(self)

    def _took(self, size: int) -> None:
        """The application has this many bytes of the body."""
        if not self._is_over:
            self.progress += size
            self.inbox_size = max(0, self.inbox_size - size)
            if self._stream.holds:
                self._stream.advance_soon()

    def body_received(self, data: bytes) -> None:
        if self._pipe is None:
            RunningRequest.body_received(self, data)
            if self.inbox_size >= _IN_MEMORY and self._is_started and not self._is_submitted:
                self._submit()
        elif self.state is not _COMPLETE:
            self._awaits_body = False
            self.inbox_size += len(data)
            self._pipe.put(data)

    def end_received(self) -> None:
        self.body_ended = True
        if self._pipe is not None:
            self._pipe.end()
        elif self._is_started and not self._is_submitted:
            self._submit()

    def peer_half_closed(self) -> None:
        RunningRequest.peer_half_closed(self)
        self._lose_body()

    def peer_disconnected(self) -> None:
        RunningRequest.peer_disconnected(self)
        self._lose_body()
        self._give_room()

    def _lose_body(self) -> None:
        """No more of the body arrives, or is kept."""
        if self.body_ended:
            return
        if self._pipe is not None:
            self._told_disconnect = True
            self._pipe.break_off()
        elif self._is_started and not self._is_submitted:
            self._submit()

    # -- in the loop: the response -----------------------------------------------------------------

    def deliver(self) -> None:
        """Send what the application gave, and see whether it has returned."""
        self.is_posted = False
        has_finished, has_failed, is_whole = self._has_finished, self._has_failed, self._is_whole
        file = self._file
        if self.state is _COMPLETE or self.disconnected:
            self._pieces.clear()
            if file is not None:
                self._file_ended(None)
        elif file is not None:
            self._file = None
            self.task = begin(self._send_file(file), self._stream.context.loop)
        elif has_failed and self.head is None and not is_whole:
            self._pieces.clear()
        elif self.head is not None and (self._pieces or is_whole) and self._is_paused():
            return
        elif self._pieces or is_whole:
            self._send_pieces(is_whole)
        elif self._response.is_begun and not self._response.sends_body:
            self._send_pieces(is_whole=True)  # how long its body would be is not worth the wait
        if has_failed and self.state is not _COMPLETE and not self.peer_is_gone:
            self._answer_failure()
        if self._is_waiting and not self._is_paused():
            self._give_room()
        if has_finished and not self._is_over:
            self._is_over = True
            if self._has_begun:
                stats = self._stream.context.stats
                stats.wsgi_calls += 1
                stats.wsgi_wait += self.taken_at - self.queued_at
            self._ended()

    def _is_paused(self) -> bool:
        """Whether the client reads more slowly than the application gives; `deliver` is called once it caught up."""
        if self.state is _COMPLETE or self.disconnected or not self._stream.flow.is_paused:
            return False
        if not self._awaits_flow:
            self._awaits_flow = True
            self._stream.flow.call_when_resumed(self._flow_resumed)
        return True

    def _flow_resumed(self) -> None:
        self._awaits_flow = False
        self.deliver()

    def _send_pieces(self, is_whole: bool) -> None:
        pieces, response = self._pieces, self._response
        data = pieces.popleft() if pieces else b""
        if pieces:
            rest = [data]
            while pieces:
                rest.append(pieces.popleft())
            data = b"".join(rest)
        head = length = None
        if self.head is None:
            head = self.head = response.head
            assert head is not None
            self.bodyless = not response.sends_body
            if not is_whole:
                self.is_stream = head.content_length is None
            elif self._is_whole:
                length = 0 if head.status in BODYLESS else response.length
        elif not (data or is_whole):
            return
        self.body_bytes += len(data)
        self.progress += len(data)
        if is_whole:
            self._complete()
            self._lose_body()
        else:
            self.state = _STREAMING
        self.respond((head, data, is_whole, length))

    def _give_room(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            assert self._room is not None
            self._room.release()

    async def _send_file(self, body: FileBody) -> None:
        head = self._response.head
        assert head is not None
        try:
            self.interpret({"type": "http.response.start", "status": head.status, "headers": head.fields})
            await self.send_file(body)
        except asyncio.CancelledError:
            self._file_ended(None)  # the worker ends
        except BaseException as error:  # noqa: BLE001 -- as if the application had sent it
            self._file_ended(error)
        else:
            self._file_ended(None)

    def _file_ended(self, error: BaseException | None) -> None:
        """A thread is to close the file."""
        self._file = self.task = None
        if error is not None:
            self._described()
            self._failed(error)
        self._pool.submit(self)

    def cancel(self) -> None:
        """The worker ends. No thread can be cancelled: what the application still gives is dropped."""
        if self.task is not None:
            self.task.cancel()
        self.peer_disconnected()
        if self.state is not _COMPLETE:
            self._stream.reset()

    def notice_end(self) -> None:
        """Whatever becomes of the application is posted."""

    def _give_up(self) -> None:
        """Answer for the application. If it was called, its thread goes on, and what it gives is dropped."""
        context = self._stream.context
        limit = context.http.request_timeout
        if not self._is_submitted:
            self._stream.refuse(ProtocolError(408, "the request body did not arrive in time"))
        elif not self._has_begun:
            self.answer(503, "Service Unavailable", (b"retry-after", b"1"))
            log.warning(
                "%s: answered 503, as no thread took it within %g s (request-timeout)", self.title, limit
            )
        else:
            self.answer(504, "Gateway Timeout")
            context.stats.application_errors += 1
            log.warning(
                "%s: answered 504, as the application had not begun to respond within %g s (request-timeout); "
                "its thread is at %s",
                self.title,
                limit,
                self._pool.location(self),
            )
        self.peer_disconnected()

    # -- in the thread -----------------------------------------------------------------------------

    @runs_the_application
    def run(self) -> None:
        """Call the application, or close what it returned once the loop has sent it."""
        if self._result is not None:
            assert self._context is not None
            self._context.run(self._close)
        elif not self.disconnected:
            self._has_begun = True
            context = contextvars.copy_context()
            context.run(self._call)
            if self._result is not None:
                self._context = context
                self._pool.post(self)
                return
        self._has_finished = True
        pool = self._pool
        if self.is_posted:
            pool.wake()
        else:
            self.is_posted = True
            pool.post(self)

    def _call(self) -> None:
        pool, response, pieces = self._pool, self._response, self._pieces
        errors = ErrorStream(self)
        result = None
        try:
            environ = pool.environs.environ(self._scopes, self.request)
            environ["wsgi.input"] = self._input
            environ["wsgi.errors"] = errors
            result = pool.app(environ, self._start_response)
            if type(result) is FileWrapper and self._is_sent_by_the_loop(result):
                self._result, result = result, None
                return
            for piece in result:
                if self._is_whole and piece:
                    break  # it has given more than its Content-Length says
                data = response.piece(piece)
                if data:
                    pieces.append(data)
                    self._is_whole = response.is_whole
                    if not self.is_posted:
                        self.is_posted = True
                        pool.hold(self)
                    self._ahead += len(data)
                    if self._ahead > _AHEAD:
                        self._wait_for_room()
                elif not response.sends_body:
                    if self.state is _COMPLETE:
                        break  # its head has left
                    if not self.is_posted:
                        self.is_posted = True
                        pool.hold(self)
                if self.disconnected:
                    break
            else:
                response.end()
                self._is_whole = True
        except BaseException as error:  # noqa: BLE001 -- nothing an application does ends the worker
            self._call_failed(error)
        finally:
            if hasattr(result, "close"):
                self._result = result
                self._close()
            errors.flush()

    def _close(self) -> None:
        result, self._result = self._result, None
        try:
            if hasattr(result, "close"):
                result.close()
        except BaseException as error:  # noqa: BLE001 -- as above
            self._call_failed(error)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        self._response.start_response(status, headers, exc_info)
        return self._write

    def _write(self, data: bytes) -> None:
        data = self._response.write(data)
        if self.disconnected:
            raise ClientDisconnectedError("the client disconnected")
        if data:
            self._pieces.append(data)
            if not self.is_posted:
                self.is_posted = True
                self._pool.hold(self)
            self._ahead += len(data)
            if self._ahead > _AHEAD:
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        """Wait until the loop has taken all that was given, or the client is gone."""
        room = self._room
        if room is None:
            room = self._room = allocate_lock()
            room.acquire()
        self._is_waiting = True
        self._pool.post(self)
        room.acquire()
        self._ahead = 0

    def _is_sent_by_the_loop(self, wrapper: FileWrapper) -> bool:
        """Whether the file that is wrapped is a regular one, that the loop can send."""
        response = self._response
        try:
            is_file = stat.S_ISREG(fstat(wrapper.filelike.fileno()).st_mode)
        except (AttributeError, OSError, ValueError):
            return False
        if not is_file or response.head is None or response.is_begun:
            return False
        self._file = FileBody(wrapper.filelike)
        return True

    def _call_failed(self, error: BaseException) -> None:
        if not (self.peer_is_gone and is_disconnect(error)):
            request = self.info()
            log.error(
                "%s: the application raised %s",
                request.title,
                describe(error),
                exc_info=exc_info(error),
                extra={"request": request},
            )
            self._pool.call_in_loop(self._count_error)
        self._has_failed = True

    def _count_error(self) -> None:
        self._stream.context.stats.application_errors += 1
