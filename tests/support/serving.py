"""A worker's serving part in this process: a listening socket, a loop in a thread, and real connections.

    with serve(app, parser="h11", loop="asyncio") as server:
        client = server.connect()

The applications run in the loop's thread. The test fails if the loop reported an unhandled exception.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from asgi_master.http.engines import engines_of
from asgi_master.http.limits import Http2Limits, HttpLimits, WebSocketLimits
from asgi_master.worker.accept.opening import open_connection
from asgi_master.worker.transport.connection_state import ConnectionState
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.tls import TlsServer
from asgi_master.worker.wsgi.pool import ThreadPool, call_by_wsgi
from http_client import Client

TIMEOUT = 10.0
"""Seconds after which whatever a test waits for will not come."""
SWEEP_PERIOD = 0.05
DATE = "Mon, 23 Nov 2026 00:00:00 GMT"

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
PARSERS = ("auto", "h11")
VARIANTS = [
    pytest.param({"parser": parser, "loop": loop}, id=f"{parser}-{loop}")
    for parser in PARSERS
    for loop in LOOPS
]
"""Arguments of `serve`: `@pytest.mark.parametrize("variant", VARIANTS)`."""
H2_VARIANTS = [pytest.param({"loop": loop}, id=loop) for loop in LOOPS]
H2_ENGINES = [*H2_VARIANTS, pytest.param({"http2_engine": "h2"}, id="reference")]
"""The same, where HTTP/2 is spoken."""


class Server:
    """What a test holds of a running server."""

    def __init__(self, context: WorkerContext, listener: socket.socket) -> None:
        self.context = context
        self.loop = context.loop
        self.address = listener.getsockname()
        self._family = listener.family
        self._clients: list[socket.socket] = []
        self.client_tls: ssl.SSLContext | None = None
        """What `connect` speaks TLS with, so that a test of a protocol can be one of that protocol over TLS."""
        self.loop_errors: list[dict[str, Any]] = []

    @property
    def port(self) -> int:
        port: int = self.address[1]
        return port

    def connect(self, *, timeout: float = TIMEOUT, receive_buffer: int | None = None) -> socket.socket:
        """A client's socket; closed at the end of the test."""
        client = socket.socket(self._family, socket.SOCK_STREAM)
        self._clients.append(client)
        client.settimeout(timeout)
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(self.address)
        return client if self.client_tls is None else self._secured(client, self.client_tls, "localhost")

    def connect_tls(
        self, context: ssl.SSLContext, name: str = "localhost", *, receive_buffer: int | None = None
    ) -> ssl.SSLSocket:
        """A client's connection after its handshake; an end without an end of TLS is an error to it."""
        return self._secured(self.connect(receive_buffer=receive_buffer), context, name)

    def _secured(self, raw: socket.socket, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
        client = context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False)
        self._clients.append(client)
        return client

    def take(self, sock: socket.socket, state: ConnectionState | None = None) -> None:
        """Serve a connection of another worker, or a new one, from now on."""
        sock.setblocking(False)
        self.run(lambda: open_connection(self.context, sock, Endpoints.of_socket(sock), state=state))

    def client(self, *, receive_buffer: int | None = None) -> Client:
        """A connected client that speaks HTTP."""
        return Client(self.connect(receive_buffer=receive_buffer))

    def run(self, function: Callable[[], Any]) -> Any:
        """Call `function` in the loop and return what it returns (awaited, if it is a coroutine function)."""

        async def call() -> Any:
            result = function()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(TIMEOUT)

    def wait_until(self, condition: Callable[[], object]) -> Any:
        """Return what `condition`, asked in the loop again and again, says once that is true."""

        async def wait() -> Any:
            async with asyncio.timeout(TIMEOUT):
                while not (value := condition()):  # noqa: ASYNC110 -- any condition, not only those that tell
                    await asyncio.sleep(0.005)
                return value

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(TIMEOUT + 1)

    def sweep(self, now: float) -> None:
        """Look at all time-outs as of `now`, in seconds, by a clock of the test's."""
        self.run(lambda: self._sweep(now))

    def _sweep(self, now: float) -> None:
        for connection in list(self.context.connections):
            connection.sweep(now)

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def serve(
    app: Callable[..., Any],
    *,
    parser: str = "auto",
    http2_engine: str = "auto",
    loop: str = "uvloop",
    path: str | None = None,
    tls: TlsServer | None = None,
    client_tls: ssl.SSLContext | None = None,
    send_buffer: int | None = None,
    sweeps: bool = True,
    threads: int = 0,
    **overrides: Any,
) -> Iterator[Server]:
    """Serve `app` on a free port of 127.0.0.1, or on a Unix socket at `path`; by TLS, if that is given.

    The kernel takes so much to send, if `send_buffer` is given, and else as much as it likes, which may be megabytes.
    With `threads`, `app` is called by WSGI, in so many of them. Without `sweeps`, time-outs are looked at when the test says so: `Server.sweep`.
    `overrides` are fields of `WorkerContext`, `HttpLimits` (by name) or whole `http=` and `websocket=` limits.
    """
    listener = _listen(path)
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    event_loop = LOOPS[loop]()
    limit_names = set(HttpLimits.__dataclass_fields__)
    limits = {name: overrides.pop(name) for name in list(overrides) if name in limit_names}
    values: dict[str, Any] = {
        "state": {},
        "http": HttpLimits(**limits),
        "http2": Http2Limits(),
        "websocket": WebSocketLimits(),
    }
    engines = engines_of(parser, http2_engine)
    context = WorkerContext(app=app, loop=event_loop, engines=engines, **{**values, **overrides})
    context.server_fields.set_date(DATE)
    pool = ThreadPool(app, event_loop, size=threads, multiprocess=False) if threads else None
    if pool is not None:
        call_by_wsgi(context, pool)
    server = Server(context, listener)
    server.client_tls = client_tls
    event_loop.set_exception_handler(lambda _loop, details: server.loop_errors.append(details))
    started = threading.Event()
    stopped = asyncio.Event()
    thread = threading.Thread(
        target=lambda: event_loop.run_until_complete(_serve(server, listener, tls, sweeps, started, stopped))
    )
    thread.start()
    try:
        assert started.wait(TIMEOUT)
        yield server
    finally:
        server.close_clients()
        event_loop.call_soon_threadsafe(stopped.set)
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "the loop does not end"
        if pool is not None:
            pool.stop()
        event_loop.run_until_complete(event_loop.shutdown_asyncgens())
        event_loop.close()
    assert server.loop_errors == []


def _listen(path: str | None) -> socket.socket:
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen()
    listener.setblocking(False)
    return listener


async def _serve(
    server: Server,
    listener: socket.socket,
    tls: TlsServer | None,
    sweeps: bool,
    started: threading.Event,
    stopped: asyncio.Event,
) -> None:
    loop, context = server.loop, server.context

    def accept() -> None:
        with contextlib.suppress(BlockingIOError):
            connection, peer = listener.accept()
            connection.setblocking(False)
            ends = Endpoints.of_socket(connection, peer, is_tls=tls is not None)
            open_connection(context, connection, ends, tls=tls)

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_PERIOD)
            if sweeps:
                server._sweep(loop.time())

    loop.add_reader(listener, accept)
    sweeper = loop.create_task(sweep())
    started.set()
    await stopped.wait()
    loop.remove_reader(listener)
    sweeper.cancel()
    await asyncio.wait([sweeper])
    for connection in list(context.connections):
        connection.cancel()
    async with asyncio.timeout(TIMEOUT):
        while context.connections:  # noqa: ASYNC110 -- tests set `on_connection_lost` for themselves
            await asyncio.sleep(0.005)
    listener.close()
    context.poller.close()
    # Let the transports' last callbacks run.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
