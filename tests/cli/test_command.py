import pytest

from asgi_master.cli.asked import Asked
from asgi_master.cli.command import read_command_line
from asgi_master.errors import SettingsError
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.values import SWITCH


def _asked(*arguments: str) -> Asked:
    return read_command_line(arguments)


def _given(asked: Asked) -> dict[str, object]:
    return {name: value for name, value in asked.flags.items() if value}


def test_only_what_was_said_is_a_flag():
    asked = _asked("main:app")
    assert _given(asked) == {"app": "main:app"}
    assert asked.flags.keys() == {setting.name for setting in SETTINGS}
    assert (asked.config, asked.check_config, asked.print_config, asked.version) == (
        None,
        False,
        False,
        False,
    )


def test_values_are_told_as_they_were_written():
    asked = _asked(
        "-w", "x", "-b", "127.0.0.1:1", "--bind", "[::1]:2", "main:app", "--drain-timeout=5m", "-n", "shop"
    )
    assert _given(asked) == {
        "app": "main:app",
        "workers": "x",
        "bind": ["127.0.0.1:1", "[::1]:2"],
        "drain_timeout": "5m",
        "name": "shop",
    }


@pytest.mark.parametrize(
    "setting", [s for s in SETTINGS if s.spec.kind is SWITCH], ids=lambda setting: setting.name
)
def test_each_switch_goes_on_and_off(setting):
    assert _asked().flags[setting.name] is None
    assert _asked(setting.flag).flags[setting.name] is True
    assert _asked(setting.off_flag).flags[setting.name] is False


@pytest.mark.parametrize(
    "setting",
    [s for s in SETTINGS if s.spec.kind is not SWITCH and not s.spec.argument],
    ids=lambda setting: setting.name,
)
def test_each_setting_has_its_flag(setting):
    assert _asked(setting.flag, "value").flags[setting.name] == (
        ["value"] if setting.spec.kind.many else "value"
    )


def test_what_only_the_command_line_can_ask_for():
    asked = _asked("-c", "a.toml", "--check-config", "--print-config", "--version")
    assert asked == Asked(
        dict.fromkeys(asked.flags), "a.toml", check_config=True, print_config=True, version=True
    )
    assert _asked("-h", "--help-all", "--check") == Asked(
        dict.fromkeys(asked.flags), check=True, help=True, help_all=True
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--workrs", "3"], "--workers"),
        (["--workers"], "--workers"),
        (["main:app", "other:app"], "other:app"),
        (["--host", "::"], "there is no option --host; say --bind HOST:PORT"),
        (["-k", "uvicorn.workers.UvicornWorker"], "there is no option -k; not needed: there is one kind"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, line):
    with pytest.raises(SettingsError) as caught:
        read_command_line(arguments)
    [error] = caught.value.errors
    assert line in error
    assert "\n" not in error
