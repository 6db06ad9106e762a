"""Peers that attack by HTTP/2: each is told why it is cut off, no application is left running, and others are served.

What the engine counts is tested in `tests/http/h2/test_floods.py`; here is what a worker makes of it.
"""

import asyncio
import itertools
import os
import socket
import struct
from collections.abc import Iterable, Iterator

import hpack
import pytest
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame

from asgi_master.http.h2.engine import HIGH_WATER, PREFACE
from asgi_master.http.limits import Http2Limits
from asgi_master.settings.model import TlsSettings
from asgi_master.tls.bundle import read_bundle
from asgi_master.tls.contexts import HTTP_2
from asgi_master.worker.transport.tls import TlsServer
from asgi_master.worker.transport.turns import AHEAD
from certificates import Authority
from h2_client import H2Client, Tunnel
from h2_engine import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    PING,
    POST,
    PRIORITY,
    PRIORITY_UPDATE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Fields,
    frame,
    number,
    settings,
)
from http_apps import read_body, respond
from serving import H2_VARIANTS, serve
from websocket_peer import FIN, TEXT
from websocket_peer import frame as message

pytestmark = pytest.mark.parametrize("variant", [*H2_VARIANTS, pytest.param("TLS", id="TLS")], indirect=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Both sides of TLS whose ALPN agrees on HTTP/2."""
    authority, directory = Authority(), tmp_path_factory.mktemp("tls")
    authority.write(directory, "site", "localhost")
    settings = TlsSettings(certfile=("site.pem",), keyfile=("site.key",))
    fd = read_bundle(settings, directory).to_memory()
    client_tls = authority.client()
    client_tls.set_alpn_protocols(["h2"])
    yield {"tls": TlsServer(settings, fd, HTTP_2), "client_tls": client_tls}
    os.close(fd)


@pytest.fixture
def variant(request, tls):
    return tls if request.param == "TLS" else request.param


NO_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, CALM = 0, 1, 5, 6, 7, 8, 11
LARGEST = 2**31 - 1
START = PREFACE + settings() + frame(SETTINGS, ACK)
CONNECT: Fields = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    *GET[1:],
    (b"sec-websocket-version", b"13"),
]


def head(stream: int, fields: Fields = GET, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """HEADERS that leave the table of HPACK alone."""
    return frame(HEADERS, flags, stream, hpack.Encoder().encode([(*field, True) for field in fields]))


def upload(stream: int) -> bytes:
    return head(stream, POST, END_HEADERS)


def odd(count: int) -> Iterable[int]:
    return range(1, 2 * count, 2)


ATTACKS = {
    "rapid reset": (CALM, b"".join([head(i) + frame(RST_STREAM, 0, i, number(8)) for i in odd(300)])),
    "made to reset": (CALM, b"".join([head(i) + frame(WINDOW_UPDATE, 0, i, number(0)) for i in odd(300)])),
    "WebSockets reset": (
        CALM,
        b"".join([head(i, CONNECT, END_HEADERS) + frame(RST_STREAM, 0, i, number(8)) for i in odd(300)]),
    ),
    "more streams than allowed": (CALM, b"".join([head(i) for i in odd(500)])),
    "endless field block": (CALM, head(1, GET, 0) + frame(CONTINUATION, 0, 1, bytes(16_384)) * 4),
    "empty CONTINUATION": (CALM, head(1, GET, 0) + frame(CONTINUATION, 0, 1) * 9),
    "fields that cost a byte each": (
        CALM,
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84\x41\x01a" + b"\x90" * 10_000),
    ),
    "PING": (CALM, frame(PING, 0, 0, bytes(8)) * 1100),
    "SETTINGS": (CALM, settings((3, 1)) * 1100),
    "SETTINGS acknowledged": (CALM, frame(SETTINGS, ACK) * 1100),
    "windows changed all the time": (CALM, upload(1) + settings(*[(4, 1), (4, 2)] * 1000) * 12),
    "PRIORITY": (CALM, b"".join([frame(PRIORITY, 0, i, bytes(5)) for i in odd(1100)])),
    "PRIORITY_UPDATE": (
        CALM,
        b"".join([frame(PRIORITY_UPDATE, 0, 0, number(i) + b"u=1") for i in odd(1100)]),
    ),
    "empty DATA": (CALM, upload(1) + frame(DATA, 0, 1) * 1100),
    "nothing but padding": (CALM, upload(1) + frame(DATA, 8, 1, b"\x09" + bytes(9)) * 1100),
    "windows opened by a byte": (CALM, head(1) + frame(WINDOW_UPDATE, 0, 1, number(1)) * 1100),
    "late trailers": (
        CALM,
        upload(1)
        + frame(WINDOW_UPDATE, 0, 1, number(0))
        + head(1, [(b"a", b"b")], END_HEADERS | END_STREAM) * 1100,
    ),
    "GOAWAY": (CALM, frame(7, 0, 0, bytes(8)) * 1100),
    "unknown frames": (CALM, frame(0x50, 0, 0, b"x") * 1100),
    "a body after its reset": (
        STREAM_CLOSED,
        upload(1) + frame(RST_STREAM, 0, 1, number(8)) + frame(DATA, 0, 1),
    ),
    "another protocol": (FRAME_SIZE_ERROR, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
}


def frames_to_end(sock) -> Iterator[Frame]:
    """What the server sends until it closes."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
        while len(data) >= 9:
            found, size = Frame.parse_frame_header(memoryview(data)[:9])
            if len(data) < 9 + size:
                break
            found.parse_body(memoryview(data)[9 : 9 + size])
            data = data[9 + size :]
            yield found


async def wait_for_the_end(scope, receive, send):
    """Serve `/served`, and run until the peer is gone for the rest."""
    if scope["path"] == "/served":
        await respond(send, body=b"served")
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass


@pytest.mark.parametrize(("code", "data"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_ends_its_connection(variant, code, data):
    with serve(wait_for_the_end, **variant) as server:
        other = H2Client(server.connect())
        sock = server.connect()
        sock.sendall(START + data)
        *_, last = frames_to_end(sock)
        assert isinstance(last, GoAwayFrame)
        assert last.error_code == code
        sock.close()
        stats = server.context.stats
        server.wait_until(lambda: stats.in_flight == stats.websockets == 0)
        server.wait_until(lambda: len(server.context.connections) == 1)
        assert other.get("/served").body == b"served"
        server.wait_until(lambda: server.context.stream_quota.running == 0)


def test_an_application_that_goes_on_keeps_its_slot(variant):
    """A peer that resets its requests may not have more of them run than one that waits."""

    async def app(scope, receive, send):
        await release.wait()

    with serve(app, http2=Http2Limits(max_concurrent_streams=10), **variant) as server:
        release = server.run(asyncio.Event)
        sock = server.connect()
        sock.sendall(START + b"".join([head(i) + frame(RST_STREAM, 0, i, number(8)) for i in odd(60)]))
        sock.sendall(frame(7, 0, 0, bytes(8)) + frame(DATA, 0, 1000))  # an error, which ends the connection
        refused = [found for found in frames_to_end(sock) if isinstance(found, RstStreamFrame)]
        assert [found.error_code for found in refused] == [REFUSED_STREAM] * 50
        assert server.context.stats.in_flight == 10
        server.run(release.set)
        server.wait_until(lambda: server.context.stats.in_flight == 0)


def test_many_connections_of_many_streams_leave_room_for_others(variant, caplog):
    async def app(scope, receive, send):
        if scope["path"] == "/served":
            await respond(send, body=b"served")
        else:
            await release.wait()

    with serve(app, http2=Http2Limits(max_streams=40), **variant) as server:
        release = server.run(asyncio.Event)
        quota = server.context.stream_quota
        socks = [server.connect() for _ in range(4)]
        for sock in socks:
            sock.sendall(START + b"".join([head(i) for i in odd(100)]))
        server.wait_until(lambda: server.context.stats.http2_resets == 400 - quota.running)
        assert 40 <= quota.running <= 84
        assert H2Client(server.connect()).get("/served").body == b"served"
        for sock in socks:
            sock.close()
        server.run(release.set)
        server.wait_until(lambda: quota.running == 0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "http2-max-streams" in caplog.text


def test_heads_that_are_not_read_stop_the_requests(variant):
    """They have no window: 5000 of them would wait in memory."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": [(b"x-fill", b"\xff" * 500)]})
        await send({"type": "http.response.body"})

    count = 5000
    unlimited = Http2Limits(max_concurrent_streams=0)
    with serve(app, http2=unlimited, send_buffer=65536, **variant) as server:
        sock = server.connect(receive_buffer=65536)
        sock.sendall(START + b"".join([head(i) for i in odd(count)]))
        (connection,) = server.wait_until(lambda: list(server.context.connections))
        server.wait_until(lambda: connection.holds & AHEAD)
        assert server.run(lambda: server.context.stats.requests) < count
        assert server.run(lambda: connection.engine.backlog) < count * 250
        responses = (found for found in frames_to_end(sock) if isinstance(found, HeadersFrame))
        assert len(list(itertools.islice(responses, count))) == count
        server.wait_until(lambda: not connection.holds)


def test_a_peer_that_reads_late_is_still_told_why_it_was_cut_off(variant):
    async def app(scope, receive, send):
        await respond(send, body=b"x" * 3_000_000)

    with serve(app, send_buffer=8192, **variant) as server:
        sock = server.connect(receive_buffer=4096)
        window = settings((4, LARGEST)) + frame(WINDOW_UPDATE, 0, 0, number(LARGEST - 65535))
        sock.sendall(START + window + head(1))
        (connection,) = server.wait_until(lambda: list(server.context.connections))
        server.wait_until(lambda: connection.transport.get_write_buffer_size() > HIGH_WATER)
        sock.sendall(frame(DATA, 0, 99))
        server.wait_until(lambda: not connection.engine.streams)
        *_, last = frames_to_end(sock)
        assert isinstance(last, GoAwayFrame)
        assert last.error_code == PROTOCOL_ERROR


def test_a_window_that_opens_is_read_while_bodies_wait(variant):
    """What a window holds back is no reason to stop reading."""

    async def app(scope, receive, send):
        await respond(send, body=b"x" * 3_000_000)

    with serve(app, send_buffer=8192, **variant) as server:
        client = H2Client(server.connect(receive_buffer=4096))
        assert len(client.get("/").body) == 3_000_000


def test_a_body_in_the_smallest_pieces_that_waits(variant):
    async def app(scope, receive, send):
        await release.wait()
        body = await read_body(receive)
        await respond(send, body=b"%d %d" % (len(body), body.count(b"xy")))

    with serve(app, **variant) as server:
        release = server.run(asyncio.Event)
        client = H2Client(server.connect())
        stream = client.open("POST", "/", ends=False)
        client.sock.sendall(frame(DATA, 0, stream, b"xy") * 20_000 + frame(DATA, END_STREAM, stream))
        client.sock.sendall(frame(PING, 0, 0, bytes(8)))
        client.read_until(lambda: any(type(event).__name__ == "PingAckReceived" for event in client.events))
        server.run(release.set)
        assert client.response(stream).body == b"40000 20000"


def test_messages_in_the_smallest_pieces_that_wait(variant):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await release.wait()
        while (received := await receive())["type"] == "websocket.receive":
            texts.append(received["text"])

    texts = []
    with serve(app, **variant) as server:
        release = server.run(asyncio.Event)
        client = H2Client(server.connect())
        tunnel = Tunnel(client)
        assert tunnel.answer().status == 200
        sent = b"".join([message(FIN | TEXT, b"%d" % index) for index in range(2000)])
        client.sock.sendall(
            b"".join([frame(DATA, 0, tunnel.stream, struct.pack("B", byte)) for byte in sent])
        )
        client.sock.sendall(frame(PING, 0, 0, bytes(8)))
        client.read_until(lambda: any(type(event).__name__ == "PingAckReceived" for event in client.events))
        server.run(release.set)
        server.wait_until(lambda: len(texts) == 2000)
        assert texts == [str(index) for index in range(2000)]
        tunnel.reset()


def test_a_peer_that_ended_its_side_cannot_open_a_window(variant):
    """Its streams would wait for the write time-out, and their applications with them."""

    async def app(scope, receive, send):
        await respond(send, body=b"x" * 3_000_000)

    if "tls" in variant:
        pytest.skip("a socket of Python's ssl cannot end its side alone")
    with serve(app, **variant) as server:
        sock = server.connect()
        sock.sendall(START + head(1))
        sock.shutdown(socket.SHUT_WR)
        *_, last = frames_to_end(sock)
        assert isinstance(last, RstStreamFrame)
        assert last.error_code == CANCEL
        server.wait_until(lambda: not server.context.connections)


def test_large_heads_are_not_handled_in_one_turn(variant):
    """Even three: none of them is a small event."""

    async def app(scope, receive, send):
        turns.append(server.context.turns.number)
        await respond(send)

    turns = []
    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        server.context.turns.clock = itertools.count(0.0, 0.01).__next__  # each look at it finds a slice over
        fields = [*GET, *[(b"fill", b"v" * 3000)] * 2]
        client.sock.sendall(b"".join([head(i, fields) for i in odd(3)]))
        server.wait_until(lambda: len(turns) == 3)
        assert len(set(turns)) > 1


def test_frames_that_drip_do_not_prolong_an_idle_connection(variant):
    """There is always one that has begun, and each is complete in time."""
    with serve(wait_for_the_end, sweeps=False, header_timeout=15.0, **variant) as server:
        sock = server.connect()
        ping = frame(PING, 0, 0, bytes(8))
        sock.sendall(START + ping[:5])
        found = frames_to_end(sock)
        for second in range(1, 30):
            sock.sendall(ping[5:] + ping[:5])
            last = next(other for other in found if isinstance(other, (PingFrame, GoAwayFrame)))
            if isinstance(last, GoAwayFrame):
                break
            server.sweep(1000 + second)
        assert isinstance(last, GoAwayFrame)
        assert (last.error_code, second) == (NO_ERROR, 17)
