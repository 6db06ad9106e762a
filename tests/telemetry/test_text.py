"""What is not printable is escaped, in every way out."""

import logging
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.cli import app, ctl_view
from asgi_master.master.sd_protocol import datagram
from asgi_master.telemetry.access_log import AccessLog
from asgi_master.telemetry.logs import JsonFormatter, TextFormatter
from asgi_master.telemetry.text import one_line, without_secrets
from asgi_master.telemetry.titles import title

HOSTILE = "a\x00\x07\x1b[2J\r\n\x7f\x85\x9b\xa0\xad\u200b\u200f\u2028\u2029\u202e\u2066\u2069\u3000\ufeff\ud800\ue000\U000e0041z"
"""Of each kind: controls, line ends, spaces, marks of direction, invisible ones, halves, private ones, tags."""


def is_shown(text):
    """Whether all of it is printable, line ends of ours and tabs apart."""
    return text.replace("\n", "").replace("\t", "").isprintable()


@given(st.text())
def test_one_line_is_printable(text):
    shown = one_line(text)
    assert shown.replace("\t", "").isprintable()
    if text.isprintable():
        assert shown == text


def test_escapes_name_the_character():
    assert one_line(
        "a\tb\x1b\n\xa0\u202e\U000e0041\ud800é"
    ) == r"a	b\x1b\n\xa0\u202e\U000e0041\ud800é".replace(r"a\t", "a\t")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_the_log(formatter):
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        exception = (type(error), error, None)
    record = logging.LogRecord(HOSTILE, logging.INFO, __file__, 1, "%s", (HOSTILE,), exception)
    record.levelname = HOSTILE
    record.detail = HOSTILE
    shown = formatter.format(record)
    assert is_shown(shown)
    assert shown.isascii() or isinstance(formatter, TextFormatter)
    # Lines of others are indented.
    assert all(line.startswith("  ") for line in shown.split("\n")[1:])


@pytest.mark.parametrize("json", [False, True])
def test_the_access_log(capfdbinary, json):
    """Whatever the application made of its scope."""
    data = HOSTILE.encode(errors="surrogatepass")
    scope = {
        "method": HOSTILE,
        "http_version": HOSTILE,
        "client": (HOSTILE, 1),
        "raw_path": data,
        "query_string": data,
        "headers": [(b"user-agent", data), (b"referer", data)],
    }
    log = AccessLog("combined", form="json" if json else "text")
    log.of_connection().record(object(), scope, 200, 0, 0.1)
    log.flush()
    written = capfdbinary.readouterr().out
    assert written.count(b"\n") == 1
    assert written[:-1].decode("ascii").isprintable()


def test_the_notifications_to_systemd():
    assert is_shown(datagram({"STATUS": HOSTILE, "READY": 1}).decode())


def test_process_titles():
    assert title("worker", application=HOSTILE).isprintable()


def test_complaints_of_the_command_line(capsys):
    app._report_errors([HOSTILE], app.ExitCode.USAGE, [])
    assert is_shown(capsys.readouterr().err)


def test_what_asgi_masterctl_shows(capsys):
    hostile = defaultdict(lambda: HOSTILE)
    worker = {
        "slot": HOSTILE,
        "pid": None,
        "generation": HOSTILE,
        "note": HOSTILE,
        "threads": HOSTILE + "\n" + HOSTILE,
    }
    group = {
        "count": 1,
        "coroutine": HOSTILE,
        "names": [HOSTILE],
        "more_served": 1,
        "serves": [HOSTILE],
        "stack": [HOSTILE],
    }
    tasks = {"tasks": [group], "task_count": HOSTILE, "tasks_left_out": 0}
    ctl_view.show_stacks({"workers": [worker | tasks]})
    status = hostile | {
        "workers": [],
        "waiting": [],
        "uptime": 1.0,
        "spares_wanted": 0,
        "listening": [HOSTILE],
        "totals": {"requests": HOSTILE, "responses_5xx": HOSTILE, "application_errors": HOSTILE},
        "last_reload": {"result": HOSTILE, "at": 0.0, "message": HOSTILE},
    }
    ctl_view.show_status(status)
    shown = capsys.readouterr().out
    assert is_shown(shown)
    assert "u202e" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nothing to hide: 5 tokens", "nothing to hide: 5 tokens"),
        ("postgres://me:hunter2@db:5432/shop failed", "postgres://***@db:5432/shop failed"),
        ("redis://:hunter2@cache", "redis://***@cache"),
        ("http://host/path@2x.png", "http://host/path@2x.png"),
        ("password=hunter2, retry", "password=***, retry"),
        ("DB_PASSWORD='hunter 2' is wrong", "DB_PASSWORD=*** is wrong"),
        ('{"api_key": "abc"}', '{"api_key": ***}'),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("access_token=abc&x=1", "access_token=***&x=1"),
        ("secret: abc", "secret: ***"),
    ],
)
def test_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
