import os
import re
from io import StringIO
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.settings.env_file import parse_env_file


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY=value", "value"),
        ("KEY=", ""),
        ("KEY = value ", "value"),
        ("  export KEY=value", "value"),
        ("KEY=two words", "two words"),
        ("KEY=value # comment", "value"),
        ("KEY=value\t# comment", "value"),
        ("KEY= # comment", ""),
        ("KEY=http://host/#fragment", "http://host/#fragment"),
        ("KEY='single # quoted'", "single # quoted"),
        (r"KEY='no\nescape'", r"no\nescape"),
        ('KEY="double # quoted" # comment', "double # quoted"),
        (r'KEY="a\nb\t\"c\" \\ \$d"', 'a\nb\t"c" \\ $d'),
        ("KEY=it's", "it's"),
        ("KEY=$OTHER", "$OTHER"),
        ("KEY=a=b", "a=b"),
        ("KEY=''", ""),
        ("\ufeffKEY=value", "value"),
        ("KEY=#ff0000", "#ff0000"),
        ("KEY=a#b #c", "a#b"),
        (r"KEY='it\'s'", "it's"),
        (r"KEY='C:\\'", "C:\\"),
        ("KEY='a\nb # c\n\nd' # e", "a\nb # c\n\nd"),
        ('KEY="-----BEGIN\r\nabc=\r\n-----END"\r\n', "-----BEGIN\nabc=\n-----END"),
        ('KEY="a \\\nb"', "a b"),
        ("KEY=a \\\n  b", "a   b"),
        ("KEY=a\\", "a\\"),
        ("KEY=\u2028", ""),
        ('KEY="a\u2028b\x0bc"', "a\u2028b\x0bc"),
        ('KEY={"a": "b # c"}', '{"a": "b'),
        ("KEY=${HOME}/x", "/home/joe/x"),
        ('KEY="${HOME}/x"', "/home/joe/x"),
        ("KEY='${HOME}/x'", "${HOME}/x"),
        (r'KEY="\${HOME}"', "${HOME}"),
        ("KEY=${NONE}x", "x"),
        ("KEY=${NONE:-a b}c", "a bc"),
        ("KEY=${EMPTY:-a}${EMPTY-b}", "a"),
        ("KEY=${NONE-a}", "a"),
        ("KEY=$HOME ${} ${1} ${{x}} ${HOME", "$HOME ${} ${1} ${{x}} ${HOME"),
        ("KEY=pa$$word`id`$(id)", "pa$$word`id`$(id)"),
    ],
)
def test_a_line_sets_a_variable(line, value):
    assert parse_env_file(line, {"HOME": "/home/joe", "EMPTY": ""}) == ({"KEY": value}, [])


def test_variables_of_lines_above_are_known_and_those_that_exist_win():
    text = "HOST=db\nURL=pg://${HOST}:${PORT}/x\nPORT=1\nPORT=2\nLATE=${PORT}\n"
    assert parse_env_file(text)[0]["URL"] == "pg://db:/x"
    assert parse_env_file(text)[0]["LATE"] == "2"
    assert parse_env_file(text, {"HOST": "live", "PORT": "5"})[0]["URL"] == "pg://live:5/x"


@pytest.mark.parametrize("line", ["ASGI_MASTER_WORKERS=3", "export ASGI_MASTER_X='a\nb'", "ASGI_MASTER_="])
def test_our_own_settings_are_refused_in_words(line):
    variables, [(number, reason)] = parse_env_file(f"A=1\n{line}\nB=2")
    assert (number, variables) == (2, {"A": "1", "B": "2"})
    assert reason.startswith(line.removeprefix("export ").partition("=")[0])
    assert "in the environment that asgi-master is started in" in reason


def test_lines_are_counted_through_values_of_several():
    text = "A='1\n2\n3'\nB=\\\n4\nwrong\n; C=no\nD='open"
    variables, errors = parse_env_file(text)
    assert variables == {"A": "1\n2\n3", "B": "4"}
    assert errors == [(6, "not KEY=VALUE"), (8, "a quote is opened here and never closed")]


_NAMES = st.sampled_from(["A", "B_1", "_c"])
_TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="'\"\\\\$#"),
    min_size=1,
    max_size=6,
)
_QUOTED = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=9)
_LINES = st.one_of(
    st.builds("{}={}".format, _NAMES, _TEXTS),
    st.builds("export {} = {}  # comment".format, _NAMES, _TEXTS),
    st.builds('{}="{}"'.format, _NAMES, st.lists(_TEXTS, min_size=1, max_size=3).map("\n".join)),
    st.builds("{}='{}'".format, _NAMES, st.lists(_TEXTS, min_size=1, max_size=3).map("\n".join)),
    st.builds("{}={}/${{{}}}/${{{}:-{}}}".format, _NAMES, _TEXTS, _NAMES, _NAMES, st.just("default")),
    st.just("# comment"),
    st.just(""),
)


@given(st.lists(_LINES, max_size=8).map("\n".join), st.dictionaries(_NAMES, _TEXTS, max_size=2))
def test_it_reads_what_python_dotenv_reads(text, environ):
    # But for what is set and empty: `:-` means what it means to a shell.
    dotenv = pytest.importorskip("dotenv.main")
    with patch.dict(os.environ, environ, clear=True):
        expected = dict(dotenv.DotEnv(None, StringIO(text), override=False).dict())
    assert parse_env_file(text, environ) == (expected, [])


@given(_QUOTED)
def test_what_is_quoted_comes_back(value):
    single = value.replace("\\", "\\\\").replace("'", "\\'")
    double = re.sub(r'([\\"$])', r"\\\1", value)
    assert parse_env_file(f"A='{single}'\nB=\"{double}\"") == ({"A": value, "B": value}, [])


@given(st.text(st.sampled_from("A=\"'\\#;${}:-\n \tb\0"), max_size=40))
def test_nothing_is_too_strange(text):
    variables, errors = parse_env_file(text)
    assert all("\0" not in value for value in variables.values())
    assert all(1 <= number <= text.count("\n") + 1 for number, _reason in errors)


def test_comments_and_blank_lines_are_skipped_and_the_last_value_wins():
    assert parse_env_file("# comment\n\n  # another\r\nA=1\r\nB=2\nA=3\n") == ({"A": "3", "B": "2"}, [])


@pytest.mark.parametrize(
    "line", ["KEY", "1KEY=x", "KEY='open", 'KEY="open', "KEY='a'b", "K-Y=x", "=x", "KEY=a\0b"]
)
def test_errors_name_their_line(line):
    variables, errors = parse_env_file(f"A=1\n{line}\nB=2")
    assert variables == {"A": "1", "B": "2"}
    assert errors == [(2, "a quote is opened here and never closed" if "open" in line else "not KEY=VALUE")]


def test_a_long_bad_line_takes_no_time():
    _variables, errors = parse_env_file(
        'KEY="' + "\\a" * 50_000 + "\nKEY=" + " #" * 50_000 + "'\n" + " " * 50_000
    )
    assert [line for line, _reason in errors] == [1]
