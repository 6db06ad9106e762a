"""The queue through which a leaving worker's idle connections reach the others.

One `SOCK_SEQPACKET` pair for all workers: who leaves puts connections in at one end, who is ready takes them out at
the other, like a second listener. The kernel keeps what nobody has taken yet, unread request bytes included.
"""

import contextlib
import socket
from collections.abc import Iterator

from asgi_master import faults
from asgi_master.ipc import descriptors

_MARK = b"c"
_NEW = b"n"
_MOST_NOTE = 1024


class HandOff:
    """Both ends of the queue; every process holds both, so that it outlives any of them."""

    def __init__(self, put_end: socket.socket, take_end: socket.socket) -> None:
        self._put = put_end
        self._take = take_end
        # Nobody may wait here: when it is full the giver keeps its connection, when it is empty a sibling was first.
        self._put.setblocking(False)
        self._take.setblocking(False)

    @classmethod
    def create(cls) -> "HandOff":
        """A new, empty queue."""
        return cls(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))

    @classmethod
    def of_fds(cls, put_fd: int, take_fd: int) -> "HandOff":
        """The queue of which these descriptors are the ends."""
        return cls(socket.socket(fileno=put_fd), socket.socket(fileno=take_fd))

    @property
    def fds(self) -> tuple[int, int]:
        """Both ends, to pass on."""
        return self._put.fileno(), self._take.fileno()

    def put(self, connection: socket.socket, note: bytes = b"") -> bool:
        """Offer a connection to the other workers; false if the queue is full. The caller still closes its own copy.

        `note`, of a few hundred bytes at most, is for the worker that takes it.
        """
        try:
            faults.point("before_hand_off")
        except OSError:
            return False
        given = self._send(_MARK + note, connection)
        faults.point("mid_hand_off")
        return given

    def put_new(self, connection: socket.socket) -> bool:
        """As `put`, of a connection that nobody has served yet."""
        return self._send(_NEW, connection)

    def _send(self, data: bytes, connection: socket.socket) -> bool:
        try:
            socket.send_fds(self._put, [data], [connection.fileno()])
        except OSError:
            return False
        return True

    def take(self, most: int) -> Iterator[tuple[socket.socket, bytes | None]]:
        """Up to `most` connections others gave away, each with its note; `None` if nobody has served it yet."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                data, fds = descriptors.receive(self._take, len(_MARK) + _MOST_NOTE, 1)
                faults.point("after_take")
                for fd in fds:
                    yield socket.socket(fileno=fd), None if data == _NEW else data[len(_MARK) :]

    def close(self) -> None:
        """Close both ends; connections that nobody holds another copy of are closed with them."""
        self._put.close()
        self._take.close()
