"""Receive descriptors closed on exec: `socket.recv_fds` takes flags but does not pass them on."""

import array
import logging
import socket

log = logging.getLogger("asgi_master")

# Plain numbers: the enumerations' arithmetic is Python, on some twenty pages that each worker would have to copy.
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_LOST = int(socket.MSG_CTRUNC)


def receive(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """One datagram of up to `size` bytes, empty at end of file, and up to `most` descriptors; the caller owns them."""
    fds = array.array("i")
    data, ancillary, flags, _address = sock.recvmsg(
        size, socket.CMSG_SPACE(most * fds.itemsize), _CLOSE_ON_EXEC
    )
    if flags & _LOST:
        log.error("a descriptor that was passed to this process is lost: it may have no more (RLIMIT_NOFILE)")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)
