"""Where this master is, by name, and the command that it was started by."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asgi_master.master.interpreter import Interpreter
from asgi_master.master.upgrade_protocol import command
from asgi_master.settings.directory import working_directory
from asgi_master.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Place:
    """Directories by the names that a deploy may switch."""

    started_in: str
    """What relative paths in the command mean."""
    directory: str
    """What those in the settings mean, and where generations begin."""
    command: Callable[[], list[str]]
    """The command that starts the program that is there now."""


def enter(settings: Settings, interpreter: Interpreter) -> Place:
    """Enter the directory that the settings name, and have the interpreter follow its name. Raises `OSError`."""
    started_in = os.fspath(working_directory(os.environ))
    directory = os.fspath(Path(started_in, settings.application.chdir))
    interpreter.follow(started_in, directory)
    if settings.application.chdir:
        os.chdir(directory)
    return Place(started_in, directory, lambda: command(interpreter.by_name))
