"""The usual command line, read without Typer: the master lives long, and need not carry a terminal's libraries.

It knows flags that exist, each with its value, and one application. All else is Typer's to read or to refuse: help,
mistakes, `--`, and what only asks about settings.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from asgi_master.cli.command_line import CommandLine
from asgi_master.settings.fields import Setting
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.values import SWITCH

_CONFIG = ("-c", "--config")


class _UnsupportedError(Exception):
    """It takes Typer."""


def parse_fast(arguments: Sequence[str] | None) -> CommandLine | None:
    """What the arguments (by default the program's) ask for, as Typer would read them; `None` if it takes Typer."""
    try:
        return _parse(iter(sys.argv[1:] if arguments is None else arguments))
    except _UnsupportedError:
        return None


def _parse(arguments: Iterator[str]) -> CommandLine:
    known = {name: setting for setting in SETTINGS for name in _names(setting)}
    flags: dict[str, Any] = dict.fromkeys(setting.name for setting in SETTINGS)
    config: str | None = None
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if name in _CONFIG:
            config = _value(argument, arguments)
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
    return CommandLine(flags, config)


def _names(setting: Setting) -> list[str]:
    if setting.option.argument:
        return []
    return [name for name in (setting.flag, setting.old_flag, setting.off_flag, setting.option.short) if name]


def _value(argument: str, arguments: Iterator[str]) -> str:
    """What a flag was given: `--flag=value`, or the argument after it."""
    name, equals, value = argument.partition("=")
    if equals and name.startswith("--"):
        return value
    following = next(arguments, "-")
    if equals or following.startswith("-"):
        raise _UnsupportedError  # a short flag with `=`, none at all, or one that looks like a flag
    return following


def _set_application(flags: dict[str, Any], argument: str) -> None:
    name = next(setting.name for setting in SETTINGS if setting.option.argument)
    if flags[name] is not None:
        raise _UnsupportedError
    flags[name] = argument
