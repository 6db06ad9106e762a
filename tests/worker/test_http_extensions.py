"""ASGI's extensions of HTTP on real connections: hints, trailers and files."""

from typing import Any

import pytest

from http_apps import respond
from http_client import request
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

LINK = "</style.css>; rel=preload; as=style"


async def with_hints(scope: Any, receive: Any, send: Any) -> None:
    """Answers with its extensions, behind an early hint."""
    hint = {"type": "http.response.early_hint", "links": [LINK.encode(), b"</b>"]}
    await send(hint)
    await respond(send, body=" ".join(sorted(scope["extensions"])).encode())


async def with_trailers(scope: Any, receive: Any, send: Any) -> None:
    fields = [(b"trailer", b"a"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": True})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    await send({"type": "http.response.body", "body": b"y"})
    await send({"type": "http.response.trailers", "headers": [(b"a", b"1")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"b", b"2")]})


def test_a_browser_that_navigates_gets_hints(variant: dict[str, str]) -> None:
    with serve(with_hints, **variant) as server:
        client = server.client()
        for _ in range(2):
            client.send(request("GET", "/", "Sec-Fetch-Mode: navigate"))
            hint, response = client.response(), client.response()
            assert (hint.status, hint.reason) == (103, "Early Hints")
            assert hint.fields == [("link", LINK), ("link", "</b>")]
            assert "http.response.early_hint" in response.body.decode().split()
        assert server.context.stats.responses[1] == 2


def test_who_does_not_ask_gets_none(variant: dict[str, str]) -> None:
    with serve(with_hints, **variant) as server:
        client = server.client()
        for _ in range(2):
            assert client.get("/").body == b"http.response.pathsend http.response.zerocopysend"


def test_trailers_come_to_who_accepts_them(variant: dict[str, str]) -> None:
    with serve(with_trailers, **variant) as server:
        client = server.client()
        for _ in range(2):
            client.send(request("GET", "/", "TE: trailers"))
            head = client.read_until(b"\r\n\r\n")
            assert b"\r\ntransfer-encoding: chunked\r\n" in head
            assert b"content-length" not in head
            rest = b"1\r\nx\r\n1\r\ny\r\n0\r\na: 1\r\nb: 2\r\n\r\n"
            assert client.read(len(rest)) == rest
        client.send(request("HEAD", "/", "TE: trailers"))
        assert client.response("HEAD").headers["content-length"] == "2"
        response = client.get("/")
        assert (response.headers["content-length"], response.body) == ("2", b"xy")


def test_a_response_without_its_trailers_is_incomplete(variant: dict[str, str], caplog: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("GET", "/", "TE: trailers"))
        with pytest.raises((EOFError, ConnectionResetError)):
            client.response()
    assert "returned without completing its response" in caplog.text
