"""The side of the worker that has the session: it runs the application for a client of another worker."""

import asyncio
import logging
from collections import deque
from typing import Any

from asgi_master.asgi.errors import ClientDisconnectedError, is_disconnect
from asgi_master.asgi.types import Message, Scope
from asgi_master.telemetry.failures import describe, exc_info
from asgi_master.worker.relay.frames import FrameReader, Kind, encode
from asgi_master.worker.transport.connection_state import TransferConnection
from asgi_master.worker.transport.context import Connection, WorkerContext
from asgi_master.worker.transport.eager import begin
from asgi_master.worker.transport.stream_transport import StreamProtocol, StreamTransport

log = logging.getLogger("asgi_master")

_FLUSH_FROM = 16 * 1024
"""Bytes of a body from which on nothing is kept to be sent together."""


class RelayServer(Connection, StreamProtocol):
    """A socket from another worker: one request after the other."""

    __slots__ = (
        "__weakref__",
        "_app",
        "_frames",
        "_inbox",
        "_is_draining",
        "_is_lost",
        "_reader",
        "_resumed",
        "_scope",
        "_serial",
        "_task",
        "_transport",
        "_waiters",
        "_wanted",
        "context",
        "rests_until",
    )

    def __init__(self, context: WorkerContext, app: Any) -> None:
        """`app` is called for each request."""
        self.context = context
        self._app = app
        self._reader = FrameReader()
        self._task: asyncio.Task[None] | None = None
        self._scope: Scope = {}
        self._serial = 0
        self._inbox: deque[Message] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._wanted = 0
        """Messages that were asked for and did not come."""
        self._resumed: asyncio.Future[None] | None = None
        self._frames: list[bytes] = []
        """To be sent together: each write would wake the other worker."""
        self._is_lost = self._is_draining = False

    # -- called by the transport -------------------------------------------------------------------

    def connection_made(self, transport: StreamTransport) -> None:
        self._transport = transport
        self._register(is_counted=False)

    def data_received(self, data: bytes) -> None:
        for serial, kind, content in self._reader.feed(data):
            if kind == Kind.SCOPE and self._task is None:
                self._serial = serial
                self._begin(content)
            elif kind == Kind.RECEIVED and serial == self._serial and self._task is not None:
                self._wanted -= 1
                self._inbox.append(content)
                self._wake()

    def connection_lost(self) -> None:
        self._is_lost = True
        self._wake()
        self.resume_writing()
        if self._task is None:
            self._unregister()

    def pause_writing(self) -> None:
        self._resumed = self.context.loop.create_future()

    def resume_writing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    # -- called by the worker ----------------------------------------------------------------------

    def sweep(self, now: float) -> float:  # noqa: ARG002 -- the worker that has the client enforces time-outs
        return 0.0

    def drain(self, transfer: TransferConnection | None = None) -> None:  # noqa: ARG002 -- others make another one
        self._is_draining = True
        if self._task is None and not self._is_lost:
            self._transport.close()

    def signal_disconnect(self) -> None:
        if self._task is not None:
            self._inbox.append(self._disconnect())
            self._wake()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    # -- the request -------------------------------------------------------------------------------

    def _begin(self, scope: Scope) -> None:
        scope["state"] = self.context.state.copy()
        self._scope = scope
        self._inbox.clear()
        self._wanted = 0
        task = begin(self._run(scope), self.context.loop)
        if not task.done():
            self._task = task

    async def _run(self, scope: Scope) -> None:
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            if not (self._is_lost and is_disconnect(error)):
                log.error(
                    "%s %s: the application raised %s, for a client of another worker",
                    scope.get("method", "WebSocket"),
                    scope["path"],
                    describe(error),
                    exc_info=exc_info(error),
                )
            self._write(Kind.FAILED, describe(error))
        else:
            self._write(Kind.END)
        self._task = None
        self._flush()
        if self._is_lost:
            self._unregister()
        elif self._is_draining:
            self._transport.close()

    async def _receive(self) -> Message:
        while not self._inbox:
            if self._is_lost:
                return self._disconnect()
            waiter = self.context.loop.create_future()
            self._waiters.append(waiter)
            if self._wanted < len(self._waiters):
                self._wanted += 1
                self._write(Kind.RECEIVE)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return self._inbox.popleft()

    async def _send(self, message: Message) -> None:
        if self._is_lost:
            raise ClientDisconnectedError("the client disconnected")
        self._write(Kind.SEND, _plain(message))
        body = message.get("body")
        if body is not None and len(body) > _FLUSH_FROM:
            self._flush()
        if self._resumed is not None:
            await self._resumed

    def _disconnect(self) -> Message:
        if self._scope["type"] == "websocket":
            return {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        return {"type": "http.disconnect"}

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _write(self, kind: Kind, content: Any = None) -> None:
        frames = self._frames
        frames.append(encode(self._serial, kind, content))
        if len(frames) == 1:
            self.context.loop.call_soon(self._flush)

    def _flush(self) -> None:
        frames = self._frames
        if frames:
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            frames.clear()
            if not self._is_lost:
                self._transport.write(data)


def _plain(message: Message) -> dict[str, Any]:
    """The message in types that a frame takes."""
    plain = dict(message)
    if "headers" in plain:
        plain["headers"] = [tuple(field) for field in plain["headers"]]
    return plain
