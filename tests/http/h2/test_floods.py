"""Frames that cost the peer nothing: what ends the connection, and what an honest client may do (RFC 9113 §10.5)."""

import pytest

from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113
from asgi_master.http.h2.floods import TokenBucket
from asgi_master.http.limits import Http2Limits, HttpLimits
from asgi_master.http.message import ResponseHead
from h2_engine import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEAD,
    HEADERS,
    PING,
    POST,
    PRIORITY,
    PRIORITY_UPDATE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    frame,
    number,
    settings,
)

LARGEST = 2**31 - 1

CHORES = {
    "ping": frame(PING, 0, 0, bytes(8)),
    "ping answered": frame(PING, ACK, 0, bytes(8)),
    "settings": settings((3, 1)),
    "settings acknowledged": frame(SETTINGS, ACK),
    "priority": frame(PRIORITY, 0, 1, bytes(5)),
    "priority update": frame(PRIORITY_UPDATE, 0, 0, number(1) + b"u=1"),
    "window update": frame(WINDOW_UPDATE, 0, 1, number(1)),
    "window update of the connection": frame(WINDOW_UPDATE, 0, 0, number(1)),
    "window update of a closed stream": frame(WINDOW_UPDATE, 0, 3, number(1)),
    "empty data": frame(DATA, 0, 1),
    "empty data of a closed stream": frame(DATA, 0, 3),
    "reset of a closed stream": frame(RST_STREAM, 0, 3, number(8)),
    "goaway": frame(7, 0, 0, bytes(8)),
    "unknown": frame(0x50, 0, 0, b"x"),
}


@pytest.fixture
def peer() -> Peer:
    """With a window that is not in the way."""
    peer = Peer()
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(2**30)))
    return peer


def count_until_end(peer: Peer, piece: bytes, *, most: int = 3000) -> int:
    """How many of these the connection bears; its output is read all the time."""
    count = 0
    with pytest.raises(ConnectionError) as raised:
        while count < most:
            peer.send(piece)
            peer.take()
            count += 1
    assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert peer.take().frames[-1].error_code == ErrorCode.ENHANCE_YOUR_CALM
    return count


def respond(peer: Peer, stream: int, body: bytes = b"x" * 13) -> None:
    peer.engine.send_head(peer.streams[stream], HEAD, body, True, len(body))
    peer.engine.finished(peer.streams[stream])


@pytest.mark.parametrize("piece", CHORES.values(), ids=CHORES)
def test_frames_that_carry_nothing(peer, piece):
    peer.open(1, POST, ends=False)
    peer.open(3)
    peer.engine.reset(peer.streams[3], ErrorCode.CANCEL)
    peer.take()
    assert 900 < count_until_end(peer, piece) <= 1000


@pytest.mark.parametrize("piece", CHORES.values(), ids=CHORES)
def test_a_hundred_a_second_pass(peer, piece):
    peer.open(1, POST, ends=False)
    peer.open(3)
    peer.engine.reset(peer.streams[3], ErrorCode.CANCEL)
    for _ in range(5000):
        peer.now += 0.01
        peer.send(piece)
        peer.take()


def test_trailers_of_streams_that_were_reset(peer):
    peer.open(1, POST, ends=False)
    peer.engine.reset(peer.streams[1], ErrorCode.CANCEL)
    assert 900 < count_until_end(peer, frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88")) <= 1000


def test_data_that_is_not_empty_is_no_flood(peer):
    stream = peer.open(1, POST, ends=False)
    for _ in range(20_000):
        peer.send(frame(DATA, 0, 1, b"x"))
        peer.engine.consumed(stream, 1)
    assert len(stream.body) == 20_000


@pytest.mark.parametrize("size", [100, 1000, 16_384])
def test_a_client_may_open_both_windows_for_each_frame_of_a_download(peer, size):
    """10,000 frames in no time at all."""
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.take()
    for _ in range(10_000):
        peer.engine.send_data(stream, bytes(size), False)
        sent = len(peer.take().body(1))
        assert sent == size
        peer.send(frame(WINDOW_UPDATE, 0, 0, number(size)), frame(WINDOW_UPDATE, 0, 1, number(size)))


def test_a_client_may_open_windows_after_each_small_read_of_a_download(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(10_000_000), True, None)
    received = unread = 0
    while received < 10_000_000:
        unread += sum(len(found.data) for found in peer.take().of("DATA"))
        while unread:
            read = min(unread, 2048)
            unread -= read
            received += read
            peer.send(frame(WINDOW_UPDATE, 0, 0, number(read)))
            if stream.engine_state.name != "CLOSED":
                peer.send(frame(WINDOW_UPDATE, 0, 1, number(read)))


def test_a_client_may_have_a_chore_with_each_request(peer):
    for stream in range(1, 20_001, 2):
        peer.send(frame(PRIORITY, 0, stream, bytes(5)), peer.headers(stream), frame(PING, 0, 0, bytes(8)))
        respond(peer, stream)
        peer.take()


def test_what_the_server_answers_earns_nothing(peer):
    """Else a ping would pay for the next."""
    assert count_until_end(peer, frame(PING, 0, 0, bytes(8))) <= 1000


def test_a_frame_with_many_settings_counts_as_many(peer):
    assert count_until_end(peer, settings(*[(3, 1)] * 1600)) == 9


# -- resets ----------------------------------------------------------------------------------------


def rapid_reset(peer: Peer, stream: int) -> None:
    peer.send(peer.headers(stream), frame(RST_STREAM, 0, stream, number(8)))
    peer.engine.finished(peer.streams[stream])


def bad_request(peer: Peer, stream: int) -> None:
    peer.send(peer.headers(stream, [*GET, (b"Upper", b"case")]))


def made_to_reset(peer: Peer, stream: int) -> None:
    """The server resets, since the peer has it do so."""
    peer.send(peer.headers(stream), frame(WINDOW_UPDATE, 0, stream, number(0)))
    peer.engine.finished(peer.streams[stream])


def refused(peer: Peer, stream: int) -> None:
    peer.send(peer.headers(stream))


@pytest.mark.parametrize("how", [rapid_reset, bad_request, made_to_reset, refused])
def test_streams_that_end_before_their_time(how):
    peer = Peer(http2=Http2Limits(max_concurrent_streams=1))
    if how is refused:
        peer.open(1)
    with pytest.raises(ConnectionError) as raised:
        for stream in range(3, 2001, 2):
            how(peer, stream)
            peer.take()
    assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert peer.engine.resets == 201


@pytest.mark.parametrize("how", [rapid_reset, bad_request, made_to_reset])
def test_thirty_resets_a_second_pass(peer, how):
    for stream in range(1, 3001, 2):
        peer.now += 1 / 30
        how(peer, stream)
        peer.take()
    assert peer.engine.resets == 1500


def test_a_busy_client_may_reset_more(peer):
    """One of four requests, thousands a second."""
    for stream in range(1, 16_001, 8):
        for other in (stream, stream + 2, stream + 4):
            peer.open(other)
            respond(peer, other)
        peer.take()
        rapid_reset(peer, stream + 6)
        peer.take()


def test_a_reset_connection_has_no_running_streams(peer):
    with pytest.raises(ConnectionError):
        for stream in range(1, 1001, 2):
            peer.send(peer.headers(stream), frame(RST_STREAM, 0, stream, number(8)))
            peer.engine.finished(peer.streams[stream])
    assert not [stream for stream in peer.engine.streams if stream.engine_state.name != "CLOSED"]


# -- field blocks ----------------------------------------------------------------------------------


def test_continuation_frames_are_few(peer):
    peer.send(frame(HEADERS, END_STREAM, 1, b"\x82"), *[frame(CONTINUATION, 0, 1)] * 8)
    assert peer.fails(frame(CONTINUATION, 0, 1)) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_field_block_is_bounded(peer):
    peer.send(frame(HEADERS, END_STREAM, 1, bytes(16_384)), *[frame(CONTINUATION, 0, 1, bytes(16_384))] * 3)
    assert peer.fails(frame(CONTINUATION, 0, 1, b"x")) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_small_limit_of_heads_leaves_room_for_one_frame():
    peer = Peer(HttpLimits(header_bytes=100))
    peer.send(
        peer.headers(1, [*GET, (b"large", b"v" * 5000)], END_STREAM)[:-1] + b"v",
        frame(CONTINUATION, END_HEADERS, 1),
    )
    assert peer.streams[1].outcome == ("refused", 431)


def test_field_blocks_without_a_limit_are_bounded_by_their_frames():
    peer = Peer(HttpLimits(header_bytes=0))
    block = peer.block([*GET, *[(b"name", bytes([65 + index]) * 9000) for index in range(10)]])
    pieces = [block[start : start + 16_384] for start in range(0, len(block), 16_384)]
    assert len(pieces) > 4
    peer.send(frame(HEADERS, END_STREAM, 1, pieces[0]))
    for piece in pieces[1:-1]:
        peer.send(frame(CONTINUATION, 0, 1, piece))
    peer.send(frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))
    assert peer.streams[1].request.headers[-1] == (b"name", b"J" * 9000)


# -- a peer that does not read ---------------------------------------------------------------------


@pytest.mark.parametrize("piece", [frame(PING, 0, 0, bytes(8)), settings()], ids=["ping", "settings"])
def test_answers_that_are_not_read_are_bounded(peer, piece):
    with pytest.raises(ConnectionError) as raised:
        for _ in range(100_000):
            peer.now += 0.01
            peer.send(piece)
    assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert len(peer.engine.data_to_send(1)) < 70_000


def test_resets_that_are_not_read_are_bounded(peer):
    with pytest.raises(ConnectionError) as raised:
        for stream in range(1, 100_000, 2):
            peer.now += 1
            bad_request(peer, stream)
    assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert peer.engine.resets > 5000
    assert len(peer.engine.data_to_send(1)) < 70_000


def test_what_waits_for_no_window_is_told(peer):
    before = peer.engine.backlog
    stream = peer.open(1)
    peer.engine.send_head(stream, ResponseHead(200, [(b"x", b"\xff" * 1000)]), b"", False, None)
    assert before == 0
    assert 1000 < peer.engine.backlog < 1100
    peer.engine.send_data(stream, bytes(100_000), True)
    assert peer.engine.backlog < 1100
    peer.take()
    assert peer.engine.backlog == 0


def test_small_responses_that_are_not_read_wait_with_their_streams(peer):
    peer.send(settings((4, LARGEST)))
    stream = peer.open(1)
    peer.engine.send_head(stream, ResponseHead(200, []), b"", False, None)
    for _ in range(3000):
        peer.engine.send_data(stream, b"x" * 100, False)
    assert stream.unsent > 200_000
    assert peer.take().body(1) == b"x" * 300_000


@pytest.mark.parametrize("how", ["responses without a body", "resets"])
def test_a_peer_that_does_not_read_has_no_more_streams_than_others(peer, how):
    def answer(stream):
        if how == "resets":
            peer.engine.reset(stream, ErrorCode.CANCEL)
        else:
            peer.engine.send_head(stream, ResponseHead(304, [(b"etag", b"x" * 100)]), b"", True, None)
        peer.engine.finished(stream)

    peer.on_request = answer
    with pytest.raises(ConnectionError) as raised:
        for stream in range(1, 100_001, 2):
            peer.send(peer.headers(stream))
    assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert len(peer.engine.data_to_send(1)) < 100_000


def test_a_peer_that_reads_again_has_all_its_streams(peer):
    def answer(stream):
        peer.engine.send_head(stream, ResponseHead(304, [(b"etag", b"x" * 1000)]), b"", True, None)
        peer.engine.finished(stream)

    peer.on_request = answer
    for first in range(1, 20_001, 200):
        for stream in range(first, first + 200, 2):
            peer.send(peer.headers(stream))
        assert len(peer.take().of("HEADERS")) == 100
        assert not peer.engine.streams
    assert peer.engine.resets == 0


# -- the bucket itself -----------------------------------------------------------------------------


def test_a_bucket_fills_up_with_time():
    bucket = TokenBucket(2, 8.0)
    assert [bucket.take(100.0, 0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.125, 0) for _ in range(2)] == [True, False]
    assert [bucket.take(200.0, 0) for _ in range(3)] == [True, True, False]


def test_what_is_earned_is_spent_once_and_last():
    bucket = TokenBucket(1, 1.0)
    assert [bucket.take(0.0, 2) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(1.0, 3) for _ in range(3)] == [True, True, False]
