import pytest

from asgi_master.cli.command_line import CommandLine
from asgi_master.cli.typer_parser import parse_with_typer
from asgi_master.errors import SettingsError
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.values import SWITCH


def _parse(*arguments: str) -> CommandLine:
    return parse_with_typer(arguments)


def _given(command_line: CommandLine) -> dict[str, object]:
    return {name: value for name, value in command_line.flags.items() if value}


def test_only_what_was_said_is_a_flag():
    command_line = _parse("main:app")
    assert _given(command_line) == {"app": "main:app"}
    assert command_line.flags.keys() == {setting.name for setting in SETTINGS}
    assert (
        command_line.config,
        command_line.check_config,
        command_line.print_config,
        command_line.version,
    ) == (
        None,
        False,
        False,
        False,
    )


def test_values_are_shown_as_they_were_written():
    command_line = _parse(
        "-w", "x", "-b", "127.0.0.1:1", "--bind", "[::1]:2", "main:app", "--drain-timeout=5m", "-n", "shop"
    )
    assert _given(command_line) == {
        "app": "main:app",
        "workers": "x",
        "bind": ["127.0.0.1:1", "[::1]:2"],
        "drain_timeout": "5m",
        "name": "shop",
    }


@pytest.mark.parametrize(
    "setting", [s for s in SETTINGS if s.option.value_type is SWITCH], ids=lambda setting: setting.name
)
def test_each_switch_goes_on_and_off(setting):
    assert _parse().flags[setting.name] is None
    assert _parse(setting.flag).flags[setting.name] is True
    assert _parse(setting.off_flag).flags[setting.name] is False


@pytest.mark.parametrize(
    "setting",
    [s for s in SETTINGS if s.option.value_type is not SWITCH and not s.option.argument],
    ids=lambda setting: setting.name,
)
def test_each_setting_has_its_flag(setting):
    assert _parse(setting.flag, "value").flags[setting.name] == (
        ["value"] if setting.option.value_type.is_list else "value"
    )


def test_what_only_the_command_line_can_ask_for():
    command_line = _parse("-c", "a.toml", "--check-config", "--print-config", "--version")
    assert command_line == CommandLine(
        dict.fromkeys(command_line.flags), "a.toml", check_config=True, print_config=True, version=True
    )
    assert _parse("-h", "--help-all", "--check") == CommandLine(
        dict.fromkeys(command_line.flags), check=True, help=True, help_all=True
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--workrs", "3"], "--workers"),
        (["--workers"], "--workers"),
        (["main:app", "other:app"], "other:app"),
        (["--host", "::"], "unknown option --host; use --bind HOST:PORT"),
        (["-k", "uvicorn.workers.UvicornWorker"], "unknown option -k; not needed: there is one kind"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, line):
    with pytest.raises(SettingsError) as caught:
        parse_with_typer(arguments)
    [error] = caught.value.errors
    assert line in error
    assert "\n" not in error
