"""The scopes of requests."""

import pytest

from asgi_master.asgi.scope import http_scope, websocket_scope
from asgi_master.http.request import Request

HEADERS = [(b"host", b"a")]


def scope_of(raw_path=b"/", query=b"", **overrides):
    request = Request("GET", raw_path + b"?" + query, raw_path, query, HEADERS, "1.0", keep_alive=True)
    values = {
        "client": ("127.0.0.1", 5),
        "server": ("::1", 80),
        "scheme": "https",
        "root_path": "",
        "state": {"a": 1},
    }
    kind = websocket_scope if "subprotocols" in overrides else http_scope
    return kind(request, **{**values, **overrides})


def test_an_http_scope():
    assert scope_of(b"/x", b"y=%20") == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.0",
        "method": "GET",
        "scheme": "https",
        "path": "/x",
        "raw_path": b"/x",
        "query_string": b"y=%20",
        "root_path": "",
        "headers": HEADERS,
        "client": ("127.0.0.1", 5),
        "server": ("::1", 80),
        "state": {"a": 1},
    }


def test_a_websocket_scope():
    scope = scope_of(subprotocols=["chat"])
    assert (scope["type"], scope["scheme"], scope["subprotocols"]) == ("websocket", "wss", ["chat"])
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert "method" not in scope
    assert scope_of(subprotocols=[], scheme="http")["scheme"] == "ws"


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/a%20b", "/a b"),
        (b"/%E2%82%AC", "/€"),
        (b"/%2F", "//"),
        (b"/%ff", "/�"),
        (b"/%zz%", "/%zz%"),
        (b"/a+b", "/a+b"),
        (b"*", "*"),
    ],
)
def test_the_path_is_decoded_and_the_raw_path_is_not(raw, path):
    scope = scope_of(raw)
    assert (scope["path"], scope["raw_path"]) == (path, raw)


def test_the_root_path_is_put_before_the_path():
    scope = scope_of(b"/a%20b", root_path="/mount")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/mount", "/mount/a b", b"/mount/a%20b")


def test_scopes_share_nothing_that_an_application_may_change():
    first, second = scope_of(), scope_of()
    assert first["asgi"] is not second["asgi"]
