"""The opening of a connection on which a PROXY header must come first."""

from asgi_master.http.proxy_protocol import ProxyHeader, ProxyHeaderError, read_header
from asgi_master.worker.accept.tls import TlsHandshake
from asgi_master.worker.http.h1_sessions import plaintext_protocol
from asgi_master.worker.http.timeouts import DeadlineTimer, Wait
from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.context import Connection, WorkerContext
from asgi_master.worker.transport.rejected_connections import Rejection
from asgi_master.worker.transport.socket_transport import SocketTransport
from asgi_master.worker.transport.stream_transport import StreamProtocol, StreamTransport
from asgi_master.worker.transport.tls import TlsServer


class ProxyHeaderReader(Connection, StreamProtocol):
    """The protocol of a connection until its PROXY header is complete; TLS or HTTP goes on."""

    __slots__ = ("_is_over", "_received", "_timer", "_tls", "_transport", "context", "rests_until")

    def __init__(self, context: WorkerContext, state: ConnectionState, tls: TlsServer | None) -> None:
        self.context = context
        self._tls = tls
        self._received = bytearray()
        self._timer = DeadlineTimer(context.http)
        if state.idle_since is not None:
            self._timer.resume(Wait.FIRST_BYTE, 0, state.idle_since, now=context.loop.time())
        self._is_over = False

    # -- called by the transport -------------------------------------------------------------------

    def connection_made(self, transport: StreamTransport) -> None:
        """The connection was accepted, or taken over before it said anything."""
        context = self.context
        assert isinstance(transport, SocketTransport)
        self._transport = transport
        self._register()
        endpoints = transport.endpoints
        if endpoints.client is None and not endpoints.is_unix:
            self._transport.abort()  # the peer is gone already, as some health checks are
        # Where it is not spoken (any more), the worker that gave this connection away has judged its peer.
        elif context.proxies is not None and not endpoints.are_trusted_by(context.proxies):
            self._refuse("its address is not in proxy-protocol-allow-ips", 403)

    def data_received(self, data: bytes) -> None:
        """A piece of the header arrived, perhaps with more behind it."""
        if self._is_over:
            return
        self._received += data
        try:
            header = read_header(self._received)
        except ProxyHeaderError as error:
            self._refuse(str(error), 400)
            return
        if header is not None:
            self._go_on_after(header)

    def connection_lost(self) -> None:
        """The peer left before its header was complete; a health check may do that at once."""
        self._end()

    # -- called by the worker ----------------------------------------------------------------------

    def sweep(self, now: float) -> float:
        wait = Wait.HEADER if self._received else Wait.FIRST_BYTE
        if self._timer.is_over(wait, 0, now=now, draining=self.context.draining):
            if self._received:
                self._refuse("its PROXY header did not arrive in time", 408)
            else:
                self._transport.close()
        return 0.0

    def drain(self, transfer: TransferConnection | None = None) -> None:
        """One that cannot move gets a little time to come to its request."""
        if transfer is None or not self.is_idle() or self._tls is not None:
            return
        since = self._timer.since(Wait.FIRST_BYTE, 0, now=self.context.loop.time())
        if self._transport.move(transfer, ConnectionState(expects_proxy_header=True, idle_since=since)):
            self._end()

    def signal_disconnect(self) -> None:
        """See `Connection.signal_disconnect`."""

    def cancel(self) -> None:
        self._transport.abort()

    def is_idle(self) -> bool:
        """Whether nothing was received."""
        return not (self._received or self._is_over or self._transport.is_closing())

    # ----------------------------------------------------------------------------------------------

    def _go_on_after(self, header: ProxyHeader) -> None:
        rest = bytes(self._received[header.size :])
        self._end()
        context, transport = self.context, self._transport
        state = ConnectionState(transport.endpoints.with_proxy_header(header))
        following: StreamProtocol
        if self._tls is None:
            following = plaintext_protocol(context, state)
        else:
            following = TlsHandshake(context, self._tls, state, is_a_check=not header.is_proxied)
        transport.set_protocol(following)
        following.connection_made(transport)
        if rest:
            following.data_received(rest)

    def _refuse(self, reason: str, status: int) -> None:
        """Close without an answer, which the protocol does not have; `status` is what HTTP would say."""
        client, context = self._transport.endpoints.client, self.context
        peer = client[0] if client else "a Unix socket"
        context.rejected.log(Rejection.PEER, peer, reason, context.loop.time())
        if context.access_log is not None:
            context.access_log.refused(client, b"", status, 0)
        self._end()
        self._transport.abort()

    def _end(self) -> None:
        """The connection is no longer ours."""
        if self._is_over:
            return
        self._is_over = True
        self._transport_lost()
        self._unregister()
