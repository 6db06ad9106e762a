import pytest

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
    ],
)
def test_a_line_sets_a_variable(line, value):
    assert parse_env_file(line) == ({"KEY": value}, [])


def test_comments_and_blank_lines_are_skipped_and_the_last_value_wins():
    assert parse_env_file("# comment\n\n  # another\r\nA=1\r\nB=2\nA=3\n") == ({"A": "3", "B": "2"}, [])


@pytest.mark.parametrize(
    "line", ["KEY", "1KEY=x", "KEY='open", 'KEY="open', "KEY='a'b", "K-Y=x", "=x", "KEY=a\0b"]
)
def test_errors_name_their_line(line):
    variables, errors = parse_env_file(f"A=1\n{line}\nB=2")
    assert variables == {"A": "1", "B": "2"}
    assert errors == [(2, "not KEY=VALUE")]


def test_a_long_bad_line_takes_no_time():
    _variables, errors = parse_env_file(
        'KEY="' + "\\a" * 50_000 + "\nKEY=" + " #" * 50_000 + "'\n" + " " * 50_000
    )
    assert [line for line, _reason in errors] == [1]
