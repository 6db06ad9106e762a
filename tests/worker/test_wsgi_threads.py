"""The threads of WSGI: clients that leave or are slow, a full queue, time-outs, stuck calls, and the end of a worker."""

import contextlib
import logging
import socket
import struct
import threading
from time import monotonic

import pytest

from asgi_master.http.limits import Http2Limits
from asgi_master.worker.wsgi.thread_watch import ThreadWatch
from h2_client import H2Client
from http_client import request
from serving import serve

PLAIN = [("Content-Type", "text/plain")]
VERSIONS = pytest.mark.parametrize("is_2", [False, True], ids=["1.1", "2"])
TIMEOUT = 10


class Gate:
    """An application that waits until it is let on."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()
        self.calls = 0
        self.seen = []

    def __call__(self, environ, start_response):
        self.calls += 1
        self.entered.release()
        assert self.released.wait(TIMEOUT)
        start_response("200 OK", PLAIN)
        return [environ["PATH_INFO"].encode()]

    def wait_entered(self):
        assert self.entered.acquire(timeout=TIMEOUT)


@pytest.fixture
def gate():
    return Gate()


@contextlib.contextmanager
def gated(gate, app=None, **options):
    """A server, whose application is let on at the end at the latest."""
    with serve(app or gate, **options) as server:
        try:
            yield server
        finally:
            gate.released.set()


def pool_of(server):
    return server.context.backlog


def held(server):
    """Bytes of a body that wait on a connection that is not read from."""
    (connection,) = server.context.connections
    return connection.holds and connection._current.inbox_size


def leave(client):
    """Reset the connection: one that is only closed may wait for its response."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


def hello(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "5")])
    return [b"hello"]


# -- bodies ----------------------------------------------------------------------------------------------


def test_100_continue_is_sent_when_the_application_reads():
    def app(environ, start_response):
        body = environ["wsgi.input"].read() if environ["PATH_INFO"] == "/read" else b"no"
        start_response("200 OK", [*PLAIN, ("Content-Length", str(len(body)))])
        return [body]

    with serve(app, threads=2) as server:
        client = server.client()
        client.send(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert client.response().status == 100
        client.send(b"data")
        assert client.response().body == b"data"
        client.send(b"POST /not HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        response = client.response()
        assert (response.status, response.body, response.headers["connection"]) == (200, b"no", "close")


def test_a_chunked_body_has_an_end_and_no_length():
    def app(environ, start_response):
        seen = [environ["wsgi.input"].read(), b"CONTENT_LENGTH" in environ, environ["wsgi.input_terminated"]]
        start_response("200 OK", PLAIN)
        return [repr(seen).encode()]

    with serve(app, threads=2) as server:
        client = server.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send(b"2\r\nde\r\n0\r\n\r\n")
        assert client.response().body == b"[b'abcde', False, True]"


@VERSIONS
def test_a_slow_client_takes_no_thread_while_its_small_body_arrives(is_2):
    with serve(lambda e, s: s("200 OK", PLAIN) and [e["wsgi.input"].read()], threads=1) as server:
        slow = H2Client(server.connect()) if is_2 else server.client()
        if is_2:
            stream = slow.open("POST", "/", [("content-length", "10")], ends=False)
            slow.send(stream, b"01234")
        else:
            slow.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        assert server.client().get("/").status == 200
        if is_2:
            slow.send(stream, b"56789", ends=True)
            assert slow.response(stream).body == b"0123456789"
        else:
            slow.send(b"56789")
            assert slow.response().body == b"0123456789"


def test_a_body_larger_than_memory_waits_in_the_kernel(gate):
    def app(environ, start_response):
        stream = environ["wsgi.input"]
        size = len(stream.read(10))
        gate(environ, start_response)
        while data := stream.read(100_000):
            size += len(data)
        return [b"%d" % size]

    size = 20_000_000
    with serve(app, threads=1) as server:
        client = server.client()
        client.sock.setblocking(False)
        data = request("POST", "/", body=b"x" * size)
        sent = 0
        gate_is_open = False
        deadline = monotonic() + TIMEOUT
        while sent < len(data):
            assert monotonic() < deadline
            try:
                sent += client.sock.send(data[sent : sent + 1_000_000])
            except BlockingIOError:
                if not gate_is_open:
                    gate.wait_entered()
                    assert server.wait_until(lambda: held(server)) < 300_000
                    assert sent < size / 2
                    gate.released.set()
                    gate_is_open = True
                threading.Event().wait(0.001)
        client.sock.settimeout(TIMEOUT)
        assert gate_is_open
        assert client.response().body == b"%d" % size


@VERSIONS
@pytest.mark.parametrize("sent", [100, 150_000])
def test_a_client_that_leaves_in_the_midst_of_its_body(is_2, sent, caplog):
    errors = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(str(error))
            raise
        start_response("200 OK", PLAIN)
        return [b"never"]

    with serve(app, threads=1) as server:
        client = H2Client(server.connect()) if is_2 else server.client()
        if is_2:
            stream = client.open("POST", "/", [("content-length", "200000")], ends=False)
            client.send(stream, b"x" * sent)
        else:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * sent)
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        leave(client)
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        server.wait_until(lambda: not server.context.connections)
        assert errors == (
            ["the client disconnected before the request body was complete"] if sent > 100 else []
        )
        assert server.context.stats.application_errors == 0
    assert not caplog.records


def test_a_client_that_ends_its_side_in_the_midst_of_its_body(caplog):
    def app(environ, start_response):
        environ["wsgi.input"].read()

    with serve(app, threads=1) as server:
        client = server.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200\r\n\r\nabc")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b""
        server.wait_until(lambda: not server.context.connections)
    assert not caplog.records


# -- responses -------------------------------------------------------------------------------------------


@VERSIONS
def test_what_is_given_leaves_while_the_next_piece_is_made(is_2, gate):
    def app(environ, start_response):
        gate.seen.append("called")
        start_response("200 OK", PLAIN)
        yield b"first"
        gate.entered.release()
        gate.released.wait(TIMEOUT)
        yield b"second"

    with serve(app, threads=1) as server:
        if is_2:
            client = H2Client(server.connect())
            stream = client.request("GET", "/")
            client.read_until(
                lambda: client.responses.get(stream) and client.responses[stream].body == b"first"
            )
            gate.released.set()
            assert client.response(stream).body == b"firstsecond"
        else:
            client = server.client()
            client.send(request("GET", "/"))
            client.read_until(b"5\r\nfirst\r\n")
            gate.released.set()
            client.read_until(b"6\r\nsecond\r\n0\r\n\r\n")


@VERSIONS
@pytest.mark.parametrize("by", ["pieces", "write"])
def test_a_client_that_does_not_read_holds_the_thread_up(is_2, by):
    given, closed = [], threading.Event()

    class Pieces:
        def __iter__(self):
            for _ in range(1000):
                given.append(1)
                yield b"x" * 50_000

        def close(self):
            closed.set()

    def app(environ, start_response):
        write = start_response("200 OK", PLAIN)
        if by == "pieces":
            return Pieces()
        for _ in range(1000):
            write(b"x" * 50_000)
            given.append(1)
        return []

    with serve(app, threads=1, send_buffer=100_000) as server:
        if is_2:
            client = H2Client(server.connect(receive_buffer=50_000), acknowledges=False)
            client.request("GET", "/")
            client.read()
        else:
            client = server.client(receive_buffer=50_000)
            client.send(request("GET", "/"))
        server.wait_until(lambda: given)
        seen = -1
        while seen != len(given):
            seen = len(given)
            threading.Event().wait(0.1)
        assert 0 < len(given) < 50
        leave(client)
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        assert len(given) < 60
        assert by == "write" or closed.wait(TIMEOUT)
        assert server.context.stats.application_errors == 0


@VERSIONS
def test_all_of_a_large_response_arrives_at_a_slow_client(is_2):
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        return (bytes([n]) * 30_000 for n in range(250))

    expected = b"".join(bytes([n]) * 30_000 for n in range(250))
    with serve(app, threads=1, send_buffer=100_000) as server:
        if is_2:
            assert H2Client(server.connect(receive_buffer=50_000)).get("/").body == expected
        else:
            client = server.client(receive_buffer=50_000)
            assert client.get("/").body == expected


def test_requests_sent_ahead_are_answered_in_order():
    with serve(lambda e, s: s("200 OK", PLAIN) and [e["PATH_INFO"].encode()], threads=4) as server:
        client = server.client()
        client.send(b"".join(request("GET", f"/{number}") for number in range(50)))
        assert [client.response().body for _ in range(50)] == [b"/%d" % number for number in range(50)]


def test_http_1_0():
    with serve(lambda e, s: s("200 OK", PLAIN) and (b"ab", b"c"), threads=1) as server:
        client = server.client()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_to_end().endswith(b"content-length: 3\r\nconnection: close\r\n\r\nabc")


def test_an_upgrade_is_ignored():
    with serve(hello, threads=1) as server:
        client = server.client()
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        response = client.get(
            "/", "Upgrade: websocket", "Connection: upgrade", key, "Sec-WebSocket-Version: 13"
        )
        assert (response.status, response.body) == (200, b"hello")


def test_websockets_are_not_announced_over_http_2():
    with serve(hello, threads=1, http2=Http2Limits()) as server:
        client = H2Client(server.connect())
        client.get("/")
        assert not client.h2.remote_settings.enable_connect_protocol
        stream = client.open("CONNECT", "/", [(":protocol", "websocket")])
        assert client.head(stream).status == 501
        assert client.get("/").body == b"hello"


# -- the queue -------------------------------------------------------------------------------------------


def test_a_client_that_leaves_while_it_waits_for_a_thread_is_not_served(gate):
    with gated(gate, threads=1) as server:
        first, second = server.client(), server.client()
        first.send(request("GET", "/1"))
        gate.wait_entered()
        second.send(request("GET", "/2"))
        server.wait_until(lambda: pool_of(server).queued == 1)
        leave(second)
        server.wait_until(lambda: server.context.stats.connections == 1)
        gate.released.set()
        assert first.response().body == b"/1"
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        assert gate.calls == 1
        assert server.context.stats.wsgi_calls == 1


def test_beyond_a_bound_connections_wait_with_their_requests(gate):
    with gated(gate, threads=1) as server:
        clients = [server.client() for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/{number}"))
        gate.wait_entered()
        pool = pool_of(server)
        server.wait_until(lambda: len(pool._overflow) == 15)
        assert (pool.queued, server.context.stats.requests) == (4, 5)
        gate.released.set()
        assert [client.response().body for client in clients] == [b"/%d" % number for number in range(20)]
        assert server.context.stats.requests == 20


def test_no_thread_within_the_time_is_503(gate, caplog):
    with gated(gate, threads=1, sweeps=False, request_timeout=5.0) as server:
        clients = [server.client() for _ in range(7)]
        for client in clients:
            client.send(request("GET", "/x"))
        gate.wait_entered()
        pool = pool_of(server)
        server.wait_until(lambda: len(pool._overflow) == 2)
        server.sweep(1.0)
        server.sweep(7.0)
        pool_then = monotonic() + 1
        server.run(lambda: pool.refuse_since(pool_then))
        gate.released.set()
        responses = [client.response() for client in clients]
        assert sorted(response.status for response in responses) == [503] * 6 + [504]
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        assert gate.calls == 1
    assert "answered 503, as no thread took it within 5 s" in caplog.text
    assert "answered 504, as the application had not begun to respond within 5 s" in caplog.text
    assert "test_wsgi_threads.py" in caplog.text


def test_active_requests_are_bounded(gate):
    with gated(gate, threads=1, max_active_requests=1) as server:
        first, second = server.client(), server.client()
        first.send(request("GET", "/"))
        gate.wait_entered()
        response = second.get("/")
        assert (response.status, response.headers["retry-after"]) == (503, "1")


def test_waiting_calls_run_side_by_side(gate):
    with gated(gate, threads=8) as server:
        clients = [server.client() for _ in range(8)]
        for client in clients:
            client.send(request("GET", "/"))
        for _ in clients:
            gate.wait_entered()
        server.wait_until(lambda: len(pool_of(server).threads) == 8)
        gate.released.set()
        assert all(client.response().status == 200 for client in clients)


# -- the watch -------------------------------------------------------------------------------------------


def watch_of(server, *, stall_warn=1.0, hang_timeout=0.0):
    reasons = []
    watch = ThreadWatch(
        pool_of(server),
        server.context,
        stall_warn=stall_warn,
        hang_timeout=hang_timeout,
        replace=reasons.append,
    )
    return watch, reasons


def test_a_stuck_call_is_named_once(gate, caplog):
    with gated(gate, threads=2) as server:
        client = server.client()
        client.send(request("GET", "/stuck?x"))
        gate.wait_entered()
        watch, reasons = watch_of(server)
        for later in (0.5, 2.0, 3.0):
            server.run(lambda later=later: watch.look(monotonic() + later))
        stats = server.context.stats
        assert (stats.wsgi_threads, stats.wsgi_busy, stats.wsgi_stuck, stats.wsgi_stuck_calls) == (2, 1, 1, 1)
        gate.released.set()
        assert client.response().status == 200
        server.wait_until(lambda: stats.in_flight == 0)
        server.run(lambda: watch.look(monotonic() + 4))
        assert (stats.wsgi_busy, stats.wsgi_stuck, stats.wsgi_stuck_calls, reasons) == (0, 0, 1, [])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("GET /stuck?x: thread wsgi-0 has got no further for ")
    assert "test_wsgi_threads.py" in record.getMessage()


def test_a_stream_that_gets_on_is_not_stuck(gate, caplog):
    steps = threading.Semaphore(0)

    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        for _ in range(3):
            assert steps.acquire(timeout=TIMEOUT)
            yield b"x"

    with serve(app, threads=1) as server:
        client = server.client()
        client.send(request("GET", "/"))
        watch, _ = watch_of(server)
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        for number in range(3):
            steps.release()
            client.read_until(b"1\r\nx\r\n")
            server.run(lambda number=number: watch.look(monotonic() + 0.9 * number))
    assert not caplog.records


@pytest.mark.parametrize("hang_timeout", [0.0, 30.0])
def test_a_worker_whose_threads_are_all_stuck_asks_to_be_replaced(gate, hang_timeout, caplog):
    with gated(gate, threads=2) as server:
        clients = [server.client() for _ in range(2)]
        for client in clients:
            client.send(request("GET", "/"))
            gate.wait_entered()
        watch, reasons = watch_of(server, hang_timeout=hang_timeout)
        server.run(lambda: watch.look(monotonic() + 100))
        assert not reasons  # nobody waits
        server.client().send(request("GET", "/"))
        server.wait_until(lambda: pool_of(server).queued)
        server.run(lambda: watch.look(monotonic() + 20))
        assert not reasons
        if not hang_timeout:
            for client in clients:
                leave(client)
            server.wait_until(lambda: server.context.stats.connections == 1)
        for _ in range(2):
            server.run(lambda: watch.look(monotonic() + 40))
        assert reasons == ["all threads are stuck"]
    assert "all 2 threads are stuck, and requests wait" in caplog.text


# -- the end of a worker ---------------------------------------------------------------------------------


@VERSIONS
def test_the_end_of_the_drain_window_waits_for_no_thread(is_2, gate):
    with gated(gate, threads=1) as server:
        client = H2Client(server.connect()) if is_2 else server.client()
        if is_2:
            client.request("GET", "/")
        else:
            client.send(request("GET", "/"))
        gate.wait_entered()

        def cancel():
            for connection in list(server.context.connections):
                connection.cancel()

        server.run(cancel)
        if is_2:
            client.read_until(
                lambda: (
                    client.is_closed
                    or any(r.reset is not None for r in client.responses.values())
                    or client.goaways
                )
            )
        else:
            with pytest.raises((ConnectionError, EOFError, AssertionError)):
                client.response()
        gate.released.set()
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        server.wait_until(lambda: not server.context.connections)


def test_threads_end_when_the_pool_is_stopped():
    with serve(hello, threads=2) as server:
        server.client().get("/")
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("wsgi-")]
        assert "wsgi-0" in names
        idents = [thread.ident for thread in pool_of(server).threads]
    deadline = monotonic() + TIMEOUT
    while any(thread.ident in idents for thread in threading.enumerate()):
        assert monotonic() < deadline
        threading.Event().wait(
            0.01
        )  # without a pause the list's lock would hardly be free for those that end


def test_a_connection_that_left_while_it_waited_is_not_answered(gate):
    with gated(gate, threads=1) as server:
        clients = [server.client() for _ in range(7)]
        for client in clients:
            client.send(request("GET", "/x"))
        gate.wait_entered()
        pool = pool_of(server)
        server.wait_until(lambda: len(pool._overflow) == 2)
        for client in clients:
            leave(client)
        # Those that wait are not read from, but the poller tells of a reset.
        server.wait_until(lambda: server.context.stats.connections == 0)
        now = monotonic() + 1
        server.run(lambda: pool.refuse_since(now))
        assert server.context.stats.responses[5] == 0


def test_a_thread_that_cannot_be_started_is_tried_again(monkeypatch, caplog):
    tries = []
    start = threading.Thread.start

    def fails_twice(thread):
        if thread.name.startswith("wsgi-") and len(tries) < 2:
            tries.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    with serve(hello, threads=1) as server:
        monkeypatch.setattr(threading.Thread, "start", fails_twice)
        assert server.client().get("/").body == b"hello"
    assert tries == ["wsgi-0", "wsgi-0"]
    assert "can't start new thread" in caplog.text
