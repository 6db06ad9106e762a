"""A connection until its TLS handshake is complete, after a PROXY header if one is expected.

What it speaks then is what the handshake agreed on (ALPN, RFC 7301).
"""

import asyncio
import logging
import socket
import ssl
from functools import partial

from asgi_master.asgi.types import Address
from asgi_master.http.forwarded import Trust
from asgi_master.http.proxy_protocol import ProxyHeader, ProxyHeaderError, read_header
from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.context import Connection, WorkerContext
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.rejected_connections import Rejection
from asgi_master.worker.transport.tls import TlsServer
from asgi_master.worker.transport.tls_refusal import is_of_certificate, reason_of

log = logging.getLogger("asgi_master")

_LAST_CALL = 1.0
"""Seconds that a handshake still gets in a draining worker once all other connections are gone."""
_PIECE = 4096
"""Bytes of a PROXY header that are looked at together."""


_PROTOCOLS = {"http/1.1": H1Connection}
"""By the name that ALPN has for what they speak."""


def protocol_of(context: WorkerContext, state: ConnectionState, agreed: str | None) -> asyncio.Protocol:
    """The protocol of a connection; `agreed` is what ALPN chose, `None` if the client does not use it."""
    return _PROTOCOLS[agreed or "http/1.1"](context, state)


class _NoHeaderError(Exception):
    """The peer is not to be served, for a reason that is worth a word if it is not empty."""

    def __init__(self, reason: str = "", status: int = 400) -> None:
        """`status` is what HTTP would say."""
        super().__init__(reason)
        self.status = status


class TlsHandshake(Connection):
    """A `Connection`, so that a worker that leaves waits for it."""

    __slots__ = ("_client", "_is_a_check", "_last_call", "_task", "context")

    def __init__(self, context: WorkerContext, tls: TlsServer, sock: socket.socket) -> None:
        self.context = context
        self._last_call = 0.0
        self._is_a_check = False
        self._client: Address | None = None
        self._register()
        peer = _peer(sock)
        self._task = context.loop.create_task(self._open(tls, sock))
        self._task.add_done_callback(lambda task: self._done(task, peer))

    async def _open(self, tls: TlsServer, sock: socket.socket) -> None:
        """Become an HTTP connection. Raises `_NoHeaderError`, `OSError`."""
        context = self.context
        try:
            self._client = Endpoints.of_secure(sock).client
            ends = None if context.proxies is None else await self._take_ends(sock, context.proxies)
        except BaseException:
            sock.close()
            raise
        begin = await tls.shake_hands(
            context.loop, sock, context.turns, partial(protocol_of, context, ConnectionState(ends))
        )
        self._leave()
        begin()

    async def _take_ends(self, sock: socket.socket, proxies: Trust) -> Endpoints:
        """Whose connection it is, as a trusted peer says. Raises `_NoHeaderError`."""
        ends = Endpoints.of_secure(sock)
        if ends.client is None and not ends.is_unix:
            raise _NoHeaderError  # the peer is gone already, as some health checks are
        if not ends.are_trusted_by(proxies):
            raise _NoHeaderError("its address is not in proxy-protocol-allow-ips", 403)
        header = await self._take_header(sock)
        self._is_a_check = not header.is_proxied
        told = ends.with_proxy_header(header)
        self._client = told.client
        return told

    async def _take_header(self, sock: socket.socket) -> ProxyHeader:
        """Read the PROXY header and no byte more: what follows is TLS' own. Raises `_NoHeaderError`."""
        received = bytearray()
        header: ProxyHeader | None = None
        try:
            async with asyncio.timeout(self.context.http.header_timeout or None):
                while header is None:
                    await _readable(self.context.loop, sock)
                    seen = sock.recv(_PIECE, socket.MSG_PEEK)
                    if not seen:
                        raise _NoHeaderError
                    received += seen
                    header = read_header(received)
                    # Bytes after which the header is still incomplete are all its own.
                    sock.recv(len(seen) - (0 if header is None else len(received) - header.size))
        except TimeoutError:
            reason = "its PROXY header did not arrive in time" if received else ""
            raise _NoHeaderError(reason, 408) from None
        except ProxyHeaderError as error:
            raise _NoHeaderError(str(error)) from None
        except OSError:
            raise _NoHeaderError from None  # it is gone
        return header

    def _leave(self) -> None:
        """Count no more: the connection that follows counts itself."""
        if self in self.context.connections:
            self._transport_lost()
            self._unregister()

    def _done(self, task: asyncio.Task[None], peer: str) -> None:
        self._leave()
        context = self.context
        error = None if task.cancelled() else task.exception()
        if isinstance(error, _NoHeaderError):
            if reason := str(error):
                context.rejected.log(Rejection.PEER, peer, reason, context.loop.time())
                self._record(error.status)
        elif error is not None:
            # PROXY LOCAL connections are health checks: they connect and close without a handshake.
            context.stats.tls_failures += not self._is_a_check
            # Who left before the end of it was not refused.
            if not self._is_a_check and isinstance(error, ssl.SSLError | ConnectionAbortedError):
                self._record(400 if isinstance(error, ssl.SSLError) else 408)
            self._tell(error, peer)

    def _tell(self, error: BaseException, peer: str) -> None:
        """Say why it failed; aloud if it is the client's certificate, which both sides would look for in vain."""
        reason = reason_of(error)
        if is_of_certificate(error):
            who = peer if self._client is None else self._client[0]
            self.context.rejected.log(Rejection.CERTIFICATE, who, reason, self.context.loop.time())
        else:
            log.debug("TLS handshake with %s failed: %s", peer, reason)

    def _record(self, status: int) -> None:
        """Tell the access log of one that was refused without a word."""
        if self.context.access_log is not None:
            self.context.access_log.refused(self._client, b"", status, 0)

    def sweep(self, now: float) -> None:
        """Header and handshake have their own time-outs."""

    def drain(self, transfer: TransferConnection | None = None) -> None:
        """A handshake cannot move; what follows it is served."""
        if transfer is None:
            now = self.context.loop.time()
            self._last_call = self._last_call or now + _LAST_CALL
            if now >= self._last_call:
                self._task.cancel()

    def signal_disconnect(self) -> None:
        """See `Connection.signal_disconnect`."""

    def cancel(self) -> None:
        self._task.cancel()


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Return once the socket can be read."""
    can_be_read = asyncio.Event()
    loop.add_reader(sock, can_be_read.set)
    try:
        await can_be_read.wait()
    finally:
        loop.remove_reader(sock)


def _peer(sock: socket.socket) -> str:
    try:
        name = sock.getpeername()
    except OSError:
        return "a peer that is gone"
    return str(name[0]) if isinstance(name, tuple) else "a Unix socket"
