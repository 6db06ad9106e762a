"""Listeners that were shut down: any process that shares a listening socket, as workers do, can do that for all."""

import contextlib
import os
import select
import socket

from asgi_master.errors import BindError
from asgi_master.master.fd_store import FdStore
from asgi_master.master.open_listener import Listener, listen_tcp, open_bind
from asgi_master.master.sd_notify import Notifier
from asgi_master.settings.model import SocketSettings

_SHUT = select.POLLRDHUP | select.POLLHUP


def listens(listener: Listener) -> bool:
    """Whether clients that connect where it was bound reach it."""
    sock = listener.sock
    try:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        if sock.family != socket.AF_UNIX:
            return bool(sock.getsockname() == listener.address)
    except OSError:
        # The kernel gave no answer: that is no reason to replace it.
        return True
    # It still calls itself listening, and refuses everybody.
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return not any(found & _SHUT for _fd, found in poll.poll(0))


def listen_again(listener: Listener, backlog: int) -> bool:
    """Have the same socket listen where it did; false if it cannot any more."""
    sock = listener.sock
    with contextlib.suppress(OSError):
        # One that was bound to any free port has lost it.
        sock.bind(listener.address)
    with contextlib.suppress(OSError):
        sock.listen(backlog)
    return listens(listener)


def replace_socket(listener: Listener, bind: str, settings: SocketSettings) -> socket.socket:
    """Give it another socket that listens there, and return the one it had. Raises `BindError`."""
    before = listener.sock
    if before.family == socket.AF_UNIX:
        (opened,) = open_bind(bind, settings, FdStore(Notifier({}), {}, os.getpid()))
        listener.sock, listener.inode = opened.sock, opened.inode
        return before
    try:
        listener.sock = listen_tcp(before.family, socket.SOCK_STREAM, 0, listener.address, settings.backlog)
    except OSError as error:
        raise BindError(f"cannot listen on {listener.url} again: {error.strerror}") from None
    listener.sock.setblocking(False)
    return before
