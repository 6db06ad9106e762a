"""Writing to standard output and error without ever raising, or waiting long for a reader that is stuck."""

import os
import select
import socket
import stat
import time

_PATIENCE = 0.1
"""Seconds one write may wait for a full pipe. While the pipe stays full, later writes do not wait at all."""


class Stream:
    """One descriptor that lines are written to.

    Whoever reads us may stop reading (a stuck log shipper, a pager). A plain write to a full pipe would
    then stop the event loop, and with it the service. So pipes and sockets are written without blocking,
    everything else only after `poll(2)` allows it, and what is not taken within `_PATIENCE` is dropped.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._reopened = False
        self._socket: socket.socket | None = None
        self._asks_first = False
        self._stalled = False
        self._cut = False
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            self._fd = -1  # closed; whatever gets its number later is none of ours
            return
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(mode):
            self._reopened = self._reopen_without_blocking()
            self._asks_first = not self._reopened
        else:
            self._asks_first = not stat.S_ISREG(mode)

    def write(self, data: bytes) -> bool:
        """Write all of `data`, whole lines; false if it, or the end of it, was dropped.

        Up to `PIPE_BUF` (4096) bytes arrive in one piece whatever other processes write to the same pipe;
        longer data does so while the pipe has room for it.
        """
        if self._cut:
            data = b"\n" + data
        rest = memoryview(data)
        deadline = 0.0 if self._stalled else time.monotonic() + _PATIENCE
        while rest:
            try:
                written = self._write_some(rest)
            except OSError:
                # Nobody reads any more, the disk is full, the descriptor is closed: whom to tell?
                return False
            if written == 0 and not self._wait_until(deadline):
                self._stalled = True
                self._cut = len(rest) < len(data)
                return False
            rest = rest[written:]
        self._stalled = self._cut = False
        return True

    def close(self) -> None:
        """Close what was opened here; the descriptor that was given stays open. The last call."""
        if self._socket is not None:
            self._socket.close()
        if self._reopened:
            os.close(self._fd)

    def _reopen_without_blocking(self) -> bool:
        """Get an open file description of our own: to change the inherited one would change it for others."""
        try:
            own = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False  # the pipe belongs to another user, or has no reader
        self._fd = own
        return True

    def _write_some(self, data: memoryview) -> int:
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            if self._asks_first and not self._writable(0):
                return 0
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def _wait_until(self, deadline: float) -> bool:
        remaining = deadline - time.monotonic()
        return remaining > 0 and self._writable(remaining)

    def _writable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(timeout * 1000))


def open_missing() -> None:
    """Open `/dev/null` on each of the descriptors 0 to 2 that is closed.

    To be called before anything else is opened: a socket that got the number 2 would receive the log.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
