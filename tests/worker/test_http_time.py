"""Peers that take their time: what a connection waits for is bounded, and nothing else is."""

import asyncio
import socket

import pytest

from http_apps import echo, hello, read_body, respond
from http_client import request
from serving import TIMEOUT, VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

SOON = 0.1


def test_a_fresh_connection_that_stays_silent_is_closed(variant):
    with serve(hello, header_timeout=SOON, **variant) as server:
        assert server.client().is_closed()


def test_a_head_that_does_not_arrive(variant):
    with serve(hello, header_timeout=SOON, **variant) as server:
        client = server.client()
        client.get()
        client.send(b"GET / HT")
        response = client.response()
        assert (response.status, response.headers["connection"]) == (408, "close")
        assert client.is_closed()


def test_a_head_that_trickles_in_gets_no_more_time(variant):
    with serve(hello, header_timeout=SOON, **variant) as server:
        client = server.client()
        client.send(b"GET / HTTP/1.1\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for number in range(100_000):
                client.send(b"X-%d: y\r\n" % (number % 10))
                if b"408" in _peek(client):
                    raise BrokenPipeError


def _peek(client):
    import contextlib

    client.sock.settimeout(0.005)
    with contextlib.suppress(TimeoutError):
        client._receive()
    return client._buffer


def test_a_body_that_does_not_arrive(variant):
    async def app(scope, receive, send):
        with pytest.raises(ConnectionAbortedError):
            await read_body(receive)
        with pytest.raises(OSError):
            await respond(send)
        done.append(True)

    done = []
    with serve(app, body_timeout=SOON, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", "Content-Length: 10") + b"12345")
        assert client.response().status == 408
        assert client.is_closed()
        server.wait_until(lambda: done)


def test_a_body_that_the_application_does_not_want_may_take_its_time(variant):
    async def app(scope, receive, send):
        await receive()
        await asyncio.sleep(SOON * 3)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"answered"})

    with serve(app, body_timeout=SOON, header_timeout=SOON, keep_alive_timeout=SOON, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", "Content-Length: 10") + b"12345")
        assert client.response().body == b"answered"


def test_an_idle_connection_is_closed(variant):
    with serve(hello, keep_alive_timeout=SOON, **variant) as server:
        client = server.client()
        client.get()
        assert client.is_closed()


def test_no_timeout_if_all_are_zero(variant):
    limits = dict.fromkeys(("header_timeout", "body_timeout", "keep_alive_timeout", "write_timeout"), 0.0)
    with serve(hello, **limits, **variant) as server:
        client = server.client()
        client.get()
        server.run(lambda: asyncio.sleep(SOON * 2))
        assert client.get().status == 200


def test_a_peer_that_does_not_read_is_cut_off(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        with pytest.raises(OSError):
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        done.append(True)

    done = []
    with serve(app, write_timeout=SOON, **variant) as server:
        client = server.client(receive_buffer=4096)
        client.send(request("GET", "/"))
        server.wait_until(lambda: done)
        server.wait_until(lambda: not server.context.connections)


def test_a_peer_that_does_not_read_the_last_response_is_cut_off(variant):
    async def app(scope, receive, send):
        await respond(send, body=b"x" * 20_000_000)

    with serve(app, write_timeout=SOON, **variant) as server:
        client = server.client(receive_buffer=4096)
        client.send(request("GET", "/", "Connection: close"))
        server.wait_until(lambda: server.context.stats.requests)
        server.wait_until(lambda: not server.context.connections)


def _unsent(server):
    return sum(connection._transport.get_write_buffer_size() for connection in server.context.connections)


PAGE = b"x" * 60_000


def test_a_peer_that_asks_on_and_does_not_read_has_its_requests_wait(variant):
    async def app(scope, receive, send):
        await respond(send, body=PAGE)

    with serve(app, **variant) as server:
        client = server.client(receive_buffer=4096)
        client.sock.settimeout(SOON)
        sent = 0
        with pytest.raises(TimeoutError):  # until the kernel takes no more
            while True:
                client.send(request("GET", "/") * 100)
                sent += 100
        assert sent > 2000
        assert server.run(lambda: _unsent(server)) < 1_000_000
        assert server.context.stats.requests < 200
        # Who then reads is served on.
        client.sock.settimeout(TIMEOUT)
        for _ in range(300):
            assert len(client.response().body) == len(PAGE)


def test_to_ask_on_is_not_to_read(variant):
    """The write time-out counts what the peer takes, not what else there is for it."""

    async def app(scope, receive, send):
        await respond(send, body=PAGE)

    with serve(app, write_timeout=SOON * 5, **variant) as server:
        client = server.client(receive_buffer=4096)
        with pytest.raises(ConnectionError):
            while True:
                client.send(request("GET", "/"))
                server.run(lambda: asyncio.sleep(SOON / 2))
        server.wait_until(lambda: not server.context.connections)


def test_requests_that_wait_are_served_also_if_the_peer_ended_its_side(variant):
    async def app(scope, receive, send):
        await respond(send, body=PAGE * 50)

    with serve(app, **variant) as server:
        client = server.client(receive_buffer=4096)
        client.send(request("GET", "/") * 5)
        server.wait_until(lambda: _is_write_paused(server))
        client.sock.shutdown(socket.SHUT_WR)
        for _ in range(5):
            assert len(client.response().body) == 50 * len(PAGE)
        assert client.is_closed()


def test_sending_waits_for_the_peer(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent.append(True)
        await send({"type": "http.response.body"})

    sent = []
    with serve(app, **variant) as server:
        client = server.client(receive_buffer=4096)
        client.send(request("GET", "/"))
        server.wait_until(lambda: _is_write_paused(server))
        assert len(sent) < 150
        assert len(client.response().body) == 200 * 65536
        assert len(sent) == 200


def _is_write_paused(server):
    return any(connection.writer.is_paused for connection in server.context.connections)


def _is_read_paused(server):
    return any(connection.holds for connection in server.context.connections)


def test_a_body_that_is_not_read_stays_with_the_peer(variant):
    async def app(scope, receive, send):
        await go_on.wait()
        await echo(scope, receive, send)

    body = bytes(range(256)) * 40_000
    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = server.client()
        client.sock.setblocking(False)
        sender = asyncio.run_coroutine_threadsafe(
            _send_all(server.loop, client, request("POST", "/", body=body)), server.loop
        )
        server.wait_until(lambda: _is_read_paused(server))
        (connection,) = server.context.connections
        assert connection._current.inbox_size < 1_000_000
        server.run(go_on.set)
        sender.result(10)
        client.sock.settimeout(10)
        assert client.response().body == body
        assert not connection.holds


async def _send_all(loop, client, data):
    await loop.sock_sendall(client.sock, data)


def test_requests_sent_ahead_stay_with_the_peer(variant):
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send)

    count = 20_000
    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = server.client()
        client.sock.setblocking(False)
        sender = asyncio.run_coroutine_threadsafe(
            _send_all(server.loop, client, request("GET", "/", "X-Padding: " + "x" * 900) * count),
            server.loop,
        )
        server.wait_until(lambda: _is_read_paused(server))
        (connection,) = server.context.connections
        assert connection._parser.buffered < 1_000_000
        assert not sender.done()
        sender.cancel()
        client.sock.settimeout(10)
        server.run(go_on.set)
        for _ in range(50):
            assert client.response().status == 200
