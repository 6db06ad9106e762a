"""The `prctl(2)` calls that Python does not offer."""

import ctypes
import errno
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl({option})")


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, as if it were their init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_when_parent_dies(signum: signal.Signals) -> None:
    """Have the kernel send `signum` when the parent dies; the caller re-checks `getppid` after it.

    Cleared by fork and by a change of the user or group.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)


def allow_inspection() -> None:
    """Let this process' user look into it and get its core dumps, which a change of the user forbids."""
    _prctl(_PR_SET_DUMPABLE, 1)


def refuse_new_privileges() -> None:
    """No program that is executed from here on gains rights by set-user-ID bits or file capabilities."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def give_up_capabilities() -> None:
    """No program that is executed from here on can have any capability, whatever its file says, nor its children.

    Where there is no right to give them up (`CAP_SETPCAP`), they stay.
    """
    capability = 0
    try:
        while True:
            _prctl(_PR_CAPBSET_DROP, capability)
            capability += 1
    except OSError as error:
        # EINVAL: the kernel knows no more of them.
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
