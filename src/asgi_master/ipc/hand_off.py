"""The queue through which a draining worker transfers its idle connections to other workers.

One `SOCK_SEQPACKET` pair for all workers: draining workers put connections in at one end, ready workers take them out
at the other, like from a second listener. The kernel keeps those that are not taken yet, unread request bytes included.

Rules:
  - What comes out of the queue is untrusted: anything that is not a connection is closed.
  - Any process can shut the queue down for all of them. The master detects that and replaces the queue.
"""

import contextlib
import errno
import os
import select
import socket
from collections.abc import Iterator
from enum import Enum, auto

from asgi_master import faults
from asgi_master.ipc import descriptors
from asgi_master.records import record

_MARK = b"c"
_NEW = b"n"
_NEW_TLS = b"t"
_MAX_METADATA = 2048
_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})
LARGE_METADATA = 96 * 1024
"""Bytes of metadata that fit a datagram beside its descriptor, whatever the system's default buffers."""
_GARBAGE_A_TURN = 64
"""Number of other objects that are closed before `take` returns."""


@record
class TransferredConnection:
    """A connection from the queue; the caller of `take` owns it."""

    connection: socket.socket
    metadata: bytes | None
    """From the worker that served it; `None` if it was not served yet."""
    is_tls: bool
    """Whether its client begins with a TLS handshake. After a handshake, connections are not transferred."""


_LATER = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
"""Errors of a queue that takes no more now, of the kernel, or of this user's descriptors in queues."""


class Outcome(Enum):
    """What became of a connection that was put into a queue."""

    SENT = auto()
    FULL = auto()
    """The queue takes no more now."""
    OVER = auto()
    """Nothing is taken from the queue any more."""


class PutEnd:
    """The end of another worker's queue that takes connections."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def put(self, connection: socket.SocketType, metadata: bytes) -> Outcome:
        """As `HandOff.put`."""
        try:
            descriptors.send(self._socket, _MARK + metadata, [connection.fileno()])
        except OSError as error:
            return Outcome.FULL if error.errno in _LATER else Outcome.OVER
        return Outcome.SENT

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class HandOff:
    """Both ends of the queue; every process holds both, so that it outlives any of them."""

    def __init__(
        self, put_end: socket.socket, take_end: socket.socket, most_metadata: int = _MAX_METADATA
    ) -> None:
        self._put = put_end
        self._take = take_end
        self._most_metadata = most_metadata
        self.is_over = False
        """Whether it was shut down, as far as `take` has seen."""
        self.refused = 0
        """Number of objects from the queue that were not connections."""

    @classmethod
    def create(cls) -> "HandOff":
        """A new, empty queue."""
        return cls(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))

    @classmethod
    def of_fds(cls, put_fd: int, take_fd: int, most_metadata: int = _MAX_METADATA) -> "HandOff":
        """The queue of which these descriptors are the ends."""
        return cls(socket.socket(fileno=put_fd), socket.socket(fileno=take_fd), most_metadata)

    @property
    def fds(self) -> tuple[int, int]:
        """Both ends, to pass on."""
        return self._put.fileno(), self._take.fileno()

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        """The end for `put`, and the end for `take`."""
        return self._put, self._take

    @property
    def is_shut_down(self) -> bool:
        """Whether an end was shut down, so that the queue must be replaced."""
        poll = select.poll()
        for end in (self._put, self._take):
            poll.register(end, select.POLLRDHUP)
        return any(
            found & (select.POLLRDHUP | select.POLLHUP | select.POLLNVAL) for _fd, found in poll.poll(0)
        )

    def become(self, other: "HandOff") -> "HandOff":
        """Replace this queue by the other one; returns the previous one, for the caller to close."""
        before = HandOff(self._put, self._take)
        self._put, self._take = other.ends
        self.is_over = False
        return before

    def put(self, connection: socket.SocketType, metadata: bytes) -> bool:
        """Offer a connection to the other workers; false if the queue is full. The caller still closes its own copy.

        `metadata`, of two kilobytes at most, describes the connection to the worker that takes it.
        """
        try:
            faults.fault_point("before_hand_off")
        except OSError:
            return False
        given = self._send(_MARK + metadata, connection)
        faults.fault_point("mid_hand_off")
        return given

    def put_new(self, connection: socket.SocketType, *, is_tls: bool) -> bool:
        """As `put`, for a connection that was not served yet."""
        return self._send(_NEW_TLS if is_tls else _NEW, connection)

    def _send(self, data: bytes, connection: socket.SocketType) -> bool:
        # Never waits: if the queue is full, the worker keeps its connection.
        try:
            descriptors.send(self._put, data, [connection.fileno()])
        except OSError:
            return False
        return True

    def take(self, most: int) -> Iterator[TransferredConnection]:
        """Up to `most` connections of other workers. Raises `OSError` if this process may have no more descriptors."""
        given, looks = 0, most + _GARBAGE_A_TURN
        with contextlib.suppress(BlockingIOError):
            while given < most and looks > 0 and not self.is_over:
                looks -= 1
                # A connection that arrives when no descriptor is free is lost, and its client is reset.
                os.close(os.dup(self._take.fileno()))
                data, fds = descriptors.receive(
                    self._take, len(_MARK) + self._most_metadata, 1, descriptors.DO_NOT_WAIT
                )
                faults.fault_point("after_take")
                if not data and not fds and self.is_shut_down:
                    self.is_over = True
                for fd in fds:
                    connection = self._connection(data, fd)
                    if connection is not None:
                        given += 1
                        is_new = data in (_NEW, _NEW_TLS)
                        metadata = None if is_new else data[len(_MARK) :]
                        yield TransferredConnection(connection, metadata, is_tls=data == _NEW_TLS)

    def _connection(self, data: bytes, fd: int) -> socket.socket | None:
        """The connection behind the descriptor that came with the data; `None`, and it is closed, if it is none."""
        try:
            connection = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            self.refused += 1
            return None
        try:
            if _may_be_served(data, connection):
                # Its last close must not wait, whatever the sender has set.
                descriptors.do_not_linger(connection)
                if connection.family == socket.AF_UNIX:
                    descriptors.refuse(connection)
                connection.getpeername()
                return connection
        except OSError:
            descriptors.close_at_once(connection)  # its client is gone
            return None
        self.refuse(connection)
        return None

    def refuse(self, connection: socket.socket) -> None:
        """Close an object that no worker of this program put into the queue."""
        self.refused += 1
        descriptors.close_at_once(connection)

    def end(self) -> None:
        """Let nothing more be put into it; what is there can be taken until `is_over`."""
        with contextlib.suppress(OSError):
            self._take.shutdown(socket.SHUT_RD)

    def leave_to_exit(self) -> None:
        """Leave both ends open until the process exits: a close could wait for what another process put there."""
        self._put.detach()
        self._take.detach()

    def close(self) -> None:
        """Close both ends, and with them the connections in the queue."""
        self._put.close()
        self._take.close()


def _may_be_served(data: bytes, sock: socket.socket) -> bool:
    """Whether it is a stream socket that does not listen, and came with data of this program."""
    return (
        (data in (_NEW, _NEW_TLS) or data.startswith(_MARK))
        and sock.family in _FAMILIES
        and sock.type == socket.SOCK_STREAM
        and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )
