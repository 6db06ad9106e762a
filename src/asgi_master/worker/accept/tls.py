"""A connection until its TLS handshake is complete.

What it speaks then is what the handshake agreed on (ALPN, RFC 7301).
"""

import errno
import logging
import ssl
from collections.abc import Callable
from typing import Final

from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.http.h2_connection import H2Connection
from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.context import Connection, WorkerContext
from asgi_master.worker.transport.rejected_connections import Rejection
from asgi_master.worker.transport.socket_transport import SocketTransport
from asgi_master.worker.transport.stream_transport import StreamProtocol, StreamTransport
from asgi_master.worker.transport.tls import TlsServer, tls_extension
from asgi_master.worker.transport.tls_refusal import Opening, is_of_certificate, reason_of
from asgi_master.worker.transport.tls_transport import TlsTransport
from asgi_master.worker.transport.turns import TakesTurns

log = logging.getLogger("asgi_master")

_LAST_CALL = 1.0
"""Seconds that a handshake still gets in a draining worker once all other connections are gone."""
_LINGER = 1.0
_LINGER_BYTES = 256 * 1024
"""For how long, in seconds, and for how much a refused peer is still read, so that it comes to read why.

A socket that is closed while something is unread resets the connection, and the peer may lose the answer (RFC 9112
§9.6). In TLS 1.3 a client whose certificate is refused has mostly sent its request already.
"""

_PROTOCOLS: Final[dict[str, Callable[[WorkerContext, ConnectionState], StreamProtocol]]] = {
    "http/1.1": H1Connection,
    "h2": H2Connection,
}
"""By the name that ALPN has for what they speak."""


class TlsHandshake(TakesTurns, Connection, StreamProtocol):
    """The protocol of a connection during its handshake; a step of it takes a third of a millisecond, or more."""

    __slots__ = (
        "_bios",
        "_deadline",
        "_dropped",
        "_is_a_check",
        "_is_over",
        "_last_call",
        "_opening",
        "_secure",
        "_state",
        "_tls",
        "context",
        "rests_until",
    )

    _transport: SocketTransport

    def __init__(
        self, context: WorkerContext, tls: TlsServer, state: ConnectionState, *, is_a_check: bool = False
    ) -> None:
        """`is_a_check`: it comes from a proxy itself, which connects and closes without a handshake (PROXY LOCAL)."""
        super().__init__(context.turns)
        self.context = context
        self._tls = tls
        self._state = state
        self._is_a_check = is_a_check
        self._opening = Opening()
        self._bios = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._secure = tls.accept(*self._bios)
        self._deadline = context.loop.time() + tls.handshake_timeout
        self._dropped = -1  # bytes that were dropped since the peer was refused; -1 before
        self._is_over = False
        self._last_call = 0.0  # until when it may go on in a draining worker; 0 while that is not so

    # -- called by the transport -------------------------------------------------------------------

    def connection_made(self, transport: StreamTransport) -> None:
        """The connection was accepted, or its PROXY header is complete."""
        assert isinstance(transport, SocketTransport)
        self._transport = transport
        self._register()

    def data_received(self, data: bytes) -> None:
        """A part of the handshake arrived, perhaps with a request behind it."""
        if self._dropped >= 0:
            self._dropped += len(data)
            if self._dropped > _LINGER_BYTES:
                self._transport.abort()
            return
        self._opening.feed(data)
        self._bios[0].write(data)
        turns = self._turns
        turns.slice()
        if turns.is_spent:
            self._queue_up()
        else:
            self._step()

    def eof_received(self) -> bool:
        """The peer left."""
        if self._dropped < 0:
            self._failed(
                ConnectionResetError(errno.ECONNRESET, "the peer left before the end of the handshake")
            )
        return False

    def connection_lost(self) -> None:
        """The transport is closed."""
        self.eof_received()
        self._leave()

    # -- the handshake -----------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._dropped < 0 and not self._is_over:
            self._step()

    def _step(self) -> None:
        """Answer what the peer sent."""
        try:
            self._secure.do_handshake()
        except ssl.SSLWantReadError:
            self._transport.write(self._bios[1].read())
        except ssl.SSLError as error:
            self._refuse(error)
        else:
            self._complete()

    def _complete(self) -> None:
        secure, transport = self._secure, self._transport
        protocol = _PROTOCOLS[secure.selected_alpn_protocol() or "http/1.1"](self.context, self._state)
        self._leave()
        self._let_off()
        TlsTransport(transport, secure, self._bios, tls_extension(secure), self._turns).start(protocol)

    def _refuse(self, error: ssl.SSLError) -> None:
        """Tell the peer why, and give it time to read that."""
        self._transport.write(self._opening.refusal(self._bios[1].read()))
        self._transport.write_eof()
        self._failed(error)
        self._deadline = self.context.loop.time() + _LINGER

    def _failed(self, error: OSError) -> None:
        """Count it, and say why; aloud if it is the client's certificate, which both sides would look for in vain."""
        self._dropped = 0
        context = self.context
        endpoints = self._state.ends or self._transport.endpoints
        if self._is_a_check:
            return
        context.stats.tls_failures += 1
        client = endpoints.client
        # Who left before the end of it was not refused.
        if context.access_log is not None and isinstance(error, ssl.SSLError | TimeoutError):
            context.access_log.refused(client, b"", 400 if isinstance(error, ssl.SSLError) else 408, 0)
        reason = reason_of(error)
        peer = client[0] if client else "a Unix socket"
        if is_of_certificate(error):
            context.rejected.log(Rejection.CERTIFICATE, peer, reason, context.loop.time())
        else:
            log.debug("TLS handshake with %s failed: %s", peer, reason)

    def _leave(self) -> None:
        """Count no more: the connection that follows counts itself."""
        if not self._is_over:
            self._is_over = True
            self._transport_lost()
            self._unregister()

    # -- called by the worker ----------------------------------------------------------------------

    def sweep(self, now: float) -> float:
        if now >= self._deadline:
            if self._dropped < 0:
                self._failed(TimeoutError(errno.ETIMEDOUT, "the handshake did not end in time"))
            self._transport.abort()
        return 0.0

    def drain(self, transfer: TransferConnection | None = None) -> None:
        """A handshake cannot move; what follows it is served."""
        if transfer is None:
            now = self.context.loop.time()
            self._last_call = self._last_call or now + _LAST_CALL
            if now >= self._last_call:
                self.cancel()

    def signal_disconnect(self) -> None:
        """See `Connection.signal_disconnect`."""

    def cancel(self) -> None:
        self._dropped = 0  # it did not fail
        self._transport.abort()
