"""`asgi-master [OPTIONS] APP`: one command, whose options derive from the settings model."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from asgi_master import __version__
from asgi_master.cli.options import command_option, setting_option
from asgi_master.errors import AsgiMasterError, ExitCode, SettingsError
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.resolve import Resolved, resolve, to_toml
from asgi_master.settings.sources import FILE_NAME, working_directory

PROGRAM = "asgi-master"

_HELP = "Serve an ASGI application with several supervised worker processes."
_EPILOG = (
    "Each option can also stand as ASGI_MASTER_OPTION_NAME in the environment, or as option-name in "
    f"{FILE_NAME}; flags win over the environment, which wins over the file."
)

# The one exception class of the option parser that every version of Typer lets us reach.
_UsageError: Any = typer.BadParameter.__base__

_ELSEWHERE = {
    "--host": "--bind HOST:PORT",
    "--port": "--bind HOST:PORT",
    "--uds": "--bind unix:PATH",
    "--fd": "--bind fd://N",
    "--pid": "--pid-file",
    "--chdir": "--app-dir",
    "--pythonpath": "--app-dir",
    "--proc-name": "--name",
    "--worker-class": "nothing: there is one kind of worker",
    "-k": "nothing: there is one kind of worker",
    "--timeout": "--hang-timeout",
    "--graceful-timeout": "--drain-timeout",
    "--timeout-graceful-shutdown": "--drain-timeout",
    "--timeout-keep-alive": "--keep-alive-timeout",
    "--keep-alive": "--keep-alive-timeout",
    "--limit-concurrency": "--max-active-requests",
    "--limit-request-fields": "--limit-header-count",
    "--access-logfile": "--access-log",
    "--access-logformat": "--access-log-format",
    "--ws-max-queue": "--ws-queue-size",
}
"""What other servers call an option, and what to say here."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a command line asks for."""

    flags: dict[str, Any]
    """By the setting's name; `None` for those not given."""
    config: str | None
    check_config: bool
    print_config: bool
    version: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        # Outside of standalone mode the option parser returns: what the command did, or the status after --help.
        asked = _command()(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        return _carry_out(asked) if isinstance(asked, _Asked) else int(asked or ExitCode.OK)
    except SettingsError as error:
        return _complain(error.errors, error.exit_code)
    except AsgiMasterError as error:
        return _complain([str(error)], error.exit_code)
    except _UsageError as error:
        return _complain([_usage_line(error)], ExitCode.USAGE)


def _command() -> Callable[..., Any]:
    """The command, with an option for each setting and for each thing that only the command line can ask for."""

    def ask(*, config: str | None, check_config: bool, print_config: bool, version: bool, **flags: Any) -> _Asked:
        return _Asked(flags, config, check_config, print_config, version)

    parameters = [
        *(setting_option(setting) for setting in SETTINGS),
        command_option("config", str | None, ("-c", "--config"), f"Settings file instead of {FILE_NAME}.", "FILE"),
        command_option("check_config", bool, ("--check-config",), "Check the settings and exit."),
        command_option("print_config", bool, ("--print-config",), "Print all settings, with their origins, and exit."),
        command_option("version", bool, ("--version",), "Print the version and exit."),
    ]
    # Typer reads a function's signature and hints: here they are the model's.
    ask.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    ask.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    app.command(help=_HELP, epilog=_EPILOG)(ask)
    return typer.main.get_command(app)


def _carry_out(asked: _Asked) -> int:
    if asked.version:
        print(f"{PROGRAM} {__version__}")
        return ExitCode.OK
    directory = working_directory(os.environ)

    def read() -> Resolved:
        return resolve(asked.flags, os.environ, directory, config=asked.config)

    resolved = read()
    if asked.print_config:
        print(to_toml(resolved), end="")
        return ExitCode.OK
    if asked.check_config:
        print("The settings are right.")
        return ExitCode.OK
    # Last, so that nobody who only asks about settings waits for it.
    from asgi_master.master.main import run  # noqa: PLC0415

    return run(resolved.settings, lambda: read().settings)


def _complain(lines: Sequence[str], status: ExitCode) -> int:
    for line in lines:
        print(f"{PROGRAM}: error: {line}", file=sys.stderr)
    return status


def _usage_line(error: Any) -> str:
    option = getattr(error, "option_name", "") or ""
    if option in _ELSEWHERE:
        return f"there is no option {option}; here it is {_ELSEWHERE[option]}"
    return f"{error.format_message().rstrip('.')} (see {PROGRAM} --help)"
