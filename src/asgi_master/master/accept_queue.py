"""How many connections wait in the kernel for a worker to accept them."""

import os
import socket
import struct
from collections.abc import Iterable, Iterator

from asgi_master.control.metrics import Queue
from asgi_master.master.open_listener import Listener
from asgi_master.records import record

# struct tcp_info begins with eight bytes and four words; of a listener, tcpi_unacked is the length of its queue and
# tcpi_sacked the limit.
_TCP_INFO = struct.Struct("=24xII")

# Netlink, linux/unix_diag.h: a header (length, type, flags, sequence, port), then the request or the answer.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_UDIAG_SHOW_RQLEN = 16
_UNIX_DIAG_RQLEN = 4
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_ANSWER = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")
_RQLEN = struct.Struct("=II")


@record
class _Depth:
    length: int
    limit: int


def queues(listeners: Iterable[Listener]) -> Iterator[Queue]:
    """The queue of each listener, where the kernel reports it."""
    for listener in listeners:
        try:
            is_unix = listener.sock.family == socket.AF_UNIX
            depth = _unix_depth(listener.sock) if is_unix else _tcp_depth(listener.sock)
        except (OSError, struct.error):
            # A sandbox that forbids netlink, or a kernel that has no such answer.
            continue
        if depth is not None:
            # As `ss` writes the names of abstract sockets.
            yield Queue(listener.url.replace("\0", "@"), depth.length, depth.limit)


def _tcp_depth(sock: socket.socket) -> _Depth:
    return _Depth(*_TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)))


def _unix_depth(sock: socket.socket) -> _Depth | None:
    inode = os.fstat(sock.fileno()).st_ino
    request = _REQUEST.pack(
        socket.AF_UNIX, 0, 0, _ALL_STATES, inode, _UDIAG_SHOW_RQLEN, _NO_COOKIE, _NO_COOKIE
    )
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        # The kernel answers within `send`, so there is nothing to wait for.
        netlink.setblocking(False)
        netlink.send(header + request)
        answer = netlink.recv(4096)
    _length, kind, _flags, _sequence, _port = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None
    at = _HEADER.size + _ANSWER.size
    while at + _ATTRIBUTE.size <= len(answer):
        size, attribute = _ATTRIBUTE.unpack_from(answer, at)
        if attribute == _UNIX_DIAG_RQLEN:
            return _Depth(*_RQLEN.unpack_from(answer, at + _ATTRIBUTE.size))
        at += max(size + 3 & ~3, _ATTRIBUTE.size)
    return None
