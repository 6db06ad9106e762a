"""What the writer of an HTTP/1.1 connection gives to its transport at once, and what at the end of the turn."""

import asyncio
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from asgi_master.http.engines import engines_of
from asgi_master.http.limits import HttpLimits, WebSocketLimits
from asgi_master.http.message import ResponseHead
from asgi_master.worker.http.h1_writer import H1Writer
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.socket_transport import SocketTransport

KIB = 1024
LARGE = b"x" * (64 * KIB)


class TakesAll(SocketTransport):
    """Notes what is written."""

    def __init__(self) -> None:
        self.endpoints = Endpoints(None, None, is_tls=False)
        self.context = copy_context()
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing


@pytest.fixture
def transport() -> TakesAll:
    return TakesAll()


@pytest.fixture
def writer(transport: TakesAll) -> Iterator[H1Writer]:
    """In the midst of a response whose length is announced; what was written of it has left."""
    loop = asyncio.new_event_loop()
    context = WorkerContext(None, loop, {}, HttpLimits(), WebSocketLimits(), engines_of("httptools"))  # type: ignore[arg-type]
    writer = H1Writer(context, transport)
    head = ResponseHead(200, [(b"content-length", b"100000000")])
    writer.write_first(head, b"", False, None, bodyless=False, is_1_1=True, keep_alive=True)
    writer.flush()
    transport.written.clear()
    yield writer
    loop.close()


def test_a_large_piece_leaves_at_once(writer: H1Writer, transport: TakesAll) -> None:
    writer.write_next(LARGE, is_last=False)
    assert transport.written == [LARGE]


def test_a_large_piece_stays_behind_a_small_one(writer: H1Writer, transport: TakesAll) -> None:
    writer.write_next(b"small", is_last=False)
    assert transport.written == []
    writer.write_next(LARGE, is_last=False)
    assert b"".join(transport.written) == b"small" + LARGE


def test_several_pieces_are_one_write(writer: H1Writer, transport: TakesAll) -> None:
    pieces = [bytes([letter]) * (20 * KIB) for letter in b"abcd"]
    for piece in pieces:
        writer.write_next(piece, is_last=False)
    assert transport.written == [b"".join(pieces)]
    assert writer.waits


def test_the_loop_may_turn_after_some_large_pieces(writer: H1Writer) -> None:
    rests = []
    for _ in range(12):
        writer.waits = False
        writer.write_next(LARGE, is_last=False)
        rests.append(writer.waits)
    assert sum(rests) == 3


def test_who_writes_to_a_closed_connection_waits(writer: H1Writer, transport: TakesAll) -> None:
    transport.closing = True
    writer.write_next(LARGE, is_last=False)
    assert writer.is_paused
    assert transport.written == []
