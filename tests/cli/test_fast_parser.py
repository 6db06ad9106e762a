import pytest

from asgi_master.cli.fast_parser import parse_fast
from asgi_master.cli.typer_parser import parse_with_typer
from asgi_master.errors import SettingsError
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.values import SWITCH

_PLAIN = [
    ["main:app"],
    [],
    ["-w", "4", "--bind", "127.0.0.1:1", "-b", "[::1]:2", "main:app", "--drain-timeout=5m"],
    ["--name=", "main:app"],
    ["--name", "", "main:app"],
    ["--name=a=b", "main:app"],
    ["--workers", "2", "--workers", "3", "main:app"],
    ["--reload", "--no-reload", "main:app"],
    ["--config", "a.toml", "-c", "b.toml"],
    ["--config=c.toml", "main:app"],
    ["--help"],
    ["--help-all", "--workers", "2"],
    ["--version", "main:app"],
    ["--check", "main:app"],
    ["--check-config", "main:app"],
    ["--check", "--print-config", "main:app"],
    ["--spare", "1", "--spares", "2", "main:app"],
    *([setting.flag] for setting in SETTINGS if setting.option.value_type is SWITCH),
    *([setting.off_flag] for setting in SETTINGS if setting.option.value_type is SWITCH),
    *(
        [setting.flag, "x"]
        for setting in SETTINGS
        if setting.option.value_type is not SWITCH and not setting.option.argument
    ),
    *([setting.option.short, "x"] for setting in SETTINGS if setting.option.short),
]
_NOT_PLAIN = [
    ["-h"],
    ["--check=yes", "main:app"],
    ["--check-con", "main:app"],
    ["--", "main:app"],
    ["-w8", "main:app"],
    ["-w=8", "main:app"],
    ["--workers", "-1", "main:app"],
    ["--workers"],
    ["--worker", "3", "main:app"],
    ["--reload=yes", "main:app"],
    ["main:app", "other:app"],
    ["-", "main:app"],
]


@pytest.mark.parametrize("arguments", _PLAIN, ids=" ".join)
def test_it_reads_what_typer_reads(arguments):
    plain = parse_fast(arguments)
    assert plain is not None
    assert plain == parse_with_typer(arguments)


@pytest.mark.parametrize("arguments", _NOT_PLAIN, ids=" ".join)
def test_it_leaves_the_rest_to_typer(arguments):
    assert parse_fast(arguments) is None


def test_a_mistake_is_still_explained():
    with pytest.raises(SettingsError, match="--workers"):
        parse_with_typer(["--workrs", "3"])
