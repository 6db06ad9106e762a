"""What can go wrong, and the exit status that says so.

Rules of this room:
  - Every error that ends the program is an `AsgiMasterError` whose text is one line for the operator.
  - Exit statuses are shared by workers, zygotes, the master and the unit file. A number never changes meaning.
"""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of the master and its children."""

    OK = 0
    """Stopped as asked."""
    FAILURE = 1
    """An error of asgi-master itself."""
    USAGE = 2
    """The settings are wrong; every error was named."""
    BOOT_FAILED = 3
    """The first generation did not come up: the application does not import, or its lifespan or health probe failed."""
    BIND_FAILED = 4
    """An address could not be bound."""
    MASTER_LOST = 5
    """A child found its master gone, drained and left."""
    KILLED = 6
    """Stopped by force: some worker had to be killed."""
    OUT_OF_MEMORY = 7
    """The kernel killed a worker for want of memory, and `--on-oom exit` asked to stop then."""
    LEFT_BEHIND = 8
    """A worker left in time, without the end of the application's threads or of what runs at exit."""


class AsgiMasterError(Exception):
    """An error the operator can act on. `str()` is one line that says what to do."""

    exit_code = ExitCode.FAILURE


class SettingsError(AsgiMasterError):
    """One or more settings are wrong. `errors` holds a line for each."""

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
def told_in_a_line(doing: str) -> Iterator[None]:
    """Make an `AsgiMasterError` of whatever the system refuses inside; `doing` begins its line."""
    try:
        yield
    except OSError as error:
        raise AsgiMasterError(f"{doing}: {_describe(error)}") from error


def _describe(error: OSError) -> str:
    """What was refused, where in this program, and what to do if that is known: one line."""
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{error.strerror or error} (in {_place(error)}){advice(error)}"


def advice(error: OSError) -> str:
    """What to do about it, to put behind what it is; empty if that is not known."""
    known = _ADVICE.get(error.errno or 0, "")
    return f": {known}" if known else ""


def _place(error: OSError) -> str:
    """The innermost of our functions that it came through."""
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


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    import difflib  # noqa: PLC0415 -- for those who erred

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")
