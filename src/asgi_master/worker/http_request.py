"""One running HTTP request: the `receive` and `send` of its application, and what happens when that ends.

It knows its stream, and nothing of what is below that: bytes, transports and versions of HTTP.
"""

import asyncio
import logging
from typing import Any, Protocol

from asgi_master.asgi.errors import ClientDisconnectedError, is_disconnect
from asgi_master.asgi.http_exchange import HttpExchange, Message, Part, State
from asgi_master.asgi.scope import Scope
from asgi_master.http.request import Request
from asgi_master.telemetry.code_ownership import ownership
from asgi_master.telemetry.failures import describe, exc_info
from asgi_master.telemetry.request_info import request_info
from asgi_master.worker.context import WorkerContext
from asgi_master.worker.eager import begin
from asgi_master.worker.flow import WriteFlow
from asgi_master.worker.subject import Served, runs_the_application, waits_at
from asgi_master.worker.turns import CREDIT

log = logging.getLogger("asgi_master")

_COMPLETE = State.COMPLETE


class Stream(Served, Protocol):
    """Where a request runs: a connection of HTTP/1.1, which serves one after the other, or a stream of HTTP/2.

    Attributes are slots of the class that implements this: what every request reads is found fastest there (ADR 10).
    """

    context: WorkerContext
    is_cancelled: bool
    """Whether the application was cancelled because the worker ends: its failure is not the application's."""
    holds: int
    """The reasons not to read from the peer now, one bit each; see `advance_soon`."""
    credit: int
    """What the application may still do until `rest` is due; see `worker.turns.TakesTurns`."""

    @property
    def flow(self) -> WriteFlow:
        """The flow control of what the application sends."""

    def body_wanted(self, current: "HttpRequest") -> None:
        """The application waits for a body (RFC 9110 §10.1.1)."""

    def advance_soon(self) -> None:
        """The application took what had arrived: go on reading, if nothing else holds that back."""

    def send_part(self, current: "HttpRequest", part: Part) -> None:
        """Write a part of the response."""

    def answer_failure(self, current: "HttpRequest") -> None:
        """The application failed: answer 500 if nothing was sent, else end the stream so that the peer can tell."""

    def application_returned(self, current: "HttpRequest") -> None:
        """The application has returned, whether or not its response is complete."""

    async def rest(self) -> None:
        """Let the loop turn, if the application has had its share of this turn."""


class HttpRequest(HttpExchange):
    """A request from the start of its application until that returns.

    It is its own exchange: an object more would cost each request its making and a step more at every turn.
    """

    # What stands on the class instead is found slowly (ADR 10).
    __slots__ = (
        "_stream",
        "body_bytes",
        "is_last",
        "is_stream",
        "receivers",
        "request",
        "response_fields",
        "scope",
        "started_at",
        "status",
        "task",
    )

    def __init__(self, stream: Stream, request: Request, scope: Scope) -> None:
        HttpExchange.__init__(self, request.method, request.body_length != 0)
        self._stream = stream
        self.request = request
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self.started_at = 0.0
        """Of the request's head, in seconds on the monotonic clock: the loop's own counts only milliseconds.

        Set only where it is asked for; see `WorkerContext.is_timed`.
        """
        self.is_stream = False
        """Whether the response comes in pieces, so that its duration is the application's or the client's choice."""
        self.status = 0
        """Of the response, once its head was written."""
        self.response_fields = b""
        """Of its head, for the access log."""
        self.body_bytes = 0
        self.is_last = False
        """Whether the connection ends with its response, whatever the peer asked for."""
        self.receivers: tuple[asyncio.Future[None], ...] = ()
        """Calls of `receive` that wait."""

    @property
    def title(self) -> str:
        """What a log calls it: `GET /path?query`."""
        return f"{self.request.method} {self.request.target.decode('ascii')}"

    @property
    def body_is_due(self) -> bool:
        """Whether more of the request is waited for, by the application or to come to the next one."""
        return not self.body_ended and (bool(self.receivers) or self.state is _COMPLETE)

    def start(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Call the application."""
        self.task = begin(self._run(app), loop)

    def cancel(self) -> None:
        """Cancel the application."""
        if self.task is not None:
            self.task.add_done_callback(lambda _task: self.notice_end())
            self.task.cancel()

    def notice_end(self) -> None:
        """See whether the application was cancelled before its first step: then it never came to `_run`'s end."""
        if self.task is not None and self.task.cancelled():
            self.task = None
            self._stream.application_returned(self)

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        stream = self._stream
        message = self.next_message()
        if message is None:
            while message is None:
                waiter = asyncio.get_running_loop().create_future()
                self.receivers += (waiter,)
                stream.body_wanted(self)
                try:
                    await waiter
                finally:
                    self.receivers = tuple(other for other in self.receivers if other is not waiter)
                message = self.next_message()
            stream.credit = CREDIT
        elif message["type"] == "http.disconnect":
            # It is told as often as it is asked for: who does nothing else shall not hold the loop.
            stream.credit -= 1
            if stream.credit < 0:
                await stream.rest()
        if stream.holds:
            stream.advance_soon()
        return message

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        part = self.interpret(message)
        if part is None:
            return
        stream = self._stream
        stream.send_part(self, part)
        if stream.flow.waits and self.state is not _COMPLETE:
            flow = stream.flow
            if not flow.is_paused:
                flow.waits = False
                # A peer that reads as fast as this is written would never let the loop turn.
                await stream.rest()
            await flow.wait_until_resumed()
            if self.disconnected:
                raise ClientDisconnectedError("the client disconnected")

    def wake(self) -> None:
        """Have every waiting `receive` look again."""
        for waiter in self.receivers:
            if not waiter.done():
                waiter.set_result(None)

    def subject(self) -> str:
        """See `Served`."""
        return self.title

    @runs_the_application
    async def _run(self, app: Any) -> None:
        stream = self._stream
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError as error:
            # Once it is cancelled for good reason, or its peer is gone, nobody is left to tell.
            if not stream.is_cancelled and not self.peer_is_gone:
                self._failed(error)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 -- nothing an application does ends the worker
            self._failed(error)
        else:
            if self.state is not _COMPLETE and not self.peer_is_gone:
                if not stream.is_cancelled:
                    self._log_failure("returned without completing its response")
                stream.answer_failure(self)
        stream.application_returned(self)

    def _failed(self, error: BaseException) -> None:
        if self.peer_is_gone and is_disconnect(error):
            return
        self._log_failure(f"raised {describe(error)}", error)
        self._stream.answer_failure(self)

    def _log_failure(self, what: str, error: BaseException | None = None) -> None:
        self._stream.context.stats.application_errors += 1
        request = request_info(self.request.method, self.request.target, self.scope)
        told = {"request": request}
        log.error("%s: the application %s", request.title, what, exc_info=exc_info(error), extra=told)

    def give_up(self) -> None:
        """Cancel the application, which did not begin its response in time; the connection has answered for it."""
        context, task = self._stream.context, self.task
        assert task is not None
        context.stats.application_errors += 1
        log.warning(
            "%s: cancelled, as it had not begun to respond within %g s (request-timeout); it was waiting at %s",
            self.title,
            context.http.request_timeout,
            waits_at(task, self._stream, context.loop, ownership),
        )
        self.peer_left()
        self.cancel()
