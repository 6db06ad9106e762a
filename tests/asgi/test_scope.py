"""The scopes of requests."""

import pytest

from asgi_master.asgi.scope import HttpScopes
from asgi_master.http.request import Request

HEADERS = [(b"host", b"a")]


def scope_of(raw_path=b"/", query=b"", *, websocket=False, **overrides):
    request = Request("GET", raw_path + b"?" + query, raw_path, query, HEADERS, "1.0", keep_alive=True)
    values = {"client": ("127.0.0.1", 5), "server": ("::1", 80), "scheme": "https", "root_path": ""}
    scopes = HttpScopes(**{**values, **overrides})
    return (scopes.websocket_scope if websocket else scopes.scope)(request, {"a": 1})


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
    scope = scope_of(websocket=True)
    assert (scope["type"], scope["scheme"], scope["subprotocols"]) == ("websocket", "wss", [])
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert "method" not in scope
    assert scope_of(websocket=True, scheme="http")["scheme"] == "ws"


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


def test_a_repeated_request_gets_a_scope_of_its_own():
    scopes = HttpScopes(client=None, server=None, scheme="http", root_path="")
    request = Request("GET", b"/", b"/", b"", HEADERS.copy(), "1.1", keep_alive=True)
    first = scopes.scope(request, {})
    first["headers"].append((b"x-added", b"by the application"))
    first["asgi"]["x"] = first["path"] = "changed"
    second = scopes.scope(request, {})
    assert (second["headers"], second["path"]) == (HEADERS, "/")
    assert "x" not in second["asgi"]
    other = scopes.scope(
        Request("POST", b"/b%20c", b"/b%20c", b"", HEADERS.copy(), "1.1", keep_alive=True), {}
    )
    assert (other["method"], other["path"], other["raw_path"]) == ("POST", "/b c", b"/b%20c")
