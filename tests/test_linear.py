"""Whatever comes in pieces costs in proportion to its size: nothing is read or copied again for each piece."""

import socket
import time

import pytest

from asgi_master.control.connection import Connection
from asgi_master.http.forwarded import Forwarded, Trust
from asgi_master.http.h1.h11_parser import H11Parser
from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.h1.parser import END_OF_MESSAGE, NEED_DATA
from asgi_master.http.h1.zttp_parser import ZttpParser
from asgi_master.http.limits import HttpLimits
from asgi_master.http.websocket.fast import FastEngine
from asgi_master.http.websocket.reference import WsprotoEngine
from asgi_master.settings.env_file import parse_env_file
from asgi_master.settings.sources import _Lines
from asgi_master.telemetry.access_format import check_format
from asgi_master.telemetry.text import without_secrets
from asgi_master.worker.relay.frames import FrameReader, Kind, encode

UNLIMITED = HttpLimits(request_line=0, header_count=0, header_bytes=0, body_size=0)
LINE = b"POST / HTTP/1.1\r\n"
CHUNKED = LINE + b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMES = 16
"""How much larger the larger input is. What is linear costs as many times more, what is quadratic the square of it."""
MOST = TIMES * 4
ATTEMPTS = 3


def cost(work, size):
    """CPU time of this thread in seconds."""
    step = work(size)
    begin = time.thread_time()
    step()
    return time.thread_time() - begin


def assert_linear(work, size):
    # Where others use the machine, one measurement proves little: what is quadratic exceeds the bound each time. The
    # smaller input costs little, and what disturbs that measurement would hide what is looked for.
    seen = []
    for _ in range(ATTEMPTS):
        seen.append(cost(work, TIMES * size) / min(cost(work, size) for _ in range(ATTEMPTS)))
        if seen[-1] < MOST:
            return
    pytest.fail(f"{TIMES} times as much costs {[f'{ratio:.0f}' for ratio in seen]} times as much")


def pieces(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def parse(kind, data, piece, *, takes=True):
    parser, parts = kind(UNLIMITED), pieces(data, piece)

    def step():
        for part in parts:
            parser.receive_data(part)
            while takes and (event := parser.next_event()) is not NEED_DATA:
                if event is END_OF_MESSAGE:
                    parser.start_next_cycle()

    return step


HEADS = {
    "request line": lambda size: b"GET /" + b"a" * size,
    "one field": lambda size: LINE + b"X: " + b"a" * size,
    "fields": lambda size: LINE + b"X: aaaaaaaaaa\r\n" * (size // 15),
    "fields, and the end": lambda size: LINE + b"Host: a\r\n" + b"X: aaaaaaaaaa\r\n" * (size // 15) + b"\r\n",
    "lists": lambda size: LINE + b"Host: a\r\n" + b"Connection: a\r\n" * (size // 15) + b"\r\n",
    "one list": lambda size: LINE + b"Host: a\r\nConnection: " + b"a," * (size // 2) + b"\r\n\r\n",
    "a body": lambda size: LINE + b"Host: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size,
    "a chunk": lambda size: CHUNKED + b"%x\r\n" % size + b"x" * size + b"\r\n",
    "chunks": lambda size: CHUNKED + b"1;e=fghijk\r\nx\r\n" * (size // 15),
    "a trailer": lambda size: CHUNKED + b"0\r\nX: " + b"a" * size,
    "trailers": lambda size: CHUNKED + b"0\r\n" + b"X: aaaaaaaaaa\r\n" * (size // 15),
    "requests": lambda size: b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * (size // 28),
}


@pytest.mark.parametrize("kind", [ZttpParser, HttptoolsParser, H11Parser])
@pytest.mark.parametrize("what", HEADS)
def test_a_request_in_pieces(kind, what):
    assert_linear(lambda size: parse(kind, HEADS[what](size), 64), 64 * 1024)


@pytest.mark.parametrize("kind", [ZttpParser, HttptoolsParser, H11Parser])
@pytest.mark.parametrize("what", ["request line", "one field", "fields", "a trailer", "trailers", "chunks"])
def test_a_request_byte_by_byte(kind, what):
    assert_linear(lambda size: parse(kind, HEADS[what](size), 1), 4096)


def test_the_line_of_a_chunk_byte_by_byte():
    """No line may be longer than 4096 bytes."""
    assert_linear(lambda size: parse(HttptoolsParser, CHUNKED + b"1;" + b"a" * size, 1), 250)


@pytest.mark.parametrize("what", ["requests", "a body"])
def test_what_nobody_takes_yet(what):
    assert_linear(lambda size: parse(HttptoolsParser, HEADS[what](size), 64, takes=False), 64 * 1024)


def frames(kind, data, piece):
    engine, parts = kind(message_size=0, compression=None), pieces(data, piece)

    def step():
        for part in parts:
            engine.receive_data(part)
            while engine.next_event() is not None:
                pass

    return step


FRAMES = {
    "a payload": lambda size: b"\x82\xff%b\0\0\0\0" % size.to_bytes(8, "big") + b"x" * size,
    "a text": lambda size: b"\x81\xff%b\0\0\0\0" % size.to_bytes(8, "big") + b"x" * size,
    "fragments": lambda size: b"\x01\x80\0\0\0\0" + b"\x00\x81\0\0\0\0x" * (size // 7),
    "empty fragments": lambda size: b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * (size // 6),
    "pings": lambda size: b"\x89\x80\0\0\0\0" * (size // 6),
}


@pytest.mark.parametrize("kind", [FastEngine, WsprotoEngine])
@pytest.mark.parametrize("what", FRAMES)
def test_frames(kind, what):
    piece, size = (64, 64 * 1024) if what in ("a payload", "a text") else (1, 4096)
    assert_linear(lambda size: frames(kind, FRAMES[what](size), piece), size)


@pytest.mark.parametrize("kind", [FastEngine, WsprotoEngine])
@pytest.mark.parametrize("what", ["fragments", "empty fragments", "pings"])
def test_frames_at_once(kind, what):
    assert_linear(lambda size: frames(kind, FRAMES[what](size), 2**30), 4096)


def test_a_large_frame_between_workers():
    def work(size):
        reader, parts = FrameReader(), pieces(encode(1, Kind.SEND, {"body": bytes(size)}), 4096)

        def step():
            assert sum(len(reader.feed(part)) for part in parts) == 1

        return step

    assert_linear(work, 512 * 1024)


CONTROL = {
    "a body": lambda size: LINE + b"Host: a\r\nContent-Length: %d\r\n\r\n" % (size + 1) + b"x" * size,
    "a chunked body": lambda size: CHUNKED + (b"40\r\n" + b"x" * 64 + b"\r\n") * (size // 64),
}


@pytest.mark.parametrize("what", CONTROL)
def test_a_request_to_the_master(what):
    def work(size):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection = Connection(ours, "a test", 2**40)
        parts = pieces(CONTROL[what](size), 64)

        def step():
            with ours, theirs:
                for part in parts:
                    theirs.send(part)
                    connection.turn()

        return step

    assert_linear(work, 64 * 1024)


def test_forwarded_lines():
    def work(size):
        headers = [(b"x-forwarded-for", b"10.0.0.1")] * (size // 8)
        return lambda: Forwarded(Trust([])).origin(headers)

    assert_linear(work, 64 * 1024)


TEXTS = {
    "env-file spaces": lambda size: parse_env_file("A=" + " " * size + "'x'y"),
    "env-file quotes": lambda size: parse_env_file('A="' + '\\"' * (size // 2)),
    "env-file hashes": lambda size: parse_env_file("A=a" + "#" * size + "'"),
    "env-file name": lambda size: parse_env_file("A" * size + "\x01"),
    "settings file table": lambda size: _Lines("[" + " " * size + "x", ()),
    "settings file brackets": lambda size: _Lines("[" * size, ()),
    "access-log atoms": lambda size: _refused(lambda: check_format("%(" * (size // 2))),
}


@pytest.mark.parametrize("what", TEXTS)
def test_what_the_operator_writes(what):
    assert_linear(lambda size: lambda: TEXTS[what](size), 1000)


def _refused(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize(
    "text", ["token", "password=", "token='", 'secret:"', "://", "://a", "pwd-", "token  ", "x-"]
)
def test_secrets_are_looked_for(text):
    """Of messages of the application, by the master."""

    def work(size):
        message = text * size
        return lambda: without_secrets(message)

    assert_linear(work, 1000)
