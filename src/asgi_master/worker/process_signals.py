"""The signals of a forked process that runs code of the application, from the first line after its fork."""

import faulthandler
import os
import signal
import sys

from asgi_master.errors import ExitCode
from asgi_master.ipc.messages import STACK_SIGNAL, STACKS_SIGNAL
from asgi_master.ipc.prctl import signal_when_parent_dies
from asgi_master.worker import child_processes

ORPHAN_SIGNAL = signal.SIGUSR2
"""Sent by the kernel when the master dies."""


def take_over(stack_fd: int, master_pid: int, time_to_leave: float) -> None:
    """Have the stack pipe and the death of the master handled, and unblock the signals that were blocked for the fork.

    An orphan that is still there after `time_to_leave` seconds and one more is ended. Exits if the master is gone.
    """

    def orphaned(_signum: int, _frame: object) -> None:
        # The process detects the loss and leaves; this bounds it if it is stuck. The timer is in C.
        bound_orphan(time_to_leave)

    child_processes.ignore_signals((signal.SIGINT, signal.SIGQUIT, signal.SIGHUP))
    # Until the process handles it, SIGTERM ends it at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    child_processes.handle(ORPHAN_SIGNAL, orphaned)
    os.set_blocking(stack_fd, False)
    faulthandler.register(STACKS_SIGNAL, file=stack_fd, all_threads=True)
    faulthandler.register(STACK_SIGNAL, file=stack_fd, all_threads=False)
    signal_when_parent_dies(ORPHAN_SIGNAL)
    if os.getppid() != master_pid:
        sys.exit(ExitCode.MASTER_LOST)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def bound_orphan(time_to_leave: float) -> None:
    """End this process after that many seconds and one more, whatever it does then."""
    faulthandler.dump_traceback_later(time_to_leave + 1, exit=True)
