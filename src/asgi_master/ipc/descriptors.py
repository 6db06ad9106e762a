"""Pass descriptors, and refuse them. No call waits for an object that other processes share.

`socket.send_fds` and `recv_fds` take flags but do not pass them on. A descriptor that a child sends to the master is
dangerous even unread: the process that closes it last waits for as long as its sender has set (`SO_LINGER`).
"""

import array
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Sequence

from asgi_master import faults

log = logging.getLogger("asgi_master")

# Plain numbers: the enumerations' arithmetic is Python, on some twenty pages that each worker would have to copy.
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_LOST = int(socket.MSG_CTRUNC)
_PEEK = int(socket.MSG_PEEK)
DO_NOT_WAIT = int(socket.MSG_DONTWAIT)
"""Any process that has a socket can change whether it blocks; a call with this flag never blocks."""

_SO_PASSRIGHTS = 83
"""Since Linux 6.16, asm-generic/socket.h: at 0, a process that sends a descriptor there gets an error."""

_NO_LINGER = struct.pack("ii", 0, 0)
_SENDER = struct.Struct("iII")
"""struct ucred: process, user and group."""


def receive(sock: socket.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """One datagram of up to `size` bytes, empty at end of file, and up to `most` descriptors; the caller owns them.

    They are closed on exec.
    """
    fds = array.array("i")
    data, ancillary, found, _address = sock.recvmsg(
        size, socket.CMSG_SPACE(most * fds.itemsize), _CLOSE_ON_EXEC | flags
    )
    if found & _LOST:
        log.error("a descriptor that was passed to this process is lost: it may have no more (RLIMIT_NOFILE)")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


def send(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send one datagram with descriptors, which stay the caller's. Raises `BlockingIOError` where it would wait."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    sock.sendmsg([data], [rights], DO_NOT_WAIT)


def name_senders(sock: socket.socket) -> bool:
    """Have the kernel name the sender of each datagram of this Unix socket; false if it cannot."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    except OSError:
        return False
    return True


def receive_named(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """One datagram of up to `size` bytes, empty at end of file, and the pid of its sender; 0 if unknown."""
    data, ancillary, _found, _address = sock.recvmsg(size, socket.CMSG_SPACE(_SENDER.size))
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(payload) == _SENDER.size:
            return data, int(_SENDER.unpack(payload)[0])
    return data, 0


def refuse(sock: socket.socket) -> bool:
    """Have the kernel refuse descriptors at this Unix socket; false if it cannot."""
    try:
        faults.fault_point("before_refusal")
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True


def do_not_linger(sock: socket.socket) -> None:
    """Make closes of this socket return at once, whatever its sender has set. Raises `OSError`."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def close_at_once(sock: socket.socket) -> None:
    """Close it without waiting."""
    with contextlib.suppress(OSError):
        do_not_linger(sock)
    sock.close()


def are_next(sock: socket.socket, is_told_senders: bool) -> bool:
    """Whether descriptors come with the next datagram, which stays there. Raises `BlockingIOError` if there is none."""
    # Room for the name of the sender, if it comes, and for nothing else.
    room = socket.CMSG_SPACE(_SENDER.size) if is_told_senders else 0
    _data, _ancillary, found, _address = sock.recvmsg(1, room, _PEEK | DO_NOT_WAIT)
    return bool(found & _LOST)


def close(fd: int) -> None:
    """Close a descriptor. It is closed also if the kernel reports an error."""
    with contextlib.suppress(OSError):
        os.close(fd)
