"""A body must arrive at a least rate while it is waited for, whatever it is made of."""

import asyncio

import pytest

from asgi_master.http.limits import HttpLimits
from asgi_master.worker.http.timeouts import BodyRate
from asgi_master.worker.transport.context import Ending
from http_apps import hello, read_body, respond
from serving import VARIANTS, serve

each_variant = pytest.mark.parametrize("variant", VARIANTS)

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WINDOW = HttpLimits().body_timeout


def looks(rate, steps):
    """When, of looks at `(seconds later, bytes more)`, the rate was found too low; `None` if never."""
    now, received = 0.0, 0
    for later, more in steps:
        now, received = now + later, received + more
        if rate.is_too_low(received, now=now):
            return now
    return None


@pytest.mark.parametrize(
    ("per_second", "least", "most"),
    [(0, 30, 32), (1, 30, 32), (120, 59, 63), (239, 7000, 7300), (240, None, None), (10**6, None, None)],
)
def test_the_average_counts(per_second, least, most):
    found = looks(BodyRate(HttpLimits(body_min_rate=240)), [(1.0, per_second)] * 10_000)
    assert (found is None) is (least is None)
    assert found is None or least <= found <= most


def test_bursts_within_the_window_are_no_fault():
    assert looks(BodyRate(HttpLimits()), [(1.0, 0 if n % 25 else 25 * 240) for n in range(1000)]) is None


def test_who_was_fast_before_may_not_be_slow_for_ever():
    found = looks(BodyRate(HttpLimits()), [(1.0, 10**9), *[(1.0, 1)] * 1000])
    assert found <= WINDOW + 3


def test_time_in_which_nobody_waits_does_not_count():
    rate = BodyRate(HttpLimits())
    for now in range(0, 10_000, 2):
        assert not rate.is_too_low(0, now=float(now))
        rate.interrupt()


def test_a_loop_that_was_held_up_is_not_the_peers_fault():
    rate = BodyRate(HttpLimits())
    assert looks(rate, [(1.0, 0), (600.0, 0), (1.0, 0)]) is None


def test_without_a_timeout_there_is_a_window_too():
    assert looks(BodyRate(HttpLimits(body_timeout=0)), [(1.0, 1)] * 1000) <= 32


def trickle(server, sock, feed, *, seconds, per_second=1):
    """Send so many bytes in each second of the clock that time-outs go by; how many seconds that went well."""
    server.wait_until(lambda: server.context.stats.in_flight)
    for second in range(seconds):
        received = server.run(lambda: _received(server))
        piece = (feed * per_second)[second * per_second % len(feed) :][:per_second]
        try:
            sock.sendall(piece)
        except ConnectionError:
            return second
        server.wait_until(lambda received=received: not _is_open(server) or _received(server) > received)
        server.sweep(float(second))
        if not server.run(lambda: _is_open(server)):
            return second
    return seconds


def _received(server):
    return sum(connection._received for connection in server.context.connections)


def _is_open(server):
    return any(connection._ending is Ending.OPEN for connection in server.context.connections)


async def reads(scope, receive, send):
    await respond(send, body=await read_body(receive))


SLOW = {
    "a body": (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
    "a chunk": (CHUNKED + b"ffff\r\n", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "the line of a chunk": (CHUNKED + b"1;", b"x"),
    "a trailer": (CHUNKED + b"0\r\nX: ", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n"),
}


@each_variant
@pytest.mark.parametrize("what", SLOW)
def test_what_trickles_is_refused(variant, what):
    head, feed = SLOW[what]
    with serve(reads, sweeps=False, **variant) as server:
        sock = server.connect()
        sock.sendall(head)
        assert WINDOW <= trickle(server, sock, feed, seconds=60) <= WINDOW + 2
        assert sock.recv(1000).startswith(b"HTTP/1.1 408 ")


@each_variant
@pytest.mark.parametrize(("rate", "per_second"), [(240, 250), (0, 1), (10, 11)])
def test_what_comes_fast_enough_is_not(variant, rate, per_second):
    head, feed = SLOW["a body"]
    with serve(reads, sweeps=False, body_min_rate=rate, **variant) as server:
        sock = server.connect()
        sock.sendall(head)
        assert trickle(server, sock, feed, seconds=100, per_second=per_second) == 100


@each_variant
def test_beside_a_response_the_connection_ends(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await read_body(receive)

    head, feed = SLOW["a body"]
    with serve(app, sweeps=False, **variant) as server:
        sock = server.connect()
        sock.sendall(head)
        assert WINDOW <= trickle(server, sock, feed, seconds=60) <= WINDOW + 2
        server.wait_until(lambda: not server.context.connections)


@each_variant
def test_an_application_that_does_not_read_is_not_held_against_the_client(variant):
    done = asyncio.Event()

    async def app(scope, receive, send):
        await done.wait()
        await hello(scope, receive, send)

    head, feed = SLOW["a body"]
    with serve(app, sweeps=False, **variant) as server:
        sock = server.connect()
        sock.sendall(head)
        assert trickle(server, sock, feed, seconds=100) == 100
        server.run(done.set)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")


@each_variant
def test_a_body_that_nobody_reads_does_not_hold_the_connection_for_ever(variant):
    head, feed = SLOW["a body"]
    with serve(hello, sweeps=False, **variant) as server:
        sock = server.connect()
        sock.sendall(head)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        for second in range(60):
            server.sweep(float(second))
            received = server.run(lambda: _received(server))
            if not server.run(lambda: _is_open(server)):
                break
            sock.sendall(feed)
            server.wait_until(lambda received=received: not _is_open(server) or _received(server) > received)
        assert WINDOW <= second <= WINDOW + 2
