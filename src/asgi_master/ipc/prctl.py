"""The two `prctl(2)` calls that Python does not offer."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl({option})")


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, as if it were their init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_when_parent_dies(signum: signal.Signals) -> None:
    """Have the kernel send `signum` when the parent dies. Cleared by fork; the caller re-checks `getppid` after it."""
    _prctl(_PR_SET_PDEATHSIG, signum)
