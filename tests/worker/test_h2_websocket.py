"""WebSockets over HTTP/2 (RFC 8441): the same session as over HTTP/1.1, on a stream."""

import asyncio
import threading

import pytest

from h2_client import H2Client, Tunnel
from http_apps import respond
from serving import H2_ENGINES, serve
from websocket_peer import BINARY, CLOSE, FIN, TEXT, Peer, close_frame, frame

pytestmark = pytest.mark.parametrize("variant", H2_ENGINES)

CANCEL = 8


async def echo(scope, receive, send):
    if scope["type"] == "http":
        await respond(send, body=b"hello")
        return
    await receive()
    subprotocol = scope["subprotocols"][0] if scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": [(b"x-own", b"1")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def test_messages_both_ways(variant):
    with serve(echo, **variant) as server:
        client = H2Client(server.connect())
        tunnel = Tunnel(client, "/chat?x=1", [("sec-websocket-protocol", "a, b")])
        answer = tunnel.answer()
        assert answer.status == 200
        assert answer.field("sec-websocket-protocol") == "a"
        assert answer.field("x-own") == "1"
        assert answer.field("sec-websocket-accept") is None
        peer = Peer(tunnel)
        for number in range(20):
            peer.send(frame(FIN | TEXT, b"message %d" % number))
            assert peer.read_frame() == (FIN | TEXT, b"message %d" % number)
        peer.send(frame(FIN | BINARY, b"x" * 200_000))
        assert peer.read_frame() == (FIN | BINARY, b"x" * 200_000)
        stats = server.context.stats
        assert server.run(lambda: (stats.connections, stats.websockets)) == (1, 1)
        assert client.get("/").body == b"hello"  # beside it


def test_the_scope(variant):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.close"})

    with serve(app, **variant) as server:
        answer = Tunnel(
            H2Client(server.connect()), "/a%20b?x=1", [("sec-websocket-protocol", "a, b")]
        ).answer()
        assert answer.status == 403
        (scope,) = scopes
        assert scope["type"] == "websocket"
        assert (scope["http_version"], scope["scheme"], scope["path"]) == ("2", "ws", "/a b")
        assert (scope["query_string"], scope["subprotocols"]) == (b"x=1", ["a", "b"])
        assert "method" not in scope


def test_the_peer_closes(variant):
    with serve(echo, **variant) as server:
        client = H2Client(server.connect())
        tunnel = Tunnel(client)
        peer = Peer(tunnel)
        peer.send(close_frame(1000, "bye"))
        assert tunnel.answer().status == 200
        first, payload = peer.read_frame()
        assert (first, payload[:2]) == (FIN | CLOSE, (1000).to_bytes(2, "big"))
        tunnel.end()
        assert client.response(tunnel.stream).ended
        server.wait_until(lambda: server.context.stats.websockets == 0)
        server.wait_until(lambda: len(server.context.connections) == 1)
        assert client.get("/").body == b"hello"
        assert server.context.stats.connections == 1


@pytest.mark.parametrize("leaves", ["by reset", "with the connection"])
def test_the_peer_leaves(variant, leaves):
    codes = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        codes.append((await receive())["code"])

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        tunnel = Tunnel(client)
        tunnel.answer()
        if leaves == "by reset":
            tunnel.reset()
        else:
            client.sock.close()
        server.wait_until(lambda: codes)
        assert codes == [1006]
        server.wait_until(lambda: server.context.stats.websockets == 0)
        remaining = 1 if leaves == "by reset" else 0
        server.wait_until(lambda: len(server.context.connections) == remaining)
        assert server.context.stats.connections == remaining


def test_a_denial_with_a_body(variant):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"y")]})
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you"})

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        answer = client.response(Tunnel(client).stream)
        assert (answer.status, answer.field("x"), answer.body, answer.ended) == (401, "y", b"not you", True)
        server.wait_until(lambda: len(server.context.connections) == 1)


def test_another_protocol_is_refused(variant):
    with serve(echo, **variant) as server:
        client = H2Client(server.connect())
        assert client.response(Tunnel(client, protocol="connect-udp").stream).status == 501
        server.wait_until(lambda: len(server.context.connections) == 1)


def test_another_version_is_refused(variant):
    with serve(echo, **variant) as server:
        client = H2Client(server.connect())
        answer = client.response(Tunnel(client, fields=[("sec-websocket-version", "12")]).stream)
        assert (answer.status, answer.field("sec-websocket-version")) == (426, "13")


def test_an_application_that_does_not_read_stops_the_peer(variant):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "one"})
        await asyncio.get_running_loop().run_in_executor(None, release.wait)
        while (await receive())["type"] == "websocket.receive":
            pass

    release = threading.Event()
    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        tunnel = Tunnel(client)
        peer = Peer(tunnel)
        peer.send(frame(FIN | TEXT, b"x"))
        assert peer.read_frame() == (FIN | TEXT, b"one")
        large = frame(FIN | BINARY, b"x" * 60_000)
        sent = 0
        while client.h2.local_flow_control_window(tunnel.stream) > len(large):
            peer.send(large)
            sent += 1
            assert sent < 100
        release.set()
        for _ in range(100):
            peer.send(large)
        peer.send(close_frame(1000))
        server.wait_until(lambda: server.context.stats.websockets == 0)


def test_a_client_that_does_not_read_stops_the_application(variant):
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 10_000})
            sent += 1

    with serve(app, **variant) as server:
        client = H2Client(server.connect(), acknowledges=False)
        tunnel = Tunnel(client)
        client.read_until(lambda: len(tunnel.response.body) == 65535)
        held = server.run(lambda: sent)
        assert held * 10_000 < 65535 + 100_000
        tunnel.reset()
        server.wait_until(lambda: server.context.stats.websockets == 0)


def test_a_drain_closes_with_1012_and_the_connection_follows(variant):
    with serve(echo, **variant) as server:
        client = H2Client(server.connect())
        tunnel = Tunnel(client)
        assert tunnel.answer().status == 200

        def drain():
            for connection in list(server.context.connections):
                connection.drain()

        server.run(drain)
        peer = Peer(tunnel)
        assert peer.read_frame() == (FIN | CLOSE, (1012).to_bytes(2, "big") + b"service restart")
        peer.send(close_frame(1012))
        tunnel.end()
        server.wait_until(lambda: server.context.stats.websockets == 0)
        server.run(drain)
        client.read_until(lambda: client.is_closed)
        assert [int(goaway.error_code) for goaway in client.goaways] == [0, 0]
        client.sock.close()
        server.wait_until(lambda: not server.context.connections)
