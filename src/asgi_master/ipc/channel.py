"""One end of a `SOCK_SEQPACKET` pair that carries messages and descriptors."""

import contextlib
import os
import socket

from asgi_master.ipc import descriptors
from asgi_master.ipc.messages import Message, Unknown, dump, load
from asgi_master.records import record

# One message with all settings must fit; Linux' default send buffer bounds a datagram at about 200 KiB.
_DATAGRAM_LIMIT = 200 * 1024
# SCM_MAX_FD of the kernel.
_FD_LIMIT = 253


@record
class Received:
    """A message and the descriptors that came with it; the receiver owns them."""

    message: Message | Unknown
    fds: list[int]
    sender: int = 0
    """The process that sent it, if descriptors are refused and the kernel names senders; else 0."""


class Channel:
    """Messages to and from one other process."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.may_hold_descriptors = True
        """Whether unread messages may hold descriptors, which the last close of the channel would close."""
        self._takes_descriptors = True
        self._is_told_senders = False

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Both ends of a new channel, closed on exec."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    @classmethod
    def of_fd(cls, fd: int) -> "Channel":
        """The end that was inherited as descriptor `fd`; not passed on to programs started from here."""
        sock = socket.socket(fileno=fd)
        sock.set_inheritable(False)
        return cls(sock)

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._socket.fileno()

    def refuse_descriptors(self) -> None:
        """Treat the other end as untrusted: from now on no descriptor is received, and `Received.sender` is set."""
        self._takes_descriptors = False
        self._is_told_senders = descriptors.name_senders(self._socket)
        self.may_hold_descriptors = not descriptors.refuse(self._socket)

    def setblocking(self, flag: bool) -> None:
        """Whether `receive` and `send` wait."""
        self._socket.setblocking(flag)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> bool:
        """Send; false if either side is closed, the kernel is out of something, or the queue is full.

        Where it is full, the other side is about to be found hung.
        """
        if self.fileno() < 0:
            return False
        try:
            socket.send_fds(self._socket, [dump(message)], fds)
        except OSError:
            return False
        return True

    def receive(self) -> Received | None:
        """The next message; `None` at end of file.

        Raises `BlockingIOError` if there is none yet, and `ValueError` for what is no message, and, if they are
        refused, for a message with descriptors, which stays there.
        """
        fds, sender = list[int](), 0
        try:
            if self._takes_descriptors:
                datagram, fds = descriptors.receive(self._socket, _DATAGRAM_LIMIT, _FD_LIMIT)
            elif self.may_hold_descriptors and descriptors.are_next(self._socket, self._is_told_senders):
                raise ValueError("a message with descriptors")
            else:
                datagram, sender = descriptors.receive_named(self._socket, _DATAGRAM_LIMIT)
        except ConnectionResetError:
            return None
        if not datagram:
            return None
        try:
            return Received(load(datagram), fds, sender)
        except ValueError:
            for fd in fds:
                os.close(fd)
            raise

    def leave_open(self) -> None:
        """Forget the end without closing it: the process is about to exit, and with it the other side sees the end."""
        self._socket.detach()

    def close(self) -> None:
        """Close this end; the other side reads end of file."""
        with contextlib.suppress(OSError):
            self._socket.close()
