"""Reaps dead children, own ones and orphans of descendants (the duty of PID 1 and of a subreaper)."""

import os


def next_dead_child() -> int | None:
    """The pid of a child that has died and is not reaped yet, so that its last messages can be read before."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def is_child(pid: int) -> bool:
    """Whether this is a child of this process, alive or not reaped yet."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (OSError, OverflowError):
        return False
    return True


def reap(pid: int) -> int:
    """Reap the dead child; returns its status as in `subprocess`: -N for signal N."""
    _pid, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
