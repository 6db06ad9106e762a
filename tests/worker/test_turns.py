"""However much a peer sends at once, and however fast it reads: the loop turns in between, for everybody else.

Nothing is timed. The clock of the turns is the test's and goes on by a fixed step with each look, so that work between
two looks is what counts; a turn of the loop is what passes in `asyncio.sleep(0)`.
"""

import asyncio
import contextvars
import importlib
import itertools
import pkgutil
import ssl
import sys
import zlib

import pytest

import asgi_master.worker
from asgi_master.http.engines import engines_of
from asgi_master.http.limits import HttpLimits, WebSocketLimits
from asgi_master.http.websocket.frames import Ping
from asgi_master.worker.accept.proxy_protocol import ProxyHeaderReader
from asgi_master.worker.accept.tls import TlsHandshake
from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.relay.caller import _Link
from asgi_master.worker.relay.server import RelayServer
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.stream_transport import StreamProtocol, StreamTransport
from asgi_master.worker.transport.tls_transport import TlsTransport
from asgi_master.worker.transport.turns import AHEAD, TakesTurns, Turns
from asgi_master.worker.websocket.connection import WebSocketConnection
from http_apps import respond
from http_client import request
from serving import LOOPS, VARIANTS, serve
from websocket_peer import BINARY, CONTINUATION, FIN, PING, PONG, TEXT, close_frame, frame, handshake

EVENTS = 3000
MOST = 1000
"""Of those, what one turn may handle at most."""
CHUNKS = 10_000
MOST_CHUNKS = 2500
STEP = 0.0005
"""Seconds by which the clock goes on with each look."""
TURNS_AT_MOST = 20_000

of_each_variant = pytest.mark.parametrize("variant", VARIANTS)
GET = request("GET", "/")
CHUNKED = request("POST", "/", "transfer-encoding: chunked")


class FakeTransport(StreamTransport):
    """A peer that reads at once."""

    def __init__(self):
        self.endpoints = Endpoints(("127.0.0.1", 5), ("127.0.0.1", 8000), is_tls=False)
        self.tls = None
        self.context = contextvars.copy_context()
        self.read_size = 65536
        self.written = []
        self.protocol = None
        self.reads = True
        self.has_ended = self.is_closed = False

    def write(self, data):
        if len(data) < 65536:
            self.written.append(bytes(data))

    def write_eof(self):
        self.has_ended = True

    def get_write_buffer_size(self):
        return 0

    def set_protocol(self, protocol):
        self.protocol = protocol

    def pause_reading(self):
        assert self.reads, "paused twice"
        self.reads = False

    def resume_reading(self):
        assert not self.reads, "resumed twice"
        self.reads = True

    def is_closing(self):
        return self.is_closed

    def close(self):
        self.is_closed = True

    abort = close

    def has_unread_bytes(self):
        return False

    def move(self, transfer, state):
        return False


class Lab:
    """A worker's context with connections on fake transports, in a running loop."""

    def __init__(self, app, parser="auto", **websocket):
        loop = asyncio.get_running_loop()
        self.context = WorkerContext(
            app, loop, {}, HttpLimits(), WebSocketLimits(**websocket), engines_of(parser)
        )
        ticks = itertools.count()
        self.context.turns = Turns(loop, lambda: next(ticks) * STEP)

    def connect(self):
        transport = FakeTransport()
        connection = H1Connection(self.context)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        return transport

    async def open(self, *extra):
        """A transport that an application accepted a WebSocket on, and a count of the engine's events."""
        transport = self.connect()
        transport.protocol.data_received(handshake(*extra))
        await until(lambda: transport.written and transport.protocol._engine is not None)
        return transport, count_events(transport.protocol)


def count_events(connection):
    """A list that grows with each event which the connection takes out of its engine."""
    counted = []
    engine = connection._engine

    class Counting:
        def __getattr__(self, name):
            return getattr(engine, name)

        def next_event(self):
            event = engine.next_event()
            if event is not None:
                counted.append(event)
            return event

    connection._engine = Counting()
    return counted


async def until(condition):
    for _ in range(TURNS_AT_MOST):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not happen")


async def most_in_a_turn(feed, handled, total=EVENTS):
    """The most that one turn of the loop handled of what is fed, until all of it is."""
    before, most = handled(), 0
    goal = before + total
    feed()
    for _ in range(TURNS_AT_MOST):
        most = max(most, handled() - before)
        before = handled()
        if before >= goal:
            return most
        await asyncio.sleep(0)
    raise AssertionError(f"only {handled()} of {goal}")


def run(variant, main):
    """Run `main(parser)` in the loop of a variant."""
    with asyncio.Runner(loop_factory=LOOPS[variant["loop"]]) as runner:
        runner.run(asyncio.wait_for(main(variant["parser"]), 50))


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class Reading:
    """Reads bodies and messages, and counts them."""

    def __init__(self):
        self.bytes = self.messages = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] == "websocket.receive":
                self.messages += 1
            return
        more = True
        while more:
            message = await receive()
            self.bytes += len(message.get("body", b""))
            more = message.get("more_body", False)
        await answer(scope, receive, send)


# --- the peer's input: HTTP

REQUESTS = {
    "the same GET": lambda number: GET,
    "other GETs": lambda number: request("GET", f"/{number}", f"x: {number}"),
    "POSTs with a length": lambda number: request("POST", "/", body=b"x"),
    "chunked POSTs": lambda number: CHUNKED + b"1\r\nx\r\n1\r\ny\r\n0\r\n\r\n",
    "empty lines between": lambda number: b"\r\n" + GET,
}


@of_each_variant
@pytest.mark.parametrize("kind", REQUESTS)
def test_pipelined_requests(variant, kind):
    async def main(parser):
        lab = Lab(Reading(), parser)
        transport = lab.connect()
        data = b"".join(map(REQUESTS[kind], range(EVENTS)))
        stats = lab.context.stats
        most = await most_in_a_turn(
            lambda: transport.protocol.data_received(data), lambda: stats.responses[2], EVENTS
        )
        assert most < MOST
        assert stats.requests == EVENTS
        assert transport.reads

    run(variant, main)


@of_each_variant
def test_busy_connections_share_one_turn_and_all_get_on(variant):
    async def main(parser):
        lab = Lab(answer, parser)
        transports = [lab.connect() for _ in range(24)]
        stats = lab.context.stats

        def feed():
            for transport in transports:
                transport.protocol.data_received(GET * 400)

        most = await most_in_a_turn(feed, lambda: stats.responses[2], 24 * 400)
        # 24 that take a slice each would be twice as many.
        assert most < 24 * 4

    run(variant, main)


@of_each_variant
def test_a_busy_connection_does_not_come_before_others(variant):
    async def main(parser):
        lab = Lab(answer, parser)
        busy = [lab.connect() for _ in range(8)]
        for transport in busy:
            transport.protocol.data_received(GET * 2000)
        other = lab.connect()
        other.protocol.data_received(GET)
        await until(lambda: other.written)
        assert all(b"".join(transport.written).count(b"HTTP/1.1") < 2000 for transport in busy)
        await until(lambda: lab.context.stats.requests == 8 * 2000 + 1)

    run(variant, main)


@of_each_variant
@pytest.mark.parametrize("unit", [b"1\r\nx\r\n", b"1;a=b\r\nx\r\n"], ids=["chunks", "extensions"])
def test_tiny_chunks_that_are_read(variant, unit):
    async def main(parser):
        lab = Lab(app := Reading(), parser)
        transport = lab.connect()
        data = CHUNKED + unit * CHUNKS
        most = await most_in_a_turn(lambda: transport.protocol.data_received(data), lambda: app.bytes, CHUNKS)
        assert most < MOST_CHUNKS
        assert transport.reads

    run(variant, main)


@of_each_variant
def test_tiny_chunks_that_nobody_reads(variant):
    async def main(parser):
        lab = Lab(answer, parser)
        transport = lab.connect()
        connection = transport.protocol
        data = CHUNKED + b"1\r\nx\r\n" * CHUNKS
        most = await most_in_a_turn(
            lambda: connection.data_received(data),
            lambda: connection._discarded,
            CHUNKS - MOST_CHUNKS,  # some come along with the request
        )
        assert most < MOST_CHUNKS

    run(variant, main)


@of_each_variant
def test_what_waits_is_not_read_meanwhile_and_ends_with_the_peer(variant):
    async def main(parser):
        lab = Lab(answer, parser)
        transport = lab.connect()
        connection = transport.protocol
        connection.data_received(GET * EVENTS)
        await until(lambda: lab.context.stats.requests > 100)
        # Where applications start at once. Where they start in the next turn, each request takes one anyway.
        assert transport.reads is (sys.version_info < (3, 12))
        assert not connection.is_idle()
        assert not connection.hand_over(lambda *_: True)
        assert connection.eof_received(), "what it asked for is owed to it"
        await until(lambda: transport.is_closed)
        assert b"".join(transport.written).count(b"HTTP/1.1 200") == EVENTS

    run(variant, main)


@of_each_variant
def test_an_upgrade_in_the_queue_reads_again(variant):
    async def main(parser):
        lab = Lab(reading := Reading(), parser)
        transport = lab.connect()
        transport.protocol.data_received(GET * 1000 + handshake() + frame(FIN | TEXT, b"hello"))
        await until(lambda: reading.messages == 1)
        assert isinstance(transport.protocol, WebSocketConnection)
        await until(lambda: transport.reads)

    run(variant, main)


@of_each_variant
def test_a_refusal_in_the_queue_lingers(variant):
    async def main(parser):
        lab = Lab(answer, parser)
        transport = lab.connect()
        transport.protocol.data_received(GET * 1000 + b"nonsense\r\n\r\n")
        await until(lambda: transport.has_ended)
        await until(lambda: transport.reads)
        assert b"".join(transport.written).count(b"HTTP/1.1 200") == 1000
        assert b"".join(transport.written).count(b"HTTP/1.1 400") == 1

    run(variant, main)


@of_each_variant
def test_a_connection_that_is_lost_in_the_queue_is_let_go(variant):
    async def main(parser):
        lab = Lab(answer, parser)
        transport = lab.connect()
        transport.protocol.data_received(GET * 1000)
        transport.is_closed = True
        transport.protocol.connection_lost()
        for _ in range(10):
            await asyncio.sleep(0)
        assert lab.context.stats.requests < 1000
        assert lab.context.connections == set()

    run(variant, main)


# --- the peer's input: WebSockets

FRAMES = {
    "pings": frame(FIN | PING),
    "pings with a payload": frame(FIN | PING, b"p" * 125),
    "pongs": frame(FIN | PONG),
    "empty fragments": frame(CONTINUATION),
    "1-byte fragments": frame(CONTINUATION, b"x"),
}
MESSAGES = {
    "empty messages": frame(FIN | BINARY),
    "1-byte messages": frame(FIN | TEXT, b"x"),
    "messages in two fragments": frame(TEXT, b"x") + frame(FIN | CONTINUATION, b"y"),
    "messages with a ping within": frame(TEXT, b"x") + frame(FIN | PING) + frame(FIN | CONTINUATION, b"y"),
}


@of_each_variant
@pytest.mark.parametrize("kind", FRAMES)
def test_frames_that_are_no_message(variant, kind):
    async def main(parser):
        lab = Lab(app := Reading(), parser)
        transport, counted = await lab.open()
        data = FRAMES[kind] * EVENTS + b"\x80\x80\0\0\0\0" * ("fragments" in kind)
        if "fragments" in kind:
            transport.protocol.data_received(frame(BINARY))
        most = await most_in_a_turn(lambda: transport.protocol.data_received(data), lambda: len(counted))
        assert most < MOST
        assert len(transport.written) < EVENTS / 8, "pongs are not sent one by one"
        assert app.messages == 0 or "fragments" in kind
        await until(lambda: transport.reads)

    run(variant, main)


@of_each_variant
@pytest.mark.parametrize("kind", MESSAGES)
def test_tiny_messages_to_an_application_that_does_nothing_else(variant, kind):
    async def main(parser):
        lab = Lab(app := Reading(), parser)
        transport, _ = await lab.open()
        data = MESSAGES[kind] * EVENTS
        most = await most_in_a_turn(lambda: transport.protocol.data_received(data), lambda: app.messages)
        assert most < MOST
        await until(lambda: transport.reads)

    run(variant, main)


@of_each_variant
def test_messages_after_the_close_was_sent(variant):
    async def closing(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close"})

    async def main(parser):
        lab = Lab(closing, parser)
        transport, counted = await lab.open()
        transport.protocol.data_received(frame(FIN | TEXT, b"enough"))
        await until(lambda: transport.protocol._close_sent)
        data = frame(FIN | TEXT, b"more") * EVENTS
        most = await most_in_a_turn(lambda: transport.protocol.data_received(data), lambda: len(counted))
        assert most < MOST
        transport.protocol.data_received(close_frame(1000))
        await until(lambda: transport.is_closed)

    run(variant, main)


@of_each_variant
def test_a_message_is_not_inflated_at_once(variant):
    bomb = deflated(size := 8 * 2**20)

    async def main(parser):
        received = asyncio.get_running_loop().create_future()

        async def app(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            received.set_result((await receive())["bytes"])
            await receive()

        lab = Lab(app, parser)
        transport, counted = await lab.open(b"sec-websocket-extensions: permessage-deflate")
        transport.protocol.data_received(frame(FIN | 0x40 | BINARY, bomb))
        assert len(counted) < 100, "it was all done in one go"
        assert await received == bytes(size)

    run(variant, main)


def deflated(size):
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


@of_each_variant
def test_every_ping_of_a_few_is_answered_and_of_many_the_newest(variant):
    async def main(parser):
        lab = Lab(Reading(), parser)
        transport, counted = await lab.open()
        transport.written.clear()
        few = [b"%d" % number for number in range(10)]
        transport.protocol.data_received(b"".join(frame(FIN | PING, payload) for payload in few))
        assert transport.written == [b"".join(b"\x8a\x01" + payload for payload in few)]
        many = [b"%04d" % number for number in range(1000)]
        transport.protocol.data_received(b"".join(frame(FIN | PING, payload) for payload in many))
        await until(lambda: sum(isinstance(event, Ping) for event in counted) == 1010)
        pongs = b"".join(transport.written[1:])
        assert pongs.endswith(b"\x8a\x040999")
        assert len(pongs) < 1000 * 6

    run(variant, main)


# --- the application


@of_each_variant
@pytest.mark.parametrize("size", [0, 1, 100, 100_000])
def test_a_response_to_a_peer_that_reads_as_fast_as_it_is_sent(variant, size):
    async def main(parser):
        sent = []

        async def endless(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while len(sent) < 50 * EVENTS:
                sent.append(size)
                await send({"type": "http.response.body", "body": b"x" * size, "more_body": True})

        lab = Lab(endless, parser)
        transport = lab.connect()
        most = await most_in_a_turn(lambda: transport.protocol.data_received(GET), lambda: len(sent))
        assert most < (100 if size > 65536 else MOST)
        # Many that do so share a turn: not each of them goes on in each.
        for _ in range(30):
            lab.connect().protocol.data_received(GET)
            await asyncio.sleep(0)
        assert await most_in_a_turn(lambda: None, lambda: len(sent), 4000) < 2 * MOST
        sent += [0] * 50 * EVENTS
        await until(lambda: not lab.context.stats.in_flight)

    run(variant, main)


@of_each_variant
@pytest.mark.parametrize("size", [0, 100, 100_000])
def test_messages_to_a_peer_that_reads_as_fast_as_they_are_sent(variant, size):
    async def main(parser):
        sent = []

        async def endless(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            while len(sent) < EVENTS:
                sent.append(size)
                await send({"type": "websocket.send", "bytes": b"x" * size})

        lab = Lab(endless, parser)
        transport = lab.connect()
        most = await most_in_a_turn(lambda: transport.protocol.data_received(handshake()), lambda: len(sent))
        assert most < (100 if size > 65536 else MOST)

    run(variant, main)


@of_each_variant
@pytest.mark.parametrize("opening", [GET, handshake()], ids=["HTTP", "WebSocket"])
def test_an_application_that_does_not_hear_the_end(variant, opening):
    async def main(parser):
        heard = []

        async def deaf(scope, receive, send):
            while len(heard) < EVENTS:
                heard.append(await receive())

        lab = Lab(deaf, parser)
        transport = lab.connect()
        transport.protocol.data_received(opening)
        await asyncio.sleep(0)

        def leave():
            transport.is_closed = True
            transport.protocol.connection_lost()

        assert await most_in_a_turn(leave, lambda: len(heard), EVENTS - len(heard)) < MOST
        assert heard[-1]["type"].endswith(".disconnect")

    run(variant, main)


@of_each_variant
def test_a_receive_that_is_cancelled_while_it_rests_loses_no_message(variant):
    async def main(parser):
        got = []

        async def app(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            while len(got) < 300:
                receiving = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                if not receiving.done():
                    receiving.cancel()
                    await asyncio.wait([receiving])
                if not receiving.cancelled():
                    got.append(receiving.result()["text"])

        lab = Lab(app, parser)
        transport, _ = await lab.open()
        transport.protocol.data_received(b"".join(frame(FIN | TEXT, b"%d" % n) for n in range(300)))
        await until(lambda: len(got) == 300)
        assert got == [str(number) for number in range(300)]

    run(variant, main)


# --- the helper


def test_every_protocol_of_a_worker_takes_turns():
    """One that does not must be here, with the reason why its peer cannot keep it busy."""
    excused = {
        ProxyHeaderReader: "a header of bounded size, and then it is another protocol",
        _Link: "its peer is a worker of ours; what it reads waits until the client's connection takes it",
        RelayServer: "its peer is a worker of ours, which has one request on it at a time",
    }
    for module in pkgutil.iter_modules(asgi_master.worker.__path__, "asgi_master.worker."):
        importlib.import_module(module.name)

    def below(kind):
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    ours = {kind for kind in below(StreamProtocol) if kind.__module__.startswith("asgi_master.")}
    assert ours >= {H1Connection, WebSocketConnection, TlsHandshake, TlsTransport}
    assert {kind for kind in ours if not issubclass(kind, TakesTurns)} == set(excused)


class Plain(TakesTurns, StreamProtocol):
    """As little as there can be."""

    def __init__(self, turns, work=lambda: None):
        super().__init__(turns)
        self._transport = FakeTransport()
        self._work = work

    @property
    def reads(self):
        return self._transport.reads

    def _go_on(self):
        self._work()


def test_reasons_not_to_read_do_not_undo_each_other():
    async def main():
        connection = Plain(Turns(asyncio.get_running_loop()))
        connection._hold(AHEAD)
        connection._queue_up()
        connection._queue_up()
        assert not connection.reads
        connection._release(AHEAD)
        assert not connection.reads
        connection._hold(AHEAD)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not connection._is_queued
        assert not connection.reads, "read again though too much had come"
        connection._release(AHEAD)
        assert connection.reads

    asyncio.run(main())


def test_one_whose_turn_it_is_goes_on_in_the_context_of_its_connection():
    """A protocol that a handshake begins notes there whom it serves, and tasks inherit what is noted."""
    noted = contextvars.ContextVar("noted", default="")

    async def main():
        seen = []
        connection = Plain(Turns(asyncio.get_running_loop()), lambda: seen.append(noted.get()))
        connection._transport.context.run(noted.set, "the connection's")
        connection._queue_up()
        await until(lambda: seen)
        assert seen == ["the connection's"]

    asyncio.run(main())


def test_one_that_fails_does_not_keep_the_others_waiting(caplog):
    async def main():
        turns = Turns(asyncio.get_running_loop())

        def fail():
            raise RuntimeError("on purpose")

        done = []
        failing, fine = Plain(turns, fail), Plain(turns, lambda: done.append(1))
        failing._queue_up()
        fine._queue_up()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert done == [1]

    asyncio.run(main())
    assert "on purpose" in caplog.text


def test_an_idle_queue_costs_the_loop_nothing():
    async def main():
        clock = itertools.count()
        turns = Turns(asyncio.get_running_loop(), lambda: next(clock) * STEP)
        Plain(turns)._queue_up()
        for _ in range(10):
            await asyncio.sleep(0)
        looks = next(clock)
        for _ in range(10):
            await asyncio.sleep(0)
        assert next(clock) == looks + 1

    asyncio.run(main())


class FakeTls:
    """A record a byte, and a byte a look at the clock: what was written to `incoming` is what `read` gives."""

    def __init__(self, incoming, ticks):
        self._incoming = incoming
        self._ticks = ticks

    def read(self, size):
        next(self._ticks)
        return self._incoming.read(1)


class Counting(StreamProtocol):
    def __init__(self):
        self.received = 0

    def data_received(self, data):
        self.received += len(data)


def test_what_tls_decrypts_in_a_turn_is_bounded():
    async def main():
        ticks = itertools.count()
        turns = Turns(asyncio.get_running_loop(), lambda: next(ticks) * 1e-6)
        below, protocol = FakeTransport(), Counting()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        transport = TlsTransport(below, FakeTls(incoming, ticks), (incoming, outgoing), {}, turns)
        transport.start(protocol)
        transport.data_received(bytes(65536))
        assert protocol.received < 2048, "about a millisecond's"
        assert not below.reads
        assert below.read_size == 4096
        await until(lambda: protocol.received == 65536 and below.reads)

    asyncio.run(main())


def test_what_tls_has_decrypted_waits_while_its_protocol_does_not_read():
    async def main():
        turns = Turns(asyncio.get_running_loop())
        below, protocol = FakeTransport(), Counting()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        transport = TlsTransport(below, FakeTls(incoming, itertools.count()), (incoming, outgoing), {}, turns)
        transport.start(protocol)
        transport.pause_reading()
        assert not below.reads
        transport.data_received(b"early")
        assert protocol.received == 0
        transport.resume_reading()
        await until(lambda: protocol.received == 5 and below.reads)

    asyncio.run(main())


@of_each_variant
def test_a_peer_that_ends_between_two_pipelined_responses_gets_all(variant):
    """The first is complete, and the loop has yet to turn before the second request is looked at."""

    async def main(parser):
        stays = []

        async def app(scope, receive, send):
            await asyncio.sleep(0)
            await respond(send, body=b"ok")
            if not stays:
                stays.append(transport.protocol.eof_received())

        transport = Lab(app, parser).connect()
        transport.protocol.data_received(GET * 3)
        await until(lambda: transport.is_closed)
        assert stays == [True]
        assert b"".join(transport.written).count(b"HTTP/1.1 200") == 3

    run(variant, main)


@of_each_variant
def test_floods_over_real_sockets_end_well(variant):
    """What the loops themselves do: they read again and again, and tell of the end."""
    with serve(Reading(), **variant) as server:
        clients = [server.client() for _ in range(3)]
        for client in clients:
            client.send(GET * 3000 + request("GET", "/", "connection: close"))
        for client in clients:
            received = client.read_to_end()
            assert received.count(b"HTTP/1.1 200") == 3001
