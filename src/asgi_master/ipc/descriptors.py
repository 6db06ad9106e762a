"""Pass descriptors, and refuse them. What is shared with other processes is never waited for, whatever they made of it.

`socket.send_fds` and `recv_fds` take flags but do not pass them on. A descriptor that a child sends to the master is
dangerous even unread: whoever closes it last waits as long as its sender had it linger (`SO_LINGER`).
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
"""Everybody who has a socket can change whether it blocks; a call that says this does not."""

_SO_PASSRIGHTS = 83
"""Since Linux 6.16, asm-generic/socket.h: at 0, who sends a descriptor there gets an error."""

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
    """Have the kernel say which process sent what comes in at this Unix socket; false if it does not."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    except OSError:
        return False
    return True


def receive_named(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """One datagram of up to `size` bytes, empty at end of file, and the pid of who sent it; 0 if that is not known."""
    data, ancillary, _found, _address = sock.recvmsg(size, socket.CMSG_SPACE(_SENDER.size))
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(payload) == _SENDER.size:
            return data, int(_SENDER.unpack(payload)[0])
    return data, 0


def refuse(sock: socket.socket) -> bool:
    """Have the kernel let no descriptor come in at this Unix socket; false if it does not know how."""
    try:
        faults.fault_point("before_refusal")
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True


def do_not_linger(sock: socket.socket) -> None:
    """Have nobody wait who closes it, whatever it inherited or its giver asked for. Raises `OSError`."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def close_at_once(sock: socket.socket) -> None:
    """Close it without waiting."""
    with contextlib.suppress(OSError):
        do_not_linger(sock)
    sock.close()


def are_next(sock: socket.socket, is_told_senders: bool) -> bool:
    """Whether descriptors come with the next datagram, which stays there. Raises `BlockingIOError` if there is none."""
    # Room for its sender's name, where that comes, and for nothing else.
    room = socket.CMSG_SPACE(_SENDER.size) if is_told_senders else 0
    _data, _ancillary, found, _address = sock.recvmsg(1, room, _PEEK | DO_NOT_WAIT)
    return bool(found & _LOST)


def close(fd: int) -> None:
    """Let go of a descriptor. Whatever error the kernel tells, it is closed then, so that changes nothing."""
    with contextlib.suppress(OSError):
        os.close(fd)
