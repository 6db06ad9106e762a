"""The options of the command, as parameters that Typer understands: one for each setting of the model."""

import inspect
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from asgi_master.settings.fields import Setting
from asgi_master.settings.values import SWITCH

_COMMAND_PANEL = "Command"


def setting_option(setting: Setting) -> inspect.Parameter:
    """The parameter for a setting. Its default is always `None`: only what was really said is a flag."""
    spec = setting.spec
    if spec.argument:
        info = typer.Argument(metavar=spec.metavar, help=_plain(spec.help), show_default=False)
        return _parameter(setting.name, str | None, info)
    switch = spec.kind is SWITCH
    flags = [f"{setting.flag}/{setting.off_flag}" if switch else setting.flag, *filter(None, [spec.short])]
    default = default_text(setting)
    info = typer.Option(
        *flags,
        metavar=" " if switch else spec.metavar,
        help=_plain(spec.help) + (f" [dim]{_plain(f'[default: {default}]')}[/dim]" if default else ""),
        show_default=False,
        rich_help_panel=setting.title,
    )
    kind = bool | None if switch else list[str] | None if spec.kind.many else str | None
    return _parameter(setting.name, kind, info)


def default_text(setting: Setting) -> str:
    """The default as the help shows it; empty if there is none."""
    spec = setting.spec
    if spec.kind is SWITCH:
        return "on" if spec.default else "off"
    if isinstance(spec.default, str):
        return spec.default
    if isinstance(spec.default, tuple):
        return ", ".join(spec.default)
    return spec.kind.write(spec.default)


def command_option(
    name: str, kind: Any, flags: Sequence[str], meaning: str, metavar: str = " "
) -> inspect.Parameter:
    """The parameter for something that only the command line can ask for."""
    info = typer.Option(*flags, metavar=metavar, help=_plain(meaning), show_default=False, rich_help_panel=_COMMAND_PANEL)
    return _parameter(name, kind, info, False if kind is bool else None)


def _parameter(name: str, kind: Any, info: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _plain(text: str) -> str:
    """The text, safe from being read as markup."""
    return text.replace("[", "\\[")
