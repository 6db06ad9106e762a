"""Flow control in both directions (RFC 9113 §5.2, §6.9)."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from asgi_master.http.h2.builtin import BuiltinEngine
from asgi_master.http.h2.engine import HIGH_WATER, LOW_WATER, PREFACE
from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.h2.reference import ReferenceEngine
from asgi_master.http.limits import Http2Limits, HttpLimits
from h2_engine import (
    ACK,
    DATA,
    END_STREAM,
    HEAD,
    PADDED,
    POST,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    frame,
    number,
    settings,
)

FLOW_CONTROL_ERROR = ErrorCode.FLOW_CONTROL_ERROR
LARGEST = 2**31 - 1
DEFAULT = 65_535
FRAME = 16_384


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, number(increment))


def data(stream: int, size: int, flags: int = 0) -> list[bytes]:
    """DATA frames of so many bytes."""
    return [frame(DATA, flags, stream, bytes(min(FRAME, size - start))) for start in range(0, size, FRAME)]


@pytest.fixture
def peer() -> Peer:
    return Peer()


# -- what the peer may send ------------------------------------------------------------------------


def test_the_connection_opens_with_its_window():
    peer = Peer(opens=False)
    peer.engine.start()
    _, update = peer.take().frames
    assert (update.stream_id, update.window_increment) == (0, 1024 * 1024 - DEFAULT)


def test_a_window_that_is_the_default_is_not_opened():
    peer = Peer(http2=Http2Limits(connection_window=1000), opens=False)
    peer.engine.start()
    assert len(peer.take().frames) == 1


def test_windows_of_0_are_unlimited():
    peer = Peer(http2=Http2Limits(stream_window=0, connection_window=0), opens=False)
    peer.engine.start()
    announced, update = peer.take().frames
    assert announced.settings[4] == LARGEST
    assert update.window_increment == LARGEST - DEFAULT


def test_a_window_opens_again_by_what_was_consumed(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(*data(1, 200_000))
    assert len(stream.body) == 200_000
    assert not peer.take().frames, "nothing was consumed"
    peer.engine.consumed(stream, 131_071)
    assert not peer.take().frames, "less than half is not worth a frame"
    peer.engine.consumed(stream, 1)
    (update,) = peer.take().frames
    assert (update.stream_id, update.window_increment) == (1, 131_072)


def test_the_window_of_the_connection_opens_too(peer):
    for number_ in range(1, 9, 2):
        stream = peer.open(number_, POST, ends=False)
        peer.send(*data(number_, 200_000, 0))
        peer.engine.consumed(stream, 200_000)
    updates = [(found.stream_id, found.window_increment) for found in peer.take().frames]
    assert updates == [(1, 200_000), (3, 200_000), (5, 200_000), (0, 600_000), (7, 200_000)]


def test_a_stream_that_has_ended_gets_no_window(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(*data(1, 200_000), frame(DATA, END_STREAM, 1))
    peer.engine.consumed(stream, 200_000)
    assert not peer.take().frames


def test_no_more_is_given_back_than_was_given(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(*data(1, 150_000))
    peer.engine.consumed(stream, LARGEST)
    (update,) = peer.take().frames
    assert update.window_increment == 150_000


def test_a_stream_that_takes_more_than_its_window_is_reset(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(*data(1, 256 * 1024))
    assert len(stream.body) == 256 * 1024
    peer.send(frame(DATA, 0, 1, b"x"))
    assert peer.reset_code(1) == FLOW_CONTROL_ERROR
    assert stream.outcome == ("closed", FLOW_CONTROL_ERROR)


def test_a_connection_that_takes_more_than_its_window_ends(peer):
    for stream in range(1, 9, 2):
        peer.open(stream, POST, ends=False)
        peer.send(*data(stream, 256 * 1024))
    peer.open(9, POST, ends=False)
    assert peer.fails(frame(DATA, 0, 9, b"x")) is FLOW_CONTROL_ERROR


def test_an_empty_frame_fits_into_a_window_that_is_used_up(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(*data(1, 256 * 1024), frame(DATA, END_STREAM, 1))
    assert stream.has_ended


def test_padding_counts_and_is_given_back_at_once(peer):
    peer.open(1, POST, ends=False)
    padded = frame(DATA, PADDED, 1, b"\xff" + bytes(255))
    peer.send(*[padded] * 511)
    assert not peer.take().frames
    peer.send(padded)
    (update,) = peer.take().frames
    assert (update.stream_id, update.window_increment) == (1, 512 * 256)


def open_and_fill(peer: Peer, count: int = 4) -> None:
    """Use up the window of the connection by bodies that nobody takes."""
    for stream in range(1, 2 * count, 2):
        peer.open(stream, POST, ends=False)
        peer.send(*data(stream, 256 * 1024))
    peer.take()


@pytest.mark.parametrize("ending", ["reset by the peer", "reset by us", "ended"])
def test_what_was_not_consumed_is_given_back_when_the_application_returns(peer, ending):
    open_and_fill(peer)
    streams = list(peer.streams.values())
    for stream in streams:
        if ending == "reset by the peer":
            peer.send(frame(RST_STREAM, 0, stream.stream_id, number(8)))
        elif ending == "reset by us":
            peer.engine.reset(stream, ErrorCode.CANCEL)
        else:
            peer.send(frame(DATA, END_STREAM, stream.stream_id))
            peer.engine.send_head(stream, HEAD, b"", True, None)
    assert not peer.take().of("WINDOW_UPDATE"), "the application holds it still"
    for stream in streams:
        peer.engine.finished(stream)
    assert sum(found.window_increment for found in peer.take().of("WINDOW_UPDATE", 0)) == 1024 * 1024
    for stream in streams:
        peer.engine.consumed(stream, 256 * 1024)
    assert not peer.take().frames, "it was given back already"


def test_data_for_a_stream_that_was_reset_is_given_back(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.reset(stream, ErrorCode.CANCEL)
    peer.take()
    peer.send(*data(1, 512 * 1024))
    (update,) = peer.take().frames
    assert (update.stream_id, update.window_increment) == (0, 512 * 1024)


@pytest.mark.parametrize(
    "fields", [[*POST, (b"content-length", b"5")], POST], ids=["longer than announced", "after the end"]
)
def test_data_that_resets_its_stream_is_given_back(peer, fields):
    total = 0
    for stream in range(1, 129, 2):
        peer.open(stream, fields, ends=fields is POST)
        peer.send(frame(DATA, 0, stream, bytes(FRAME)))
        assert peer.streams[stream].outcome[0] == "closed"
        peer.engine.finished(peer.streams[stream])
        total += sum(found.window_increment for found in peer.take().of("WINDOW_UPDATE", 0))
    assert total == 64 * FRAME


def test_a_body_that_nobody_reads_any_more_is_given_back(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    peer.engine.finished(stream)
    peer.take()
    peer.send(*data(1, 200_000))
    assert stream.body == b""
    (update,) = peer.take().frames
    assert (update.stream_id, update.window_increment) == (1, 131_072)
    peer.send(frame(DATA, END_STREAM, 1))
    assert not peer.engine.streams


def test_a_smaller_window_holds_once_the_peer_knows_it():
    peer = Peer(http2=Http2Limits(stream_window=10_000), opens=False)
    peer.engine.start()
    peer.send(PREFACE, settings())
    early = peer.open(1, POST, ends=False)
    peer.open(5)
    peer.send(*data(1, 30_000))
    peer.engine.consumed(early, 30_000)
    peer.take()
    peer.send(frame(SETTINGS, ACK))
    # To the peer the window is 65,535 - 30,000 - (65,535 - 10,000) now: it waits for what is due.
    (update,) = peer.take().frames
    assert (update.stream_id, update.window_increment) == (1, 30_000)
    peer.send(frame(DATA, 0, 1, bytes(10_000)))
    peer.open(7, POST, ends=False)
    peer.send(frame(DATA, 0, 7, bytes(10_000)))
    peer.send(frame(DATA, 0, 1, b"x"), frame(DATA, 0, 7, b"x"))
    assert [found.error_code for found in peer.take().of("RST_STREAM")] == [FLOW_CONTROL_ERROR] * 2


def test_a_second_acknowledgement_changes_nothing():
    peer = Peer(http2=Http2Limits(stream_window=10_000))
    peer.open(1)
    peer.open(3, POST, ends=False)
    peer.send(frame(SETTINGS, ACK), *data(3, 10_000))
    assert not peer.take().frames
    assert len(peer.streams[3].body) == 10_000


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused(announced):
    peer = Peer(HttpLimits(body_size=20_000))
    stream = peer.open(1, [*POST, (b"content-length", b"20001")] if announced else POST, ends=False)
    peer.send(*data(1, 20_001))
    assert stream.outcome == ("refused", 413)
    assert len(stream.body) == (0 if announced else FRAME)
    assert not peer.take().frames
    peer.send(*data(1, 200_000), frame(DATA, END_STREAM, 1))
    assert stream.outcome == ("refused", 413)
    assert not stream.has_ended
    (update,) = peer.take().of("WINDOW_UPDATE")
    assert update.stream_id == 1


def test_a_body_that_ends_over_the_limit_is_refused():
    peer = Peer(HttpLimits(body_size=4))
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, END_STREAM, 1, b"12345"))
    assert stream.calls[1:] == [("refused", 413)]
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    peer.engine.finished(stream)
    assert not peer.engine.streams


def test_a_body_at_the_limit_is_not_refused():
    peer = Peer(HttpLimits(body_size=4))
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, END_STREAM, 1, b"1234"))
    assert stream.has_ended


def test_the_limit_of_bodies_is_none_of_tunnels():
    peer = Peer(HttpLimits(body_size=4))
    stream = peer.open(1, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *POST[1:]], ends=False)
    peer.send(frame(DATA, 0, 1, b"12345"))
    assert stream.body == b"12345"


# -- what the peer takes ---------------------------------------------------------------------------


def test_6_9_1_no_more_is_sent_than_the_window_of_the_stream(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(100_000), True, 100_000)
    assert len(peer.take().body(1)) == DEFAULT
    assert stream.unsent == 100_000 - DEFAULT
    assert peer.engine.has_stalled(stream)
    peer.send(window_update(1, 100))
    assert not peer.take().frames, "the window of the connection is used up too"
    peer.send(window_update(0, 50))
    assert len(peer.take().body(1)) == 50
    peer.send(window_update(0, 50_000))
    assert len(peer.take().body(1)) == 50
    peer.send(window_update(1, 50_000))
    last = peer.take().of("DATA")[-1]
    assert last.flags == {"END_STREAM"}
    assert not peer.engine.has_stalled(stream)
    assert stream.unsent == 0


def test_a_small_response_waits_for_the_window_too(peer):
    first, second = peer.open(1), peer.open(3)
    peer.engine.send_head(first, HEAD, bytes(DEFAULT - 5), True, None)
    assert len(peer.take().body(1)) == DEFAULT - 5
    peer.engine.send_head(second, HEAD, b"0123456789", True, None)
    assert peer.take().body(3) == b"01234"
    assert peer.engine.has_stalled(second)
    peer.send(window_update(0, 5))
    assert peer.take().body(3) == b"56789"


def test_the_end_of_a_response_needs_no_window(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(DEFAULT), False, None)
    peer.take()
    peer.engine.send_data(stream, b"", True)
    (last,) = peer.take().frames
    assert (last.data, last.flags) == (b"", {"END_STREAM"})


def test_nothing_is_sent_of_an_empty_piece(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.take()
    before = peer.announced
    peer.engine.send_data(stream, b"", False)
    assert not peer.take().frames
    assert peer.announced == before


@pytest.mark.parametrize("stream", [0, 1])
def test_6_9_a_window_is_not_opened_by_nothing(peer, stream):
    opened = peer.open(1)
    if stream:
        peer.send(window_update(1, 0))
        assert peer.reset_code(1) == ErrorCode.PROTOCOL_ERROR
        assert opened.outcome == ("closed", ErrorCode.PROTOCOL_ERROR)
    else:
        assert peer.fails(window_update(0, 0)) is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("size", [0, 3, 5])
def test_6_9_window_update_has_4_bytes(peer, size):
    peer.open(1)
    assert peer.fails(frame(WINDOW_UPDATE, 0, 1, bytes(size))) is ErrorCode.FRAME_SIZE_ERROR


def test_6_9_1_the_largest_window_of_the_connection(peer):
    peer.send(window_update(0, LARGEST - DEFAULT))
    assert not peer.take().frames
    assert peer.fails(window_update(0, 1)) is FLOW_CONTROL_ERROR


def test_6_9_1_the_largest_window_of_a_stream(peer):
    stream = peer.open(1)
    peer.send(window_update(1, LARGEST - DEFAULT))
    assert not peer.take().frames
    peer.send(window_update(1, 1))
    assert peer.reset_code(1) == FLOW_CONTROL_ERROR
    assert stream.outcome == ("closed", FLOW_CONTROL_ERROR)


def test_6_9_2_the_initial_window_changes_those_of_open_streams(peer):
    stream = peer.open(1)
    peer.send(settings((4, 10)))
    peer.engine.send_head(stream, HEAD, bytes(100), True, None)
    assert len(peer.take().body(1)) == 10
    peer.send(settings((4, 30)))
    assert len(peer.take().body(1)) == 20
    peer.send(settings((4, 0)), window_update(1, 29))
    assert not peer.take().of("DATA"), "the window was -30"
    peer.send(window_update(1, 2))
    assert len(peer.take().body(1)) == 1
    peer.send(settings((4, 1000)))
    assert len(peer.take().body(1)) == 69


def test_6_9_2_a_window_that_shrinks_stops_what_waits(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(50_000), True, None)
    peer.send(settings((4, 0)))
    output = peer.take()
    assert output.of("HEADERS")
    assert not output.of("DATA")
    assert peer.engine.has_stalled(stream)


def test_6_9_2_streams_that_come_later_have_the_new_window(peer):
    peer.send(settings((4, 7)))
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(100), True, None)
    assert len(peer.take().body(1)) == 7


def test_6_9_2_settings_do_not_change_the_window_of_the_connection(peer):
    peer.send(settings((4, LARGEST)))
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(100_000), True, None)
    assert len(peer.take().body(1)) == DEFAULT


def test_6_9_2_a_window_that_settings_make_too_large(peer):
    peer.open(1)
    peer.send(window_update(1, 1))
    assert peer.fails(settings((4, LARGEST))) is FLOW_CONTROL_ERROR


def test_a_stream_is_asked_to_pause_and_may_go_on(peer):
    peer.send(window_update(0, 10**6))
    stream = peer.open(1)
    resumed = []
    peer.on_resumed = lambda found: resumed.append(found.unsent)
    peer.engine.send_head(stream, HEAD, bytes(DEFAULT + HIGH_WATER + 1), False, None)
    peer.take()
    assert stream.unsent == HIGH_WATER + 1
    peer.send(window_update(1, HIGH_WATER - LOW_WATER))
    peer.take()
    assert resumed == []
    peer.send(window_update(1, 1))
    peer.take()
    assert resumed == [LOW_WATER]
    peer.send(window_update(1, LOW_WATER))
    peer.take()
    assert (resumed, stream.unsent) == ([LOW_WATER], 0)


def test_a_stream_that_never_had_much_is_not_resumed(peer):
    stream = peer.open(1)
    peer.on_resumed = lambda _: pytest.fail("it was not paused")
    peer.engine.send_head(stream, HEAD, bytes(HIGH_WATER), False, None)
    peer.send(window_update(0, 10**6), window_update(1, 10**6))
    peer.take()
    assert stream.unsent == 0


def test_who_is_resumed_may_write_at_once(peer):
    peer.send(window_update(0, 10**6), settings((4, 10**6)))
    stream = peer.open(1)
    peer.on_resumed = lambda found: peer.engine.send_data(found, b"more", True)
    peer.engine.send_head(stream, HEAD, bytes(HIGH_WATER + 1), False, None)
    output = peer.take()
    assert output.body(1) == bytes(HIGH_WATER + 1) + b"more"
    assert output.frames[-1].flags == {"END_STREAM"}


def test_the_owner_hears_of_a_window_that_opens(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(100_000), True, None)
    peer.take()
    before = peer.announced
    peer.send(window_update(1, 10))
    assert peer.announced == before
    peer.send(window_update(0, 10))
    assert peer.announced == before + 1


# -- a model ---------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 3), st.integers(1, 40_000)),
        st.tuples(st.just("open stream"), st.integers(0, 3), st.integers(1, 60_000)),
        st.tuples(st.just("open connection"), st.just(0), st.integers(1, 60_000)),
        st.tuples(st.just("settings"), st.just(0), st.integers(0, 80_000)),
        st.tuples(st.just("take"), st.just(0), st.integers(1, 70_000)),
    ),
    max_size=40,
)


class Model:
    """The windows as the peer sees them: a setting holds for what comes behind its acknowledgement."""

    def __init__(self, streams):
        self.written = dict.fromkeys(streams, b"")
        self.sent = dict.fromkeys(streams, b"")
        self.room = dict.fromkeys(streams, DEFAULT)
        self.connection_room = self.initial = DEFAULT
        self.settings = []

    def receive(self, found):
        if type(found).__name__ == "SettingsFrame":
            initial = self.settings.pop(0)
            for stream in self.room:
                self.room[stream] += initial - self.initial
            self.initial = initial
        elif found.data:
            assert len(found.data) <= min(self.room[found.stream_id], self.connection_room)
            self.room[found.stream_id] -= len(found.data)
            self.connection_room -= len(found.data)
            self.sent[found.stream_id] += found.data


@pytest.mark.parametrize("engine", [BuiltinEngine, ReferenceEngine])
@pytest.mark.parametrize("has_trailers", [True, False])
def test_nothing_is_sent_behind_an_end_that_waits(engine, has_trailers):
    peer = Peer(engine=engine)
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(DEFAULT), False, None)
    if has_trailers:
        peer.engine.send_data(stream, b"waits", False)
        peer.engine.send_trailers(stream, ((b"x-sum", b"1"),))
    else:
        peer.engine.send_data(stream, b"waits", True)
    peer.engine.send_data(stream, b"more", True)
    peer.engine.send_trailers(stream, ((b"x-sum", b"2"),))
    peer.take()
    peer.send(window_update(0, 100), window_update(1, 100))
    output = peer.take()
    assert output.body(1) == b"waits"
    assert [peer.decoder.decode(found.data) for found in output.of("HEADERS")] == (
        [[("x-sum", "1")]] if has_trailers else []
    )
    assert output.frames[-1].flags >= {"END_STREAM"}


@given(STEPS)
@hypothesis_settings(deadline=None)
def test_what_is_sent_fits_into_the_windows_and_nothing_that_fits_is_left(steps):
    peer = Peer()
    streams = {number_: peer.open(number_) for number_ in (1, 3, 5, 7)}
    for stream in streams.values():
        peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.take()
    model = Model(streams)
    for kind, index, size in steps:
        number_ = 2 * index + 1
        if kind == "write":
            piece = bytes([len(model.written[number_]) % 251]) * size
            model.written[number_] += piece
            peer.engine.send_data(streams[number_], piece, False)
        elif kind == "open stream":
            model.room[number_] += size
            peer.send(window_update(number_, size))
        elif kind == "open connection":
            model.connection_room += size
            peer.send(window_update(0, size))
        elif kind == "settings":
            model.settings.append(size)
            peer.send(settings((4, size)))
        else:
            for found in peer.take(size).frames:
                model.receive(found)
            for found, stream in streams.items():
                assert model.written[found].startswith(model.sent[found])
                assert stream.unsent == len(model.written[found]) - len(model.sent[found])
                assert not stream.unsent or model.room[found] <= 0 or model.connection_room <= 0


def test_only_the_last_window_of_a_frame_of_settings_counts():
    """Nothing is processed between the values (RFC 9113 §6.5.3)."""
    peer = Peer()
    stream = peer.open(1)
    peer.send(frame(WINDOW_UPDATE, 0, 1, number(LARGEST - 65535)))
    peer.send(settings((4, LARGEST), (4, 0), (4, 65535)))
    assert stream.send_window == LARGEST
    peer.send(settings((4, 0), (4, 65534)))
    assert stream.send_window == LARGEST - 1
