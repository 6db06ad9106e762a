"""The first protocol of a connection: a PROXY header if one is expected, then a TLS handshake, then HTTP."""

import socket

from asgi_master.worker.accept.proxy_protocol import ProxyHeaderReader
from asgi_master.worker.accept.tls import TlsHandshake
from asgi_master.worker.http.h1_sessions import plaintext_protocol
from asgi_master.worker.transport.connection_state import NEW, ConnectionState
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.socket_transport import SocketTransport
from asgi_master.worker.transport.stream_transport import StreamProtocol
from asgi_master.worker.transport.tls import TlsServer

_HEADER_TO_COME = ConnectionState(expects_proxy_header=True)


def open_connection(
    context: WorkerContext,
    sock: socket.SocketType,
    ends: Endpoints,
    *,
    tls: TlsServer | None = None,
    state: ConnectionState | None = None,
) -> None:
    """Serve a connection between these ends, beginning with what has arrived on it.

    `tls` is what TLS is spoken with. `state` is that in another worker, if it comes from there.
    """
    if state is None:
        state = NEW if context.proxies is None else _HEADER_TO_COME
    transport = SocketTransport(context.loop, context.poller, sock, ends)
    # A connection notes in its context whom it serves.
    transport.context.run(_start, transport, context, tls, state)


def _start(
    transport: SocketTransport, context: WorkerContext, tls: TlsServer | None, state: ConnectionState
) -> None:
    transport.start(first_protocol(context, tls, state))


def first_protocol(context: WorkerContext, tls: TlsServer | None, state: ConnectionState) -> StreamProtocol:
    """What reads the first bytes of a connection in this state."""
    if state.expects_proxy_header:
        return ProxyHeaderReader(context, state, tls)
    if tls is not None:
        return TlsHandshake(context, tls, state)
    return plaintext_protocol(context, state)
