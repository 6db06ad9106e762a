"""Behind a proxy: whose request the application sees, over real sockets."""

import contextlib
import itertools
import json
import logging
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_master.http.forwarded import Forwarded
from asgi_master.worker.accept.proxy_protocol import ProxyHeaderReader
from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.transport.connection_state import ConnectionState
from asgi_master.worker.transport.endpoints import trust_of
from asgi_master.worker.transport.rejected_connections import RejectedConnectionLog, Rejection
from http_apps import hello, mirror
from http_client import request
from serving import VARIANTS, serve

each_variant = pytest.mark.parametrize("variant", VARIANTS)

LOCAL = trust_of(["127.0.0.0/8"])
V1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n"
_V2_BODY = bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack("!HH", 1000, 443)
_TLS = b"\x20\x00\x05\x01\x00\x00\x00\x00"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", len(_V2_BODY + _TLS)) + _V2_BODY + _TLS
LOCAL_COMMAND = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def seen_by(client, *fields, target="/"):
    """Client and scheme of the scope of a request with these fields."""
    seen = json.loads(client.get(target, *fields).body)
    return seen["client"] and tuple(seen["client"]), seen["scheme"]


async def deny_with_scope(scope, receive, send):
    """Refuse a WebSocket, with what is known of it."""
    if scope["type"] != "websocket":
        await mirror(scope, receive, send)
        return
    body = json.dumps([scope["client"], scope["server"], scope["scheme"]]).encode()
    await send({"type": "websocket.http.response.start", "status": 200, "headers": []})
    await send({"type": "websocket.http.response.body", "body": body})


# -- forwarded headers -------------------------------------------------------------------------------


@each_variant
def test_nobody_is_believed_unless_told_so(variant):
    with serve(mirror, **variant) as server:
        client = server.client()
        assert seen_by(client, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "Forwarded: for=1.2.3.4") == (
            client.sock.getsockname(),
            "http",
        )  # fmt: skip


@each_variant
def test_a_peer_that_is_no_proxy_is_not_believed(variant):
    with serve(mirror, forwarded=Forwarded(trust_of(["127.0.0.2", "unix"])), **variant) as server:
        client = server.client()
        assert seen_by(client, "X-Forwarded-For: 1.2.3.4") == (client.sock.getsockname(), "http")


@each_variant
def test_a_proxy_is_believed_for_each_request(variant):
    with serve(mirror, forwarded=Forwarded(LOCAL), **variant) as server:
        client = server.client()
        own = client.sock.getsockname()
        assert seen_by(client, "X-Forwarded-For: 6.6.6.6, 1.2.3.4") == (("1.2.3.4", 0), "http")
        assert seen_by(client, "X-Forwarded-For: [::1]:5", "X-Forwarded-Proto: https") == (
            ("::1", 5),
            "https",
        )
        assert seen_by(client) == (own, "http"), "the proxy asks for itself"
        assert seen_by(client, "X-Forwarded-Proto: https") == (own, "https")
        assert seen_by(client, "X-Forwarded-For: unknown") == (None, "http")
        assert seen_by(client, "Forwarded: for=1.2.3.4") == (own, "http")
        again = json.loads(client.get("/", "X-Forwarded-For: 6.6.6.6", "X-FORWARDED-FOR: 1.2.3.4").body)
        assert again["client"] == ["1.2.3.4", 0]
        assert again["server"] == ["127.0.0.1", server.port]
        assert again["headers"][1:] == [["x-forwarded-for", "6.6.6.6"], ["x-forwarded-for", "1.2.3.4"]]


@each_variant
def test_a_proxy_says_where_it_mounted_the_application(variant):
    believed = Forwarded(LOCAL, prefix=True)
    with serve(mirror, forwarded=believed, root_path="/always", **variant) as server:
        client = server.client()

        def paths(*lines: str) -> tuple[str, str]:
            scope = json.loads(client.get("/x%20y", *lines).body)
            return scope["root_path"], scope["path"]

        assert paths() == ("/always", "/always/x y")
        assert paths("X-Forwarded-Prefix: /a") == ("/a", "/a/x y")
        assert paths("X-Forwarded-Prefix: /b%20c/") == ("/b c", "/b c/x y")
        assert paths("X-Forwarded-Prefix: //evil") == ("/always", "/always/x y")
        assert paths() == ("/always", "/always/x y")
    with serve(mirror, forwarded=Forwarded(LOCAL), **variant) as server:
        assert json.loads(server.client().get("/x", "X-Forwarded-Prefix: /a").body)["path"] == "/x"


@each_variant
def test_rfc_7239(variant):
    with serve(mirror, forwarded=Forwarded(LOCAL, rfc7239=True), **variant) as server:
        assert seen_by(
            server.client(),
            'Forwarded: for="',
            'Forwarded: for="[2001:db8::1]:99";proto=https;host=a',
            "X-Forwarded-For: 6.6.6.6",
        ) == (("2001:db8::1", 99), "https")


@each_variant
def test_the_peer_of_a_unix_socket_is_believed_by_an_explicit_word(variant, tmp_path):
    for words, expected in ((["*", "127.0.0.1"], None), (["unix"], ("1.2.3.4", 0))):
        path = str(tmp_path / f"{words[0][0]}.sock")
        with serve(mirror, path=path, forwarded=Forwarded(trust_of(words)), **variant) as server:
            assert seen_by(server.client(), "X-Forwarded-For: 1.2.3.4") == (expected, "http")


@each_variant
def test_a_websocket_has_the_clients_address_and_scheme(variant):
    with serve(deny_with_scope, forwarded=Forwarded(LOCAL), **variant) as server:
        for scheme, expected in (("https", "wss"), ("wss", "wss"), ("http", "ws")):
            client = server.client()
            fields = ("X-Forwarded-For: 1.2.3.4", f"X-Forwarded-Proto: {scheme}")
            assert json.loads(client.get("/", *UPGRADE, *fields).body) == [
                ["1.2.3.4", 0],
                ["127.0.0.1", server.port],
                expected,
            ]


def test_trust_of_settings():
    trust = trust_of(["10.0.0.0/8", "::1", "unix"])
    assert trust.trusts("10.1.1.1")
    assert trust.trusts("::1")
    assert trust.trusts(None)
    assert not trust.trusts("127.0.0.1")
    assert not trust_of([])


# -- PROXY protocol ----------------------------------------------------------------------------------


@each_variant
@pytest.mark.parametrize(("header", "scheme"), [(V1, "http"), (V2, "https")], ids=["v1", "v2"])
def test_a_proxy_header_gives_both_addresses(variant, header, scheme):
    with serve(mirror, proxies=LOCAL, **variant) as server:
        for cut in (0, 1, 20, len(header), len(header) + 3):
            client = server.client()
            whole = header + request("GET", "/")
            client.send(whole[:cut])
            if cut == 20:
                server.wait_until(lambda: any(c._received for c in server.context.connections))
            client.send(whole[cut:])
            seen = json.loads(client.response().body)
            assert (seen["client"], seen["server"], seen["scheme"]) == (
                ["1.2.3.4", 1000],
                ["5.6.7.8", 443],
                scheme,
            )
            assert seen_by(client) == (("1.2.3.4", 1000), scheme), "for all requests of the connection"
            client.sock.close()
            server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.connections == 0


@each_variant
@pytest.mark.parametrize("header", [LOCAL_COMMAND, b"PROXY UNKNOWN\r\n"], ids=["local", "unknown"])
def test_a_proxy_may_speak_for_itself(variant, header):
    with serve(mirror, proxies=LOCAL, **variant) as server:
        client = server.client()
        client.send(header)
        assert seen_by(client) == (client.sock.getsockname(), "http")


@each_variant
def test_a_websocket_keeps_the_addresses_of_the_header(variant):
    with serve(deny_with_scope, proxies=LOCAL, **variant) as server:
        client = server.client()
        client.send(V2)
        assert json.loads(client.get("/", *UPGRADE).body) == [["1.2.3.4", 1000], ["5.6.7.8", 443], "wss"]


@each_variant
def test_the_client_of_the_header_is_who_must_be_believed(variant):
    """What such a client forwards has passed the proxy as it was sent."""
    for believed, expected in ((LOCAL, ("1.2.3.4", 1000)), (trust_of(["1.2.3.4"]), ("9.9.9.9", 0))):
        with serve(mirror, proxies=LOCAL, forwarded=Forwarded(believed), **variant) as server:
            client = server.client()
            client.send(V1)
            assert seen_by(client, "X-Forwarded-For: 9.9.9.9")[0] == expected


@each_variant
@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PROXY TCP4 x\r\n", b"PROXY UNKNOWN " + b"x" * 200, b"\x16\x03\x01"],
    ids=["http", "malformed", "endless", "tls"],
)  # fmt: skip
def test_without_a_proxy_header_the_connection_is_closed_without_an_answer(variant, sent, caplog):
    with serve(hello, proxies=LOCAL, **variant) as server:
        for _ in range(3):
            sock = server.connect()
            sock.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""
        server.wait_until(lambda: not server.context.connections)
        assert (server.context.stats.requests, server.context.stats.connections) == (0, 0)
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "refused a connection from 127.0.0.1: " in line.getMessage()
    assert "PROXY header" in line.getMessage()


@each_variant
def test_others_than_the_proxies_are_refused(variant, caplog):
    with serve(hello, proxies=trust_of(["10.0.0.0/8", "unix"]), **variant) as server:
        sock = server.connect()
        with pytest.raises(ConnectionError):
            while True:
                sock.sendall(V1)
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.connections == 0
    assert "127.0.0.1: its address is not in proxy-protocol-allow-ips" in caplog.text


@each_variant
def test_the_header_must_arrive_in_time(variant, caplog):
    with serve(hello, proxies=LOCAL, header_timeout=0.2, **variant) as server:
        silent, slow = server.connect(), server.connect()
        slow.sendall(V1[:10])
        assert silent.recv(1) == b""
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(1) == b""
        server.wait_until(lambda: not server.context.connections)
    assert caplog.text.count("refused a connection") == 1
    assert "did not arrive in time" in caplog.text


@each_variant
def test_a_health_check_that_leaves_at_once_is_not_worth_a_word(variant, caplog):
    with serve(hello, proxies=LOCAL, **variant) as server:
        for sent in (b"", V1[:5], LOCAL_COMMAND):
            sock = server.connect()
            sock.sendall(sent)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        server.wait_until(lambda: server.context.stats.connections == 0 and not server.context.connections)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_refusals_are_told_once_a_minute(caplog):
    rejected = RejectedConnectionLog()
    for now in (5.0, 6.0, 64.0, 65.0, 66.0):
        rejected.log(Rejection.PEER, "1.2.3.4", f"it came at {now}", now)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == [
        "refused a connection from 1.2.3.4: it came at 5.0",
        "refused a connection from 1.2.3.4: it came at 65.0 (and 2 more connections since the last such line)",
    ]


# -- moving to another worker ------------------------------------------------------------------------


def take_over(server, moved):
    """Serve what was given away, as another worker does."""
    for sock, note in moved:
        server.take(sock, ConnectionState.from_metadata(note))
    moved.clear()


def give_away_all(server, moved):
    def put(sock, state):
        copy = sock.dup()
        copy.setblocking(False)
        moved.append((copy, state.to_metadata()))
        return True

    server.run(lambda: [connection.drain(put) for connection in list(server.context.connections)])


@each_variant
def test_a_connection_that_moves_keeps_what_its_header_said(variant):
    with serve(mirror, proxies=LOCAL, **variant) as first, serve(mirror, **variant) as second:
        client = first.client()
        client.send(V2)
        assert seen_by(client) == (("1.2.3.4", 1000), "https")
        moved = []
        for target in (second, first):
            give_away_all(second if target is first else first, moved)
            assert len(moved) == 1
            take_over(target, moved)
            seen = json.loads(client.get().body)
            assert (seen["client"], seen["server"]) == (["1.2.3.4", 1000], ["5.6.7.8", 443])
            assert seen["scheme"] == "https"


@each_variant
def test_a_connection_that_moves_before_its_header_has_it_read_there(variant):
    with serve(mirror, proxies=LOCAL, **variant) as first, serve(mirror, **variant) as second:
        client = first.client()
        first.wait_until(lambda: first.context.connections)
        moved = []
        give_away_all(first, moved)
        assert first.context.stats.connections == 0
        take_over(second, moved)
        client.send(V1)
        assert seen_by(client) == (("1.2.3.4", 1000), "http")


@each_variant
def test_half_a_header_does_not_move(variant):
    with serve(mirror, proxies=LOCAL, **variant) as server:
        client = server.client()
        client.send(V1[:10])
        server.wait_until(lambda: any(c._received for c in server.context.connections))
        moved = []
        give_away_all(server, moved)
        assert not moved
        client.send(V1[10:])
        assert seen_by(client) == (("1.2.3.4", 1000), "http")


@each_variant
def test_a_plain_connection_that_moves_to_where_headers_are_read_stays_plain(variant):
    with serve(mirror, **variant) as first, serve(mirror, proxies=LOCAL, **variant) as second:
        client = first.client()
        assert seen_by(client)[1] == "http"
        moved = []
        give_away_all(first, moved)
        take_over(second, moved)
        assert seen_by(client) == (client.sock.getsockname(), "http")


@each_variant
def test_silent_connections_end_when_nobody_takes_them(variant):
    with serve(hello, proxies=LOCAL, **variant) as server:
        client = server.client()
        server.wait_until(lambda: server.context.connections)
        server.context.draining = True
        server.run(lambda: [connection.drain() for connection in list(server.context.connections)])
        assert client.is_closed()


# -- any cut, any loop -------------------------------------------------------------------------------


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    header=st.sampled_from([V1, V2]),
    cuts=st.lists(st.integers(0, 120), max_size=5),
    variant=st.sampled_from([variant.values[0] for variant in VARIANTS]),
)
def test_the_pieces_in_which_it_arrives_do_not_matter(header, cuts, variant):
    """The protocol objects by themselves: pieces as given, without a network that joins them."""
    told = []

    async def app(scope, receive, send):
        told.append((scope["client"], scope["server"]))
        await hello(scope, receive, send)

    stream = header + request("GET", "/") * 2
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    with serve(app, proxies=LOCAL, **variant) as server:
        sock = server.connect()
        server.wait_until(lambda: server.context.connections)
        (opening,) = server.context.connections
        assert isinstance(opening, ProxyHeaderReader)
        transport = opening._transport
        for start, end in itertools.pairwise(bounds):
            server.run(lambda start=start, end=end: transport._protocol.data_received(stream[start:end]))
        server.wait_until(lambda: len(told) == 2)
        assert isinstance(transport._protocol, H1Connection)
        sock.close()
    assert told == [(("1.2.3.4", 1000), ("5.6.7.8", 443))] * 2
