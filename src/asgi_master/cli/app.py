"""`asgi-master [OPTIONS] APP`: from a command line to an exit status."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asgi_master import __version__
from asgi_master.errors import AsgiMasterError, ExitCode, SettingsError

if TYPE_CHECKING:
    from asgi_master.cli.command import Asked

_PROGRAM = "asgi-master"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default the program's) and return the exit status."""
    if list(sys.argv[1:] if arguments is None else arguments) == ["--version"]:
        # Reading options takes ten times as long as this answer.
        return _tell_version()
    from asgi_master.cli.command import read_command_line  # noqa: PLC0415 -- see above

    try:
        asked = read_command_line(arguments)
        return ExitCode.OK if asked is None else _carry_out(asked)
    except SettingsError as error:
        return _complain(error.errors, error.exit_code)
    except AsgiMasterError as error:
        return _complain([str(error)], error.exit_code)


def _carry_out(asked: "Asked") -> int:
    if asked.version:
        return _tell_version()
    from asgi_master.settings.resolve import Resolved, resolve, to_toml  # noqa: PLC0415 -- as in `main`
    from asgi_master.settings.sources import working_directory  # noqa: PLC0415

    directory = working_directory(os.environ)

    def read() -> Resolved:
        return resolve(asked.flags, os.environ, directory, config=asked.config)

    resolved = read()
    if asked.print_config:
        print(to_toml(resolved), end="")  # noqa: T201 -- it was asked for
        return ExitCode.OK
    if asked.check_config:
        print("The settings are right.")  # noqa: T201 -- it was asked for
        return ExitCode.OK
    from asgi_master.master.main import run  # noqa: PLC0415 -- nobody who only asks about settings needs it

    return run(resolved.settings, lambda: read().settings)


def _tell_version() -> int:
    print(f"{_PROGRAM} {__version__}")  # noqa: T201 -- it was asked for
    return ExitCode.OK


def _complain(lines: Sequence[str], status: ExitCode) -> int:
    for line in lines:
        print(f"{_PROGRAM}: error: {line}", file=sys.stderr)  # noqa: T201 -- before there is a log
    return status
