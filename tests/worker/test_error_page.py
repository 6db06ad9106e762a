"""What answers while the application cannot be started."""

import asyncio
import json
from dataclasses import replace

import pytest

from asgi_master.settings.model import Settings
from asgi_master.worker.error_page import ErrorPage, Problem, preferred, problem_of, render, shows_details

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def raised(code, **names):
    try:
        exec(compile(code, "<application>", "exec"), names)
    except KeyError as error:
        return error
    raise AssertionError("it raised nothing")


def failure(secret):
    password = f"<b>{secret}</b>"
    raise ValueError(f"<script>alert({password!r})</script>")


def problem(changed=()):
    try:
        failure("x")
    except ValueError as error:
        return problem_of(error, f"importing main failed: {error}", list(changed))


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "text"),
        ("*/*", "text"),
        (BROWSER, "html"),
        ("application/json", "json"),
        ("application/json;q=0.5, text/html;q=0.4", "json"),
        ("text/plain, text/html;q=0.9", "text"),
        ("TEXT/HTML; charset=x", "html"),
        ("text/html;q=0", "text"),
        ("text/html;q=x, application/json;q=0.1", "json"),
    ],
)
def test_the_form_is_what_the_client_prefers(accept, form):
    assert preferred(accept) == form


def test_everything_is_escaped():
    kind, body = render(problem(["<x>.py"]), BROWSER)
    page = body.decode()
    assert kind == "text/html; charset=utf-8"
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;x&gt;.py" in page
    assert "password = &#x27;&lt;b&gt;x&lt;/b&gt;&#x27;" in page


def test_it_shows_the_source_around_the_line():
    page = render(problem(), BROWSER)[1].decode()
    assert "def failure(secret):" in page
    assert page.count("<mark>") >= 1


def test_other_forms():
    kind, body = render(problem(["a.py"]), "application/json")
    assert kind == "application/json"
    data = json.loads(body)
    assert data["error"].startswith("importing main failed")
    assert data["changed"] == ["a.py"]
    assert "Traceback" in data["traceback"]
    kind, body = render(problem(["a.py"]), "")
    assert kind == "text/plain; charset=utf-8"
    assert "changed: a.py" in body.decode()


def test_a_value_that_cannot_be_shown_does_no_harm():
    error = raised(
        "class Bad:\n    def __repr__(self): raise RuntimeError\ndef f():\n    bad = Bad()\n    raise KeyError(1)\nf()"
    )
    assert "bad = " in render(problem_of(error, "x", []), BROWSER)[1].decode()


def call(page, scope):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(page(scope, receive, send))
    return sent


def http(method="GET", accept=b"text/html"):
    return {"type": "http", "method": method, "headers": [(b"accept", accept)]}


def test_without_details_it_says_nothing_of_the_code():
    start, body = call(ErrorPage(problem(), shows_details=False), http())
    assert start["status"] == 500
    assert b"alert" not in body["body"]
    assert b"failure" not in body["body"]
    assert dict(start["headers"])[b"cache-control"] == b"no-store"


def test_head_websocket_and_lifespan():
    page = ErrorPage(Problem("x"), shows_details=True)
    start, body = call(page, http("HEAD"))
    assert int(dict(start["headers"])[b"content-length"]) > 0
    assert body["body"] == b""
    assert call(page, {"type": "websocket"}) == [{"type": "websocket.close", "code": 1011}]
    assert call(page, {"type": "lifespan"}) == []


@pytest.mark.parametrize(
    ("choice", "bind", "shown"),
    [
        ("auto", ["127.0.0.1:8000", "[::1]:8000", "localhost:1", "unix:/run/x"], True),
        ("auto", ["127.0.0.1:8000", "0.0.0.0:8000"], False),
        ("auto", ["[::]:8000"], False),
        ("auto", ["localhost.example.org:8000"], False),
        ("auto", ["fd://3"], False),
        ("on", ["0.0.0.0:8000"], True),
        ("off", ["127.0.0.1:8000"], False),
    ],
)
def test_details_are_for_this_machine(choice, bind, shown):
    settings = Settings()
    settings = replace(
        settings,
        development=replace(settings.development, error_page=choice),
        sockets=replace(settings.sockets, bind=tuple(bind)),
    )
    assert shows_details(settings) is shown
