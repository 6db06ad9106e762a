"""How long responses take, as it is counted for the metrics."""

import asyncio

import pytest

from asgi_master.http.websocket.frames import CloseCode
from asgi_master.ipc.counters import DURATION_BOUNDS
from http_apps import hello, respond
from http_client import request
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

DELAY = 0.03


async def slow(scope, receive, send):
    await asyncio.sleep(DELAY)
    await respond(send, 200, b"at last")


async def in_pieces(scope, receive, send):
    headers = [(b"content-length", b"6")] if scope["path"] == "/long" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})
    await send({"type": "http.response.body", "body": b"def"})


def counted(server):
    """How many ordinary responses were counted."""
    stats = server.context.stats
    return stats.short_responses + sum(stats.long_responses)


def test_a_quick_one_and_a_slow_one(variant):
    with serve(slow, counts_durations=True, **variant) as server:
        client = server.client()
        for _ in range(2):
            client.send(request("GET", "/"))
            assert client.response().status == 200
        stats = server.context.stats
        server.wait_until(lambda: counted(server) == 2)
        too_short = [bound for bound in DURATION_BOUNDS if bound < DELAY]
        assert sum(stats.long_responses[: len(too_short)]) == stats.short_responses == 0
        # uvloop's timers count whole milliseconds, and may be one early.
        assert 2 * (DELAY - 0.002) <= stats.response_time < 60


def test_all_are_counted_once(variant):
    with serve(hello, counts_durations=True, **variant) as server:
        client = server.client()
        client.send(request("GET", "/") * 5)
        for _ in range(5):
            assert client.response().status == 200
        server.wait_until(lambda: counted(server) == 5)
        assert server.context.stats.streams == 0


def test_a_response_without_a_length_is_a_stream(variant):
    with serve(in_pieces, counts_durations=True, **variant) as server:
        client = server.client()
        client.send(request("GET", "/"))
        assert client.response().body == b"abcdef"
        stats = server.context.stats
        server.wait_until(lambda: stats.streams == 1)
        assert counted(server) == 0
        assert 0 < stats.stream_time < 60


def test_pieces_of_a_known_length_are_no_stream(variant):
    with serve(in_pieces, counts_durations=True, **variant) as server:
        client = server.client()
        client.send(request("GET", "/long"))
        assert client.response().body == b"abcdef"
        server.wait_until(lambda: counted(server) == 1)
        assert server.context.stats.streams == 0


def test_nobody_asks(variant):
    with serve(in_pieces, **variant) as server:
        client = server.client()
        client.send(request("GET", "/"))
        assert client.response().status == 200
        assert (counted(server), server.context.stats.streams) == (0, 0)


def test_a_websocket_counts_once_it_is_over(variant):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close", "code": CloseCode.NORMAL})

    handshake = (
        b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with serve(app, counts_durations=True, **variant) as server:
        stats = server.context.stats
        sock = server.connect()
        sock.sendall(handshake)
        assert sock.recv(1000).startswith(b"HTTP/1.1 101 ")
        assert stats.websockets_ended == 0
        sock.close()
        server.wait_until(lambda: stats.websockets_ended == 1)
        assert 0 < stats.websocket_time < 60
        assert counted(server) == 0
