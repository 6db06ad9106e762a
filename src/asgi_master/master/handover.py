"""What passes between a program and the one that replaces it in the same process: a command, a variable, a state.

Both sides stand here, as each version is once the old and once the new program.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from enum import StrEnum

from asgi_master import __version__
from asgi_master.ipc.memory import content_of, frozen_file
from asgi_master.ipc.scoreboard import understands
from asgi_master.master.child import check
from asgi_master.master.upgrade_state import VARIABLE, StateError, StateSection, decode, encode
from asgi_master.settings.model import Settings
from asgi_master.settings.wire import from_wire
from asgi_master.supervision.memento import MementoError, recall

CONSENT = "able to take over: asgi-master "
"""The last line of a program that was asked, with its version. Whatever else may be started instead does not say it."""


class Errand(StrEnum):
    """What a program that finds the variable is to do."""

    CHECK = "check"
    """Say whether it could take over; touch nothing."""
    TAKE = "take"
    """Take over: it is the master now."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What the program before this one left."""

    errand: Errand
    sections: dict[str, StateSection]


# The old program


def command(by_name: Callable[[str], str] = str) -> list[str]:
    """The command that this program was started by. Relative paths in it mean the working directory.

    `by_name` says where the interpreter is now: a script names the one that it was installed with.
    """
    interpreter, *arguments = sys.orig_argv or [sys.executable]
    # A bare name was looked up in PATH; the interpreter knows what was found.
    return [by_name(interpreter if "/" in interpreter else sys.executable), *arguments]


def write_state(sections: dict[str, StateSection]) -> int:
    """The state in a file in memory; returns its descriptor, which the caller owns. Raises `OSError`."""
    return frozen_file("asgi-master-state", encode(sections, __version__))


@contextlib.contextmanager
def inherited(fds: set[int]) -> Iterator[None]:
    """Have a program that is started inside inherit these descriptors."""
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        yield
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)


@contextlib.contextmanager
def inside(directory: str) -> Iterator[None]:
    """Be in this directory, by the name it has now. Raises `OSError`."""
    back = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        yield
    finally:
        os.fchdir(back)
        os.close(back)


# The new program


def receive(environ: MutableMapping[str, str]) -> Handover | None:
    """What was left for this program, `None` at an ordinary start. Raises `StateError`.

    The variable is gone from the environment after it: nobody who is started from here is meant.
    """
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    word, _, number = text.partition(":")
    try:
        errand, fd = Errand(word), int(number)
        os.set_inheritable(fd, False)
        state = content_of(fd)
        os.close(fd)
    except (ValueError, OSError) as error:
        raise StateError(f"the state that {VARIABLE} names cannot be read: {error}") from None
    owner = os.getppid() if errand is Errand.CHECK else os.getpid()
    return Handover(errand, decode(state, owner))


def check_sections(sections: dict[str, StateSection]) -> Settings:
    """See whether this program can go on with them; returns the settings that serve. Raises `StateError`."""
    try:
        settings = settings_in(sections["executor"])
        recall(sections["supervisor"].values, lambda: 0.0)
        check(sections["children"])
        layout = sections["scoreboard"].values["layout"]
        is_understood = understands(layout)
    except MementoError as error:
        raise StateError(f"{error}: restart instead") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"the state lacks what this program needs ({error!r}): restart instead") from None
    if not is_understood:
        raise StateError("the workers' scoreboard has another layout than this program's: restart instead")
    return settings


def settings_in(executor: StateSection) -> Settings:
    """The settings that the running generation has."""
    return from_wire(executor.values["settings"])
