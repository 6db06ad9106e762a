import re

import pytest

from asgi_master.cli.help import COMMAND_OPTIONS
from asgi_master.cli.other_servers import OTHER_SERVERS
from asgi_master.cli.typer_parser import parse_with_typer
from asgi_master.errors import SettingsError
from asgi_master.settings.model import SETTINGS
from server_options import PEER_OPTIONS

_OURS = {
    name for setting in SETTINGS for name in (setting.flag, setting.off_flag, setting.option.short) if name
} | {name for flag, short, _metavar, _meaning in COMMAND_OPTIONS for name in (flag, short) if name}
_THEIRS = sorted({name for names in PEER_OPTIONS.values() for name in names.split()} - _OURS)


@pytest.mark.parametrize("peer", PEER_OPTIONS)
def test_every_option_of_a_peer_is_ours_or_is_answered(peer):
    assert set(PEER_OPTIONS[peer].split()) - _OURS - OTHER_SERVERS.keys() == set()


def _answer(*arguments: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_with_typer(arguments)
    return caught.value.errors


@pytest.mark.parametrize("option", _THEIRS)
def test_the_answer_is_one_line(option):
    assert _answer(option, "value", "main:app") == [f"unknown option {option}; {OTHER_SERVERS[option]}"]


@pytest.mark.parametrize(
    "arguments", [["--port=9000"], ["--port"], ["main:app", "--port", "9000"], ["--reload", "--port"]]
)
def test_the_answer_is_the_same_however_it_is_written(arguments):
    assert _answer(*arguments) == ["unknown option --port; use --bind HOST:PORT"]


def test_a_value_may_stick_to_a_short_name():
    assert _answer("-p9000") == [f"unknown option -p; {OTHER_SERVERS['-p']}"]


def test_no_option_of_ours_is_said_not_to_exist():
    assert OTHER_SERVERS.keys() & _OURS == set()


@pytest.mark.parametrize("option", OTHER_SERVERS)
def test_an_answer_names_options_that_exist(option):
    answer = OTHER_SERVERS[option]
    assert answer.startswith(("use ", "not needed: ", "not offered: "))
    assert len(f"asgi-master: error: unknown option {option}; {answer}") <= 160
    named = re.findall(r"(?<!\w)--[a-z][a-z0-9-]*", answer)
    assert set(named) <= _OURS
    assert named or not answer.startswith("use ") or "FILE" in answer
