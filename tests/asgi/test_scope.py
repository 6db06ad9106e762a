"""The scopes of requests."""

import pytest

from asgi_master.asgi.http_exchange import HttpExchange
from asgi_master.asgi.scope import ForwardedScopes, HttpScopes
from asgi_master.http.forwarded import Forwarded, Trust
from asgi_master.http.message import Request

HEADERS = [(b"host", b"a")]


def scope_of(raw_path=b"/", query=b"", *, websocket=False, **overrides):
    request = Request("GET", raw_path + b"?" + query, raw_path, query, HEADERS, "1.0")
    values = {"client": ("127.0.0.1", 5), "server": ("::1", 80), "scheme": "https", "root_path": ""}
    scopes = HttpScopes(**{**values, **overrides})
    return (scopes.websocket_scope if websocket else scopes.scope)(request, {"a": 1})


def test_an_http_scope():
    assert scope_of(b"/x", b"y=%20") == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
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
        "extensions": {},
    }


def test_the_extensions_are_those_of_the_connection_and_of_the_request():
    scopes = HttpScopes(
        client=None, server=None, scheme="http", root_path="", tls={"tls_version": 772}, extensions=("a", "b")
    )
    request = Request("GET", b"/", b"/", b"", HEADERS, "1.1")
    assert scopes.scope(request, {})["extensions"] == {"a": {}, "b": {}, "tls": {"tls_version": 772}}
    request.accepts_trailers = request.accepts_hints = True
    scope = scopes.scope(request, {})
    assert sorted(scope["extensions"]) == [
        "a",
        "b",
        "http.response.early_hint",
        "http.response.trailers",
        "tls",
    ]
    assert set(scopes.websocket_scope(request, {})["extensions"]) == {"websocket.http.response", "tls"}
    del scope["extensions"]["a"]
    assert "a" in scopes.scope(request, {})["extensions"]


@pytest.mark.parametrize("side_by_side", [False, True])
def test_what_an_application_writes_into_an_extension_reaches_no_other_request(side_by_side):
    first = HttpScopes(client=None, server=None, scheme="http", root_path="", extensions=("a", "b"))
    second = first.of_connection(None, None)
    request = Request("GET", b"/", b"/", b"", HEADERS, "1.1")
    request.accepts_hints = side_by_side
    other = first.scope(request, {}) if side_by_side else second.scope(request, {})
    first.scope(request, {})["extensions"]["a"]["x"] = 1
    for scope in (other, first.scope(request, {}), second.scope(request, {})):
        assert scope["extensions"]["a"] == scope["extensions"]["b"] == {}


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


@pytest.mark.parametrize("prefix", [None, b"/told"])
def test_a_request_for_the_server_itself_is_below_no_root_path(prefix):
    headers = [] if prefix is None else [(b"x-forwarded-prefix", prefix)]
    request = Request("OPTIONS", b"*", b"*", b"", headers, "1.1")
    ends = {"client": ("127.0.0.1", 5), "server": ("::1", 80), "scheme": "http", "root_path": "/mount"}
    scopes = ForwardedScopes(Forwarded(Trust([], any_peer=True), prefix=True), **ends)
    scope = scopes.scope(request, {})
    root_path = "/mount" if prefix is None else "/told"
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (root_path, "*", b"*")


def test_scopes_share_nothing_that_an_application_may_change():
    first, second = scope_of(), scope_of()
    assert first["asgi"] is not second["asgi"]


def test_a_repeated_request_gets_a_scope_of_its_own():
    scopes = HttpScopes(client=None, server=None, scheme="http", root_path="")
    request = Request("GET", b"/", b"/", b"", HEADERS.copy(), "1.1")
    first = scopes.scope(request, {})
    first["headers"].append((b"x-added", b"by the application"))
    first["asgi"]["x"] = first["path"] = "changed"
    second = scopes.scope(request, {})
    assert (second["headers"], second["path"]) == (HEADERS, "/")
    assert "x" not in second["asgi"]
    other = scopes.scope(Request("POST", b"/b%20c", b"/b%20c", b"", HEADERS.copy(), "1.1"), {})
    assert (other["method"], other["path"], other["raw_path"]) == ("POST", "/b c", b"/b%20c")


TLS = {
    "server_cert": "PEM",
    "client_cert_chain": ["PEM", "PEM"],
    "client_cert_name": "CN=a",
    "client_cert_error": None,
    "tls_version": 0x0304,
    "cipher_suite": 0x1301,
}


def changeable(value):
    """The identities of all that an application could change in there, at any depth."""
    if isinstance(value, dict):
        return {id(value)}.union(*(changeable(part) for pair in value.items() for part in pair))
    if isinstance(value, (list, set, bytearray)):
        return {id(value)}.union(*(changeable(part) for part in value))
    if isinstance(value, tuple):
        return set().union(*(changeable(part) for part in value))
    assert value is None or isinstance(value, (str, bytes, int, float)), f"may {value!r} be changed?"
    return set()


@pytest.mark.parametrize("tls", [None, TLS], ids=["plain", "tls"])
@pytest.mark.parametrize("root_path", ["", "/api"])
@pytest.mark.parametrize("forwarded", [False, True])
def test_no_two_requests_share_what_an_application_can_change(tls, root_path, forwarded):
    ends = {"client": ("127.0.0.1", 5), "server": ("::1", None), "scheme": "http", "root_path": root_path}
    kept = None if tls is None else {**tls, "client_cert_chain": tls["client_cert_chain"].copy()}
    if forwarded:
        scopes = ForwardedScopes(Forwarded(Trust([], any_peer=True)), **ends, tls=kept)
    else:
        scopes = HttpScopes(**ends, tls=kept)
    headers = [(b"host", b"a"), (b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", b"https")]
    repeated = Request("GET", b"/", b"/", b"", headers, "1.1")
    other = Request("GET", b"/", b"/", b"", headers, "1.1")
    state = {"ours": 1}
    told = [
        make(request, state.copy())
        for request in (repeated, repeated, other)
        for make in (scopes.scope, scopes.websocket_scope)
    ]
    whose = [repeated.headers, kept, state, *told]
    seen = set()
    for value in whose:
        found = changeable(value)
        assert found.isdisjoint(seen)
        seen |= found


def test_no_two_messages_are_one_object():
    exchange = HttpExchange("GET", has_body=False)
    exchange.peer_half_closed()
    messages = [exchange.next_message() for _ in range(3)]
    assert [message["type"] for message in messages] == ["http.request", "http.disconnect", "http.disconnect"]
    assert len({id(message) for message in messages}) == len(messages)


def test_a_forwarded_prefix_is_put_before_the_path() -> None:
    request = Request("GET", b"/a%20b", b"/a%20b", b"", [(b"x-forwarded-prefix", b"/told")], "1.1")
    scopes = ForwardedScopes(
        Forwarded(Trust([], any_peer=True), prefix=True),
        client=("127.0.0.1", 5),
        server=("::1", 80),
        scheme="http",
        root_path="/mount",
    )
    scope = scopes.scope(request, {})
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/told", "/told/a b", b"/told/a%20b")
    assert scopes.client == ("127.0.0.1", 5)


def test_scopes_of_another_connection_differ_in_what_is_its_own():
    request = Request("GET", b"/a", b"/a", b"", [(b"host", b"a"), (b"x-forwarded-proto", b"https")], "1.1")
    ends = {"server": ("::1", 80), "scheme": "http", "root_path": "/r", "extensions": ("x",)}
    for scopes, scheme in (
        (HttpScopes(client=None, **ends), "http"),
        (ForwardedScopes(Forwarded(Trust([], any_peer=True)), client=None, **ends), "https"),
    ):
        before = scopes.scope(request, {})
        other = scopes.of_connection(("127.0.0.1", 5), {"tls_version": 772})
        assert other.client == ("127.0.0.1", 5)
        scope = other.scope(request, {})
        assert scope == {
            **before,
            "client": other.client,
            "extensions": {"x": {}, "tls": {"tls_version": 772}},
        }
        assert scope["scheme"] == scheme
        assert scopes.scope(request, {}) == before
