"""Exceptions, and the exit statuses that they lead to.

Rules of this room:
  - Every error that ends the program is an `AsgiMasterError` whose text is one line for the operator.
  - Exit statuses are shared by workers, zygotes, the master and the unit file. A number never changes its meaning.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of the master and its children."""

    OK = 0
    """Stopped on request."""
    FAILURE = 1
    """An error of asgi-master itself."""
    USAGE = 2
    """The settings contain errors, which were reported."""
    BOOT_FAILED = 3
    """The first generation did not start: the import, the lifespan startup or the health probe failed."""
    BIND_FAILED = 4
    """An address could not be bound."""
    MASTER_LOST = 5
    """A child lost its master, drained and exited."""
    KILLED = 6
    """A stop had to kill at least one worker."""
    OUT_OF_MEMORY = 7
    """The kernel killed a worker for lack of memory, and `--on-oom exit` stopped the service."""
    LEFT_BEHIND = 8
    """A worker exited in time, without waiting for threads of the application or for `atexit` handlers."""


class AsgiMasterError(Exception):
    """An error that the operator can fix. `str()` is one line that says how."""

    exit_code = ExitCode.FAILURE


class SettingsError(AsgiMasterError):
    """Settings with errors. `errors` has a line for each."""

    exit_code = ExitCode.USAGE

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class ApplicationError(AsgiMasterError):
    """The application could not be imported, is not callable, or its lifespan or health probe failed."""

    exit_code = ExitCode.BOOT_FAILED


class BindError(AsgiMasterError):
    """An address could not be bound."""

    exit_code = ExitCode.BIND_FAILED


@contextmanager
def converting_os_errors(doing: str) -> Iterator[None]:
    """Turn an `OSError` inside into an `AsgiMasterError`; `doing` begins its line."""
    try:
        yield
    except OSError as error:
        raise AsgiMasterError(f"{doing}: {_describe(error)}") from error


def _describe(error: OSError) -> str:
    """The error, its location in this program, and a hint if there is one: one line."""
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{error.strerror or error} (in {_place(error)}){advice(error)}"


def advice(error: OSError) -> str:
    """A hint to append to the error; empty if there is none."""
    known = _ADVICE.get(error.errno or 0, "")
    return f": {known}" if known else ""


def _place(error: OSError) -> str:
    """The innermost function of this program in the traceback."""
    place, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
            place = trace.tb_frame.f_code.co_qualname
        trace = trace.tb_next
    return place


_ADVICE = {
    errno.EMFILE: "this process may have no more descriptors; raise LimitNOFILE= or ulimit -n",
    errno.ENFILE: "the system has no more descriptors; see fs.file-max",
    errno.EFBIG: "files, and so memory that is shared, may not be that large; raise LimitFSIZE= or ulimit -f",
    errno.ENOMEM: "there is no more memory, or no more allowed; see LimitAS= or ulimit -v",
    errno.EAGAIN: "there may be no more processes; see TasksMax=, LimitNPROC= or ulimit -u",
}
