"""What can go wrong, and the exit status that says so.

Rules of this room:
  - Every error that ends the program is an `AsgiMasterError` whose text is one line for the operator.
  - Exit statuses are shared by workers, zygotes, the master and the unit file. A number never changes meaning.
"""

from collections.abc import Iterable
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


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    import difflib  # noqa: PLC0415 -- for those who erred

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")
