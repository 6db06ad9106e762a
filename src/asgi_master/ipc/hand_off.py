"""The queue through which a leaving worker's idle connections reach the others.

One `SOCK_SEQPACKET` pair for all workers: who leaves puts connections in at one end, who is ready takes them out at
the other, like a second listener. The kernel keeps what nobody has taken yet, unread request bytes included.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from asgi_master import faults
from asgi_master.ipc import descriptors

_MARK = b"c"
_NEW = b"n"
_NEW_TLS = b"t"
_MOST_NOTE = 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """A connection that somebody gave away; the taker owns it."""

    connection: socket.socket
    note: bytes | None
    """From the worker that served it; `None` if nobody has yet."""
    is_tls: bool
    """Whether its client begins with a TLS handshake. Those that have one behind them do not move."""


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

    def put_new(self, connection: socket.socket, *, is_tls: bool) -> bool:
        """As `put`, of a connection that nobody has served yet."""
        return self._send(_NEW_TLS if is_tls else _NEW, connection)

    def _send(self, data: bytes, connection: socket.socket) -> bool:
        try:
            socket.send_fds(self._put, [data], [connection.fileno()])
        except OSError:
            return False
        return True

    def take(self, most: int) -> Iterator[Taken]:
        """Up to `most` connections others gave away. Raises `OSError` if this process may have no more descriptors."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                # What has no descriptor here when it arrives is lost, and its client reset.
                os.close(os.dup(self._take.fileno()))
                data, fds = descriptors.receive(self._take, len(_MARK) + _MOST_NOTE, 1)
                faults.point("after_take")
                is_new = data in (_NEW, _NEW_TLS)
                for fd in fds:
                    yield Taken(
                        socket.socket(fileno=fd),
                        None if is_new else data[len(_MARK) :],
                        is_tls=data == _NEW_TLS,
                    )

    def close(self) -> None:
        """Close both ends; connections that nobody holds another copy of are closed with them."""
        self._put.close()
        self._take.close()
