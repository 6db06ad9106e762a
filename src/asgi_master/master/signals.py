"""Signals as readable bytes: handlers do nothing, the wakeup descriptor tells the selector which one came."""

import contextlib
import signal
import socket

from asgi_master.master.carried import Cargo

SECTION = "signals"
"""The name of what is carried across an upgrade: which signals were blocked before it."""

HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
    signal.SIGCHLD,
)
"""What the master acts on; children start with these at their defaults."""

IGNORED = (signal.SIGUSR1, signal.SIGWINCH)
"""What would otherwise end the master by its default action, or means nothing here."""


class SignalPipe:
    """Receives the process' signals until closed."""

    def __init__(self, cargo: Cargo) -> None:
        """A program that replaced another one finds them blocked; from here on they are received."""
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._previous = {signum: signal.signal(signum, _do_nothing) for signum in HANDLED}
        self._previous |= {signum: signal.signal(signum, signal.SIG_IGN) for signum in IGNORED}
        if (left := cargo.unpack(SECTION)) is not None:
            unblock(left.values["blocked"])

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._read.fileno()

    def read(self) -> list[signal.Signals]:
        """The signals that came since the last call, in order."""
        received = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := self._read.recv(512):
                received += chunk
        return [signal.Signals(number) for number in received]

    def close(self) -> None:
        """Give the signals back to whoever had them."""
        signal.set_wakeup_fd(self._previous_fd)
        for signum, handler in self._previous.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        self._read.close()
        self._write.close()


def block_all() -> list[int]:
    """Keep every signal pending, also across `execve`; returns what was blocked before, for `unblock`."""
    return [int(signum) for signum in signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())]


def unblock(before: list[int]) -> None:
    """Deliver what is pending, and block what was blocked before `block_all`."""
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do_nothing(_signum: int, _frame: object) -> None:
    """The wakeup descriptor carries the signal; a handler must exist for it to be written."""
