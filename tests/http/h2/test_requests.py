"""What streams and their owner see, and what leaves: the interface of the engine."""

import pytest

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.engine import PREFACE
from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113
from asgi_master.http.limits import HttpLimits
from asgi_master.http.message import ResponseHead
from h2_engine import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEAD,
    PING,
    POST,
    RST_STREAM,
    WINDOW_UPDATE,
    Peer,
    frame,
    number,
    settings,
)


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_a_get_and_its_response(peer):
    stream = peer.open(1)
    assert (stream.request.method, stream.request.target, stream.has_ended) == ("GET", b"/", True)
    peer.engine.send_head(stream, HEAD, b"hello", True, 5)
    peer.engine.finished(stream)
    head, data = peer.take().frames
    assert peer.head(head) == [
        (b":status", b"200"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"5"),
    ]
    assert head.flags == {"END_HEADERS"}
    assert (data.data, data.flags) == (b"hello", {"END_STREAM"})
    assert not peer.engine.streams


def test_a_response_without_a_body(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, ResponseHead(204, []), b"", True, 0)
    (head,) = peer.take().frames
    assert head.flags == {"END_HEADERS", "END_STREAM"}
    assert peer.head(head) == [(b":status", b"204")]


def test_a_body_in_pieces(peer):
    stream = peer.open(1, POST, ends=False)
    assert not stream.has_ended
    peer.send(frame(DATA, 0, 1, b"abc"), frame(DATA, 0, 1, b"def"), frame(DATA, END_STREAM, 1, b"ghi"))
    assert (stream.body, stream.has_ended) == (b"abcdefghi", True)


def test_bytes_that_come_one_by_one(peer):
    data = peer.headers(1, POST, END_HEADERS) + frame(DATA, 0, 1, b"abc") + frame(DATA, END_STREAM, 1)
    for index in range(len(data)):
        peer.send(data[index : index + 1])
    assert (peer.streams[1].body, peer.streams[1].has_ended) == (b"abc", True)


def test_the_owner_is_told_once_that_there_is_output(peer):
    first, second = peer.open(1), peer.open(3)
    before = peer.announced
    peer.engine.send_head(first, HEAD, b"a", True, 1)
    peer.engine.send_head(second, HEAD, b"b", True, 1)
    assert peer.announced == before + 1
    assert len(peer.take().frames) == 4
    peer.engine.reset(peer.open(5), ErrorCode.CANCEL)
    assert peer.announced == before + 2


# -- responses -------------------------------------------------------------------------------------


def test_a_response_in_pieces(peer):
    stream = peer.open(1)
    taken = []
    peer.engine.send_head(stream, HEAD, b"a", False, None)
    taken += peer.take().frames
    for piece, ends in ((b"b", False), (b"c", True)):
        peer.engine.send_data(stream, piece, ends)
        taken += peer.take().frames
    head, *pieces = taken
    assert (b"content-length", b"1") not in peer.head(head)
    assert [(found.data, found.flags) for found in pieces] == [
        (b"a", set()),
        (b"b", set()),
        (b"c", {"END_STREAM"}),
    ]


def test_pieces_that_leave_together_are_one_frame(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"a", False, None)
    peer.engine.send_data(stream, b"b", False)
    peer.engine.send_data(stream, b"c", True)
    _head, piece = peer.take().frames
    assert (piece.data, piece.flags) == (b"abc", {"END_STREAM"})


def test_pieces_of_two_streams_are_not_mixed(peer):
    first, second = peer.open(1), peer.open(3)
    for stream in (first, second):
        peer.engine.send_head(stream, HEAD, b"a", False, None)
    for stream, piece in ((second, b"b"), (first, b"c"), (first, b"d")):
        peer.engine.send_data(stream, piece, False)
    pieces = [found for found in peer.take().frames if hasattr(found, "flow_controlled_length")]
    assert [(found.stream_id, found.data) for found in pieces] == [(1, b"a"), (3, b"ab"), (1, b"cd")]


def test_a_frame_of_pieces_is_no_larger_than_a_frame(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(16_000), False, None)
    peer.engine.send_data(stream, bytes(384), False)
    peer.engine.send_data(stream, b"a", False)
    _head, first, second = peer.take().frames
    assert (len(first.data), second.data) == (16_384, b"a")


def test_small_pieces_that_wait_leave_together(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(65_535), False, None)
    peer.take()
    for _ in range(100):
        peer.engine.send_data(stream, b"0123456789", False)
    peer.engine.send_data(stream, b"", True)
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(2000)), frame(WINDOW_UPDATE, 0, 1, number(995)))
    (piece,) = peer.take().frames
    assert piece.data == b"0123456789" * 99 + b"01234"
    peer.send(frame(WINDOW_UPDATE, 0, 1, number(5)))
    (piece,) = peer.take().frames
    assert (piece.data, piece.flags) == (b"56789", {"END_STREAM"})


def test_a_large_body_is_sent_in_frames_of_16_kib(peer):
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(10**6)), settings((4, 10**6)))
    stream = peer.open(1)
    body = bytes(range(256)) * 400
    peer.engine.send_head(stream, HEAD, body, True, len(body))
    output = peer.take(16_384)
    assert output.body(1) == body
    assert [len(found.data) for found in output.of("DATA")] == [16_384] * 6 + [4096]


def test_the_limit_of_one_write(peer):
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(10**6)), settings((4, 10**6)))
    peer.take()
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(200_000), True, None)
    sizes = []
    while data := peer.engine.data_to_send(65_536):
        sizes.append(len(data))
    assert len(sizes) == 4
    assert max(sizes) <= 65_536 + 16_384 + 9


def test_a_head_that_is_larger_than_a_frame(peer):
    stream = peer.open(1)
    head = ResponseHead(200, [(b"x-large", b"v" * 40_000)])
    peer.engine.send_head(stream, head, b"body", True, 4)
    first, second, third, data = peer.take().frames
    assert (first.flags, second.flags, third.flags) == (set(), set(), {"END_HEADERS"})
    assert {type(found).__name__ for found in (second, third)} == {"ContinuationFrame"}
    first.data += second.data + third.data
    assert peer.head(first)[1] == head.fields[0]
    assert (data.data, data.flags) == (b"body", {"END_STREAM"})


def test_a_large_head_without_a_body(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, ResponseHead(200, [(b"x-large", b"v" * 20_000)]), b"", True, 0)
    assert [found.flags for found in peer.take().frames] == [{"END_STREAM"}, {"END_HEADERS"}]
    assert stream in peer.engine.streams
    peer.engine.finished(stream)
    assert not peer.engine.streams


def test_trailers(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"body", False, None)
    peer.engine.send_trailers(stream, ((b"X-Checksum", b"1"),))
    head, data, trailers = peer.take().frames
    peer.head(head)
    assert data.flags == set()
    assert trailers.flags == {"END_HEADERS", "END_STREAM"}
    assert peer.head(trailers) == [(b"x-checksum", b"1")]
    peer.engine.finished(stream)
    assert not peer.engine.streams


def test_trailers_come_behind_a_body_that_waits(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(65_536), False, None)
    peer.engine.send_trailers(stream, ())
    assert not peer.take().frames[-1].flags
    peer.engine.finished(stream)
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(1)), frame(WINDOW_UPDATE, 0, 1, number(1)))
    data, trailers = peer.take().frames
    assert (data.data, data.flags) == (b"\0", set())
    assert trailers.flags == {"END_HEADERS", "END_STREAM"}
    assert not peer.engine.streams


def test_trailers_of_a_head_without_a_body(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.engine.send_trailers(stream, ((b"a", b"b"),))
    assert not peer.engine.take_back_head(stream)
    assert len(peer.take().of("HEADERS")) == 2


def test_interim_responses(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_interim(stream, 100, ())
    peer.engine.send_interim(stream, 103, ((b"link", b"</style.css>"),))
    peer.engine.send_head(stream, HEAD, b"x", True, 1)
    heads = peer.take().of("HEADERS")
    assert [found.flags for found in heads] == [{"END_HEADERS"}] * 3
    assert [peer.head(found)[0][1] for found in heads] == [b"100", b"103", b"200"]


def test_a_head_is_taken_back(peer):
    stream, other = peer.open(1), peer.open(3)
    peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.engine.send_head(other, HEAD, b"other", True, 5)
    assert peer.engine.take_back_head(stream)
    assert not peer.engine.take_back_head(stream)
    peer.engine.send_head(stream, ResponseHead(500, []), b"error", True, 5)
    first, data, second, error = peer.take().frames
    assert (first.stream_id, data.stream_id, second.stream_id, error.data) == (3, 3, 1, b"error")
    peer.head(first)
    assert peer.head(second)[0] == (b":status", b"500")


def test_a_head_that_has_left_is_not_taken_back(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.take()
    assert not peer.engine.take_back_head(stream)


@pytest.mark.parametrize("body", [b"a", bytes(100_000)])
def test_a_head_with_a_body_is_not_taken_back(peer, body):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.engine.send_data(stream, body, False)
    assert not peer.engine.take_back_head(stream)


def test_a_head_of_a_stream_that_was_reset_is_not_taken_back(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.send(frame(RST_STREAM, 0, 1, number(8)))
    assert not peer.engine.take_back_head(stream)


@pytest.mark.parametrize("how", ["by the peer", "by us", "completed"])
def test_nothing_is_sent_on_a_stream_that_is_closed(peer, how):
    stream = peer.open(1)
    if how == "by the peer":
        peer.send(frame(RST_STREAM, 0, 1, number(8)))
    elif how == "by us":
        peer.engine.reset(stream, ErrorCode.INTERNAL_ERROR)
    else:
        peer.engine.send_head(stream, HEAD, b"", True, 0)
    peer.take()
    engine = peer.engine
    engine.send_head(stream, HEAD, b"x", True, 1)
    engine.send_data(stream, b"x", True)
    engine.send_trailers(stream, ())
    engine.send_interim(stream, 100, ())
    engine.reset(stream, ErrorCode.CANCEL)
    assert not engine.has_stalled(stream)
    assert not peer.take().frames


def test_nothing_is_sent_after_the_end_of_a_response(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    peer.take()
    engine = peer.engine
    engine.send_head(stream, HEAD, b"x", True, 1)
    engine.send_data(stream, b"x", True)
    engine.send_trailers(stream, ())
    engine.send_interim(stream, 100, ())
    assert not peer.take().frames


# -- resets ----------------------------------------------------------------------------------------


def test_a_reset_drops_what_waits(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(100_000), False, None)
    peer.engine.reset(stream, ErrorCode.INTERNAL_ERROR)
    assert stream.unsent == 0
    output = peer.take()
    assert output.body(1) == b""
    assert output.frames[-1].error_code == ErrorCode.INTERNAL_ERROR
    assert len(stream.calls) == 1, "who resets knows"


def test_a_reset_by_the_peer_drops_what_waits(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(100_000), True, None)
    peer.take()
    peer.engine.finished(stream)
    peer.send(frame(RST_STREAM, 0, 1, number(8)))
    assert stream.outcome == ("closed", ErrorCode.CANCEL)
    assert stream.unsent == 0
    assert not peer.engine.streams
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(10**6)))
    assert not peer.take().frames


def test_a_reset_without_an_error_waits_for_a_complete_response(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_head(stream, HEAD, bytes(65_536), True, None)
    peer.engine.reset(stream, ErrorCode.NO_ERROR)
    peer.engine.finished(stream)
    assert not peer.take().of("RST_STREAM")
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(1)), frame(WINDOW_UPDATE, 0, 1, number(1)))
    data, end = peer.take().frames
    assert data.flags == {"END_STREAM"}
    assert end.error_code == ErrorCode.NO_ERROR
    assert not peer.engine.streams


def test_a_reset_without_an_error_is_not_needed_if_the_request_ends_in_time(peer):
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_head(stream, HEAD, bytes(65_536), True, None)
    peer.engine.reset(stream, ErrorCode.NO_ERROR)
    peer.send(frame(DATA, END_STREAM, 1, b"x"))
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(1)), frame(WINDOW_UPDATE, 0, 1, number(1)))
    assert not peer.take().of("RST_STREAM")
    peer.engine.finished(stream)
    assert not peer.engine.streams


def test_a_reset_without_an_error_of_an_incomplete_response(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(100_000), False, None)
    peer.engine.reset(stream, ErrorCode.NO_ERROR)
    assert peer.reset_code(1) == ErrorCode.NO_ERROR


def test_a_stream_is_there_until_its_response_has_left(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(65_536), True, None)
    peer.engine.finished(stream)
    peer.take()
    assert list(peer.engine.streams) == [stream]
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(1)), frame(WINDOW_UPDATE, 0, 1, number(1)))
    peer.take()
    assert not peer.engine.streams


def test_a_stream_is_there_until_its_application_returns(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    assert list(peer.engine.streams) == [stream]
    peer.engine.finished(stream)
    assert not peer.engine.streams


# -- refusals --------------------------------------------------------------------------------------


def answer(peer: Peer, stream: int) -> None:
    """As the worker does."""
    found = peer.streams[stream]
    peer.engine.send_head(found, ResponseHead(431, []), b"", True, 0)
    peer.engine.reset(found, ErrorCode.NO_ERROR)
    peer.engine.finished(found)


@pytest.mark.parametrize("ends", [True, False])
def test_a_request_that_is_not_served(ends):
    peer = Peer(HttpLimits(header_count=5))
    fields = [(b"name", b"%d" % index) for index in range(6)]
    stream = peer.open(1, GET + fields, ends=ends)
    assert stream.calls == [("refused", 431)]
    assert list(peer.engine.streams) == [stream]
    if not ends:
        peer.send(frame(DATA, 0, 1, b"body"))
    answer(peer, 1)
    assert not peer.engine.streams
    output = peer.take()
    assert peer.head(output.frames[0])[0] == (b":status", b"431")
    assert len(output.of("RST_STREAM")) == (not ends)
    assert stream.calls == [("refused", 431)]


def test_trailers_that_are_too_large_refuse_the_request():
    peer = Peer(HttpLimits(header_count=5))
    stream = peer.open(1, POST, ends=False)
    peer.send(peer.headers(1, [(b"name", b"%d" % index) for index in range(6)]))
    assert stream.outcome == ("refused", 431)


def test_trailers_of_a_request_that_was_refused():
    peer = Peer(HttpLimits(body_size=1))
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, 0, 1, b"xx"), peer.headers(1, [(b"a", b"b")]))
    assert stream.calls[1:] == [("refused", 413)]
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    peer.engine.finished(stream)
    assert not peer.engine.streams


# -- what stands between frames --------------------------------------------------------------------


def test_what_the_peer_must_complete():
    peer = Peer(opens=False)
    engine = peer.engine
    assert not engine.is_mid_frame
    peer.send(PREFACE[:5])
    assert engine.is_mid_frame
    peer.send(PREFACE[5:])
    assert engine.is_mid_frame, "SETTINGS belong to the preface"
    peer.send(settings())
    assert not engine.is_mid_frame
    data = peer.headers(1)
    peer.send(data[:4])
    assert engine.is_mid_frame
    peer.send(data[4:12])
    assert engine.is_mid_frame
    peer.send(data[12:])
    assert not engine.is_mid_frame
    assert peer.streams[1].has_ended


def test_frames_are_handled_one_by_one(peer):
    data = frame(PING, 0, 0, bytes(8))
    peer.engine.receive_data(data * 2 + data[:5], peer.now)
    assert peer.engine.advance()
    assert len(peer.take().frames) == 1
    assert peer.engine.advance()
    assert not peer.engine.advance()
    peer.engine.receive_data(data[5:], peer.now)
    assert peer.engine.advance()
    assert len(peer.take().frames) == 2


def test_a_response_from_within_the_call_that_brings_the_request(peer):
    def respond(stream):
        peer.engine.send_head(stream, HEAD, b"at once", True, 7)
        peer.engine.finished(stream)

    peer.on_request = respond
    peer.send(b"".join(peer.headers(stream) for stream in range(1, 601, 2)))
    assert len(peer.take().of("DATA")) == 300
    assert not peer.engine.streams


def test_output_may_be_taken_when_it_is_announced(peer):
    taken = []
    peer.output_ready = lambda: taken.append(peer.take())
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(50_000), False, None)
    peer.engine.send_data(stream, b"end", True)
    peer.engine.reset(peer.open(3), ErrorCode.CANCEL)
    peer.send(frame(PING, 0, 0, bytes(8)))
    assert b"".join(output.body(1) for output in taken) == bytes(50_000) + b"end"
    assert [found for output in taken for found in output.of("RST_STREAM")]
    assert [found for output in taken for found in output.of("PING")]


# -- the end ---------------------------------------------------------------------------------------


def test_a_graceful_end(peer):
    early = peer.open(1)
    peer.engine.shut_down()
    peer.engine.shut_down()
    goaway, ping = peer.take().frames
    assert (goaway.last_stream_id, goaway.error_code) == (2**31 - 1, ErrorCode.NO_ERROR)
    assert not peer.engine.is_shut_down
    crossing = peer.open(3)
    peer.send(frame(PING, ACK, 0, b"another!"))
    assert not peer.engine.is_shut_down
    peer.send(frame(PING, ACK, 0, ping.opaque_data))
    assert peer.engine.is_shut_down
    (goaway,) = peer.take().frames
    assert (goaway.last_stream_id, goaway.error_code) == (3, ErrorCode.NO_ERROR)
    for stream in (early, crossing):
        peer.engine.send_head(stream, HEAD, b"served", True, 6)
        peer.engine.finished(stream)
    assert len(peer.take().of("DATA")) == 2
    assert not peer.engine.streams
    peer.engine.finish_shutdown()
    peer.engine.shut_down()
    assert not peer.take().frames


def test_an_answer_to_no_ping_ends_nothing(peer):
    peer.send(frame(PING, ACK, 0, b"shutdown"))
    assert not peer.engine.is_shut_down


def test_a_probe(peer):
    peer.send(frame(PING, ACK, 0, b"received"))
    assert not peer.probes_answered
    peer.engine.probe()
    (ping,) = peer.take().frames
    peer.send(frame(PING, ACK, 0, b"another!"))
    assert not peer.probes_answered
    for _ in range(2):
        peer.send(frame(PING, ACK, 0, ping.opaque_data))
        assert peer.probes_answered == 1
    peer.engine.go_away(ErrorCode.NO_ERROR)
    peer.take()
    peer.engine.probe()
    assert not peer.take().frames


def test_streams_after_the_last_are_ignored(peer):
    peer.open(1, POST, ends=False)
    peer.engine.shut_down()
    peer.engine.finish_shutdown()
    assert peer.take().of("GOAWAY")[-1].last_stream_id == 1
    fields = [(b"x-new", b"entry of the table")]
    peer.send(peer.headers(3, POST + fields, END_HEADERS))
    peer.send(*[frame(DATA, 0, 3, bytes(16_384))] * 32, frame(WINDOW_UPDATE, 0, 3, number(1)))
    (update,) = peer.take().frames
    assert (update.stream_id, update.window_increment) == (0, 512 * 1024), "flow control goes on"
    peer.send(peer.headers(1, fields))
    assert peer.streams[1].has_ended, "HPACK went on"
    assert list(peer.streams) == [1]
    assert peer.fails(frame(DATA, 0, 5, b"idle")) is ErrorCode.PROTOCOL_ERROR


def test_an_end_that_is_not_graceful(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(100_000), True, None)
    other = peer.open(3, POST, ends=False)
    peer.engine.go_away(ErrorCode.INTERNAL_ERROR, "a reason")
    assert peer.engine.is_shut_down
    output = peer.take()
    assert output.body(1) == b""
    goaway = output.frames[-1]
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (3, 2, b"a reason")
    peer.engine.go_away(ErrorCode.NO_ERROR)
    peer.engine.shut_down()
    peer.engine.finish_shutdown()
    peer.send(frame(PING, 0, 0, bytes(8)), peer.headers(5))
    peer.engine.send_data(stream, b"late", True)
    peer.engine.reset(other, ErrorCode.CANCEL)
    for found in (stream, other):
        peer.engine.finished(found)
    assert not peer.take().frames
    assert not peer.engine.streams
    assert not peer.engine.is_mid_frame
    assert stream.outcome[0] == other.outcome[0] == "request", "who ends it knows"


def test_the_last_stream_of_goaway_after_a_graceful_one(peer):
    peer.open(1)
    peer.engine.finish_shutdown()
    peer.send(peer.headers(3))
    peer.take()
    peer.engine.go_away(ErrorCode.NO_ERROR)
    assert peer.take().frames[-1].last_stream_id == 1


def test_the_reason_is_cut():
    peer = Peer()
    peer.engine.go_away(ErrorCode.INTERNAL_ERROR, "ü" * 300)
    assert len(peer.take().frames[-1].additional_data) == 256


def test_a_connection_that_is_lost_closes_its_streams(peer):
    running = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, 0, 1, bytes(16_384)))
    complete = peer.open(3)
    peer.engine.send_head(complete, HEAD, b"", True, 0)
    waiting = peer.open(5)
    peer.engine.send_head(waiting, HEAD, bytes(100_000), True, None)
    peer.engine.finished(waiting)
    peer.engine.connection_lost()
    assert running.outcome == ("closed", ErrorCode.CANCEL)
    assert waiting.outcome == ("closed", ErrorCode.CANCEL)
    assert complete.outcome[0] == "request"
    peer.engine.consumed(running, 100)
    for stream in (running, complete):
        peer.engine.finished(stream)
    assert not peer.engine.streams


@pytest.mark.parametrize("how", ["go away", "lost"])
def test_nothing_is_given_back_after_the_end(peer, how):
    for number_ in (1, 3, 5, 7):
        peer.open(number_, POST, ends=False)
        peer.send(*[frame(DATA, 0, number_, bytes(16_384))] * 15)
    if how == "lost":
        peer.engine.connection_lost()
    else:
        peer.engine.go_away(ErrorCode.NO_ERROR)
    peer.take()
    for stream in peer.streams.values():
        peer.engine.consumed(stream, 100_000)
        peer.engine.finished(stream)
    assert not peer.take().frames
    assert not peer.engine.streams


def test_a_connection_that_is_lost_keeps_no_stream_for_what_is_framed(peer):
    large = ResponseHead(304, [(b"etag", b"x" * 15_000)])
    for number_ in range(1, 21, 2):
        peer.engine.send_head(peer.open(number_), large, b"", True, None)
        peer.engine.finished(peer.streams[number_])
    assert 0 < len(peer.engine.streams) < 10
    peer.engine.connection_lost()
    assert not peer.engine.streams
    assert not peer.engine.data_to_send(65_536)


def test_a_call_that_raises_is_not_swallowed(peer):
    def fail(_stream):
        raise ProtocolError(500, "of the test")

    peer.on_request = fail
    with pytest.raises(ProtocolError):
        peer.open(1)


def test_connection_errors_are_told_once(peer):
    with pytest.raises(ConnectionError):
        peer.send(frame(PING, 0, 0, b""))
    assert len(peer.take().of("GOAWAY")) == 1
