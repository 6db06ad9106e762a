"""The directories and the command of the start, by names that a deploy may switch to another release."""

import os
from collections.abc import Callable
from pathlib import Path

from asgi_master.master.interpreter import Interpreter
from asgi_master.master.upgrade_protocol import command
from asgi_master.records import record
from asgi_master.settings.directory import working_directory
from asgi_master.settings.model import Settings


@record
class StartContext:
    """How this master was started."""

    started_in: str
    """The directory that relative paths in the command begin in."""
    directory: str
    """The directory that relative paths in the settings, and generations, begin in."""
    command: Callable[[], list[str]]
    """Returns the command that starts the program as it is installed now."""


def enter_directory(settings: Settings, interpreter: Interpreter) -> StartContext:
    """Enter the directory of the settings, and let the interpreter follow its name. Raises `OSError`."""
    started_in = os.fspath(working_directory(os.environ))
    directory = os.fspath(Path(started_in, settings.application.chdir))
    interpreter.follow(started_in, directory)
    if settings.application.chdir:
        os.chdir(directory)
    return StartContext(started_in, directory, lambda: command(interpreter.by_name))
