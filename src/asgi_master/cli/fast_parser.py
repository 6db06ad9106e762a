"""Parses the usual command line without Typer, whose modules would stay in the master's memory.

It supports existing flags, each with its value, and one application. Everything else is left to Typer: errors, `--`,
and short forms of several words.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from asgi_master.cli.command_line import CommandLine
from asgi_master.settings.fields import Setting
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.values import SWITCH

_CONFIG = ("-c", "--config")
_SWITCHES = {
    f"--{each.name.replace('_', '-')}": each.name for each in fields(CommandLine) if each.default is False
}
"""Options that are not settings and have no value, and their names in `CommandLine`."""


class _UnsupportedError(Exception):
    """The command line needs Typer."""


def parse_fast(arguments: Sequence[str] | None) -> CommandLine | None:
    """Parse the arguments (by default the program's) as Typer would; `None` if they need Typer."""
    try:
        return _parse(iter(sys.argv[1:] if arguments is None else arguments))
    except _UnsupportedError:
        return None


def _parse(arguments: Iterator[str]) -> CommandLine:
    known = {name: setting for setting in SETTINGS for name in _names(setting)}
    flags: dict[str, Any] = dict.fromkeys(setting.name for setting in SETTINGS)
    config: str | None = None
    switches: dict[str, bool] = {}
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if name in _CONFIG:
            config = _value(argument, arguments)
        elif argument in _SWITCHES:
            switches[_SWITCHES[argument]] = True
        elif not argument.startswith("-"):
            _set_application(flags, argument)
        elif (setting := known.get(name)) is None:
            raise _UnsupportedError
        elif setting.option.value_type is SWITCH:
            if equals:
                raise _UnsupportedError
            flags[setting.name] = name == setting.flag
        else:
            text = _value(argument, arguments)
            if setting.option.value_type.is_list:
                flags[setting.name] = [*(flags[setting.name] or []), text]
            else:
                flags[setting.name] = text
    return CommandLine(flags, config, **switches)


def _names(setting: Setting) -> list[str]:
    if setting.option.argument:
        return []
    return [name for name in (setting.flag, setting.old_flag, setting.off_flag, setting.option.short) if name]


def _value(argument: str, arguments: Iterator[str]) -> str:
    """The value of a flag: `--flag=value`, or the next argument."""
    name, equals, value = argument.partition("=")
    if equals and name.startswith("--"):
        return value
    following = next(arguments, "-")
    if equals or following.startswith("-"):
        raise _UnsupportedError  # a short flag with `=`, a missing value, or one that looks like a flag
    return following


def _set_application(flags: dict[str, Any], argument: str) -> None:
    name = next(setting.name for setting in SETTINGS if setting.option.argument)
    if flags[name] is not None:
        raise _UnsupportedError
    flags[name] = argument
