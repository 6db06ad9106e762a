"""Writes to standard output and error without ever raising, and without waiting long for a blocked reader."""

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

_WRITE_TIMEOUT = 0.1
"""Seconds that one write may wait for a full pipe. While the pipe stays full, later writes do not wait."""
_LOCKED_OUT = 1.0
"""Seconds after which the holder of the lock counts as stuck and the lock is ignored."""
_LOCK_RETRY = 0.001
_LARGEST_PIPE = 2 << 20
"""Maximum pipe size to ask for. Without privileges Linux grants 1 MiB."""
_SLACK = 2 * PIPE_BUF
"""The kernel accounts a pipe in pages: parts of the first and of the last may be unused."""


class Stream:
    """Writes records to one descriptor, each completely or not at all.

    The reader may stop reading (a stuck log shipper, a pager). A plain write to a full pipe would then block the event
    loop, and with it the service. So pipes and sockets are written without blocking, everything else only after
    `poll(2)` allows it, and a record that cannot be written within `_WRITE_TIMEOUT` is dropped.

    Other processes write to the same pipe. The kernel writes up to `PIPE_BUF` bytes atomically, and more only if there
    is room for all of them. So before a longer record the pipe is enlarged, then waited for; and every write holds the
    advisory lock of the pipe until the last byte of a record is written.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._reopened = False
        self._socket: socket.socket | None = None
        self._is_pipe = False
        self._polls_first = False
        self._stalled = False
        self._rest = memoryview(b"")
        """The unwritten rest of a record; it is written before anything else."""
        self._pid = os.getpid()
        self._locked_out_since = 0.0
        self._threads = allocate_lock()
        self._is_shared = False
        try:
            mode = os.fstat(fd).st_mode
        except OSError as error:
            if error.errno == errno.EBADF:
                self._fd = -1  # closed; a later owner of the number must not be written to
            else:
                self._polls_first = True
            return
        self._is_shared = stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)
        if stat.S_ISSOCK(mode):
            self._socket = _socket_of(fd)
            self._polls_first = self._socket is None
        elif stat.S_ISFIFO(mode):
            self._is_pipe = True
            self._reopened = self._reopen_without_blocking()
            self._polls_first = not self._reopened
        else:
            self._polls_first = not stat.S_ISREG(mode)

    def write(self, data: bytes, timeout: float = _WRITE_TIMEOUT) -> bool:
        """Write all of `data`, whole lines; false if all of it was dropped."""
        if self._pid != os.getpid():
            # A record begun by the process that this one was forked from is completed there.
            self._pid, self._rest, self._stalled = os.getpid(), memoryview(b""), False
            self._threads = allocate_lock()
        if not self._threads.acquire(timeout=timeout):
            return False
        try:
            deadline = time.monotonic() + (0.0 if self._stalled and timeout <= _WRITE_TIMEOUT else timeout)
            taken = self.is_complete(deadline) and self._write_new(data, deadline)
            self._stalled = not taken
        except OSError:
            # The reader is gone, the disk is full, or the descriptor is closed: there is nowhere to report it.
            self._rest = memoryview(b"")
            return False
        finally:
            self._threads.release()
        return taken

    def is_complete(self, deadline: float = 0.0) -> bool:
        """Whether the last record is written completely; retries until `deadline`. Raises `OSError`."""
        if not self._rest:
            return True
        self._write_rest(deadline)
        if self._rest:
            return False
        self._unlock()
        return True

    def close(self) -> None:
        """Close the descriptor that was opened here; the given one stays open. No further call may follow."""
        with contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.close()
            if self._reopened:
                os.close(self._fd)

    def _write_new(self, data: bytes, deadline: float) -> bool:
        with self._turn(deadline) as is_ours:
            # A write that the kernel keeps whole does not wait for the lock, whose holder may be stopped.
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

    # The lock among the writers.

    @contextlib.contextmanager
    def _turn(self, deadline: float) -> Iterator[bool]:
        """Take the lock until `deadline` and complete a record that was begun; yields whether both succeeded."""
        is_ours = not self._is_shared or self._lock(deadline)
        try:
            yield is_ours
        finally:
            if is_ours and not self._rest:
                self._unlock()

    def _lock(self, deadline: float) -> bool:
        # A POSIX lock: it belongs to the process and ends with it. A lock of the open file would be shared with forked
        # processes.
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
                return True  # without locks, records are written as they are
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

    # The free space of the pipe.

    def _has_room(self, size: int, deadline: float) -> bool:
        """Whether a pipe has room for `size` bytes at once, after enlarging it and waiting. Others always do."""
        if not self._is_pipe:
            return True
        while not self._fits(size):
            if time.monotonic() >= deadline:
                return False
            # There is no event for this much room; the wait depends on the reader.
            time.sleep(_LOCK_RETRY)
        return True

    def _fits(self, size: int) -> bool:
        (unread,) = unpack("i", fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)))
        # A record that does not fit behind another on a page leaves the rest of that page unused.
        used = unread + unread // 4 + (_SLACK if unread else 0)
        capacity = self._capacity_for(used + size)
        return used + size <= capacity or not unread

    def _capacity_for(self, size: int) -> int:
        """The capacity of the pipe, enlarged towards `size` as far as possible."""
        capacity = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        wanted = min(_LARGEST_PIPE, 1 << (size - 1).bit_length())
        while wanted > capacity:
            try:
                return fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, wanted)
            except OSError:
                wanted //= 2  # more than this user may have
        return capacity

    def _reopen_without_blocking(self) -> bool:
        """Open a private open file description: changing the inherited one would change it for other processes."""
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
            if self._polls_first:
                if not self._writable(0):
                    return 0
                data = data[:PIPE_BUF]  # more would block
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
    """The socket behind the descriptor, under a new number; `None` if there is none now."""
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
