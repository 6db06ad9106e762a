"""A child's process: it is signalled until it is reaped, and a later process with its pid never is."""

import contextlib
import os
import signal


class Process:
    """A child of this process that was not reaped yet.

    It is signalled by its pidfd. Without one (an older kernel, a sandbox, no descriptor left) its pid is used: it is
    not assigned again before the child is reaped.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = -1
        self._is_reaped = False
        with contextlib.suppress(OSError):
            self._fd = os.pidfd_open(pid)

    def signal(self, signum: signal.Signals) -> None:
        """Send it, unless the process has died or was reaped."""
        if self._is_reaped:
            return
        if self._fd >= 0:
            try:
                signal.pidfd_send_signal(self._fd, signum)
            except ProcessLookupError:
                return
            except OSError:
                pass  # a sandbox that allows the one call and not the other
            else:
                return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def reaped(self) -> None:
        """The process was reaped: send nothing from here on."""
        self._is_reaped = True
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
