"""What a turn of the loop wrote is sent at its end, together."""

import asyncio

import pytest

from asgi_master.worker.transport.write_batch import WriteBatch
from blocking_apps import BlockingApp, is_answered_while_another_holds_the_loop
from http_client import request
from serving import VARIANTS, serve

of_each_variant = pytest.mark.parametrize("variant", VARIANTS)


async def in_pieces(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(20):
        await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@of_each_variant
def test_the_pieces_of_a_response_arrive_in_one(variant):
    with serve(in_pieces, **variant) as server:
        client = server.client()
        client.send(request("GET", "/"))
        received = client.sock.recv(65536)
        assert received.endswith(b"0\r\n\r\n"), "a piece came by itself"
        assert received.count(b"xxxxxxxxxx") == 20


@of_each_variant
def test_pipelined_responses_stay_in_order(variant):
    async def echo_path(scope, receive, send):
        body = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    with serve(echo_path, **variant) as server:
        client = server.client()
        client.send(b"".join(request("GET", f"/{number}") for number in range(30)))
        assert [client.response().body for _ in range(30)] == [b"/%d" % number for number in range(30)]


@of_each_variant
def test_a_large_body_is_not_held(variant):
    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"y" * 1_000_000})

    with serve(large, **variant) as server:
        client = server.client()
        client.send(request("GET", "/"))
        assert client.response().body == b"y" * 1_000_000


@of_each_variant
def test_what_is_complete_does_not_wait_for_requests_that_hold_the_loop(variant):
    with serve(app := BlockingApp(), **variant) as server:
        assert is_answered_while_another_holds_the_loop(app, server, server.connect)


class Waiting:
    """Notes when it was flushed."""

    def __init__(self, turns):
        self.turns = turns
        self.flushed = ""

    def flush(self):
        self.flushed = "at the end" if self.turns.is_over else "at once"


class Turns:
    """An write_batch in a loop whose turns take as long as is said."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("asgi_master.worker.transport.write_batch.monotonic", lambda: self.now)
        self.loop = asyncio.new_event_loop()
        self.write_batch = WriteBatch(self.loop)
        self.is_over = False

    def turn(self, count, *, seconds=0.0):
        """So many wait, for so long in all; returns how they were flushed."""

        async def run():
            self.is_over = False
            for one in waiting:
                self.write_batch.add(one)
            self.now += seconds
            self.is_over = True

        waiting = [Waiting(self) for _ in range(count)]
        self.loop.run_until_complete(run())
        return {one.flushed for one in waiting}


@pytest.fixture
def turns(monkeypatch):
    turns = Turns(monkeypatch)
    yield turns
    turns.loop.close()


def test_after_a_turn_that_was_held_up_nothing_is_held_back_for_ten_seconds(turns):
    assert turns.turn(2, seconds=0.05) == {"at the end"}
    assert turns.turn(2, seconds=9.9) == {"at once"}
    assert turns.turn(2) == {"at once"}
    turns.now += 0.2
    assert turns.turn(2) == {"at the end"}


def test_turns_that_are_each_a_little_too_long_add_up(turns):
    seen = [turns.turn(1, seconds=0.005) for _ in range(6)]
    assert seen == [{"at the end"}] * 5 + [{"at once"}]


def test_requests_of_some_milliseconds_are_not_waited_for(turns):
    assert turns.turn(8, seconds=8 * 0.003) == {"at the end"}
    assert turns.turn(8) == {"at once"}


def test_many_small_responses_pay_for_an_interrupted_turn(turns):
    for _ in range(100):
        assert turns.turn(16, seconds=0.015) == {"at the end"}
        for _ in range(10):
            assert turns.turn(16, seconds=0.0003) == {"at the end"}
