"""Whose connection it is: as the socket says, or as a proxy said in its PROXY header."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgi_master.asgi.scope import Address, ForwardedScopes, HttpScopes
from asgi_master.http.forwarded import Trust
from asgi_master.http.proxy_protocol import ProxyHeader
from asgi_master.settings.peers import ANY, UNIX, parse_peer
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.stream_socket import address_of


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Both ends of a connection, from the application's point of view."""

    client: Address | None
    server: Address | None
    is_tls: bool
    """Whether the client spoke TLS, to us or to the proxy."""
    is_unix: bool = False
    """Whether the peer came through a Unix socket of ours."""

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> "Endpoints":
        """As a transport says."""
        info = transport.get_extra_info
        is_tls = info("sslcontext") is not None
        try:
            return cls._named(info("peername"), info("sockname"), is_tls=is_tls)
        except OSError:
            return cls(None, None, is_tls)  # the kernel does not tell

    @classmethod
    def of_secure(cls, sock: socket.socket) -> "Endpoints":
        """As a socket says, on which TLS will be spoken."""
        try:
            peer = sock.getpeername()
        except OSError:
            peer = None  # gone already
        try:
            own = sock.getsockname()
        except OSError:
            own = None  # the kernel does not tell
        return cls._named(peer, own, is_tls=True)

    @classmethod
    def _named(cls, peer: object, own: object, *, is_tls: bool) -> "Endpoints":
        client, server = address_of(peer), address_of(own)
        # The peer of a Unix socket has no address, whatever it calls itself.
        is_unix = server is not None and server[1] is None
        return cls(None if is_unix else client, server, is_tls, is_unix)

    def told_by(self, header: ProxyHeader) -> "Endpoints":
        """What they are if the peer at the socket says this."""
        if not header.is_proxied:
            return self
        return Endpoints(header.source, header.destination or self.server, header.is_tls or self.is_tls)

    def are_believed_by(self, trust: Trust) -> bool:
        """Whether the peer is one to believe."""
        if self.is_unix:
            return trust.believes(None)
        return self.client is not None and trust.believes(self.client[0])


def trust_of(peers: Iterable[str]) -> Trust:
    """Who is trusted where these are listed; see `settings.peers`."""
    parsed = [parse_peer(peer) for peer in peers]
    return Trust(
        [peer for peer in parsed if not isinstance(peer, str)],
        any_peer=ANY in parsed,
        unix_peers=UNIX in parsed,
    )


def scopes_of(context: WorkerContext, ends: Endpoints, tls: dict[str, Any] | None) -> HttpScopes:
    """What makes the scopes of the connection's requests, `tls` as their extension of that name.

    Whether the peer is believed is decided here, once.
    """
    forwarded = context.forwarded
    make: Callable[..., HttpScopes] = HttpScopes
    if forwarded is not None and ends.are_believed_by(forwarded.trust):
        make = partial(ForwardedScopes, forwarded)
    return make(
        client=ends.client,
        server=ends.server,
        scheme="https" if ends.is_tls else "http",
        root_path=context.root_path,
        tls=tls,
    )
