"""What a parser tells of the bytes it is given, and when it stops taking them."""

import pytest

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import TARGET_TEXT
from asgi_master.http.h1.h11_parser import H11Parser
from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.h1.parser import END_OF_MESSAGE, NEED_DATA, Parser
from asgi_master.http.h1.request_head import H1Request, read_request_line
from asgi_master.http.h1.zttp_parser import ZttpParser
from asgi_master.http.limits import HttpLimits

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(params=[ZttpParser, HttptoolsParser, H11Parser])
def kind(request):
    return request.param


def status_of(parser, data):
    """The status with which `data` is refused; `None` if more is waited for."""
    parser.receive_data(data)
    try:
        assert parser.next_event() is NEED_DATA
    except ProtocolError as error:
        return error.status
    return None


def test_one_request(kind):
    parser = kind(HttpLimits())
    assert parser.next_event() is NEED_DATA
    parser.receive_data(b"GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\nX-Y:  z \t\r\n\r\n")
    request = parser.next_event()
    assert (request.method, request.target, request.raw_path, request.query_string) == (
        "GET",
        b"/a%20b?c=d",
        b"/a%20b",
        b"c=d",
    )
    assert request.headers == [(b"host", b"a"), (b"x-y", b"z")]
    assert (request.http_version, request.keep_alive, request.body_length) == ("1.1", True, 0)
    assert (request.upgrade, request.expect_continue) == (None, False)
    assert parser.next_event() is END_OF_MESSAGE
    assert parser.next_event() is NEED_DATA


def test_nothing_of_the_next_request_is_told_before_the_cycle_starts(kind):
    parser = kind(HttpLimits())
    parser.receive_data(GET + GET)
    parser.next_event()
    assert parser.next_event() is END_OF_MESSAGE
    assert parser.next_event() is NEED_DATA
    assert parser.buffered == len(GET)
    assert parser.next_request() is None
    assert parser.start_next_cycle(), "some of the next request is here"
    assert not parser.is_idle
    assert parser.next_request().target == b"/"
    assert not parser.start_next_cycle()  # the end of a request without a body need not be told
    assert parser.is_idle


def test_a_body_comes_in_the_pieces_that_arrive(kind):
    parser = kind(HttpLimits())
    parser.receive_data(POST + b"Content-Length: 6\r\n\r\nab")
    assert parser.next_event().body_length == 6
    assert parser.body_remaining == 4
    assert [parser.next_event(), parser.next_event()] == [b"ab", NEED_DATA]
    parser.receive_data(b"cdef" + GET)
    assert parser.body_remaining == 0
    assert [parser.next_event(), parser.next_event()] == [b"cdef", END_OF_MESSAGE]
    assert parser.buffered == len(GET)


def test_a_chunked_body(kind):
    parser = kind(HttpLimits())
    parser.receive_data(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nde")
    assert parser.next_event().body_length is None
    assert parser.body_remaining is None
    assert [parser.next_event(), parser.next_event()] == [b"abcde", NEED_DATA]
    parser.receive_data(b"f\r\n0\r\nX: y\r\n\r\n" + GET)
    assert [parser.next_event(), parser.next_event()] == [b"f", END_OF_MESSAGE]
    parser.start_next_cycle()
    assert parser.next_event().headers == [(b"host", b"a")]


def test_what_follows_an_upgrade_is_taken_out_once(kind):
    parser = kind(HttpLimits())
    parser.receive_data(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n\x81\x00")
    assert parser.next_event().upgrade == b"websocket"
    assert parser.trailing_data() == b"\x81\x00"
    assert parser.trailing_data() == b""


def test_limits_hold_while_the_head_is_incomplete(kind):
    limits = HttpLimits(request_line=100, header_bytes=200)
    assert status_of(kind(limits), b"GET /" + b"a" * 200) == 414
    assert status_of(kind(limits), b"GET / HTTP/1.1\r\nX: " + b"a" * 200) == 431
    parser = kind(limits)
    for _ in range(25):
        assert status_of(parser, b"a") is None
    assert status_of(parser, b"a" * 76) == 414
    parser = kind(limits)
    assert status_of(parser, b"GET / HTTP/1.1\r\n") is None
    assert status_of(parser, b"a" * 200) is None
    assert status_of(parser, b"a") == 431


@pytest.mark.parametrize("length", [100, 101])
def test_the_request_line_limit_is_exact(kind, length):
    line = b"GET /" + b"a" * (length - 14) + b" HTTP/1.1"
    assert len(line) == length
    for pieces in ([line + b"\r\nHost: a\r\n\r\n"], [line, b"\r", b"\nHost: a\r\n\r\n"]):
        parser = kind(HttpLimits(request_line=100))
        told = feed(parser, pieces)
        assert told == (414 if length > 100 else "GET")


@pytest.mark.parametrize("length", [200, 201])
def test_the_header_limit_is_exact(kind, length):
    section = b"Host: a\r\nX: " + b"a" * (length - 16) + b"\r\n\r\n"
    assert len(section) == length
    for pieces in ([b"GET / HTTP/1.1\r\n" + section], [b"GET / HTTP/1.1\r\n" + section[:-1], section[-1:]]):
        parser = kind(HttpLimits(header_bytes=200))
        assert feed(parser, pieces) == (431 if length > 200 else "GET")


def feed(parser, pieces):
    try:
        for piece in pieces:
            parser.receive_data(piece)
            event = parser.next_event()
    except ProtocolError as error:
        return error.status
    return event.method


def test_the_header_count_is_exact(kind):
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 9 + b"\r\n"
    assert feed(kind(HttpLimits(header_count=10)), [head]) == "GET"
    assert feed(kind(HttpLimits(header_count=9)), [head]) == 431


def test_zero_is_no_limit(kind):
    limits = HttpLimits(request_line=0, header_count=0, header_bytes=0, body_size=0)
    head = b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"
    assert feed(kind(limits), [head]) == "GET"
    parser = kind(limits)
    parser.receive_data(head[:30_000])
    assert parser.next_event() is NEED_DATA
    parser.receive_data(head[30_000:])
    assert len(parser.next_event().headers) == 20_001


def test_a_hopeless_head_is_refused_before_it_is_complete(kind):
    assert status_of(kind(HttpLimits()), b"GET / HTTP/1.1\n") == 400
    assert status_of(kind(HttpLimits()), b"GET / HTTP/1.1\r\nHost: a\nX") == 400
    assert status_of(kind(HttpLimits()), b"\x16\x03\x01") == 400
    parser = kind(HttpLimits())
    assert status_of(parser, b"GET / HTTP/1.1\r") is None
    assert status_of(parser, b"\nHost: a") is None
    assert status_of(parser, b"\n") == 400


def test_a_head_in_single_bytes(kind):
    parser = kind(HttpLimits())
    for byte in GET[:-1]:
        assert status_of(parser, bytes([byte])) is None
        assert not parser.is_idle
    parser.receive_data(GET[-1:])
    assert parser.next_event().method == "GET"


def test_the_body_limit(kind):
    limits = HttpLimits(body_size=10)
    assert feed(kind(limits), [POST + b"Content-Length: 10\r\n\r\n"]) == "POST"
    assert feed(kind(limits), [POST + b"Content-Length: 11\r\n\r\n"]) == 413
    parser = kind(limits)
    assert feed(parser, [POST + b"Transfer-Encoding: chunked\r\n\r\n"]) == "POST"
    parser.receive_data(b"a\r\n0123456789\r\n")
    assert parser.next_event() == b"0123456789"
    assert status_of(parser, b"1\r\n") == 413


def test_one_empty_line_before_a_request(kind):
    parser = kind(HttpLimits())
    assert status_of(parser, b"\r") is None
    assert status_of(parser, b"\n") is None
    assert parser.is_idle
    parser.receive_data(GET)
    assert parser.next_event().method == "GET"
    parser.start_next_cycle()
    parser.receive_data(b"\r\n")
    assert status_of(parser, b"\r\n") == 400


@pytest.mark.parametrize(
    ("fields", "version", "keep_alive"),
    [
        (b"", b"1.1", True),
        (b"", b"1.0", False),
        (b"Connection: close\r\n", b"1.1", False),
        (b"Connection: a, CLOSE\r\n", b"1.1", False),
        (b"Connection: a\r\nConnection: close\r\n", b"1.1", False),
        (b"Connection: keep-alive\r\n", b"1.0", True),
        (b"Connection: keep-alive, close\r\n", b"1.0", False),
        (b"Connection: closed\r\n", b"1.1", True),
    ],
)
def test_keep_alive(kind, fields, version, keep_alive):
    parser = kind(HttpLimits())
    parser.receive_data(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + fields + b"\r\n")
    assert parser.next_event().keep_alive is keep_alive


@pytest.mark.parametrize(
    ("version", "fields", "upgrade"),
    [
        (b"1.1", b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n", b"websocket"),
        (b"1.1", b"Upgrade: websocket\r\n", None),
        (b"1.1", b"Connection: upgrade\r\n", None),
        (b"1.0", b"Connection: upgrade\r\nUpgrade: websocket\r\n", None),
    ],
)
def test_upgrade(kind, version, fields, upgrade):
    parser = kind(HttpLimits())
    parser.receive_data(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + fields + b"\r\n")
    assert parser.next_event().upgrade == upgrade


def test_the_expectation_of_a_request_without_a_body_is_met(kind):
    parser = kind(HttpLimits())
    parser.receive_data(GET[:-2] + b"Expect: 100-continue\r\n\r\n")
    assert parser.next_event().expect_continue is False


@pytest.mark.parametrize("parser_class", [ZttpParser, HttptoolsParser, H11Parser])
def test_between_requests_it_holds_nothing_large(parser_class):
    parser = parser_class(HttpLimits())
    parser.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 250000\r\n\r\n" + b"x" * 250_000)
    parser.next_event()
    assert len(parser.take_complete_body() or b"") == 250_000
    parser.start_next_cycle()
    assert parser.is_idle
    assert parser._buffer == b""
    parser.receive_data(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    assert parser.next_event().target == b"/next"


def test_the_first_line_of_what_was_refused_is_shown(kind: type[Parser]) -> None:
    parser = kind(HttpLimits())
    parser.receive_data(b"\r\nGET / HTTP/1.1\r\nbroken\r\n\r\n")
    with pytest.raises(ProtocolError):
        parser.next_event()
    assert parser.first_line == b"GET / HTTP/1.1"


def test_a_body_that_is_all_here_is_taken_out_whole(kind: type[Parser]) -> None:
    for sent, body in ((b"abc", b"abc"), (b"ab", None)):
        parser = kind(HttpLimits())
        parser.receive_data(POST + b"Content-Length: 3\r\n\r\n" + sent)
        parser.next_event()
        assert parser.take_complete_body() == body


def test_a_request_line_that_is_complete_is_measured_too(kind: type[Parser]) -> None:
    target = b"/" + b"a" * 200
    assert (
        status_of(kind(HttpLimits(request_line=100)), b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n") == 414
    )


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Content-Length: one\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (POST + b"X: a\r\n b\r\n\r\n", 400),
        (POST + b"X: \x01\r\n\r\n", 400),
        (POST + b"Content-Length: 1, 1\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\t\r\n\r\n", 400),
        (b"GET http:///path HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    ],
)
def test_heads_that_are_refused(kind: type[Parser], head: bytes, status: int) -> None:
    assert status_of(kind(HttpLimits()), head) == status


def test_options_of_the_connection_stand_in_several_fields(kind: type[Parser]) -> None:
    parser = kind(HttpLimits())
    parser.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n")
    request = parser.next_event()
    assert isinstance(request, H1Request)
    assert not request.keep_alive


def test_a_request_line_says_all_that_is_not_said_by_fields() -> None:
    expected = H1Request("GET", b"/a?b", b"/a", b"b", [], "1.1")
    assert read_request_line(b"GET /a?b HTTP/1.1") == expected
    expected = H1Request("PUT", b"http://h/", b"/", b"", [], "1.0", keep_alive=False, authority=b"h")
    assert read_request_line(b"PUT http://h/ HTTP/1.0") == expected


def test_more_request_lines_than_are_kept() -> None:
    for number in range(1500):
        assert read_request_line(b"GET /%d HTTP/1.1" % number).raw_path == b"/%d" % number


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        (b"X: y\r\nHost: b\r\n", [(b"x", b"y"), (b"host", b"a")]),
        (b"X: y\r\n", [(b"host", b"a"), (b"x", b"y")]),
    ],
)
def test_the_host_of_the_target_counts(
    kind: type[Parser], fields: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    parser = kind(HttpLimits())
    parser.receive_data(b"GET http://a/ HTTP/1.0\r\n" + fields + b"\r\n")
    request = parser.next_event()
    assert isinstance(request, H1Request)
    assert request.headers == headers


@pytest.mark.parametrize(
    ("version", "fields", "trailers", "hints"),
    [
        (b"1.1", b"", False, False),
        (b"1.1", b"TE: trailers\r\n", True, False),
        (b"1.1", b"TE: deflate;q=0.5, Trailers\r\n", True, False),
        (b"1.1", b"TE: trailers\r\nTE: gzip\r\n", True, False),
        (b"1.1", b"TE: trailersx\r\n", False, False),
        (b"1.0", b"TE: trailers\r\nSec-Fetch-Mode: navigate\r\n", False, False),
        (b"1.1", b"Sec-Fetch-Mode: navigate\r\n", False, True),
        (b"1.1", b"Sec-Fetch-Mode: cors\r\n", False, False),
    ],
)
def test_what_the_peer_accepts_beside_the_response(kind, version, fields, trailers, hints):
    parser = kind(HttpLimits())
    parser.receive_data(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + fields + b"\r\n")
    request = parser.next_event()
    assert (request.accepts_trailers, request.accepts_hints) == (trailers, hints)


@pytest.mark.parametrize("line", [b"GET /a%bb HTTP/1.1", b"GET /a?b=%bc HTTP/1.1", b"GET %b/ HTTP/1.1"])
def test_no_target_holds_what_must_be_encoded(kind: type[Parser], line: bytes) -> None:
    for octet in {bytes([number]) for number in range(256)}.difference(
        bytes([number]) for number in TARGET_TEXT
    ):
        assert status_of(kind(HttpLimits()), line % octet + b"\r\nHost: a\r\n\r\n") == 400, octet


def test_a_target_holds_all_that_may_stand_there(kind: type[Parser]) -> None:
    for octet in (bytes([number]) for number in TARGET_TEXT):
        parser = kind(HttpLimits())
        parser.receive_data(b"GET /a%bb HTTP/1.1\r\nHost: a\r\n\r\n" % octet)
        request = parser.next_event()
        assert isinstance(request, H1Request)
        assert request.target == b"/a%bb" % octet
