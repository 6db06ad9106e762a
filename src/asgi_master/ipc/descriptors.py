"""Receive descriptors closed on exec: `socket.recv_fds` takes flags but does not pass them on."""

import array
import socket


def receive(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """One datagram of up to `size` bytes, empty at end of file, and up to `most` descriptors; the caller owns them."""
    fds = array.array("i")
    data, ancillary, _flags, _address = sock.recvmsg(
        size, socket.CMSG_SPACE(most * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)
