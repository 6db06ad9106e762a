"""What RFC 9113 demands of a server, section by section: frames and streams (§3 to §7), and messages (§8).

Windows (§5.2, §6.9) are in `test_windows`, heads (§8.2, §8.3) in `test_request_head`.
"""

import struct

import pytest

from asgi_master.http.h2.engine import PREFACE
from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113
from asgi_master.http.limits import Http2Limits
from h2_engine import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEAD,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    frame,
    number,
    settings,
)

UNKNOWN = 0x50
PRIORITY_FIELDS = struct.pack(">IB", 0, 15)

PROTOCOL_ERROR = ErrorCode.PROTOCOL_ERROR
FRAME_SIZE_ERROR = ErrorCode.FRAME_SIZE_ERROR
STREAM_CLOSED = ErrorCode.STREAM_CLOSED
COMPRESSION_ERROR = ErrorCode.COMPRESSION_ERROR
CANCEL = ErrorCode.CANCEL


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def new() -> Peer:
    """A connection on which nothing was sent yet."""
    return Peer(opens=False)


def reset(stream: int, code: int = ErrorCode.CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, number(code))


def respond(peer: Peer, stream: int) -> None:
    """Complete the response, and have its application return."""
    peer.engine.send_head(peer.streams[stream], HEAD, b"x", True, 1)
    peer.engine.finished(peer.streams[stream])


# -- §3.4: the preface -----------------------------------------------------------------------------


def test_3_4_settings_are_the_first_frame_of_the_server(new):
    new.engine.start()
    first = new.take().frames[0]
    assert type(first).__name__ == "SettingsFrame"
    assert first.stream_id == 0
    assert first.settings == {3: 128, 4: 256 * 1024, 6: 65536, 8: 1, 9: 1}


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r_" + settings(), b"\0"]
)
def test_3_4_a_wrong_preface(new, garbage):
    assert new.fails(garbage) is PROTOCOL_ERROR


def test_3_4_the_preface_byte_by_byte(new):
    data = PREFACE + settings()
    for index in range(len(data)):
        assert not new.take().of("SETTINGS")
        new.send(data[index : index + 1])
    assert new.take().of("SETTINGS")[0].flags == {"ACK"}


@pytest.mark.parametrize(
    "first",
    [
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS, ACK),
        frame(UNKNOWN),
        frame(WINDOW_UPDATE, 0, 0, number(1)),
    ],
)
def test_3_4_settings_are_the_first_frame_of_the_client(new, first):
    assert new.fails(PREFACE + first) is PROTOCOL_ERROR


def test_3_4_frames_may_follow_the_preface_at_once(new):
    new.send(PREFACE + settings() + new.headers(1))
    assert new.streams[1].request.target == b"/"


# -- §4: frames ------------------------------------------------------------------------------------


def test_4_1_unknown_types_are_ignored(peer):
    peer.send(frame(UNKNOWN, 0xFF, 0, b"abc"), frame(UNKNOWN, 0, 7), peer.headers(1))
    assert peer.streams[1].has_ended
    assert not peer.take().frames


def test_4_1_unused_flags_are_ignored(peer):
    peer.send(frame(PING, 0xFE, 0, bytes(8)), frame(DATA | HEADERS, 0xD2 | 5, 1, peer.block(GET)))
    assert peer.take().of("PING")
    assert peer.streams[1].has_ended


def test_4_1_the_reserved_bit_is_ignored(peer):
    peer.send(frame(PING, 0, 0x8000_0000, bytes(8)), peer.headers(0x8000_0001))
    assert peer.take().of("PING")
    assert peer.streams[1].has_ended
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(0x8000_0001)))
    assert not peer.take().frames


def test_4_2_a_frame_as_large_as_allowed(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, END_STREAM, 1, bytes(16_384)))
    assert stream.body == bytes(16_384)


@pytest.mark.parametrize("kind", [DATA, HEADERS, SETTINGS, UNKNOWN])
def test_4_2_a_frame_larger_than_allowed(peer, kind):
    peer.open(1, POST, ends=False)
    assert peer.fails(frame(kind, 0, 1, b"", size=16_385)) is FRAME_SIZE_ERROR


def test_4_3_a_field_block_that_cannot_be_decoded(peer):
    assert (
        peer.fails(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
        is COMPRESSION_ERROR
    )


def test_4_3_trailers_that_cannot_be_decoded(peer):
    peer.open(1, POST, ends=False)
    assert peer.fails(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80")) is COMPRESSION_ERROR


@pytest.mark.parametrize(
    "between",
    [
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, END_HEADERS, 1),
        frame(HEADERS, END_HEADERS, 3),
        frame(PRIORITY, 0, 1, PRIORITY_FIELDS),
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS),
        frame(WINDOW_UPDATE, 0, 0, number(1)),
        frame(UNKNOWN),
        frame(CONTINUATION, END_HEADERS, 3),
    ],
)
def test_4_3_nothing_comes_within_a_field_block(peer, between):
    peer.send(peer.headers(1, GET, END_STREAM))
    assert peer.fails(between) is PROTOCOL_ERROR


# -- §5.1: the states of streams -------------------------------------------------------------------


@pytest.mark.parametrize(
    "early",
    [
        frame(DATA, 0, 1, b"x"),
        frame(RST_STREAM, 0, 1, number(8)),
        frame(WINDOW_UPDATE, 0, 1, number(1)),
        frame(CONTINUATION, END_HEADERS, 1),
    ],
)
def test_5_1_idle(peer, early):
    assert peer.fails(early) is PROTOCOL_ERROR


def test_5_1_priority_of_an_idle_stream(peer):
    peer.send(frame(PRIORITY, 0, 9, PRIORITY_FIELDS))
    assert not peer.take().frames


def test_5_1_half_closed_remote_takes_window_update_priority_and_reset(peer):
    stream = peer.open(1)
    peer.send(frame(WINDOW_UPDATE, 0, 1, number(1)), frame(PRIORITY, 0, 1, PRIORITY_FIELDS))
    assert not peer.take().frames
    peer.send(reset(1))
    assert stream.outcome == ("closed", CANCEL)


@pytest.mark.parametrize("kind", [DATA, HEADERS])
def test_5_1_half_closed_remote_takes_no_more_of_the_request(peer, kind):
    stream = peer.open(1)
    payload = peer.block([(b"a", b"b")]) if kind == HEADERS else b"x"
    peer.send(frame(kind, END_STREAM | END_HEADERS, 1, payload))
    assert peer.reset_code(1) == STREAM_CLOSED
    assert stream.outcome == ("closed", STREAM_CLOSED)
    assert peer.open(3).has_ended, "the connection goes on"


@pytest.mark.parametrize("late", [frame(DATA, 0, 1, b"x"), frame(HEADERS, 5, 1, b"\x88")])
@pytest.mark.parametrize("returned", [False, True])
def test_5_1_closed_by_both_ends(peer, late, returned):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    if returned:
        peer.engine.finished(stream)
    assert peer.fails(late) is STREAM_CLOSED


@pytest.mark.parametrize("late", [frame(DATA, 0, 1, b"x"), frame(HEADERS, 5, 1, b"\x88")])
def test_5_1_closed_by_the_reset_of_the_peer(peer, late):
    peer.open(1, POST, ends=False)
    peer.send(reset(1))
    assert peer.fails(late) is STREAM_CLOSED


def test_5_1_closed_takes_what_may_have_crossed_its_end(peer):
    peer.open(1)
    respond(peer, 1)
    peer.take()
    peer.send(frame(WINDOW_UPDATE, 0, 1, number(1)), reset(1), frame(PRIORITY, 0, 1, PRIORITY_FIELDS))
    assert not peer.take().frames


def test_5_1_closed_by_a_reset_of_ours_ignores_what_comes(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.reset(stream, CANCEL)
    assert peer.reset_code(1) == CANCEL
    trailers = [(b"x-new", b"entry of the table")]
    peer.send(
        frame(DATA, 0, 1, b"x"),
        frame(WINDOW_UPDATE, 0, 1, number(1)),
        frame(WINDOW_UPDATE, 0, 1, number(0)),
        peer.headers(1, trailers),
        reset(1),
    )
    assert not peer.take().frames
    assert len(stream.calls) == 1
    again = peer.open(3, GET + trailers)
    assert again.request.headers[-1] == trailers[0], "HPACK went on"


def test_5_1_late_frames_of_streams_reset_long_ago_are_not_ignored(peer):
    for stream in range(1, 2 * 1026, 2):
        peer.engine.reset(peer.open(stream, POST, ends=False), CANCEL)
        peer.engine.finished(peer.streams[stream])
    peer.send(frame(DATA, 0, 5, b"x"))
    peer.take()
    assert peer.fails(frame(DATA, 0, 1, b"x")) is STREAM_CLOSED


def test_5_1_half_closed_local_takes_the_rest_of_the_request(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_head(stream, HEAD, b"early", True, 5)
    peer.send(
        frame(DATA, 0, 1, b"a"),
        frame(PRIORITY, 0, 1, PRIORITY_FIELDS),
        frame(WINDOW_UPDATE, 0, 1, number(1)),
        frame(DATA, END_STREAM, 1, b"b"),
    )
    assert (stream.body, stream.has_ended) == (b"ab", True)
    peer.engine.finished(stream)
    assert not peer.engine.streams


# -- §5.1.1 and §5.1.2: identifiers and concurrency ------------------------------------------------


def test_5_1_1_streams_of_clients_are_odd(peer):
    assert peer.fails(peer.headers(2)) is PROTOCOL_ERROR


def test_5_1_1_stream_identifiers_rise(peer):
    peer.open(5)
    respond(peer, 5)
    assert peer.fails(peer.headers(3)) is PROTOCOL_ERROR


def test_5_1_1_streams_that_were_left_out_are_closed(peer):
    peer.open(1)
    peer.open(7)
    peer.send(frame(WINDOW_UPDATE, 0, 3, number(1)), reset(5))
    assert not peer.take().frames
    assert peer.fails(frame(DATA, 0, 5, b"x")) is PROTOCOL_ERROR


@pytest.mark.parametrize("kind", [DATA, HEADERS, RST_STREAM, PRIORITY, CONTINUATION])
def test_5_1_1_these_frames_have_a_stream(peer, kind):
    payload = {RST_STREAM: number(8), PRIORITY: PRIORITY_FIELDS}.get(kind, b"\x82")
    assert peer.fails(frame(kind, END_HEADERS, 0, payload)) is PROTOCOL_ERROR


@pytest.mark.parametrize("kind", [SETTINGS, PING, GOAWAY, 0x10])
def test_5_1_1_these_frames_have_none(peer, kind):
    assert peer.fails(frame(kind, 0, 1, bytes(12))) is PROTOCOL_ERROR


def test_5_1_2_streams_beyond_the_limit_are_refused():
    peer = Peer(http2=Http2Limits(max_concurrent_streams=2))
    first, second = peer.open(1), peer.open(3)
    fields = [*GET, (b"x-refused", b"all the same in the table")]
    peer.send(peer.headers(5, fields))
    assert peer.reset_code(5) == ErrorCode.REFUSED_STREAM
    assert 5 not in peer.streams
    respond(peer, 1)
    assert list(peer.engine.streams) == [second]
    assert peer.open(7, fields).request.headers[-1] == fields[-1]
    assert len(first.calls) == 1


def test_5_1_2_a_stream_that_was_reset_counts_until_its_application_returns():
    peer = Peer(http2=Http2Limits(max_concurrent_streams=1))
    stream = peer.open(1)
    peer.send(reset(1), peer.headers(3))
    assert peer.reset_code(3) == ErrorCode.REFUSED_STREAM
    peer.engine.finished(stream)
    assert peer.open(5).has_ended


def test_5_1_2_a_limit_of_0_is_none():
    peer = Peer(http2=Http2Limits(max_concurrent_streams=0))
    for stream in range(1, 2001, 2):
        peer.open(stream)
    assert len(peer.engine.streams) == 1000


# -- §5.4: errors ----------------------------------------------------------------------------------


def test_5_4_1_what_comes_after_an_error_is_not_handled(peer):
    stream = peer.open(1, POST, ends=False)
    assert peer.fails(frame(PING, 0, 0, b""), frame(DATA, 0, 1, b"x")) is FRAME_SIZE_ERROR
    peer.send(frame(DATA, 0, 1, b"x"))
    assert stream.body == b""
    assert not peer.take().frames


def test_5_4_1_goaway_names_the_last_stream(peer):
    peer.open(7)
    with pytest.raises(ConnectionError):
        peer.send(frame(PUSH_PROMISE, 0, 1))
    (goaway,) = peer.take().frames
    assert goaway.last_stream_id == 7
    assert goaway.additional_data == b"a client does not push"


def test_5_4_2_a_reset_is_not_answered(peer):
    peer.open(1)
    peer.send(reset(1))
    assert not peer.take().frames


def test_5_5_extension_frames_are_ignored_in_every_state(peer):
    peer.open(1)
    respond(peer, 1)
    peer.take()
    peer.send(frame(UNKNOWN, 0, 1), frame(UNKNOWN, 0, 2), frame(UNKNOWN, 0, 99))
    assert not peer.take().frames


# -- §6: frames one by one -------------------------------------------------------------------------


def test_6_1_padding_is_left_out(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, PADDED, 1, b"\x03abc\0\0\0"), frame(DATA, PADDED | END_STREAM, 1, b"\x02\0\0"))
    assert stream.calls[1:] == [("data", b"abc"), ("data", b"")]


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", FRAME_SIZE_ERROR), (b"\x01", PROTOCOL_ERROR), (b"\x05abcd", PROTOCOL_ERROR)]
)
def test_6_1_padding_fits_into_the_frame(peer, payload, code):
    peer.open(1, POST, ends=False)
    assert peer.fails(frame(DATA, PADDED, 1, payload)) is code


def test_6_2_padding_and_priority(peer):
    flags = END_HEADERS | END_STREAM
    block = peer.block(GET)
    peer.send(
        frame(HEADERS, flags | PADDED, 1, b"\x02" + block + b"\0\0"),
        frame(HEADERS, flags | HAS_PRIORITY, 3, PRIORITY_FIELDS + peer.block(GET)),
        frame(HEADERS, flags | PADDED | HAS_PRIORITY, 5, b"\x01" + PRIORITY_FIELDS + peer.block(GET) + b"\0"),
    )
    assert {stream: found.request.target for stream, found in peer.streams.items()} == {
        1: b"/",
        3: b"/",
        5: b"/",
    }


@pytest.mark.parametrize(
    ("flags", "payload", "code"),
    [
        (PADDED, b"", FRAME_SIZE_ERROR),
        (HAS_PRIORITY, b"\0\0\0\0", FRAME_SIZE_ERROR),
        (PADDED | HAS_PRIORITY, b"\0\0\0\0\0", FRAME_SIZE_ERROR),
        (PADDED, b"\x05\x82\x82\x82\x82", PROTOCOL_ERROR),
        (PADDED | HAS_PRIORITY, b"\x01\0\0\0\0\0", PROTOCOL_ERROR),
    ],
)
def test_6_2_padding_and_priority_fit_into_the_frame(peer, flags, payload, code):
    assert peer.fails(frame(HEADERS, END_HEADERS | flags, 1, payload)) is code


@pytest.mark.parametrize("size", [4, 6])
def test_6_3_priority_has_5_bytes(peer, size):
    stream = peer.open(1)
    peer.send(frame(PRIORITY, 0, 1, bytes(size)))
    assert peer.reset_code(1) == FRAME_SIZE_ERROR
    assert stream.outcome == ("closed", FRAME_SIZE_ERROR)
    peer.send(frame(PRIORITY, 0, 1, bytes(size)))
    assert stream.outcome == ("closed", FRAME_SIZE_ERROR)
    assert peer.fails(frame(PRIORITY, 0, 3, bytes(size))) is FRAME_SIZE_ERROR


@pytest.mark.parametrize("size", [0, 3, 5])
def test_6_4_rst_stream_has_4_bytes(peer, size):
    peer.open(1)
    assert peer.fails(frame(RST_STREAM, 0, 1, bytes(size))) is FRAME_SIZE_ERROR


def test_6_5_settings_are_acknowledged(peer):
    peer.send(settings((1, 0), (2, 0), (3, 1), (4, 0), (5, 16_384), (6, 0), (0xFFFF, 1)), settings())
    first, second = peer.take().frames
    assert first.flags == second.flags == {"ACK"}
    assert not first.settings


@pytest.mark.parametrize("size", [1, 5, 7])
def test_6_5_the_length_of_settings(peer, size):
    assert peer.fails(frame(SETTINGS, 0, 0, bytes(size))) is FRAME_SIZE_ERROR


def test_6_5_an_acknowledgement_is_empty(peer):
    assert peer.fails(frame(SETTINGS, ACK, 0, bytes(6))) is FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    ("identifier", "value", "code"),
    [
        (2, 2, PROTOCOL_ERROR),
        (4, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (5, 16_383, PROTOCOL_ERROR),
        (5, 2**24, PROTOCOL_ERROR),
        (8, 2, PROTOCOL_ERROR),
        (9, 2, PROTOCOL_ERROR),
    ],
)
def test_6_5_2_values_out_of_bounds(peer, identifier, value, code):
    assert peer.fails(settings((identifier, value))) is code


@pytest.mark.parametrize(("identifier", "value"), [(2, 1), (4, 2**31 - 1), (5, 2**24 - 1), (8, 1), (9, 0)])
def test_6_5_2_values_at_their_bounds(peer, identifier, value):
    peer.send(settings((identifier, value)))
    assert peer.take().of("SETTINGS")


@pytest.mark.parametrize("size", [0, 4095])
def test_6_5_2_a_header_table_that_shrinks_is_emptied(peer, size):
    """RFC 7541 §4.2: the first field block afterwards says so."""
    stream, other = peer.open(1), peer.open(3)
    peer.decoder.max_allowed_table_size = size
    peer.send(settings((1, size)))
    peer.engine.send_head(stream, HEAD, b"a", True, 1)
    peer.engine.send_head(other, HEAD, b"b", True, 1)
    heads = peer.take().of("HEADERS")
    assert [found.data[0] for found in heads] == [0x20, 0x88]
    assert [peer.head(found)[0] for found in heads] == [(b":status", b"200")] * 2


def test_6_6_clients_do_not_push(peer):
    peer.open(1)
    assert peer.fails(frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + b"\x82")) is PROTOCOL_ERROR


def test_6_7_ping_is_answered_with_its_contents(peer):
    peer.send(frame(PING, 0, 0, b"contents"))
    (answer,) = peer.take().frames
    assert (answer.opaque_data, answer.flags) == (b"contents", {"ACK"})


def test_6_7_an_answer_is_not_answered(peer):
    peer.send(frame(PING, ACK, 0, b"contents"))
    assert not peer.take().frames


@pytest.mark.parametrize("size", [0, 7, 9])
def test_6_7_ping_has_8_bytes(peer, size):
    assert peer.fails(frame(PING, 0, 0, bytes(size))) is FRAME_SIZE_ERROR


def test_6_8_requests_go_on_after_the_goaway_of_the_client(peer):
    stream = peer.open(1, POST, ends=False)
    assert peer.engine.peer_goaway is None
    peer.send(frame(GOAWAY, 0, 0, number(0) + number(0xB) + b"debug"), frame(DATA, END_STREAM, 1, b"x"))
    assert peer.engine.peer_goaway == 0xB
    assert stream.has_ended


def test_6_8_goaway_has_8_bytes_or_more(peer):
    assert peer.fails(frame(GOAWAY, 0, 0, bytes(7))) is FRAME_SIZE_ERROR


def test_6_10_a_field_block_in_many_frames(peer):
    block = peer.block([*GET, (b"x-long", b"v" * 100)])
    peer.send(frame(HEADERS, END_STREAM, 1, block[:3]))
    assert peer.engine.is_mid_frame
    peer.send(
        frame(CONTINUATION, 0, 1, block[3:4]),
        frame(CONTINUATION, 0, 1),
        frame(CONTINUATION, END_HEADERS, 1, block[4:]),
    )
    assert peer.streams[1].request.headers[-1] == (b"x-long", b"v" * 100)
    assert peer.streams[1].has_ended
    assert not peer.engine.is_mid_frame


def test_6_10_continuation_continues_something(peer):
    peer.open(1, POST, ends=False)
    assert peer.fails(frame(CONTINUATION, END_HEADERS, 1)) is PROTOCOL_ERROR


def test_7_unknown_error_codes_are_like_internal_error(peer):
    stream = peer.open(1)
    peer.send(reset(1, 0xDEAD))
    assert stream.outcome == ("closed", ErrorCode.INTERNAL_ERROR)


# -- §8: messages ----------------------------------------------------------------------------------


def test_8_1_trailers_end_the_request(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, 0, 1, b"body"), peer.headers(1, [(b"x-checksum", b"1")]))
    assert stream.calls[1:] == [("data", b"body"), ("data", b"")]
    assert stream.has_ended


def test_8_1_fields_in_the_middle_of_a_request(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(peer.headers(1, [(b"a", b"b")], END_HEADERS))
    assert peer.reset_code(1) == PROTOCOL_ERROR
    assert stream.outcome == ("closed", PROTOCOL_ERROR)


def test_8_1_trailers_hold_no_pseudo_fields(peer):
    stream = peer.open(1, POST, ends=False)
    peer.send(peer.headers(1, [(b":path", b"/")]))
    assert peer.reset_code(1) == PROTOCOL_ERROR
    assert stream.outcome == ("closed", PROTOCOL_ERROR)


def test_8_1_the_rest_of_a_request_that_is_answered_is_not_needed(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_head(stream, HEAD, b"no", True, 2)
    peer.engine.reset(stream, ErrorCode.NO_ERROR)
    _, data, end = peer.take().frames
    assert data.flags == {"END_STREAM"}
    assert end.error_code == ErrorCode.NO_ERROR
    peer.send(frame(DATA, 0, 1, b"late"))
    assert stream.body == b""


def test_8_1_1_a_malformed_request_is_reset(peer):
    peer.send(peer.headers(1, [*GET, (b"Upper", b"case")]))
    assert peer.reset_code(1) == PROTOCOL_ERROR
    assert not peer.streams
    assert peer.open(3).has_ended


def test_8_1_1_content_length_and_no_body(peer):
    peer.send(peer.headers(1, [*POST, (b"content-length", b"5")]))
    assert peer.reset_code(1) == PROTOCOL_ERROR


@pytest.mark.parametrize("last", [b"", b"xy"])
def test_8_1_1_the_body_is_as_long_as_content_length_says(peer, last):
    stream = peer.open(1, [*POST, (b"content-length", b"5")], ends=False)
    peer.send(frame(DATA, 0, 1, b"four"))
    peer.send(frame(DATA, END_STREAM, 1, last))
    assert peer.reset_code(1) == PROTOCOL_ERROR
    assert stream.calls[1:] == [("data", b"four"), ("closed", PROTOCOL_ERROR)]


def test_8_1_1_a_body_that_is_longer_is_not_waited_for(peer):
    stream = peer.open(1, [*POST, (b"content-length", b"5")], ends=False)
    peer.send(frame(DATA, 0, 1, b"longer"))
    assert peer.reset_code(1) == PROTOCOL_ERROR
    assert stream.outcome == ("closed", PROTOCOL_ERROR)


def test_8_1_1_a_body_that_ends_with_trailers_is_measured_too(peer):
    stream = peer.open(1, [*POST, (b"content-length", b"5")], ends=False)
    peer.send(frame(DATA, 0, 1, b"four"), peer.headers(1, [(b"a", b"b")]))
    assert peer.reset_code(1) == PROTOCOL_ERROR
    assert stream.outcome == ("closed", PROTOCOL_ERROR)


def test_8_1_1_a_body_of_the_length_that_was_announced(peer):
    stream = peer.open(1, [*POST, (b"content-length", b"5")], ends=False)
    peer.send(frame(DATA, 0, 1, b"exact"), frame(DATA, END_STREAM, 1))
    assert (stream.body, stream.has_ended) == (b"exact", True)


def test_8_5_a_tunnel_carries_only_data(peer):
    connect = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
    stream = peer.open(1, connect, ends=False)
    assert stream.request.protocol == b"websocket"
    peer.send(frame(DATA, 0, 1, b"frame"))
    assert stream.body == b"frame"
    peer.send(peer.headers(1, [(b"a", b"b")]))
    assert peer.reset_code(1) == PROTOCOL_ERROR


def test_8_5_connect_without_a_protocol_is_not_served(peer):
    stream = peer.open(1, [(b":method", b"CONNECT"), (b":authority", b"host:443")])
    assert stream.calls == [("refused", 501)]
