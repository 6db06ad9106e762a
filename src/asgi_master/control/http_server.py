"""HTTP/1.1 server in the master's selector. One request per connection, which then closes."""

import contextlib
import logging
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from asgi_master.control.api import Refusal
from asgi_master.control.connection import Chunk, Connection, Request, Response, encode
from asgi_master.records import record
from asgi_master.telemetry.failure_log import FailureLog


@record
class Limits:
    """Limits for clients. Times are in seconds."""

    connections: int = 32
    evicts_oldest: bool = False
    """Whether a connection above the limit replaces the one that has waited longest without a complete request.

    Needed where any peer may connect: a few that send nothing would lock out all others.
    """
    request_bytes: int = 64 * 1024
    """Of a complete request."""
    request_time: float = 5.0
    """For a request to arrive, and again for its response to be read."""
    streams: int = 128
    """Connections whose response is a stream; they do not count as connections above."""
    stream_bytes: int = 1024 * 1024
    """That wait for a client of a stream: one that takes its stream more slowly is closed."""
    accept_pause: float = 1.0
    """After `accept` failed, for example for lack of descriptors."""


class Service(Protocol):
    """Handles requests; `HttpServer.answer` sends the response, now or later."""

    name: str
    """Name in the log."""

    def admit(self, sock: socket.socket) -> str:
        """A description of the peer, for the log. Raises `Refusal` for one whose request is not read."""

    def handle(self, connection: Connection, request: Request) -> None:
        """Handle a complete request. Raises `Refusal`."""

    def refuse(self, refusal: Refusal) -> Response:
        """The refusal as a response."""

    def closed(self, connection: Connection) -> None:
        """Called when the connection is closed."""


class HttpServer:
    """Serves `service` on listening sockets until closed; its owner calls `sweep`."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        service: Service,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._selector = selector
        self._service = service
        self._limits = limits if limits is not None else Limits()
        self._clock = clock
        self._connections: dict[Connection, None] = {}
        """In the order of their arrival."""
        self._streams: dict[Connection, None] = {}
        """Those of them whose response is a stream."""
        self._events: dict[Connection, int] = {}
        """The events that each is registered for."""
        self._pausing: dict[socket.socket, float] = {}
        """Listeners that are not watched, and the time until which."""
        self._failures = FailureLog(clock)
        self._sockets = list(sockets)
        for sock in self._sockets:
            self._watch(sock)

    def answer(self, connection: Connection, response: Response) -> None:
        """Send the response, unless the connection is closed or has got one."""
        if connection not in self._connections or connection.is_answered:
            return
        connection.deadline = self._clock() + self._limits.request_time
        try:
            connection.answer(response)
            connection.flush()
        except Exception as error:  # noqa: BLE001 -- it is logged
            self._failures.failed(
                f"{self._service.name}: an answer", error, "its connection is closed", logging.ERROR
            )
            connection.is_done = True
        self._update_events(connection)

    def open_stream(self, connection: Connection, response: Response) -> None:
        """Send the head and the begin of a stream, which `push` continues. Raises `Refusal` if there are too many."""
        if connection not in self._connections or connection.is_answered:
            return
        if len(self._streams) >= self._limits.streams:
            raise Refusal(503, f"too many {self._service.name} streams")
        connection.deadline = None
        connection.begin_stream(response)
        if connection.is_stream:
            self._streams[connection] = None
        self._send(connection)

    @property
    def has_streams(self) -> bool:
        """Whether anybody would get what is pushed."""
        return bool(self._streams)

    def push(self, chunk: Chunk) -> None:
        """Send a part of the stream to each client of one; those that have not taken what came before are closed."""
        for connection in list(self._streams):
            if connection.waiting_bytes + len(chunk.framed) > self._limits.stream_bytes:
                self._close(connection)
                continue
            connection.push(chunk)
            self._send(connection)

    def _send(self, connection: Connection) -> None:
        """Write what the client of a stream takes now; it may be late with the rest for the time of a response."""
        was_waiting = connection.deadline is not None
        connection.flush()
        if not connection.waiting_bytes:
            connection.deadline = None
        elif not was_waiting:
            connection.deadline = self._clock() + self._limits.request_time
        self._update_events(connection)

    def sweep(self) -> None:
        """End connections that take too long; to be called at least about once a second."""
        now = self._clock()
        for connection in [c for c in self._connections if c.deadline is not None and c.deadline <= now]:
            self._close(connection)
        for sock in [sock for sock, until in self._pausing.items() if until <= now]:
            self._watch(sock)
            del self._pausing[sock]
        self._failures.sweep()

    def close(self) -> None:
        """Close every connection; the listeners stay open."""
        for connection in list(self._connections):
            self._close(connection)
        for sock in self._sockets:
            if sock not in self._pausing:
                self._selector.unregister(sock)
        self._sockets.clear()
        self._pausing.clear()

    def _watch(self, sock: socket.socket) -> None:
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._accept(sock))

    def _accept(self, listener: socket.socket) -> None:
        pause = self._limits.accept_pause
        try:
            sock, _address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._failures.failed(f"{self._service.name}: accept", error, f"it is retried every {pause:g} s")
            self._selector.unregister(listener)
            self._pausing[listener] = self._clock() + pause
            return
        try:
            sock.setblocking(False)
            peer = self._service.admit(sock)
            asking = len(self._connections) - len(self._streams)
            if asking >= self._limits.connections and not self._made_room():
                raise Refusal(503, f"too many {self._service.name} connections")
        except Refusal as refusal:
            _reject(sock, self._service.refuse(refusal))
            return
        except OSError as error:
            self._failures.failed(f"{self._service.name}: a connection", error, "it is closed")
            _close(sock)
            return
        connection = Connection(sock, peer, self._limits.request_bytes)
        connection.deadline = self._clock() + self._limits.request_time
        self._connections[connection] = None
        self._events[connection] = selectors.EVENT_READ
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._on_ready(connection))

    def _made_room(self) -> bool:
        if not self._limits.evicts_oldest:
            return False
        waiting = (c for c in self._connections if c.deadline is not None and not c.is_answered)
        longest = next(waiting, None)
        if longest is not None:
            self._close(longest)
        return longest is not None

    def _on_ready(self, connection: Connection) -> None:
        if connection not in self._connections:
            # Closed while an earlier event was handled.
            return
        try:
            request = connection.turn()
            if request is not None:
                connection.deadline = None
                self._service.handle(connection, request)
            elif connection.is_stream and not connection.waiting_bytes:
                connection.deadline = None
        except Refusal as refusal:
            self.answer(connection, self._service.refuse(refusal))
            return
        except Exception as error:  # noqa: BLE001 -- it is logged
            # A request must not end the service, whatever fails in its handling.
            self._failures.failed(f"{self._service.name}: a request", error, "it is refused", logging.ERROR)
            self.answer(connection, self._service.refuse(Refusal(500, "failed; the log says why")))
            return
        self._update_events(connection)

    def _update_events(self, connection: Connection) -> None:
        """Register for the events that the connection waits for; close it if it is done."""
        if connection.is_done:
            self._close(connection)
        elif connection in self._connections:
            wanted = selectors.EVENT_WRITE if connection.is_answered else selectors.EVENT_READ
            if connection.is_stream:
                # Reading shows that the client has left.
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.waiting_bytes else 0)
            if wanted != self._events[connection]:
                self._events[connection] = wanted
                self._selector.modify(connection.sock, wanted, lambda: self._on_ready(connection))

    def _close(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        del self._connections[connection], self._events[connection]
        self._streams.pop(connection, None)
        self._selector.unregister(connection.sock)
        _close(connection.sock)
        self._service.closed(connection)


def _reject(sock: socket.socket, response: Response) -> None:
    """Send the response without reading, as far as that does not block."""
    with contextlib.suppress(OSError):
        sock.send(encode(response))
    _close(sock)


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.close()
