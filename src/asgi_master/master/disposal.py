"""Close sockets that may hold what others sent through them, without waiting for it.

Who closes a socket last also closes the descriptors in its queue, and for each of them waits as long as its sender had
it linger. A process that exits does not wait. So where the kernel cannot refuse such descriptors, one that is forked
for nothing else closes last.
"""

import logging
import os
import signal
import time
from typing import Protocol

from asgi_master.telemetry.rate_limit import RateLimit

log = logging.getLogger("asgi_master")


class Closable(Protocol):
    """A socket, or what holds some."""

    def close(self) -> None:
        """Close it."""


class Disposal:
    """Closes in passing. `sweep` is due as long as something waits."""

    def __init__(self) -> None:
        self._waiting: list[Closable] = []
        self._limit = RateLimit()

    def close(self, what: Closable) -> None:
        """Close it, now or, if there is no process for that, later."""
        self._waiting.append(what)
        self.sweep()

    def sweep(self) -> None:
        """Close what waits."""
        if not self._waiting:
            return
        try:
            read, write = os.pipe()
        except OSError as error:
            self._complain(error)
            return
        try:
            _fork_until_closed(read, write)
        except OSError as error:
            self._complain(error)
            os.close(write)
            return
        finally:
            os.close(read)
        # The other process holds all of them until this one has let go.
        for what in self._waiting:
            what.close()
        self._waiting.clear()
        os.close(write)

    def _complain(self, error: OSError) -> None:
        if self._limit.count(error.errno, time.monotonic()):
            log.warning("sockets of children stay open for now: no process to close them: %s", error.strerror)


def _fork_until_closed(read: int, write: int) -> None:
    """A process that has every descriptor of this one, and exits when all of the pipe's write ends are closed."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        if os.fork() == 0:
            try:
                os.close(write)
                os.read(read, 1)
            finally:
                os._exit(0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
