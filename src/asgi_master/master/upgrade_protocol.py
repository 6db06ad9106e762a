"""The protocol of a live upgrade: how a program starts the one that replaces it, and what that one finds.

Both sides are in this file: each version is the new program once, and the old one later.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from enum import StrEnum

from asgi_master import __version__, codec
from asgi_master.ipc.memory import content_of, frozen_file
from asgi_master.ipc.scoreboard import understands
from asgi_master.master import child, variables
from asgi_master.master.upgrade_state import StateError, StateSection, decode, encode
from asgi_master.records import record
from asgi_master.settings.model import Settings
from asgi_master.supervision import snapshot

READY_MARKER = "able to take over: asgi-master "
"""Begins the last line of output of a program that is able to take over; its version follows."""


class UpgradeMode(StrEnum):
    """What the old program starts the new one for."""

    CHECK = "check"
    """Report whether it could take over; change nothing."""
    TAKE_OVER = "take"
    """Be the master from here on."""


@record
class UpgradeRequest:
    """What the new program finds."""

    mode: UpgradeMode
    sections: dict[str, StateSection]


# The old program


def command(by_name: Callable[[str], str] = str) -> list[str]:
    """The command that this program was started by. Relative paths in it are relative to the working directory.

    `by_name` returns the present path of the interpreter: a script names the one that it was installed with.
    """
    interpreter, *arguments = sys.orig_argv or [sys.executable]
    # A bare name was looked up in PATH; the interpreter knows what was found.
    return [by_name(interpreter if "/" in interpreter else sys.executable), *arguments]


def write_state(sections: dict[str, StateSection]) -> int:
    """The state in a file in memory; returns its descriptor, which the caller owns. Raises `OSError`."""
    return frozen_file("asgi-master-state", encode(sections, __version__))


@contextlib.contextmanager
def inherited(fds: set[int]) -> Iterator[None]:
    """Programs that are started inside inherit these descriptors."""
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        yield
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)


@contextlib.contextmanager
def inside(directory: str) -> Iterator[None]:
    """Run inside with this working directory, as its path leads now. Raises `OSError`."""
    back = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        yield
    finally:
        os.fchdir(back)
        os.close(back)


# The new program


def receive(environ: MutableMapping[str, str]) -> UpgradeRequest | None:
    """The request in the environment, `None` at an ordinary start. Raises `StateError`.

    Removes the variable, so that child processes do not inherit it.
    """
    text = environ.pop(variables.UPGRADE, None)
    if text is None:
        return None
    word, _, number = text.partition(":")
    try:
        mode, fd = UpgradeMode(word), int(number)
        os.set_inheritable(fd, False)
        state = content_of(fd)
        os.close(fd)
    except (ValueError, OSError) as error:
        raise StateError(f"the state that {variables.UPGRADE} names cannot be read: {error}") from None
    owner = os.getppid() if mode is UpgradeMode.CHECK else os.getpid()
    return UpgradeRequest(mode, decode(state, owner))


def check_sections(sections: dict[str, StateSection]) -> Settings:
    """Check that this program can restore them; returns the settings in use. Raises `StateError`."""
    try:
        settings = settings_in(sections["executor"])
        snapshot.load(sections["supervisor"].values, lambda: 0.0)
        child.load(sections["children"])
        layout = sections["scoreboard"].values["layout"]
        is_understood = understands(layout)
    except snapshot.SnapshotError as error:
        raise StateError(f"{error}: restart instead") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"the state lacks what this program needs ({error!r}): restart instead") from None
    if not is_understood:
        raise StateError("the workers' scoreboard has another layout than this program's: restart instead")
    return settings


def settings_in(executor: StateSection) -> Settings:
    """The settings of the generation that serves."""
    return codec.load(Settings, executor.values["settings"])
