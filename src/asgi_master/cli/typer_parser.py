"""Parses the command line with Typer: an option for each setting, and those that are not settings."""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from asgi_master.cli.command_line import CommandLine
from asgi_master.cli.help import COMMAND_OPTIONS, PROGRAM
from asgi_master.cli.other_servers import OTHER_SERVERS
from asgi_master.errors import SettingsError
from asgi_master.settings.fields import Setting
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.values import SWITCH

# The one exception class of click that every version of Typer exposes.
_UsageError: Any = typer.BadParameter.__base__


def parse_with_typer(arguments: Sequence[str] | None) -> CommandLine:
    """Parse the arguments (by default the program's).

    Raises `SettingsError` for unknown options and missing values.
    """
    try:
        # Not standalone, so that the function's result is returned.
        command_line: CommandLine = _command()(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except _UsageError as error:
        raise SettingsError([_usage_line(error)]) from None
    return command_line


def _command() -> Callable[..., Any]:
    def ask(*, config: str | None, **given: Any) -> CommandLine:
        switches = {name: given.pop(name) for name in _switches()}
        return CommandLine(given, config, **switches)

    parameters = [
        *(_setting_option(setting) for setting in SETTINGS),
        *(_option(flag, short, metavar) for flag, short, metavar, _meaning in COMMAND_OPTIONS),
    ]
    # Typer reads a function's signature and type hints: here they come from the model.
    ask.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    ask.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    # Help is an ordinary option: see `asgi_master.cli.help`.
    app.command(add_help_option=False)(ask)
    return typer.main.get_command(app)


def _switches() -> list[str]:
    return [_name(flag) for flag, _short, metavar, _meaning in COMMAND_OPTIONS if not metavar]


def _setting_option(setting: Setting) -> inspect.Parameter:
    """The parameter for a setting. All are optional, so that only flags that were given have a value."""
    option = setting.option
    if option.argument:
        return _parameter(setting.name, str | None, typer.Argument(metavar=option.metavar))
    switch = option.value_type is SWITCH
    info = typer.Option(
        f"{setting.flag}/{setting.off_flag}" if switch else setting.flag,
        *filter(None, [setting.old_flag, option.short]),
    )
    value_type = bool | None if switch else list[str] | None if option.value_type.is_list else str | None
    return _parameter(setting.name, value_type, info)


def _option(flag: str, short: str, metavar: str) -> inspect.Parameter:
    """The parameter for an option that is not a setting."""
    info = typer.Option(*filter(None, [flag, short]))
    return _parameter(_name(flag), str | None if metavar else bool, info, default=None if metavar else False)


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _parameter(name: str, value_type: Any, info: Any, *, default: Any = None) -> inspect.Parameter:
    annotation = Annotated[value_type, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _usage_line(error: Any) -> str:
    option = getattr(error, "option_name", "") or ""
    if option in OTHER_SERVERS:
        return f"unknown option {option}; {OTHER_SERVERS[option]}"
    return f"{error.format_message().rstrip('.')} (see {PROGRAM} --help)"
