"""Whose connection it is: as the socket says, or as a proxy said in its PROXY header."""

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from asgi_master.asgi.types import Address
from asgi_master.http.forwarded import Trust
from asgi_master.http.proxy_protocol import ProxyHeader
from asgi_master.settings.peers import ANY, UNIX, parse_peer


# Not frozen: each connection makes one, and that would take five times as long.
@dataclass(slots=True)
class Endpoints:
    """Both ends of a connection, from the application's point of view."""

    client: Address | None
    server: Address | None
    is_tls: bool
    """Whether the client spoke TLS, to us or to the proxy."""
    is_unix: bool = False
    """Whether the peer came through a Unix socket of ours."""

    @classmethod
    def of_socket(cls, sock: socket.SocketType, peer: object = None, *, is_tls: bool = False) -> "Endpoints":
        """As a socket says, on which TLS will be spoken or not.

        `peer` is the client's address as sockets name it, if it is known.
        """
        if peer is None:
            try:
                peer = sock.getpeername()
            except OSError:
                peer = None  # gone already
        own: object
        try:
            own = sock.getsockname()
        except OSError:
            own = None  # the kernel does not say
        client, server = address_of(peer), address_of(own)
        # The peer of a Unix socket has no address, whatever it calls itself.
        is_unix = server is not None and server[1] is None
        return cls(None if is_unix else client, server, is_tls, is_unix)

    def with_proxy_header(self, header: ProxyHeader) -> "Endpoints":
        """What they are if the peer at the socket says this."""
        if not header.is_proxied:
            return self
        return Endpoints(header.source, header.destination or self.server, header.is_tls or self.is_tls)

    def are_trusted_by(self, trust: Trust) -> bool:
        """Whether the peer is one to believe."""
        if self.is_unix:
            return trust.trusts(None)
        return self.client is not None and trust.trusts(self.client[0])


def trust_of(peers: Iterable[str]) -> Trust:
    """Who is trusted where these are listed; see `settings.peers`."""
    parsed = [parse_peer(peer) for peer in peers]
    return Trust(
        [peer for peer in parsed if not isinstance(peer, str)],
        any_peer=ANY in parsed,
        unix_peers=UNIX in parsed,
    )


def address_of(name: object) -> Address | None:
    """The ASGI form of a socket's name: host and port, or the path of a Unix socket and `None`."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    if isinstance(name, str | bytes) and name:
        return os.fsdecode(name), None
    return None
