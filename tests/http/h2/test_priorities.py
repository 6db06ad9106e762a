"""Which response leaves first (RFC 9218)."""

import pytest

from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.h2.scheduler import Scheduler
from h2_engine import (
    GET,
    HEAD,
    POST,
    PRIORITY_UPDATE,
    RST_STREAM,
    WINDOW_UPDATE,
    Peer,
    RecordedStream,
    frame,
    number,
    settings,
)

FRAME = 16_384
LARGEST = 2**31 - 1


@pytest.fixture
def peer() -> Peer:
    """With windows that are never in the way."""
    peer = Peer()
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(LARGEST - 65_535)), settings((4, LARGEST)))
    peer.take()
    return peer


def priority_update(stream: int, value: bytes) -> bytes:
    return frame(PRIORITY_UPDATE, 0, 0, number(stream) + value)


def ask(peer: Peer, stream: int, priority: bytes = b"") -> RecordedStream:
    return peer.open(stream, [*GET, (b"priority", priority)] if priority else GET)


def answer(peer: Peer, *streams: int, frames: int = 3) -> None:
    """Give each a response of so many frames."""
    for stream in streams:
        peer.engine.send_head(peer.streams[stream], HEAD, bytes(FRAME * frames), True, None)


def order(peer: Peer, limit: int = 10**9) -> list[int]:
    """The streams of the DATA frames that are sent."""
    return [found.stream_id for found in peer.take(limit).of("DATA")]


def test_streams_without_a_priority_take_turns(peer):
    for stream in (1, 3, 5):
        ask(peer, stream)
    answer(peer, 1, 3, 5, frames=2)
    assert order(peer) == [1, 3, 5, 1, 3, 5]


def test_a_small_response_does_not_wait_for_a_large_one(peer):
    ask(peer, 1)
    answer(peer, 1, frames=100)
    peer.engine.data_to_send(4 * FRAME)
    ask(peer, 3)
    peer.engine.send_head(peer.streams[3], HEAD, b"small", True, 5)
    assert 3 in order(peer)[:2]


def test_what_is_urgent_goes_first(peer):
    for stream, priority in ((1, b"u=7"), (3, b"u=0"), (5, b"u=4")):
        ask(peer, stream, priority)
    answer(peer, 1, 3, 5, frames=2)
    assert order(peer) == [3, 3, 5, 5, 1, 1]


def test_what_is_not_incremental_goes_one_after_the_other_by_number(peer):
    for stream in (1, 3, 5):
        ask(peer, stream, b"u=2")
    answer(peer, 5, 1, 3, frames=2)
    assert order(peer) == [1, 1, 3, 3, 5, 5]


def test_what_is_incremental_takes_turns(peer):
    for stream in (1, 3):
        ask(peer, stream, b"u=2, i")
    answer(peer, 1, 3, frames=2)
    assert order(peer) == [1, 3, 1, 3]


def test_both_kinds_take_turns(peer):
    for stream, priority in ((1, b"u=2"), (3, b"u=2, i"), (5, b"u=2"), (7, b"u=2, i")):
        ask(peer, stream, priority)
    answer(peer, 1, 3, 5, 7, frames=2)
    assert order(peer) == [1, 3, 1, 7, 5, 3, 5, 7]


@pytest.mark.parametrize("how", ["field", "setting", "frame"])
def test_a_client_that_knows_priorities_means_the_default(peer, how):
    if how == "setting":
        peer.send(settings((9, 1)))
    elif how == "frame":
        peer.send(priority_update(99, b"u=3"))
    peer.take()
    ask(peer, 1, b"u=1" if how == "field" else b"")
    for stream in (3, 5):
        ask(peer, stream)
    answer(peer, 1, 3, 5, frames=2)
    assert order(peer) == [1, 1, 3, 3, 5, 5]


def test_a_setting_of_0_says_nothing(peer):
    peer.send(settings((9, 0)))
    ask(peer, 1)
    ask(peer, 3)
    answer(peer, 1, 3, frames=2)
    assert order(peer) == [1, 3, 1, 3]


def test_a_priority_changes_while_the_response_is_sent(peer):
    for stream in (1, 3):
        ask(peer, stream, b"u=2")
    answer(peer, 1, 3, frames=8)
    peer.engine.data_to_send(2 * FRAME)
    peer.send(priority_update(3, b"u=1"))
    assert set(order(peer)[:8]) == {3}


def test_a_priority_changes_before_there_is_a_response(peer):
    ask(peer, 1)
    ask(peer, 3)
    peer.send(priority_update(3, b"u=0"))
    assert peer.streams[3].request.urgency == 0
    answer(peer, 1, 3, frames=2)
    assert order(peer) == [3, 3, 1, 1]


def test_a_priority_that_comes_before_its_stream_replaces_that_of_the_head(peer):
    peer.send(priority_update(3, b"u=0"), priority_update(3, b"u=1, i"))
    ask(peer, 1, b"u=2")
    stream = ask(peer, 3, b"u=5")
    assert (stream.request.urgency, stream.request.is_incremental) == (1, True)
    assert ask(peer, 5, b"u=5").request.urgency == 5
    answer(peer, 1, 3, frames=2)
    assert order(peer) == [3, 3, 1, 1]


def test_priorities_of_streams_to_come_are_bounded(peer):
    for stream in range(1, 2 * 129, 2):
        peer.send(priority_update(stream, b"u=1"))
    assert peer.open(255).request.urgency == 1
    assert peer.open(257).request.urgency == 3


def test_a_priority_of_a_stream_that_is_closed_is_ignored(peer):
    stream = ask(peer, 1)
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    peer.engine.finished(stream)
    peer.take()
    peer.send(priority_update(1, b"u=1"))
    assert not peer.take().frames


@pytest.mark.parametrize("value", [b"", b"nonsense", b"u=9", b"u=", b"\xff\x00"])
def test_a_priority_that_says_nothing_known_is_the_default(peer, value):
    stream = ask(peer, 1, b"u=6, i")
    peer.send(priority_update(1, value))
    assert (stream.request.urgency, stream.request.is_incremental) == (3, False)


@pytest.mark.parametrize("target", [0, 2, 0x8000_0000])
def test_priority_update_names_a_stream_of_the_client(peer, target):
    assert peer.fails(priority_update(target, b"u=1")) is ErrorCode.PROTOCOL_ERROR


def test_priority_update_has_4_bytes_or_more(peer):
    assert peer.fails(frame(PRIORITY_UPDATE, 0, 0, bytes(3))) is ErrorCode.FRAME_SIZE_ERROR


def test_a_stream_that_is_reset_leaves_the_order(peer):
    for stream, priority in ((1, b"u=2"), (3, b"u=2, i"), (5, b"u=2")):
        ask(peer, stream, priority)
    answer(peer, 1, 3, 5, frames=2)
    peer.send(frame(RST_STREAM, 0, 1, number(8)))
    peer.engine.reset(peer.streams[3], ErrorCode.CANCEL)
    assert order(peer) == [5, 5]


def test_a_stream_whose_window_is_closed_holds_nobody_up(peer):
    ask(peer, 1, b"u=0")
    peer.send(settings((4, FRAME)))
    ask(peer, 3, b"u=0")
    ask(peer, 5)
    answer(peer, 3, 5, frames=2)
    assert order(peer) == [3, 5]
    answer(peer, 1, frames=1)
    peer.send(frame(WINDOW_UPDATE, 0, 5, number(FRAME)))
    assert order(peer) == [1, 5]


def test_the_order_in_small_bites(peer):
    for stream in (1, 3, 5):
        ask(peer, stream)
    answer(peer, 1, 3, 5, frames=2)
    assert order(peer, 1) == [1, 3, 5, 1, 3, 5]


def test_an_empty_order_has_no_next():
    with pytest.raises(AssertionError):
        Scheduler().next()


def test_the_priority_of_a_request_with_a_body(peer):
    peer.send(priority_update(1, b"u=1"))
    stream = peer.open(1, POST, ends=False)
    assert stream.request.urgency == 1
