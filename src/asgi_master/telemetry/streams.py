"""Writing to standard output and error without ever raising, or waiting long for a reader that is stuck."""

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import termios
import time
from _thread import allocate_lock
from collections.abc import Iterator
from select import PIPE_BUF
from struct import unpack

_PATIENCE = 0.1
"""Seconds one write may wait for a full pipe. While the pipe stays full, later writes do not wait at all."""
_LOCKED_OUT = 1.0
"""Seconds after which whoever holds the lock is taken for stuck, and is not waited for."""
_LOCK_RETRY = 0.001
_LARGEST_PIPE = 2 << 20
"""Bytes asked for at most. Without privileges Linux gives 1 MiB."""
_SLACK = 2 * PIPE_BUF
"""A pipe counts pages: of the first and the last a part may be lost."""


class Stream:
    """One descriptor that records are written to, each whole or not at all.

    Whoever reads us may stop reading (a stuck log shipper, a pager). A plain write to a full pipe would
    then stop the event loop, and with it the service. So pipes and sockets are written without blocking,
    everything else only after `poll(2)` allows it, and what is not taken within `_PATIENCE` is dropped.

    Other processes write to the same pipe. The kernel keeps up to `PIPE_BUF` bytes together, and more only while
    there is room for all. So before a longer record the pipe is made larger, then waited for; and each write has the
    advisory lock of the pipe, which is held until the last byte of a record is written.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._reopened = False
        self._socket: socket.socket | None = None
        self._is_pipe = False
        self._asks_first = False
        self._stalled = False
        self._rest = memoryview(b"")
        """Of a record that has begun: it is finished before anything else is written."""
        self._pid = os.getpid()
        self._locked_out_since = 0.0
        self._threads = allocate_lock()
        self._is_shared = False
        try:
            mode = os.fstat(fd).st_mode
        except OSError as error:
            if error.errno == errno.EBADF:
                self._fd = -1  # closed; whatever gets its number later is none of ours
            else:
                self._asks_first = True
            return
        self._is_shared = stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)
        if stat.S_ISSOCK(mode):
            self._socket = _socket_of(fd)
            self._asks_first = self._socket is None
        elif stat.S_ISFIFO(mode):
            self._is_pipe = True
            self._reopened = self._reopen_without_blocking()
            self._asks_first = not self._reopened
        else:
            self._asks_first = not stat.S_ISREG(mode)

    def write(self, data: bytes, patience: float = _PATIENCE) -> bool:
        """Write all of `data`, whole lines; false if all of it was dropped."""
        if self._pid != os.getpid():
            # What the process that this one was forked from has begun is for that to finish.
            self._pid, self._rest, self._stalled = os.getpid(), memoryview(b""), False
            self._threads = allocate_lock()
        if not self._threads.acquire(timeout=patience):
            return False
        try:
            deadline = time.monotonic() + (0.0 if self._stalled and patience <= _PATIENCE else patience)
            taken = self.is_complete(deadline) and self._write_new(data, deadline)
            self._stalled = not taken
        except OSError:
            # Nobody reads any more, the disk is full, the descriptor is closed: whom to tell?
            self._rest = memoryview(b"")
            return False
        finally:
            self._threads.release()
        return taken

    def is_complete(self, deadline: float = 0.0) -> bool:
        """Whether the last record is written to its end; until `deadline` that is tried. Raises `OSError`."""
        if not self._rest:
            return True
        self._write_rest(deadline)
        if self._rest:
            return False
        self._unlock()
        return True

    def close(self) -> None:
        """Close what was opened here; the descriptor that was given stays open. The last call."""
        with contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.close()
            if self._reopened:
                os.close(self._fd)

    def _write_new(self, data: bytes, deadline: float) -> bool:
        with self._turn(deadline) as is_ours:
            # What the kernel writes whole is written also while another process, which may be stopped, has its turn.
            if len(data) > PIPE_BUF and not (is_ours and self._has_room(len(data), deadline)):
                return False
            self._rest = memoryview(data)
            self._write_rest(deadline)
            if len(self._rest) == len(data):
                self._rest = memoryview(b"")
                return False
        return True

    def _write_rest(self, deadline: float) -> None:
        while self._rest:
            written = self._write_some(self._rest)
            if written == 0 and not self._wait_until(deadline):
                return
            self._rest = self._rest[written:]

    # Whose turn it is.

    @contextlib.contextmanager
    def _turn(self, deadline: float) -> Iterator[bool]:
        """Whether nobody else is writing here until this is over, and the record that was begun is finished."""
        is_ours = not self._is_shared or self._lock(deadline)
        try:
            yield is_ours
        finally:
            if is_ours and not self._rest:
                self._unlock()

    def _lock(self, deadline: float) -> bool:
        # A lock of the process, which ends with it, not of the open file: those that were forked share that.
        while True:
            try:
                fcntl.lockf(self._lockable, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                now = time.monotonic()
                self._locked_out_since = self._locked_out_since or now
                if now >= deadline:
                    return now - self._locked_out_since > _LOCKED_OUT
                time.sleep(_LOCK_RETRY)
            except OSError:
                return True  # what cannot be locked is written as it is
            else:
                self._locked_out_since = 0.0
                return True

    def _unlock(self) -> None:
        if self._is_shared:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._lockable, fcntl.LOCK_UN)

    @property
    def _lockable(self) -> int:
        return self._fd if self._socket is None else self._socket.fileno()

    # What there is room for.

    def _has_room(self, size: int, deadline: float) -> bool:
        """Whether a pipe takes so many bytes at once, after it was made larger and given time. Others always do."""
        if not self._is_pipe:
            return True
        while not self._fits(size):
            if time.monotonic() >= deadline:
                return False
            # There is no event for as much room as this; the reader takes what it takes.
            time.sleep(_LOCK_RETRY)
        return True

    def _fits(self, size: int) -> bool:
        (unread,) = unpack("i", fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)))
        # Records that did not fit behind another on its page leave the rest of that unused.
        used = unread + unread // 4 + (_SLACK if unread else 0)
        capacity = self._capacity_for(used + size)
        return used + size <= capacity or not unread

    def _capacity_for(self, size: int) -> int:
        """The bytes that the pipe takes, which are made as many as are wanted if that can be."""
        capacity = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        wanted = min(_LARGEST_PIPE, 1 << (size - 1).bit_length())
        while wanted > capacity:
            try:
                return fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, wanted)
            except OSError:
                wanted //= 2  # more than this user may have
        return capacity

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
            if self._asks_first:
                if not self._writable(0):
                    return 0
                data = data[:PIPE_BUF]  # more would wait for its reader
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def _wait_until(self, deadline: float) -> bool:
        remaining = deadline - time.monotonic()
        return remaining > 0 and self._writable(remaining)

    def _writable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._lockable, select.POLLOUT)
        return bool(poll.poll(timeout * 1000))


def _socket_of(fd: int) -> socket.socket | None:
    """The socket behind the descriptor, under a number of our own; `None` if there is none for it now."""
    try:
        own = os.dup(fd)
    except OSError:
        return None
    try:
        return socket.socket(fileno=own)
    except OSError:
        os.close(own)
        return None


def open_missing() -> None:
    """Open `/dev/null` on each of the descriptors 0 to 2 that is closed.

    To be called before anything else is opened: a socket that got the number 2 would receive the log.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError as error:
            if error.errno != errno.EBADF:
                continue
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
