"""Signals for a selector: the handlers note which one came, the wakeup descriptor has the loop look.

The interpreter writes to that descriptor; a failed write is not reported. The signal is late then, not lost: periodic
calls of `take` return it.
"""

import contextlib
import signal
import socket
from collections import deque
from typing import TYPE_CHECKING, Self

from asgi_master import unraisable

if TYPE_CHECKING:
    import sys

    from asgi_master.master.upgrade_state import StateSection
    from asgi_master.telemetry.failure_log import FailureLog

HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)
"""What the master acts on; children start with these at their defaults."""

IGNORED = (signal.SIGWINCH,)
"""What means nothing here."""


class SignalPipe:
    """Receives the process' signals until closed."""

    def __init__(self) -> None:
        """Raises `OSError`."""
        self._failures = _new_failures()
        self._noted: deque[signal.Signals] = deque()
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)
        unraisable.add_handler(self._take_failed_wakeup)
        self._previous_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._previous = {signum: signal.signal(signum, self._note) for signum in HANDLED}
        self._previous |= {signum: signal.signal(signum, signal.SIG_IGN) for signum in IGNORED}
        self._blocked: list[int] = []
        """What was blocked before `block`."""

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._read.fileno()

    def wake(self) -> None:
        """Take note that the loop is awake; to be called before `take`. Raises `OSError`."""
        with contextlib.suppress(BlockingIOError):
            while self._read.recv(512):
                pass

    def take(self) -> list[signal.Signals]:
        """The signals that came since the last call, in order."""
        self._failures.sweep()
        return [self._noted.popleft() for _ in range(len(self._noted))]

    def block(self) -> None:
        """Keep every signal pending, also across `execve`, until `unblock`."""
        self._blocked = list(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())))

    def unblock(self) -> None:
        """Deliver what is pending, and block what was blocked before `block`."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def export_state(self) -> "StateSection":
        """Which signals were blocked before `block`."""
        from asgi_master.master.upgrade_state import StateSection  # noqa: PLC0415 -- the first zygote is ahead of it

        return StateSection({"blocked": self._blocked})

    @classmethod
    def import_state(cls, section: "StateSection") -> Self:
        """A program that replaced another one finds all of them blocked; receive them from here on."""
        pipe = cls()
        pipe._blocked = section.values["blocked"]
        pipe.unblock()
        return pipe

    def close(self) -> None:
        """Restore the former handlers."""
        signal.set_wakeup_fd(self._previous_fd)
        unraisable.remove_handler(self._take_failed_wakeup)
        for signum, handler in self._previous.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        self._read.close()
        self._write.close()

    def _take_failed_wakeup(self, found: "sys.UnraisableHookArgs") -> bool:
        error = found.exc_value
        if not isinstance(error, OSError) or found.object is not None:
            return False
        # The interpreter's write failed; a traceback for each signal would add nothing.
        self._failures.failed("waking the loop for a signal", error, "the signal is seen at the next turn")
        return True

    def _note(self, signum: int, _frame: object) -> None:
        self._noted.append(signal.Signals(signum))


def _new_failures() -> "FailureLog":
    from asgi_master.telemetry.failure_log import FailureLog  # noqa: PLC0415 -- the first zygote is ahead of it

    return FailureLog()
