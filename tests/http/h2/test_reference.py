"""Both engines of HTTP/2 over the same cases, and over the same bytes in random pieces: streams see the same of each."""

from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.builtin import BuiltinEngine
from asgi_master.http.h2.engine import HIGH_WATER, PREFACE, Engine
from asgi_master.http.h2.errors import ConnectionError, ErrorCode, StreamError  # noqa: A004 -- the term of RFC 9113
from asgi_master.http.h2.reference import ReferenceEngine
from asgi_master.http.h2.reference_head import check_trailers, request_of
from asgi_master.http.h2.request_head import RequestDecoder
from asgi_master.http.limits import Http2Limits, HttpLimits
from asgi_master.http.message import ResponseHead
from h2_engine import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEAD,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITY_UPDATE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    RecordedStream,
    frame,
    number,
)
from h2_engine import settings as settings_frame

Fields = list[tuple[bytes, bytes]]
ENGINES = {"builtin": BuiltinEngine, "reference": ReferenceEngine}
EXTENDED: Fields = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":path", b"/chat"),
    (b":authority", b"host"),
]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> type[Engine]:
    kind: type[Engine] = ENGINES[request.param]
    return kind


@pytest.fixture
def peer(engine: type[Engine]) -> Peer:
    return Peer(engine=engine)


# -- requests and responses ------------------------------------------------------------------------


def test_a_get_and_its_response(peer: Peer) -> None:
    stream = peer.open(1)
    assert (stream.request.method, stream.request.target, stream.has_ended) == ("GET", b"/", True)
    assert list(peer.engine.streams) == [stream]
    peer.engine.send_head(stream, HEAD, b"hello", True, 5)
    peer.engine.finished(stream)
    assert not peer.engine.streams
    assert peer.engine.backlog > 5
    head, data = peer.take().frames
    fields = [(b":status", b"200"), (b"content-type", b"text/plain"), (b"content-length", b"5")]
    assert peer.head(head) == fields
    assert (data.data, data.flags) == (b"hello", {"END_STREAM"})


def test_a_body_and_its_windows(engine: type[Engine]) -> None:
    peer = Peer(http2=Http2Limits(stream_window=65_535, connection_window=65_535), engine=engine)
    stream = peer.open(1, POST, ends=False)
    peer.send(*[frame(DATA, 0, 1, bytes(16_000))] * 4, frame(DATA, PADDED, 1, b"\x02abc\0\0"))
    assert stream.body == bytes(64_000) + b"abc"
    peer.take()
    peer.engine.consumed(stream, 64_000)
    updates = peer.take().of("WINDOW_UPDATE")
    assert {found.stream_id for found in updates} == {0, 1}
    peer.send(frame(DATA, END_STREAM, 1, b"end"))
    assert stream.has_ended
    peer.engine.finished(stream)
    assert list(peer.engine.streams) == [stream]
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    assert not peer.engine.streams


@pytest.mark.parametrize("fields", [[], [(b"x-checksum", b"1")]])
def test_trailers_of_a_request(peer: Peer, fields: Fields) -> None:
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, 0, 1, b"abc"), peer.headers(1, fields or [(b"a", b"b")]))
    assert (stream.body, stream.has_ended) == (b"abc", True)


@pytest.mark.parametrize("body", [b"", b"body", bytes(100_000)])
@pytest.mark.parametrize("fields", [(), ((b"X-Sum", b"1"),)])
def test_trailers_of_a_response(peer: Peer, body: bytes, fields: Any) -> None:
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(10**6)), settings_frame((4, 10**6)))
    peer.take()
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, body, False, None)
    peer.engine.send_trailers(stream, fields)
    output = peer.take()
    assert output.body(1) == body
    assert output.frames[-1].flags >= {"END_STREAM"}
    if fields:
        for found in output.of("HEADERS"):
            trailers = peer.head(found)
        assert trailers == [(b"x-sum", b"1")]


def test_interim_responses(peer: Peer) -> None:
    stream = peer.open(1)
    peer.engine.send_interim(stream, 103, ((b"link", b"<a>"),))
    peer.engine.send_head(stream, HEAD, b"", True, 0)
    peer.engine.send_interim(stream, 103, ())
    first, last = peer.take().frames
    assert peer.head(first) == [(b":status", b"103"), (b"link", b"<a>")]
    assert last.flags >= {"END_STREAM"}


def test_a_head_is_taken_back_until_it_leaves(peer: Peer) -> None:
    stream, other = peer.open(1), peer.open(3)
    peer.engine.send_head(stream, HEAD, b"", False, None)
    peer.engine.send_head(other, HEAD, b"other", True, 5)
    assert not peer.engine.take_back_head(other)
    assert peer.engine.take_back_head(stream)
    peer.engine.send_head(stream, ResponseHead(500, []), b"", False, None)
    output = peer.take()
    assert [found.stream_id for found in output.frames] == [3, 3, 1]
    assert not peer.engine.take_back_head(stream)
    peer.engine.send_data(stream, b"", False)
    peer.engine.send_data(stream, b"", True)
    (end,) = peer.take().frames
    assert (end.data, end.flags) == (b"", {"END_STREAM"})


def test_a_body_waits_for_its_window(peer: Peer) -> None:
    stream = peer.open(1)
    peer.engine.send_head(stream, HEAD, bytes(65_535), False, None)
    peer.take()
    assert not peer.engine.has_stalled(stream)
    peer.engine.send_data(stream, b"more", False)
    peer.engine.send_data(stream, b"", True)
    assert peer.engine.has_stalled(stream)
    assert not peer.take().frames
    peer.engine.finished(stream)
    assert list(peer.engine.streams) == [stream]
    before = peer.announced
    assert not peer.engine.backlog
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(100)), frame(WINDOW_UPDATE, 0, 1, number(100)))
    assert peer.announced == before + 1
    assert peer.take().body(1) == b"more"
    assert not peer.engine.streams


def test_who_writes_much_is_resumed(peer: Peer) -> None:
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(10**6)), settings_frame((4, 10**6)))
    peer.take()
    stream = peer.open(1)
    peer.on_resumed = lambda found: peer.engine.send_data(found, b"more", True)
    peer.engine.send_head(stream, HEAD, bytes(HIGH_WATER + 1), False, None)
    assert stream.unsent == HIGH_WATER + 1
    assert peer.take(10_000).body(1) == bytes(HIGH_WATER + 1) + b"more"


def test_streams_take_turns(peer: Peer) -> None:
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(10**6)), settings_frame((4, 10**6)))
    streams = [peer.open(1), peer.open(3)]
    peer.take()
    for stream in streams:
        peer.engine.send_head(stream, HEAD, bytes(60_000), True, None)
    small = peer.open(5)
    peer.engine.send_head(small, HEAD, b"small", True, 5)
    order = [found.stream_id for found in peer.take(1000).of("DATA")]
    assert sorted(order) == [1] * 4 + [3] * 4 + [5]
    assert order.index(5) < 4
    assert not peer.engine.data_to_send(1)


# -- ends ------------------------------------------------------------------------------------------


def test_a_reset_by_the_peer(peer: Peer) -> None:
    streams = [peer.open(1, POST, ends=False), peer.open(3)]
    peer.engine.send_head(streams[1], HEAD, bytes(100_000), True, None)
    peer.send(frame(RST_STREAM, 0, 1, number(ErrorCode.CANCEL)), frame(RST_STREAM, 0, 3, number(99)))
    assert [stream.outcome for stream in streams] == [
        ("closed", ErrorCode.CANCEL),
        ("closed", ErrorCode.INTERNAL_ERROR),
    ]
    for stream in streams:
        assert not peer.engine.take_back_head(stream)
        peer.engine.send_head(stream, HEAD, b"x", True, None)
        peer.engine.send_trailers(stream, ())
        peer.engine.reset(stream, ErrorCode.CANCEL)
        peer.engine.finished(stream)
    assert not peer.engine.streams
    assert peer.engine.resets == 2
    assert not peer.take().of("RST_STREAM")


def test_a_reset_by_us(peer: Peer) -> None:
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_head(stream, HEAD, bytes(100_000), False, None)
    peer.engine.reset(stream, ErrorCode.INTERNAL_ERROR)
    peer.engine.finished(stream)
    output = peer.take()
    assert (output.body(1), output.frames[-1].error_code) == (b"", ErrorCode.INTERNAL_ERROR)
    assert not peer.engine.streams
    peer.send(frame(DATA, 0, 1, b"late"))
    assert stream.outcome[0] == "request"


@pytest.mark.parametrize("read", [False, True])
def test_a_reset_without_an_error_waits_for_the_response(peer: Peer, read: bool) -> None:
    stream = peer.open(1, POST, ends=False)
    peer.engine.send_head(stream, HEAD, bytes(65_536), True, None)
    peer.take()
    peer.engine.reset(stream, ErrorCode.NO_ERROR)
    assert not peer.take().frames
    if read:
        peer.send(frame(DATA, END_STREAM, 1, b""))
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(1)), frame(WINDOW_UPDATE, 0, 1, number(1)))
    assert [type(found).__name__ for found in peer.take().frames] == ["DataFrame", "RstStreamFrame"][
        : 2 - read
    ]
    peer.engine.finished(stream)
    assert not peer.engine.streams


def test_a_graceful_end(peer: Peer) -> None:
    stream = peer.open(1)
    peer.engine.shut_down()
    peer.engine.shut_down()
    goaway, ping = peer.take().frames
    assert (goaway.last_stream_id, ping.opaque_data) == (2**31 - 1, b"shutdown")
    peer.send(frame(PING, ACK, 0, b"whatever"))
    assert not peer.engine.is_shut_down
    late = peer.open(3)
    peer.send(frame(PING, ACK, 0, b"shutdown"))
    assert peer.engine.is_shut_down
    peer.engine.finish_shutdown()
    (goaway,) = peer.take().frames
    assert (goaway.last_stream_id, goaway.error_code) == (3, ErrorCode.NO_ERROR)
    peer.send(peer.headers(5, POST, END_HEADERS), frame(DATA, 0, 5, b"abc"), peer.headers(5, [(b"a", b"b")]))
    peer.send(peer.headers(7, POST, END_HEADERS), frame(RST_STREAM, 0, 7, number(8)))
    assert set(peer.streams) == {1, 3}
    for served in (stream, late):
        peer.engine.send_head(served, HEAD, b"x", True, 1)
        peer.engine.finished(served)
    assert not peer.engine.streams
    assert peer.take().body(3) == b"x"


def test_a_probe(peer: Peer) -> None:
    peer.send(frame(PING, ACK, 0, b"received"))
    assert not peer.probes_answered
    peer.engine.probe()
    (ping,) = peer.take().frames
    for payload in (b"another!", ping.opaque_data, ping.opaque_data):
        peer.send(frame(PING, ACK, 0, payload))
    assert peer.probes_answered == 1
    peer.engine.go_away(ErrorCode.NO_ERROR)
    peer.take()
    peer.engine.probe()
    assert not peer.take().frames


def test_an_end_that_is_not_graceful(peer: Peer) -> None:
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, 0, 1, b"abc"))
    peer.engine.go_away(ErrorCode.ENHANCE_YOUR_CALM, "enough")
    peer.engine.go_away(ErrorCode.NO_ERROR)
    peer.engine.shut_down()
    (goaway,) = peer.take().of("GOAWAY")
    assert (goaway.error_code, goaway.additional_data) == (ErrorCode.ENHANCE_YOUR_CALM, b"enough")
    peer.send(frame(PING, 0, 0, bytes(8)))
    peer.engine.consumed(stream, 3)
    peer.engine.reset(stream, ErrorCode.CANCEL)
    assert stream.outcome == ("data", b"abc")
    peer.engine.finished(stream)
    assert not peer.engine.streams
    assert not peer.take().frames


def test_a_connection_that_is_lost(peer: Peer) -> None:
    running, complete = peer.open(1, POST, ends=False), peer.open(3)
    peer.engine.send_head(complete, HEAD, b"", True, 0)
    peer.engine.connection_lost()
    assert running.outcome == ("closed", ErrorCode.CANCEL)
    assert complete.outcome[0] == "request"
    for stream in (running, complete):
        peer.engine.finished(stream)
    assert not peer.engine.streams


def test_what_the_client_says_of_its_own_end(peer: Peer) -> None:
    assert peer.engine.peer_goaway is None
    stream = peer.open(1)
    peer.send(frame(GOAWAY, 0, 0, number(0) + number(ErrorCode.ENHANCE_YOUR_CALM)))
    assert peer.engine.peer_goaway == ErrorCode.ENHANCE_YOUR_CALM
    peer.engine.send_head(stream, HEAD, b"still", True, 5)
    assert peer.take().body(1) == b"still"


# -- limits and errors -----------------------------------------------------------------------------


def test_the_first_bytes(engine: type[Engine]) -> None:
    peer = Peer(engine=engine, opens=False)
    peer.engine.start()
    first, update = peer.take().frames
    assert first.settings[3] == Http2Limits().max_concurrent_streams
    assert (update.stream_id, update.window_increment) == (0, 1024 * 1024 - 65_535)
    assert not peer.engine.is_mid_frame
    for byte in PREFACE + settings_frame()[:-1]:
        peer.send(bytes([byte]))
        assert peer.engine.is_mid_frame
    peer.send(settings_frame()[-1:])
    assert not peer.engine.is_mid_frame
    (acknowledgement,) = peer.take().frames
    assert acknowledgement.flags == {"ACK"}


def test_a_connection_window_that_is_the_default(engine: type[Engine]) -> None:
    peer = Peer(http2=Http2Limits(connection_window=1000), engine=engine, opens=False)
    peer.engine.start()
    assert not peer.take().of("WINDOW_UPDATE")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        PREFACE + frame(PING, 0, 0, bytes(8)),
        PREFACE + frame(SETTINGS, ACK),
        PREFACE + frame(SETTINGS, size=20_000),
        PREFACE + settings_frame() + frame(PING, 0, 0, b"short"),
        PREFACE + settings_frame() + frame(GOAWAY, 0, 0, b"short"),
        PREFACE + settings_frame() + frame(GOAWAY, 0, 1, bytes(8)),
        PREFACE + settings_frame() + frame(HEADERS, 0, 1, b"\x82") + frame(PING, 0, 0, bytes(8)),
        PREFACE + settings_frame() + frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 3, b"\x82"),
        PREFACE + settings_frame() + frame(HEADERS, 5, 2, b"\x82"),
        PREFACE + settings_frame() + frame(DATA, 0, 1, b"x"),
        PREFACE + settings_frame() + frame(WINDOW_UPDATE, 0, 0, number(0)),
        PREFACE + settings_frame() + frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1)),
        PREFACE + settings_frame() + frame(RST_STREAM, 0, 1, number(1)),
        PREFACE + settings_frame((4, 2**31)),
    ],
)
def test_what_ends_the_connection(data: bytes) -> None:
    codes = []
    for engine in ENGINES.values():
        peer = Peer(engine=engine, opens=False)
        peer.engine.start()
        codes.append(peer.fails(data))
        assert peer.engine.is_shut_down
    assert codes[0] is codes[1]


def test_more_streams_than_settings_allow(engine: type[Engine]) -> None:
    peer = Peer(http2=Http2Limits(max_concurrent_streams=2), engine=engine)
    streams = [peer.open(1), peer.open(3)]
    peer.engine.reset(streams[0], ErrorCode.CANCEL)
    peer.send(peer.headers(5))
    assert (peer.reset_code(5), set(peer.streams)) == (ErrorCode.REFUSED_STREAM, {1, 3})
    peer.engine.finished(streams[0])
    assert peer.open(7).outcome[0] == "request"


def test_no_limit_of_streams(engine: type[Engine]) -> None:
    peer = Peer(http2=Http2Limits(0, 0, 0), engine=engine)
    for number_of in range(1, 400, 2):
        peer.open(number_of)
    assert len(peer.engine.streams) == 200


def test_a_malformed_request_ends_its_stream(peer: Peer) -> None:
    peer.send(peer.headers(1, [*GET, (b"Upper", b"case")]), peer.headers(3))
    assert peer.reset_code(1) == ErrorCode.PROTOCOL_ERROR
    assert set(peer.streams) == {3}
    assert peer.engine.resets == 1


@pytest.mark.parametrize("fields", [[(b":path", b"/")], [(b"Upper", b"case")]])
def test_malformed_trailers_end_their_stream(peer: Peer, fields: Fields) -> None:
    stream = peer.open(1, POST, ends=False)
    peer.send(peer.headers(1, fields))
    assert stream.outcome == ("closed", ErrorCode.PROTOCOL_ERROR)
    assert peer.reset_code(1) == ErrorCode.PROTOCOL_ERROR
    peer.engine.finished(stream)
    assert not peer.engine.streams


def test_a_request_that_is_not_served(engine: type[Engine]) -> None:
    peer = Peer(HttpLimits(request_line=10), engine=engine)
    stream = peer.open(1, [*POST[:-1], (b":path", b"/" * 11)], ends=False)
    assert stream.outcome == ("refused", 414)
    peer.send(frame(DATA, 0, 1, b"dropped"), peer.headers(1, [(b"a", b"b")]))
    assert stream.outcome == ("refused", 414)


@pytest.mark.parametrize("length", [[], [(b"content-length", b"30000")]])
def test_a_body_over_its_limit(engine: type[Engine], length: Fields) -> None:
    peer = Peer(HttpLimits(body_size=20_000), engine=engine)
    stream = peer.open(1, [*POST, *length], ends=False)
    assert (stream.outcome == ("refused", 413)) == bool(length)
    peer.send(*[frame(DATA, 0, 1, bytes(10_000))] * 2, frame(DATA, END_STREAM, 1, bytes(10_000)))
    assert stream.calls.count(("refused", 413)) == 1
    assert len(stream.body) == (0 if length else 20_000)


def test_trailers_over_their_limit(engine: type[Engine]) -> None:
    peer = Peer(HttpLimits(header_count=3), engine=engine)
    stream = peer.open(1, POST, ends=False)
    peer.send(peer.headers(1, [(b"a", b"b")] * 4))
    assert stream.outcome == ("refused", 431)


def test_a_body_that_the_application_does_not_read(peer: Peer) -> None:
    stream = peer.open(1, POST, ends=False)
    peer.send(frame(DATA, 0, 1, b"unread"))
    peer.engine.finished(stream)
    peer.send(frame(DATA, 0, 1, b"dropped"), frame(DATA, END_STREAM, 1, b""))
    assert stream.body == b"unread"


def test_a_tunnel(engine: type[Engine]) -> None:
    peer = Peer(HttpLimits(body_size=10), engine=engine)
    stream = peer.open(1, EXTENDED, ends=False)
    assert (stream.request.method, stream.request.protocol) == ("CONNECT", b"websocket")
    peer.send(frame(DATA, 0, 1, bytes(100)))
    assert len(stream.body) == 100
    peer.send(peer.headers(1, [(b"a", b"b")]))
    assert stream.outcome == ("closed", ErrorCode.PROTOCOL_ERROR)


def test_priorities_do_not_hurt(peer: Peer) -> None:
    stream = peer.open(1, [*GET, (b"priority", b"u=1, i")])
    assert (stream.request.urgency, stream.request.is_incremental) == (1, True)
    peer.send(frame(PRIORITY_UPDATE, 0, 0, number(1) + b"u=5"))
    assert peer.open(3).request.urgency == 3


# -- heads -----------------------------------------------------------------------------------------

NAMES = [
    *[name for name, _ in [*GET, *EXTENDED]],
    b":status", b"cookie", b"host", b"content-length", b"expect", b"priority", b"te", b"connection", b"upgrade",
    b"accept", b"x-a", b"X-A", b"", b"a b", b"\xe4",
]  # fmt: skip
VALUES = [
    b"GET", b"POST", b"get", b"OPTIONS", b"CONNECT", b"PURGE", b"a b", b"http", b"https", b"ftp", b"1x", b"/", b"/a?b=c",
    b"*", b"a", b"/a b", b"/\xe4", b"/" * 60, b"host", b"HOST", b"host:80", b"h@st", b"[::1]", b"", b"websocket", b"0",
    b"5", b"-1", b"9" * 19, b"100-continue", b"100-Continue", b"u=1, i", b"trailers", b"Trailers, x", b" a", b"a\t",
    b"a\tb", b"a\r\nb", b"a\0", b"\xff", b"v" * 300,
]  # fmt: skip
SMALL = HttpLimits(request_line=50, header_count=8, header_bytes=600)

some_fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=10)


def result_of(decide: Any) -> Any:
    """What comes of a head: what it means, or how it is refused."""
    try:
        return decide()
    except StreamError as error:
        return error.code
    except ProtocolError as error:
        return error.status


@given(
    st.sampled_from([GET, POST, EXTENDED, []]),
    some_fields,
    st.booleans(),
    st.sampled_from([SMALL, HttpLimits()]),
)
@example(GET, [(b"cookie", b"a"), (b"x-a", b"b"), (b"cookie", b"c")], True, HttpLimits())
@example(GET, [(b"host", b"HOST")], True, HttpLimits())
@example(GET, [(b"host", b"other")], True, HttpLimits())
@example(POST, [(b"expect", b"100-continue"), (b"content-length", b"5")], False, HttpLimits())
@example(POST, [(b"expect", b"100-continue")] * 2, False, HttpLimits())
@example([*GET[:2], (b":path", b"*")], [(b"host", b"a")], True, HttpLimits())
@example([(b":method", b"CONNECT"), (b":authority", b"a")], [], True, HttpLimits())
@example([(b":method", b"CONNECT"), *GET[1:]], [], True, HttpLimits())
@example([*GET[:1], (b":scheme", b"ftp"), *GET[2:]], [], True, HttpLimits())
@example([*GET, (b":protocol", b"a")], [], True, HttpLimits())
@example([GET[0], GET[1], GET[3]], [(b"host", b"a"), (b"cookie", b"c")], True, HttpLimits())
@example([GET[0], GET[1], GET[3]], [], True, HttpLimits())
@example([(b"x-a", b"b"), *GET], [], True, HttpLimits())
@example(GET, [(b"content-length", b"5")], True, HttpLimits())
@example([(b":method", b"PURGE"), *GET[1:]], [(b"te", b"trailers")], True, HttpLimits())
@example([(b":method", b"get"), *GET[1:]], [], True, HttpLimits())
@example(GET, [(b"te", b"gzip")], True, HttpLimits())
@example(GET, [(b":status", b"200")], True, HttpLimits())
@example(GET, [(b"expect", b"x")], True, HttpLimits())
@example([*GET[:-1], (b":path", b"/" * 60)], [], True, SMALL)
@example(GET, [(b"x-a", b"v" * 300)] * 2, True, SMALL)
@example(GET, [(b"x-a", b"")] * 9, True, SMALL)
@example(GET, GET, True, HttpLimits())
@example(GET[1:], [], True, HttpLimits())
@example(GET, [(b"x-a", b"a\0")], True, HttpLimits())
@settings(deadline=None, max_examples=300)
def test_heads_mean_the_same(first: Fields, more: Fields, ends: bool, limits: HttpLimits) -> None:
    fields = first + more
    block = Peer().block(fields)
    read = result_of(lambda: RequestDecoder(limits).decode(block, ends))
    assert result_of(lambda: request_of(fields, ends, limits)) == read


@given(some_fields, st.sampled_from([SMALL, HttpLimits()]))
@settings(deadline=None)
def test_trailers_mean_the_same(fields: Fields, limits: HttpLimits) -> None:
    block = Peer().block(fields)
    read = result_of(lambda: RequestDecoder(limits).decode_trailers(block))
    found = result_of(lambda: check_trailers(fields, limits))
    assert found == read or {found, read} == {431, ErrorCode.PROTOCOL_ERROR}, (
        "both are wrong, which comes first may differ"
    )


# -- whole connections -----------------------------------------------------------------------------


SILENT = 5
"""The way of an application that never answers."""


def way_of(seed: int, stream: int) -> int:
    """How the application treats a request."""
    return Random(f"{seed} {stream}").randrange(6)


class Script:
    """What a client sends and how an application behaves, drawn from one number."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        random = Random(seed)
        self.pieces = [
            PREFACE,
            settings_frame(*random.choice(((), ((4, 0),), ((4, 1000),), ((4, 100_000),)))),
        ]
        self.pieces.append(frame(SETTINGS, ACK))
        client = Peer()
        self.open: list[int] = []
        self.used: list[int] = []
        self.tunnels: list[int] = []
        for _ in range(random.randint(1, 60)):
            self.pieces.append(self._frame(client, random))
        self.pieces += [frame(WINDOW_UPDATE, 0, stream, number(10**6)) for stream in (0, *self.used)]

    def _frame(self, client: Peer, random: Random) -> bytes:
        kind = random.randrange(12)
        if kind < 5 or not self.used:
            return self._head(client, random)
        if self.open and kind < 8:
            stream = random.choice(self.open)
            ends = random.random() < 0.3
            if ends:
                self.open.remove(stream)
            padding = random.choice((b"", b"\0\0\0"))
            size = random.choice((0, 1, 10, 1000))
            payload = bytes([len(padding)]) * bool(padding) + b"d" * size + padding
            return frame(DATA, END_STREAM * ends | PADDED * bool(padding), stream, payload)
        silent = [stream for stream in self.used if way_of(self.seed, stream) is SILENT]
        if self.open and kind == 8 and (self.open[-1] in silent or self.open[-1] not in self.tunnels):
            stream = self.open.pop()
            malformed = [(b"x-t", b"v"), (b"X", b"v")] if stream in silent and random.random() < 0.5 else []
            return client.headers(stream, malformed or [(b"x-t", b"v")])
        if kind == 9 and silent:
            # What of a response has left before it is reset is each engine's own affair.
            stream = random.choice(silent)
            if stream in self.open:
                self.open.remove(stream)
            return frame(RST_STREAM, 0, stream, number(random.choice((0, 8, 5, 77))))
        if kind == 10:
            return frame(
                WINDOW_UPDATE, 0, random.choice((0, *self.used)), number(random.choice((1, 100, 50_000)))
            )
        return random.choice(
            (frame(PING, 0, 0, bytes(8)), settings_frame((4, random.choice((0, 10, 70_000)))))
        )

    def _head(self, client: Peer, random: Random) -> bytes:
        stream = self.used[-1] + 2 if self.used else 1
        self.used.append(stream)
        ends = random.random() < 0.5
        if not ends:
            self.open.append(stream)
        fields = [*random.choice((GET, POST, POST, EXTENDED))]
        if len(fields) == len(EXTENDED):
            self.tunnels.append(stream)
        fields += [(b"x-a", random.choice((b"v", b"w" * 40))) for _ in range(random.randrange(3))]
        if random.random() < 0.1:
            fields.append(random.choice(((b"Bad", b"name"), (b"expect", b"x"), (b"host", b"other"))))
        block = client.block(fields)
        flags = END_STREAM * ends
        if random.random() < 0.2:
            cut = random.randint(0, len(block))
            return frame(HEADERS, flags, stream, block[:cut]) + frame(
                CONTINUATION, END_HEADERS, stream, block[cut:]
            )
        return frame(HEADERS, flags | END_HEADERS, stream, block)


class Application:
    """Answers each stream in its own way, as soon as something of it arrives; each engine has the same."""

    def __init__(self, peer: Peer, seed: int) -> None:
        self.engine = peer.engine
        self.seed = seed
        peer.on_request = self.request
        peer.on_data = self.data

    def request(self, stream: RecordedStream) -> None:
        way = way_of(self.seed, stream.stream_id)
        body = b"r" * Random(self.seed + stream.stream_id).choice((0, 5, 1000, 70_000))
        if way == 0:
            self.engine.send_head(stream, HEAD, body, True, len(body))
        elif way == 1:
            self.engine.send_interim(stream, 103, ((b"link", b"<a>"),))
            self.engine.send_head(stream, HEAD, body, False, None)
            self.engine.send_data(stream, b"and more", True)
        elif way == 2:
            self.engine.send_head(stream, HEAD, body, False, None)
            self.engine.send_trailers(stream, ((b"x-sum", b"1"),))
        elif way == 3:
            self.engine.reset(stream, ErrorCode.INTERNAL_ERROR)
        elif way == 4:
            self.engine.send_head(stream, HEAD, b"", False, None)
            if self.engine.take_back_head(stream):
                self.engine.send_head(stream, ResponseHead(500, []), b"taken back", True, 10)
            else:
                self.engine.send_data(stream, b"has left", True)
        if way is not SILENT:
            self.engine.finished(stream)

    def data(self, stream: RecordedStream, data: bytes) -> None:
        if not stream.is_finished:
            self.engine.consumed(stream, len(data))


class Outcome:
    """What streams and the peer saw of a connection."""

    def __init__(self, engine: type[Engine], script: Script, random: Random) -> None:
        peer = Peer(engine=engine, opens=False)
        peer.engine.start()
        Application(peer, script.seed)
        self.error: ErrorCode | None = None
        self.frames: list[Any] = []
        data = b"".join(script.pieces)
        try:
            while data:
                size = random.choice((1, 9, 50, 1000, 100_000))
                peer.send(data[:size])
                data = data[size:]
                if random.random() < 0.3:
                    self.frames += peer.take(random.choice((1, 65_536))).frames
        except ConnectionError as error:
            self.error = error.code
        self.frames += peer.take().frames
        self.peer = peer

    def seen(self, stream: int) -> tuple[Any, ...]:
        """What a stream was told, its body joined."""
        found = self.peer.streams[stream]
        calls = [call for call in found.calls if call[0] != "data"]
        return calls, found.body, found.has_ended

    def responses(self) -> dict[int, list[Any]]:
        """What the peer has of each stream: heads, all of the body, and its end."""
        found: dict[int, list[Any]] = {}
        for each in self.frames:
            if each.stream_id and type(each).__name__ != "WindowUpdateFrame":
                parts = found.setdefault(each.stream_id, [])
                if type(each).__name__ == "HeadersFrame":
                    parts.append(self.peer.head(each))
                elif type(each).__name__ == "DataFrame":
                    if parts and type(parts[-1]) is bytes:
                        parts[-1] += each.data
                    elif each.data:
                        parts.append(each.data)
                elif not any(type(part) is int for part in parts):  # the library answers each late frame
                    parts.append(each.error_code)
                if "END_STREAM" in each.flags:
                    parts.append("end")
        return found


@given(st.integers(0, 2**32), st.integers(0, 2**32))
@settings(deadline=None, max_examples=100)
def test_connections_are_the_same(seed: int, cuts: int) -> None:
    script = Script(seed)
    builtin, reference = (
        Outcome(engine, script, Random(cuts + place)) for place, engine in enumerate(ENGINES.values())
    )
    assert builtin.error is reference.error
    assert set(builtin.peer.streams) == set(reference.peer.streams)
    for stream in builtin.peer.streams:
        assert builtin.seen(stream) == reference.seen(stream)
    assert builtin.responses() == reference.responses()


def test_goaway_may_leave_out_streams_that_were_opened(engine: type[Engine]) -> None:
    peer = Peer(engine=engine)
    served, left_out, closed = peer.open(1), peer.open(3), peer.open(5, POST, ends=False)
    peer.engine.finish_shutdown(1)
    (goaway,) = peer.take().frames
    assert (goaway.last_stream_id, goaway.error_code) == (1, 0)
    assert left_out.outcome == closed.outcome == ("closed", ErrorCode.REFUSED_STREAM)
    peer.send(frame(DATA, END_STREAM, 5, b"late"))
    for stream in (left_out, closed):
        peer.engine.finished(stream)
    assert list(peer.engine.streams) == [served]
    peer.engine.send_head(served, HEAD, b"body", True, None)
    output = peer.take()
    assert output.body(1) == b"body"
    assert output.of("RST_STREAM") == []
    peer.engine.finish_shutdown()
    assert peer.take().frames == []


@pytest.mark.parametrize(
    ("values", "gives_up"),
    [
        ((), False),
        (((1, 4096),), False),
        (((1, 65536), (5, 16384)), False),
        (((1, 4096), (5, 16384), (3, 9)), True),
    ],
)
def test_clients_that_give_up_at_goaway_are_known_by_their_settings(
    engine: type[Engine], values: Any, gives_up: bool
) -> None:
    peer = Peer(engine=engine, opens=False)
    peer.engine.start()
    peer.send(PREFACE, settings_frame(*values))
    assert peer.engine.peer_gives_up is gives_up
    peer.send(settings_frame((4, 1000)))
    assert peer.engine.peer_gives_up is gives_up
