"""Bytes that no client sends: nothing but the documented error comes of them, and nothing grows."""

from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_master.http.h2.engine import PREFACE
from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113
from asgi_master.http.limits import Http2Limits, HttpLimits
from h2_engine import ACK, DATA, GET, HEAD, HEADERS, POST, SETTINGS, Peer, RecordedStream, frame, number
from h2_engine import settings as settings_frame

LIMITS = HttpLimits(header_bytes=2000, header_count=20, body_size=100_000)
HTTP2 = Http2Limits(max_concurrent_streams=10, stream_window=65_535, connection_window=100_000)

STREAMS = [0, 1, 2, 3, 5, 7, 9, 11, 2**31 - 1]
FLAGS = [0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF]
SIZES = [0, 1, 4, 5, 6, 8, 12, 100, 16_384]


class Application:
    """Answers most requests, at once or later, and takes most bodies."""

    def __init__(self, peer: Peer, random: Random) -> None:
        self.random = random
        self.engine = peer.engine
        self.running: list[RecordedStream] = []
        peer.on_request = self.running.append
        peer.on_data = self.take

    def take(self, stream, data):
        if self.random.random() < 0.8:
            self.engine.consumed(stream, len(data))

    def act(self):
        if not self.running:
            return
        stream = self.random.choice(self.running)
        kind = self.random.randrange(5)
        if kind == 0:
            self.engine.send_head(stream, HEAD, bytes(self.random.choice(SIZES) * 5), True, None)
        elif kind == 1:
            self.engine.send_head(stream, HEAD, b"", False, None)
        elif kind == 2:
            self.engine.reset(stream, self.random.choice([ErrorCode.NO_ERROR, ErrorCode.CANCEL]))
        elif kind == 3:
            self.engine.send_trailers(stream, ())
        else:
            self.running.remove(stream)
            self.engine.reset(stream, ErrorCode.CANCEL)
            self.engine.finished(stream)


def some_frame(peer: Peer, random: Random) -> bytes:
    """Mostly a valid one, of what matters most."""
    kind = random.choice([*range(10), 16, 0x50, DATA, DATA, HEADERS, HEADERS, HEADERS])
    stream = random.choice(STREAMS) if random.random() < 0.3 else 2 * random.randrange(40) + 1
    if kind == HEADERS and random.random() < 0.9:
        fields = random.choice([GET, POST, [*POST, (b"content-length", b"100")], [(b"x-trailer", b"1")]])
        return peer.headers(stream, fields, random.choice([4, 5, 5, 1]))
    flags = random.choice(FLAGS) if random.random() < 0.3 else 0
    if kind in (4, 6, 7, 16):
        stream = 0
    payload = {
        2: bytes(5),
        3: number(8),
        4: b"",
        6: bytes(8),
        7: bytes(8),
        8: number(100),
        16: number(stream | 1) + b"u=1, i",
    }.get(kind)
    if payload is None or random.random() < 0.1:
        payload = random.randbytes(random.choice(SIZES))
    return frame(kind, flags, stream, payload)


def bounded(peer: Peer) -> None:
    engine = peer.engine
    assert len(engine.streams) <= HTTP2.max_concurrent_streams
    assert len(engine._buffer) <= 9 + 16_384 + 65_536
    assert engine._framed_size <= 64 * 1024 + 100_000
    assert len(engine._reset_streams) <= 1024
    assert len(engine._early_priorities) <= 128
    assert engine._receive_window >= 0


def run(peer: Peer, pieces: list[bytes], random: Random) -> None:
    application = Application(peer, random)
    try:
        for piece in pieces:
            peer.now += 0.05
            peer.send(piece)
            application.act()
            bounded(peer)
            if random.random() < 0.5:
                peer.take()
    except ConnectionError:
        pass
    finally:
        peer.take()
        peer.engine.connection_lost()
        for stream in list(peer.engine.streams):
            peer.engine.finished(stream)
        assert not peer.engine.streams


@given(st.binary(max_size=300))
@example(b"")
@settings(deadline=None)
def test_bytes_after_the_preface(data):
    peer = Peer(LIMITS, HTTP2, opens=False)
    run(peer, [PREFACE + settings_frame() + data], Random(0))


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_frames_in_no_order(seed):
    random = Random(seed)
    peer = Peer(LIMITS, HTTP2)
    run(peer, [some_frame(peer, random) for _ in range(80)], random)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_frames_with_a_few_wrong_bytes_in_pieces(seed):
    random = Random(seed)
    peer = Peer(LIMITS, HTTP2, opens=False)
    peer.engine.start()
    data = bytearray(PREFACE + settings_frame() + frame(SETTINGS, ACK))
    data += b"".join([some_frame(peer, random) for _ in range(60)])
    for _ in range(random.randrange(5)):
        data[random.randrange(24, len(data))] = random.randrange(256)
    pieces = []
    while data:
        size = random.choice([1, 9, 100, 1000, 30_000])
        pieces.append(bytes(data[:size]))
        del data[:size]
    run(peer, pieces, random)
