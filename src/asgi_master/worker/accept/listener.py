"""A listening socket as a worker uses it: it accepts without waiting, and knows what its connections have in common.

All workers share the socket, and any of them can change whether its calls wait.
"""

import socket
import struct
from ipaddress import ip_address

from asgi_master.asgi.types import Address
from asgi_master.worker.transport.endpoints import Endpoints, address_of

_Socket = socket.SocketType
"""The class below `socket.socket`: to make one, no enumerations are looked up in Python (ADR 26)."""

# With this flag an object has no time-out, whatever default the application has set (`socket.setdefaulttimeout`): it
# would wait that long. The kernel learns nothing of it; each call of a transport says itself that it does not wait.
_KIND = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_QUEUED = struct.Struct("@24xI")
"""Of Linux' `struct tcp_info`, as far as the number of connections in a listener's queue."""


class Listener:
    """A listening socket of this worker."""

    __slots__ = ("_family", "_is_unix", "_own", "_protocol", "is_own", "is_secure", "sock")

    def __init__(self, sock: socket.socket, *, is_secure: bool = False, is_own: bool = False) -> None:
        """Prepares `sock`. `is_secure`: TLS is spoken there; `is_own`: no other worker accepts there."""
        self.sock = sock
        self.is_secure = is_secure
        self.is_own = is_own
        self._family = int(sock.family)
        self._protocol = sock.proto
        self._is_unix = sock.family == socket.AF_UNIX
        self._own = _own_address(sock)
        sock.setblocking(False)
        if not self._is_unix:
            # Accepted sockets have it from their listener: what is written leaves at once.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def accept(self) -> tuple[socket.SocketType, Endpoints]:
        """The next connection. Raises `OSError`; `BlockingIOError` if there is none."""
        listening = self.sock
        # It is shared, and so is whether it waits; a request that was just served may have changed that too.
        listening.setblocking(False)
        descriptor, peer = listening._accept()  # type: ignore[attr-defined] # noqa: SLF001 -- `accept` without its enumerations
        connection = _Socket(self._family, _KIND, self._protocol, descriptor)
        own = self._own
        if own is None:
            return connection, Endpoints.of_socket(connection, peer, is_tls=self.is_secure)
        client = None if self._is_unix else (peer[0], peer[1])
        return connection, Endpoints(client, own, self.is_secure, self._is_unix)

    def queued(self) -> int:
        """How many connections wait in the queue; 0 if the kernel does not say, as of a Unix socket."""
        if self._is_unix:
            return 0
        (queued,) = _QUEUED.unpack(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED.size))
        return int(queued)


def _own_address(sock: socket.socket) -> Address | None:
    """The address of each socket that is accepted from this one; `None` if it listens on several."""
    name = sock.getsockname()
    is_any = isinstance(name, tuple) and ip_address(name[0]).is_unspecified
    return None if is_any else address_of(name)
