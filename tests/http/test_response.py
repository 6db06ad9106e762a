"""Responses as bytes."""

from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.http import message
from asgi_master.http.h1.encoder import HeadEncoder, ResponseEncoder, interim
from asgi_master.http.message import ResponseHead
from asgi_master.http.server_fields import ServerFields

NO_FIELDS = ServerFields(server_header=False, date_header=False)


def encode(head, *, encoder=None, length=None, bodyless=False, is_1_1=True, keep_alive=True):
    encoder = encoder or ResponseEncoder(NO_FIELDS)
    data = encoder.head(head, length=length, bodyless=bodyless, is_1_1=is_1_1, keep_alive=keep_alive)
    first, *lines, empty, rest = data.split(b"\r\n")
    assert (empty, rest) == (b"", b"")
    return first, lines, encoder.keep_alive


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK"),
        (HTTPStatus.NOT_FOUND, b"HTTP/1.1 404 Not Found"),
        (299, b"HTTP/1.1 299 "),
        (999, b"HTTP/1.1 999 "),
    ],
)
def test_the_status_line(status, line):
    assert encode(ResponseHead(status, []))[0] == line


@pytest.mark.parametrize("status", [100, 101, 199, 0, -1, 1000, "200", None, 200.0])
def test_what_is_no_final_status(status):
    with pytest.raises(ValueError, match="no status"):
        ResponseHead(status, [])


@pytest.mark.parametrize(
    ("headers", "length", "is_1_1", "lines", "keep_alive"),
    [
        ([], 5, True, [b"content-length: 5"], True),
        ([], None, True, [b"transfer-encoding: chunked"], True),
        ([], None, False, [b"connection: close"], False),
        ([], 5, False, [b"content-length: 5", b"connection: keep-alive"], True),
        ([(b"Content-Length", b"7")], None, True, [b"Content-Length: 7"], True),
        ([(b"content-length", b"7")] * 2, 7, True, [b"content-length: 7"], True),
        ([(b"transfer-encoding", b"chunked")], None, True, [b"transfer-encoding: chunked"], True),
        ([(b"Transfer-Encoding", b"gzip")], 3, True, [b"content-length: 3"], True),
        ([(b"connection", b"x, close")], 3, True, [b"content-length: 3", b"connection: close"], False),
        ([(b"connection", b"keep-alive"), (b"keep-alive", b"x")], 3, True, [b"content-length: 3"], True),
    ],
)
def test_framing(headers, length, is_1_1, lines, keep_alive):
    assert encode(ResponseHead(200, headers), length=length, is_1_1=is_1_1)[1:] == (lines, keep_alive)


def test_a_response_without_a_body_says_nothing_about_one():
    assert encode(ResponseHead(204, [(b"content-length", b"0")]), bodyless=True)[1] == []
    assert encode(ResponseHead(304, [(b"content-length", b"9")]), bodyless=True)[1] == [b"content-length: 9"]
    assert encode(ResponseHead(200, []), bodyless=True)[1] == []
    assert encode(ResponseHead(200, []), bodyless=True, length=5)[1] == [b"content-length: 5"]


def test_added_headers():
    server_fields = ServerFields(extra_headers=((b"X-A", b"1"), (b"b", b"2")))
    server_fields.set_date("today")
    encoder = ResponseEncoder(server_fields)
    lines = encode(ResponseHead(200, [(b"x-a", b"own")]), encoder=encoder, length=0)[1]
    assert lines == [b"date: today", b"server: asgi-master", b"x-a: own", b"b: 2", b"content-length: 0"]
    lines = encode(ResponseHead(200, [(b"DATE", b"own"), (b"Server", b"own")]), encoder=encoder, length=0)[1]
    assert lines == [b"DATE: own", b"Server: own", b"X-A: 1", b"b: 2", b"content-length: 0"]


def test_heads_that_are_sent_again_are_dated_anew():
    def send(**circumstances):
        return encode(ResponseHead.of(200, [(b"content-length", b"5")]), encoder=encoder, **circumstances)

    server_fields = ServerFields(server_header=False)
    encoder = ResponseEncoder(server_fields)
    for date in ("today", "tomorrow"):
        server_fields.set_date(date)
        lines = [b"date: " + date.encode(), b"content-length: 5"]
        assert send() == send() == (b"HTTP/1.1 200 OK", lines, True)
        last = (b"HTTP/1.1 200 OK", [*lines, b"connection: close"], False)
        assert send(keep_alive=False) == send(keep_alive=False) == last
        assert send(is_1_1=False)[1] == [*lines, b"connection: keep-alive"]
    encoder = ResponseEncoder(NO_FIELDS)
    assert send()[1] == [b"content-length: 5"]


def test_the_number_of_cached_heads_is_bounded():
    """Also after the many misses that renew the cache of heads."""
    encoder = ResponseEncoder(NO_FIELDS)
    for length in range(7000):
        head = ResponseHead.of(200, [(b"content-length", b"%d" % length)])
        assert encode(head, encoder=encoder)[1] == [b"content-length: %d" % length]
    assert len(NO_FIELDS.encoder(HeadEncoder).encoded_heads) <= 1024


def test_chunks():
    encoder = ResponseEncoder(NO_FIELDS)
    encode(ResponseHead(200, []), encoder=encoder)
    assert encoder.body(b"", more=True) == b""
    assert encoder.body(b"x" * 26, more=True) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert encoder.body(b"y", more=False) == b"1\r\ny\r\n0\r\n\r\n"
    assert encoder.body(b"", more=False) == b"0\r\n\r\n"
    encode(ResponseHead(200, []), encoder=encoder, length=3)
    assert encoder.body(b"abc", more=False) == b"abc"


def test_a_piece_that_others_write():
    encoder = ResponseEncoder(NO_FIELDS)
    encode(ResponseHead(200, []), encoder=encoder)
    assert (encoder.file_begins(300), encoder.file_ends()) == (b"12c\r\n", b"\r\n")
    encode(ResponseHead(200, []), encoder=encoder, length=300)
    assert (encoder.file_begins(300), encoder.file_ends()) == (b"", b"")


def test_trailers():
    encoder = ResponseEncoder(NO_FIELDS)
    fields = ((b"a", b"b"), (b"c", b"d"))
    encode(ResponseHead(200, []), encoder=encoder)
    assert encoder.trailers(fields) == b"0\r\na: b\r\nc: d\r\n\r\n"
    assert encoder.body(b"", more=False) == b""
    encode(ResponseHead(200, []), encoder=encoder, is_1_1=False)
    assert encoder.trailers(fields) == b""


def test_interim_responses():
    assert interim(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert interim(103, ((b"link", b"<a>"),)) == b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("a", b"b", TypeError),
        (b"a", "b", TypeError),
        (b"a", 1, TypeError),
        (b"", b"b", ValueError),
        (b"a:", b"b", ValueError),
        (b"a\r\n", b"b", ValueError),
        (b"content-length", b"", ValueError),
        (b"content-length", b"1,1", ValueError),
        (b"Content-Length", b"9" * 19, ValueError),
    ],
)
def test_headers_that_may_not_be_sent(name, value, error):
    with pytest.raises(error):
        ResponseHead(200, [(name, value)])


def test_lengths_that_differ():
    with pytest.raises(ValueError, match="different"):
        ResponseHead(200, [(b"content-length", b"1"), (b"content-length", b"2")])


@settings(max_examples=200)
@given(st.lists(st.tuples(st.binary(max_size=10), st.binary(max_size=10)), max_size=4))
def test_no_header_breaks_out_of_its_line(headers):
    try:
        head = ResponseHead(200, headers)
    except ValueError:
        return
    lines = encode(head, length=0)[1]
    assert all(
        line.translate(None, b"\t" + bytes(range(32, 127)) + bytes(range(128, 256))) == b"" for line in lines
    )


@pytest.mark.parametrize("name", [b"X-One", b"Connection", b"Keep-Alive", b"Transfer-Encoding"])
def test_large_heads_are_not_kept_whatever_of_them_is_sent(name):
    message._CACHED_HEADS.clear()  # other tests may have filled it
    small, large = [(name, b"x")], [(name, b"x" * 600)]
    assert ResponseHead.of(200, small) is ResponseHead.of(200, small)
    assert ResponseHead.of(200, large) is not ResponseHead.of(200, large)


def test_fields_that_are_lists_are_fields_too() -> None:
    fields: list[list[bytes]] = [[b"content-length", b"5"]]
    assert encode(ResponseHead.of(200, fields))[1] == [b"content-length: 5"]


def test_the_lines_of_the_server_by_their_names() -> None:
    fields = ServerFields(extra_headers=((b"X-A", b"1"),))
    assert fields.encoder(HeadEncoder).server_lines() == {
        b"x-a": b"X-A: 1\r\n",
        b"server": b"server: asgi-master\r\n",
    }
    fields.set_date("today")
    assert fields.encoder(HeadEncoder).server_lines()[b"date"] == b"date: today\r\n"
    NO_FIELDS.set_date("today")
    assert NO_FIELDS.encoder(HeadEncoder).server_lines() == {}


def test_a_field_value_holds_no_control_character() -> None:
    with pytest.raises(ValueError, match="control character"):
        ResponseHead(200, [(b"x", b"a\r\nb: c")])


@pytest.mark.parametrize("value", [bytearray(b"1"), memoryview(b"1")])
def test_values_that_are_like_bytes(value: bytes) -> None:
    assert ResponseHead(200, [(b"x", value)]).fields == ((b"x", b"1"),)


def test_a_head_with_a_cookie_is_not_kept() -> None:
    first, second = (ResponseHead.of(200, [(b"set-cookie", b"a=1")]) for _ in range(2))
    assert first is not second
