"""The side of the worker that has the client: its application is the other worker's."""

import asyncio
import socket
from collections import deque
from typing import Any

from asgi_master.asgi.types import Message, Receive, Scope, Send
from asgi_master.ipc.hand_off import Outcome
from asgi_master.worker.affinity.router import Place
from asgi_master.worker.relay.frames import Frame, FrameReader, Kind, encode
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.eager import begin
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.socket_transport import SocketTransport
from asgi_master.worker.transport.stream_transport import StreamProtocol, StreamTransport

RELAY = b"relay"
"""What comes with a socket on which requests are relayed."""

_MOST_IDLE = 32
"""Sockets to one place that are kept for later requests."""
_HIGH_WATER = 256 * 1024
"""Bytes that may wait here for the client before no more are read from the other worker."""
_RETRY_AFTER = 0.005
_PATIENCE = 5.0
"""Seconds for which a queue may be full."""
_NOT_RELAYED = frozenset({"http.response.zerocopysend"})
"""Extensions whose messages hold descriptors."""


class RelayLostError(ConnectionError):
    """The other worker has ended in the midst of the request."""


class RelayedError(Exception):
    """The application has raised this in the other worker, whose log has the traceback."""


class Relays:
    """The sockets to other places."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._idle: dict[Place, list[_Link]] = {}

    async def relay(self, place: Place, scope: Scope, receive: Receive, send: Send) -> bool:
        """Have the application run there; false, with nothing done, if nobody is there.

        Raises `RelayLostError`, `RelayedError`, and what `receive` and `send` raise.
        """
        link = self._take(place) or await self._connect(place)
        if link is None:
            return False
        self._context.stats.relayed += 1
        try:
            await link.run(_relayed(scope), receive, send)
        except BaseException:
            link.abort()
            raise
        idle = self._idle.setdefault(place, [])
        if len(idle) < _MOST_IDLE:
            idle.append(link)
        else:
            link.abort()
        return True

    def _take(self, place: Place) -> "_Link | None":
        idle = self._idle.get(place, [])
        while idle:
            link = idle.pop()
            if not link.is_lost:
                return link
        return None

    async def _connect(self, place: Place) -> "_Link | None":
        loop = self._context.loop
        ends = loop.time() + _PATIENCE
        ours, theirs = socket.socketpair()
        with theirs:
            outcome = place.put_end.put(theirs, RELAY)
            while outcome is Outcome.FULL and loop.time() < ends:
                await asyncio.sleep(_RETRY_AFTER)
                outcome = place.put_end.put(theirs, RELAY)
        if outcome is not Outcome.SENT:
            ours.close()
            return None
        link = _Link(loop)
        SocketTransport(loop, self._context.poller, ours, Endpoints(None, None, is_tls=False)).start(link)
        return link

    def forget(self, place: Place) -> None:
        """Close the sockets that wait for requests to this place."""
        for link in self._idle.pop(place, []):
            link.abort()

    def close(self) -> None:
        """Close all that wait for requests."""
        for place in list(self._idle):
            self.forget(place)


def _relayed(scope: Scope) -> Scope:
    """A scope as it goes to another worker, which has its own lifespan state."""
    relayed = scope.copy()
    relayed.pop("state", None)
    extensions = relayed.get("extensions")
    if extensions:
        relayed["extensions"] = {
            name: value for name, value in extensions.items() if name not in _NOT_RELAYED
        }
    return relayed


class _Link(StreamProtocol):
    """A socket to another worker: one request after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque()
        self._waiting = 0
        """Bytes that were read and not taken, about."""
        self._is_held = False
        self._waiter: asyncio.Future[None] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._serial = 0
        self._receiving: set[asyncio.Task[None]] = set()
        self.is_lost = False

    def connection_made(self, transport: StreamTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += len(data)
        self._frames.extend(self._reader.feed(data))
        if self._waiting > _HIGH_WATER and not self._is_held and self._frames:
            self._is_held = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self) -> None:
        self.is_lost = True
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._resumed = self._loop.create_future()

    def resume_writing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    def abort(self) -> None:
        """Close it."""
        if not self.is_lost:
            self._transport.abort()

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, until its application has returned."""
        self._serial += 1
        self._write(Kind.SCOPE, scope)
        try:
            while True:
                kind, content = await self._next()
                if kind == Kind.SEND:
                    await send(content)
                elif kind == Kind.RECEIVE:
                    task = begin(self._pass_on(receive), self._loop)
                    if not task.done():
                        self._receiving.add(task)
                        task.add_done_callback(self._receiving.discard)
                elif kind == Kind.FAILED:
                    raise RelayedError(content)
                else:
                    return
        finally:
            for task in self._receiving:
                task.cancel()

    async def _next(self) -> tuple[int, Any]:
        while True:
            while self._frames:
                serial, kind, content = self._frames.popleft()
                if not self._frames:
                    self._waiting = 0
                    if self._is_held:
                        self._is_held = False
                        self._transport.resume_reading()
                if serial == self._serial:
                    return kind, content
            if self.is_lost:
                raise RelayLostError("the worker that has the session has ended")
            self._waiter = self._loop.create_future()
            await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _pass_on(self, receive: Receive) -> None:
        serial = self._serial
        message: Message = await receive()
        if self._resumed is not None:
            await self._resumed
        if serial == self._serial:
            self._write(Kind.RECEIVED, message)

    def _write(self, kind: Kind, content: Any) -> None:
        self._transport.write(encode(self._serial, kind, content))
