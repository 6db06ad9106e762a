"""Ends of connections that the worker brings about: drain, cancellation, hand-off, upgrade."""

import asyncio
import errno
import socket

import pytest

from http_apps import hello, respond
from http_client import Client, request
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)


def the_connection(server):
    return server.wait_until(lambda: next(iter(server.context.connections), None))


def begin_drain(server):
    server.context.draining = True
    for connection in list(server.context.connections):
        connection.drain()


def detach(connection):
    """Give the connection away to nobody in particular: its socket, or `None` if it cannot move."""
    taken = []

    def transfer(sock, standing):
        taken.append(sock.dup())
        return True

    return taken[0] if connection.hand_over(transfer) else None


def test_idle_connections_close_at_once_and_silent_ones_soon(variant):
    with serve(hello, **variant) as server:
        used, silent = server.client(), server.client()
        used.get()
        server.wait_until(lambda: len(server.context.connections) == 2)
        lost = []
        server.context.on_connection_lost = lambda: lost.append(True)
        server.run(lambda: begin_drain(server))
        assert used.is_closed()
        assert silent.is_closed()
        server.wait_until(lambda: not server.context.connections)
        assert lost == [True, True]


def test_a_response_in_flight_announces_the_close(variant):
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, body=b"finished")

    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = server.client()
        client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight)
        server.run(lambda: begin_drain(server))
        assert not server.run(lambda: the_connection_now(server).is_idle())
        server.run(go_on.set)
        response = client.response()
        assert (response.body, response.headers["connection"]) == (b"finished", "close")
        assert client.is_closed()


def the_connection_now(server):
    (connection,) = server.context.connections
    return connection


def test_a_response_begun_before_the_drain_is_finished_and_the_next_one_announces(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        for asks_again in (True, False):
            server.run(go_on.clear)
            client = server.client()
            client.send(request("GET", "/"))
            client.read_until(b"one\r\n")
            server.run(lambda: begin_drain(server))
            server.run(go_on.set)
            client.read_until(b"0\r\n\r\n")
            if asks_again:
                assert client.get().headers["connection"] == "close"
            assert client.is_closed()
            server.context.draining = False


def test_half_a_request_is_still_served(variant):
    with serve(hello, **variant) as server:
        client = server.client()
        client.send(b"GET / HTTP/1.1\r\n")
        connection = the_connection(server)
        server.wait_until(lambda: not connection.is_idle())
        server.run(lambda: begin_drain(server))
        client.send(b"Host: a\r\n\r\n")
        assert client.response().headers["connection"] == "close"
        assert client.is_closed()


def test_cancel_ends_what_the_application_still_does(variant, caplog):
    ended = []

    async def app(scope, receive, send):
        if scope["path"] == "/background":
            await respond(send)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(scope["path"])

    with serve(app, **variant) as server:
        working, background, idle = server.client(), server.client(), server.client()
        working.send(request("GET", "/working"))
        background.get("/background")
        server.wait_until(
            lambda: len(server.context.connections) == 3 and server.context.stats.in_flight == 2
        )
        server.run(lambda: [connection.cancel() for connection in list(server.context.connections)])
        for client in (working, background, idle):
            with pytest.raises((EOFError, ConnectionResetError)):
                client.response()
        server.wait_until(lambda: not server.context.connections)
        assert sorted(ended) == ["/background", "/working"]
        assert server.context.stats.application_errors == 0
        assert server.context.stats.in_flight == 0
    assert not caplog.records


def test_a_cancellation_that_nobody_asked_for_is_a_failure(variant, caplog):
    async def app(scope, receive, send):
        raise asyncio.CancelledError

    with serve(app, **variant) as server:
        assert server.client().get().status == 500
    assert "CancelledError" in caplog.text


@pytest.mark.parametrize("used", [True, False], ids=["used", "silent"])
def test_a_detached_connection_goes_on_elsewhere(variant, used):
    """As between two workers: bytes that arrive meanwhile wait in the kernel, and nobody sees a close."""
    with serve(hello, **variant) as old, serve(hello, **variant) as new:
        client = old.client()
        if used:
            client.get()
        connection = the_connection(old)
        taken = old.run(lambda: detach(connection))
        assert isinstance(taken, socket.socket)
        old.wait_until(lambda: not old.context.connections)
        assert old.context.stats.connections == 0
        client.send(request("GET", "/"))
        old.run(lambda: asyncio.sleep(0.01))
        taken.setblocking(False)
        new.take(taken)
        assert client.response().body == b"hello"
        assert client.get().body == b"hello"
        assert new.context.stats.requests == 2


def test_many_connections_detach_while_their_clients_send(variant):
    with serve(hello, **variant) as old, serve(hello, **variant) as new:
        clients = [old.client() for _ in range(30)]
        for client in clients:
            client.get()

        async def move():
            for connection in list(old.context.connections):
                taken = detach(connection)
                if taken is None:
                    moved.append(None)
                    continue
                taken.setblocking(False)
                moved.append(taken)

        moved = []
        for client in clients[::2]:
            client.send(request("GET", "/"))
        old.run(move)
        for taken in moved:
            if taken is not None:
                new.take(taken)
        for client in clients[1::2]:
            client.send(request("GET", "/"))
        for client in clients:
            assert client.response().body == b"hello"


def test_what_cannot_be_detached(variant):
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send)

    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        partial, busy = server.client(), server.client()
        partial.send(b"GET / HT")
        busy.send(request("GET", "/"))
        server.wait_until(
            lambda: (
                server.context.stats.in_flight
                and len(server.context.connections) == 2
                and not any(connection.is_idle() for connection in server.context.connections)
            )
        )
        assert server.run(lambda: [detach(c) for c in list(server.context.connections)]) == [None, None]
        server.run(go_on.set)
        assert busy.response().status == 200
        partial.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        assert partial.response().status == 200


def test_detaching_shuts_nothing_down_and_leaks_no_descriptor(variant):
    with serve(hello, **variant) as server:
        client = server.client()
        connection = the_connection(server)
        taken = server.run(lambda: detach(connection))
        server.wait_until(lambda: not server.context.connections)
        taken.setblocking(False)
        with pytest.raises(BlockingIOError) as caught:
            taken.recv(1)
        assert caught.value.errno == errno.EAGAIN
        taken.send(b"x")
        assert client.read(1) == b"x"
        taken.close()
        assert client.is_closed()


def test_an_upgrade_hands_the_connection_over(variant):
    async def app(scope, receive, send):
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"]})
        await receive()

    handshake = (
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    masked_hi = b"\x81\x82\0\0\0\0hi"
    with serve(app, **variant) as server:
        client = server.client()
        # The first frame comes in the same segment.
        client.send(request("GET", "/", *handshake) + masked_hi)
        response_head = client.read_until(b"\r\n\r\n")
        assert response_head.startswith(b"HTTP/1.1 101 ")
        assert client.read(4) == b"\x81\x02hi"
        assert server.context.stats.connections == 1
        assert server.context.stats.websockets == 1
        client.sock.close()
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.connections == 0


def test_a_connection_that_served_before_can_be_upgraded(variant):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await hello(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close"})

    fields = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    with serve(app, **variant) as server:
        client: Client = server.client()
        client.send(request("GET", "/") + request("GET", "/", *fields))
        assert client.response().body == b"hello"
        assert client.response().status == 403
