"""A request that is answered by ASGI: its application's task, `receive` and `send`."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from asgi_master.asgi.http_exchange import State
from asgi_master.asgi.http_extensions import EarlyHint, FileBody, Trailers
from asgi_master.asgi.types import Message
from asgi_master.telemetry.code_ownership import ownership
from asgi_master.worker.diagnostics.current_request import runs_the_application, waits_at
from asgi_master.worker.http.running_request import RunningRequest
from asgi_master.worker.transport.eager import begin
from asgi_master.worker.transport.turns import CREDIT

log = logging.getLogger("asgi_master")

_COMPLETE = State.COMPLETE

_EARLY_HINTS = HTTPStatus.EARLY_HINTS.value


class RequestTask(RunningRequest):
    """A request, and the task in which its application runs."""

    __slots__ = ()

    def start(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Call the application."""
        self._stream.context.stats.in_flight += 1
        self.task = begin(self._run(app), loop)

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
            # It is returned at every call: an application that only asks again must not hold the loop.
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
        if type(part) is tuple:
            if part[0] is None and self.state is not _COMPLETE:
                self._stream.send_chunk(self, part)  # there is nothing to account for
            else:
                self.respond(part)
        elif isinstance(part, FileBody):
            await self.send_file(part)
        elif isinstance(part, Trailers):
            self.respond((None, b"", True, None), part.fields)
        elif isinstance(part, EarlyHint) and self.request.accepts_hints:
            self._stream.send_interim(self, _EARLY_HINTS, part.fields)
        if self.state is not _COMPLETE and self._stream.flow.waits:
            await self.wait_for_room()

    @runs_the_application
    async def _run(self, app: Any) -> None:
        stream = self._stream
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError as error:
            # A cancelled application, or one whose peer is gone, has no one to answer.
            if not stream.is_cancelled and not self.peer_is_gone:
                self._failed(error)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 -- nothing an application does ends the worker
            self._failed(error)
        else:
            if self.state is not _COMPLETE and not self.peer_is_gone:
                if self.peer_has_ended:
                    # Most such peers have left. They come in crowds, and those that stayed would find the same fault.
                    log.debug(
                        "%s: the application did not complete its response; the peer had ended", self.title
                    )
                elif not stream.is_cancelled:
                    self._log_failure("returned without completing its response")
                self._answer_failure()
        self._ended()

    def _give_up(self) -> None:
        """Answer for the application, which did not begin its response in time, and cancel it."""
        self.answer(504, "Gateway Timeout")
        context, task = self._stream.context, self.task
        assert task is not None
        context.stats.application_errors += 1
        log.warning(
            "%s: cancelled, as it had not begun to respond within %g s (request-timeout); it was waiting at %s",
            self.title,
            context.http.request_timeout,
            waits_at(task, self._stream, context.loop, ownership),
        )
        self.peer_disconnected()
        self.cancel()
