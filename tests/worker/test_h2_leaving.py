"""Ends of HTTP/2 connections: GOAWAY, time-outs, cancellation."""

import asyncio
import socket

import pytest

from asgi_master.http.h2.engine import PREFACE
from h2_client import H2Client
from http_apps import echo, hello, read_body, respond
from serving import H2_ENGINES, serve

pytestmark = pytest.mark.parametrize("variant", H2_ENGINES)

LAST_POSSIBLE = 2**31 - 1
FAR = 10_000.0
"""Seconds ahead of the loop's time: all time-outs are over."""


def drain(server):
    def call():
        server.context.draining = True
        for connection in list(server.context.connections):
            connection.drain()

    server.run(call)


def sweep_twice(server, seconds=FAR):
    """The first look begins to measure, the second is so much later."""
    now = server.loop.time()
    server.sweep(now)
    server.sweep(now + seconds)


def test_a_drain_lets_streams_finish_and_names_the_last(variant):
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, body=b"finished")

    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = H2Client(server.connect())
        before = client.request("GET", "/")
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        drain(server)
        server.run(go_on.set)
        assert client.response(before).body == b"finished"
        client.read_to_end()
        assert [goaway.last_stream_id for goaway in client.goaways] == [LAST_POSSIBLE, before]
        client.sock.close()
        server.wait_until(lambda: not server.context.connections)


def test_an_idle_connection_leaves_without_a_round_trip(variant):
    with serve(hello, **variant) as server:
        client = H2Client(server.connect())
        client.get("/")
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        drain(server)
        client.read_to_end()
        assert client.goaways[-1].last_stream_id == 1
        client.sock.close()
        server.wait_until(lambda: not server.context.connections)


def test_a_peer_that_does_not_answer_is_told_the_last_stream_anyway(variant):
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send)

    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = H2Client(server.connect())
        client.request("GET", "/")
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        drain(server)
        connection = server.run(lambda: next(iter(server.context.connections)))
        assert not server.run(lambda: connection.engine.is_shut_down)

        def later():
            connection._drain._announced_at -= 2
            connection.drain()

        server.run(later)
        assert server.run(lambda: connection.engine.is_shut_down)
        server.run(go_on.set)
        client.read_to_end()


def test_where_others_serve_a_moment_without_a_stream_is_waited_for(variant):
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send)

    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = H2Client(server.connect())
        stream = client.request("GET", "/")
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        connection = server.run(lambda: next(iter(server.context.connections)))

        def drain():
            connection.drain(lambda sock, state: True)

        server.run(drain)
        server.run(go_on.set)
        assert client.response(stream).status == 200
        assert client.goaways == []
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        drain_for_others(server)
        client.read_to_end()
        assert client.goaways[-1].last_stream_id == stream


def test_time_without_a_stream_is_bounded(variant):
    with serve(hello, sweeps=False, **variant) as server:
        client = H2Client(server.connect())
        client.get("/")
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        sweep_twice(server)
        client.read_to_end()
        assert [int(goaway.error_code) for goaway in client.goaways] == [0]


def test_a_preface_must_come_in_time(variant):
    with serve(hello, sweeps=False, **variant) as server:
        sock = server.connect()
        sock.sendall(PREFACE)
        server.wait_until(lambda: server.context.stats.http2_connections == 1)
        sweep_twice(server)
        data = b""
        while piece := sock.recv(65536):
            data += piece
        assert data.endswith(b"a frame did not arrive in time")


def test_a_body_must_come_in_time(variant):
    with serve(echo, sweeps=False, **variant) as server:
        client = H2Client(server.connect())
        stream = client.open("POST", "/", ends=False)
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        sweep_twice(server)
        assert client.response(stream).status == 408


def test_the_application_must_begin_in_time(variant, caplog):
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    with serve(app, sweeps=False, request_timeout=5.0, **variant) as server:
        client = H2Client(server.connect())
        stream = client.request("GET", "/")
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        sweep_twice(server, 6.0)
        assert client.response(stream).status == 504
        server.wait_until(lambda: server.context.stats.in_flight == 0)
    assert "GET /: cancelled, as it had not begun to respond" in caplog.text


def test_a_peer_that_opens_no_window_loses_its_stream_only(variant):
    async def app(scope, receive, send):
        await respond(send, body=b"x" * (100_000 if scope["path"] == "/large" else 3))

    with serve(app, sweeps=False, **variant) as server:
        client = H2Client(server.connect(), window=10)
        client.acknowledges = False
        large = client.request("GET", "/large")
        client.read_until(lambda: client.responses[large].body)
        sweep_twice(server)
        assert client.response(large).reset == 8
        assert client.get("/").body == b"xxx"


def test_a_peer_that_does_not_read_is_cut_off(variant):
    async def app(scope, receive, send):
        await respond(send, body=b"x" * 10_000_000)

    with serve(app, sweeps=False, send_buffer=10_000, **variant) as server:
        client = H2Client(server.connect(receive_buffer=10_000), window=2**24)
        client.h2.increment_flow_control_window(2**24)
        client.request("GET", "/")
        connection = server.wait_until(lambda: next(iter(server.context.connections), None))
        server.wait_until(connection.transport.get_write_buffer_size)
        for _ in range(5):  # the kernels' buffers may still take some meanwhile
            sweep_twice(server)
        server.wait_until(lambda: not server.context.connections)


def test_cancelled_at_the_end_of_the_drain(variant):
    cancelled = []

    async def app(scope, receive, send):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(scope["path"])
            raise

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        for number in range(3):
            client.request("GET", f"/{number}")
        server.wait_until(lambda: server.context.stats.in_flight == 3)
        server.run(lambda: [connection.cancel() for connection in list(server.context.connections)])
        server.wait_until(lambda: not server.context.connections)
        assert sorted(cancelled) == ["/0", "/1", "/2"]


def test_a_stream_is_told_of_the_end_at_half_time(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b"ended"})

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        stream = client.request("GET", "/")
        client.head(stream)
        drain(server)
        server.run(lambda: [connection.signal_disconnect() for connection in server.context.connections])
        assert client.response(stream).body == b"begun ended"


def test_a_half_closed_peer_gets_its_responses(variant):
    async def app(scope, receive, send):
        body = await read_body(receive)
        await ended.wait()
        await respond(send, body=body)

    with serve(app, **variant) as server:
        ended = server.run(asyncio.Event)
        client = H2Client(server.connect())
        streams = [client.request("POST", "/", body=b"data") for _ in range(3)]
        server.wait_until(lambda: server.context.stats.in_flight == 3)
        client.sock.shutdown(1)
        connection = server.run(lambda: next(iter(server.context.connections)))
        server.wait_until(lambda: connection._eof)
        server.run(ended.set)
        assert [client.response(stream).body for stream in streams] == [b"data"] * 3
        client.read_to_end()
        server.wait_until(lambda: not server.context.connections)


def drain_for_others(server):
    """Drain as the worker does again and again while others serve, until a pause was seen."""

    def call():
        for connection in list(server.context.connections):
            connection.drain(lambda sock, state: True)
            connection._drain._pause_at -= 1
            connection.drain(lambda sock, state: True)

    server.run(call)


def test_goaway_leaves_together_with_the_response_of_a_peer_that_asks_one_at_a_time(variant):
    """Between the two, such a peer would send the next request, which nginx then counts as failed."""
    with serve(hello, **variant) as server:
        client = H2Client(server.connect())
        client.get("/")
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        drain_for_others(server)
        server.wait_until(lambda: next(iter(server.context.connections))._drain._probed_at)
        stream = client.request("GET", "/")  # sent before the PING was read
        client.read_to_end()
        assert client.responses[stream].body == b"hello"
        assert [goaway.last_stream_id for goaway in client.goaways] == [stream]


class SideBySide:
    """A client whose requests run side by side, on a connection that is drained while others serve."""

    def __init__(self, server):
        self._server = server
        self.client = H2Client(server.connect())
        streams = [self.client.open("GET", "/before", flush=False) for _ in range(3)]
        self.client.flush()
        for stream in streams:
            self.client.response(stream)
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        self.connection = server.run(lambda: next(iter(server.context.connections)))

    def drain(self):
        self._server.run(lambda: self.connection.drain(lambda sock, state: True))

    def drain_to_the_end(self):
        def is_announced():
            self.connection.drain(lambda sock, state: True)
            return self.connection.engine.is_shut_down

        self._server.wait_until(is_announced)

    def held(self, count):
        self._server.wait_until(lambda: len(self.connection._held) == count)


def served_paths(served):
    async def app(scope, receive, send):
        served.append(scope["path"])
        await respond(send, body=b"%d" % len(await read_body(receive)))

    return app


def test_requests_that_come_in_a_moment_without_one_are_left_to_another_connection(variant):
    served = []
    with serve(served_paths(served), **variant) as server:
        peer = SideBySide(server)
        client = peer.client
        peer.drain()  # which sends PING
        held = [client.request("GET", "/held"), client.request("POST", "/held", body=b"x" * 50_000)]
        held.append(client.open("POST", "/held", ends=False))
        peer.held(3)
        assert client.goaways == []
        client.read_until(lambda: any(type(event).__name__ == "PingReceived" for event in client.events))
        peer.drain_to_the_end()
        client.read_to_end()
        (goaway,) = client.goaways
        assert held[0] - 2 == goaway.last_stream_id
        assert client.responses[held[0]].status == 0
        assert served == ["/before"] * 3
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stream_quota.running == server.context.stats.in_flight == 0
        assert server.context.stats.requests == 3


def test_requests_that_are_held_while_others_take_long_are_served(variant):
    async def app(scope, receive, send):
        served.append(scope["path"])
        body = await read_body(receive)
        if scope["path"] == "/long":
            await go_on.wait()
        await respond(send, body=body)

    served = []
    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        peer = SideBySide(server)
        client = peer.client
        long = client.request("GET", "/long")
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        peer.drain()
        peer.connection._drain._began_at -= 0.6
        peer.drain()
        held = [client.request("GET", "/held"), client.request("POST", "/held", body=b"x" * 50_000)]
        held.append(client.open("POST", "/held", ends=False))
        client.h2.send_data(held[2], b"some")
        client.flush()
        peer.held(3)
        assert served[3:] == ["/long"]
        peer.connection._drain._held_at -= 1
        peer.drain()
        client.h2.send_data(held[2], b" more", end_stream=True)
        client.flush()
        assert [client.response(stream).body for stream in held] == [b"", b"x" * 50_000, b"some more"]
        server.run(go_on.set)
        assert client.response(long).status == 200
        peer.drain_to_the_end()
        client.read_to_end()
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stream_quota.running == 0


@pytest.mark.parametrize("ending", ["reset", "lost", "cancelled", "broken", "half-closed"])
def test_what_becomes_of_a_request_that_is_held(variant, ending):
    served = []
    with serve(served_paths(served), **variant) as server:
        peer = SideBySide(server)
        client = peer.client
        peer.drain()
        stream = client.request("GET", "/held")
        peer.held(1)
        match ending:
            case "reset":
                client.h2.reset_stream(stream)
                client.flush()
                peer.held(0)
                client.sock.close()
            case "lost":
                client.sock.close()
            case "cancelled":
                server.run(peer.connection.cancel)
            case "broken":
                client.sock.sendall(b"\0\0\0\0\0\0\0\0\0")
            case "half-closed":
                client.sock.shutdown(socket.SHUT_WR)
                assert client.response(stream).status == 200
                client.read_to_end()
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stream_quota.running == server.context.stats.in_flight == 0
        assert served[3:] == (["/held"] if ending == "half-closed" else [])


@pytest.mark.parametrize("answers", [True, False])
def test_an_idle_peer_is_asked_whether_it_reads(variant, answers):
    with serve(hello, **variant) as server:
        client = H2Client(server.connect())
        client.get("/")
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        drain_for_others(server)
        connection = next(iter(server.context.connections))
        assert not server.run(lambda: connection.engine.is_shut_down)
        if not answers:

            def later():
                connection._drain._probed_at -= 1
                connection.drain(lambda sock, state: True)

            server.run(later)
        client.read_to_end()
        assert [goaway.last_stream_id for goaway in client.goaways] == [1]
