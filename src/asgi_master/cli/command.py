"""The command line read by Typer: an option for each setting of the model, and a few that only it has."""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from asgi_master.cli.asked import Asked
from asgi_master.errors import SettingsError
from asgi_master.settings.fields import Setting
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.sources import FILE_NAME
from asgi_master.settings.values import SWITCH

PROGRAM = "asgi-master"

_HELP = "Serve an ASGI application with several supervised worker processes."
_EPILOG = (
    "Each option can also stand as ASGI_MASTER_OPTION_NAME in the environment, or as option-name in "
    f"{FILE_NAME}; flags win over the environment, which wins over the file."
)
_COMMAND_PANEL = "Command"
# An empty one would be replaced by a made-up one.
_NO_METAVAR = " "

# The one exception class of the option parser that every version of Typer lets us reach.
_UsageError: Any = typer.BadParameter.__base__

_ELSEWHERE = {
    "-k": "there is one kind of worker",
    "--access-logfile": "say --access-log",
    "--access-logformat": "say --access-log-format",
    "--chdir": "say --app-dir",
    "--fd": "say --bind fd://N",
    "--graceful-timeout": "say --drain-timeout",
    "--host": "say --bind HOST:PORT",
    "--keep-alive": "say --keep-alive-timeout",
    "--limit-concurrency": "say --max-active-requests",
    "--limit-request-fields": "say --limit-header-count",
    "--pid": "say --pid-file",
    "--port": "say --bind HOST:PORT",
    "--proc-name": "say --name",
    "--pythonpath": "say --app-dir",
    "--timeout": "say --hang-timeout",
    "--timeout-graceful-shutdown": "say --drain-timeout",
    "--timeout-keep-alive": "say --keep-alive-timeout",
    "--uds": "say --bind unix:PATH",
    "--worker-class": "there is one kind of worker",
    "--ws-max-queue": "say --ws-queue-size",
}
"""What other servers call an option, and what to do here."""


def read_command_line(arguments: Sequence[str] | None) -> Asked | None:
    """What the arguments (by default the program's) ask for; `None` if it was help, which has been printed.

    Raises `SettingsError` for options that do not exist or lack their value.
    """
    try:
        # Not standalone, the command returns what its function does, or the exit status of --help.
        asked = _command()(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except _UsageError as error:
        raise SettingsError([_usage_line(error)]) from None
    return asked if isinstance(asked, Asked) else None


def _command() -> Callable[..., Any]:
    def ask(
        *, config: str | None, check_config: bool, print_config: bool, version: bool, **flags: Any
    ) -> Asked:
        return Asked(flags, config, check_config, print_config, version)

    parameters = [
        *(_setting_option(setting) for setting in SETTINGS),
        _option(
            "config", str | None, ("-c", "--config"), f"Settings file instead of {FILE_NAME}.", metavar="FILE"
        ),
        _option("check_config", bool, ("--check-config",), "Check the settings and exit."),
        _option(
            "print_config", bool, ("--print-config",), "Print all settings, with their origins, and exit."
        ),
        _option("version", bool, ("--version",), "Print the version and exit."),
    ]
    # Typer reads a function's signature and hints: here they are the model's.
    ask.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    ask.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    app.command(help=_HELP, epilog=_EPILOG)(ask)
    return typer.main.get_command(app)


def _setting_option(setting: Setting) -> inspect.Parameter:
    """The parameter for a setting. All may be left out, so that only what was really said is a flag."""
    spec = setting.spec
    if spec.argument:
        info = typer.Argument(metavar=spec.metavar, help=_plain(spec.help), show_default=False)
        return _parameter(setting.name, str | None, info)
    switch = spec.kind is SWITCH
    default = _default(setting)
    info = typer.Option(
        f"{setting.flag}/{setting.off_flag}" if switch else setting.flag,
        *filter(None, [spec.short]),
        metavar=_NO_METAVAR if switch else spec.metavar,
        help=_plain(spec.help) + (f" [dim]{_plain(f'[default: {default}]')}[/dim]" if default else ""),
        show_default=False,
        rich_help_panel=setting.title,
    )
    kind = bool | None if switch else list[str] | None if spec.kind.many else str | None
    return _parameter(setting.name, kind, info)


def _default(setting: Setting) -> str:
    """The default as the help shows it; empty if there is none."""
    spec = setting.spec
    if spec.kind is SWITCH:
        return "on" if spec.default else "off"
    if isinstance(spec.default, str):
        return spec.default
    if isinstance(spec.default, tuple):
        return ", ".join(spec.default)
    return spec.kind.write(spec.default)


def _option(
    name: str, kind: Any, flags: Sequence[str], meaning: str, *, metavar: str = _NO_METAVAR
) -> inspect.Parameter:
    """The parameter for something that only the command line can ask for."""
    info = typer.Option(
        *flags, metavar=metavar, help=_plain(meaning), show_default=False, rich_help_panel=_COMMAND_PANEL
    )
    return _parameter(name, kind, info, default=False if kind is bool else None)


def _parameter(name: str, kind: Any, info: Any, *, default: Any = None) -> inspect.Parameter:
    annotation = Annotated[kind, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _plain(text: str) -> str:
    """The text, safe from being read as markup."""
    return text.replace("[", "\\[")


def _usage_line(error: Any) -> str:
    option = getattr(error, "option_name", "") or ""
    if option in _ELSEWHERE:
        return f"there is no option {option}; {_ELSEWHERE[option]}"
    return f"{error.format_message().rstrip('.')} (see {PROGRAM} --help)"
