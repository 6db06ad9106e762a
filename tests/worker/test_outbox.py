"""What a turn of the loop wrote is sent at its end, together."""

import pytest

from http_client import request
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)


async def in_pieces(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(20):
        await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def test_the_pieces_of_a_response_arrive_in_one(variant):
    with serve(in_pieces, **variant) as server:
        client = server.client()
        client.send(request("GET", "/"))
        received = client.sock.recv(65536)
        assert received.endswith(b"0\r\n\r\n"), "a piece came by itself"
        assert received.count(b"xxxxxxxxxx") == 20


def test_pipelined_responses_stay_in_order(variant):
    async def echo_path(scope, receive, send):
        body = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    with serve(echo_path, **variant) as server:
        client = server.client()
        client.send(b"".join(request("GET", f"/{number}") for number in range(30)))
        assert [client.response().body for _ in range(30)] == [b"/%d" % number for number in range(30)]


def test_a_large_body_is_not_held(variant):
    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"y" * 1_000_000})

    with serve(large, **variant) as server:
        client = server.client()
        client.send(request("GET", "/"))
        assert client.response().body == b"y" * 1_000_000
