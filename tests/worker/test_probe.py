"""The health probe: a request through the application, without a socket."""

import asyncio

import pytest

from asgi_master.errors import ApplicationError
from asgi_master.worker.probe import probe


def ask(app, path="/health", limit=5.0, root_path="", state=None):
    asyncio.run(probe(app, path, root_path=root_path, state={} if state is None else state, limit=limit))


def refused(app, **how):
    with pytest.raises(ApplicationError) as refusal:
        ask(app, **{"limit": 0.3, **how})
    return refusal.value


async def answer(send, status, body=b"ok", headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("status", [200, 204, 301, 399])
def test_2xx_and_3xx_are_healthy(status):
    async def app(scope, receive, send):
        await answer(send, status, b"")

    ask(app)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_everything_else_is_not(status):
    async def app(scope, receive, send):
        await answer(send, status)

    assert str(refused(app)) == f"health probe GET /health: {status} for 0.3 s"


def test_the_request_is_a_local_clients():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, await receive()))
        await answer(send, 200)
        seen.append(await receive())

    state = {"database": object()}
    ask(app, "/deep%20down?full=1", root_path="/api", state=state)
    (scope, first), after = seen
    assert first == {"type": "http.request", "body": b"", "more_body": False}
    assert after == {"type": "http.disconnect"}
    assert (scope["type"], scope["method"], scope["http_version"]) == ("http", "GET", "1.1")
    assert (scope["path"], scope["raw_path"]) == ("/api/deep down", b"/api/deep%20down")
    assert scope["query_string"] == b"full=1"
    assert scope["root_path"] == "/api"
    assert dict(scope["headers"])[b"host"] == b"localhost"
    assert scope["client"] == ("127.0.0.1", 0)
    assert scope["state"] == state
    assert scope["state"] is not state, "a copy, as each request gets"


def test_it_asks_again_until_the_answer_is_good():
    answers = [503, None, 200]

    async def app(scope, receive, send):
        status = answers.pop(0)
        if status is None:
            raise RuntimeError("not yet")
        await answer(send, status)

    ask(app)
    assert answers == []


def test_what_the_application_raises_is_the_cause():
    async def app(scope, receive, send):
        raise RuntimeError("no database\nat all")

    refusal = refused(app)
    assert str(refusal) == "health probe GET /health: raised RuntimeError: no database at all, for 0.3 s"
    assert isinstance(refusal.__cause__, RuntimeError)


def test_a_query_may_hold_a_secret_and_is_not_told():
    async def app(scope, receive, send):
        await answer(send, 403)

    assert str(refused(app, path="/health?key=secret")) == "health probe GET /health: 403 for 0.3 s"


def test_even_an_exit_is_only_a_failure():
    async def app(scope, receive, send):
        raise SystemExit(7)

    assert "SystemExit: 7" in str(refused(app))


async def says_nothing(scope, receive, send):
    pass


async def never_ends(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.01)


async def hangs(scope, receive, send):
    await asyncio.Event().wait()


async def hangs_and_defends_itself(scope, receive, send):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await answer(send, 200)


@pytest.mark.parametrize("app", [says_nothing, never_ends, hangs, hangs_and_defends_itself])
def test_a_response_that_is_not_complete_is_none(app):
    assert str(refused(app)) == "health probe GET /health: no complete response for 0.3 s"


def test_who_waits_for_the_client_to_leave_is_told():
    async def app(scope, receive, send):
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass

    assert "no complete response" in str(refused(app))


def test_a_wrong_message_is_an_error_of_the_application():
    async def app(scope, receive, send):
        await send({"type": "http.response.body", "body": b""})

    assert "RuntimeError: ASGI message 'http.response.body' cannot be sent" in str(refused(app))


def test_a_body_shorter_than_announced_is_no_good_answer():
    async def app(scope, receive, send):
        await answer(send, 200, b"12", headers=[(b"content-length", b"5")])

    refused(app)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), BaseExceptionGroup("two", [SystemExit(3)])]
)
def test_whatever_is_raised_is_not_healthy(error):
    async def app(scope, receive, send):
        raise error

    assert " raised " in str(refused(app))
