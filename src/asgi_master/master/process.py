"""A child's process: signalled as long as it is not reaped, and never the one that has its number afterwards."""

import contextlib
import os
import signal


class Process:
    """A child of this process that was not reaped yet. Made when it is first known.

    It is signalled by a descriptor of the process itself. Where there can be none (an older kernel, a sandbox, no
    descriptor left), its number does as long as it is not reaped: until then nobody else has it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = -1
        self._is_reaped = False
        with contextlib.suppress(OSError):
            self._fd = os.pidfd_open(pid)

    def signal(self, signum: signal.Signals) -> None:
        """Send it. Who has died, or was reaped, does not get it."""
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
        """It is no more: from here on nothing is sent."""
        self._is_reaped = True
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
