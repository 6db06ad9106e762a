"""Heads and trailers of responses as field blocks."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.http.grammar import FIELD_TEXT, TOKEN
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.message import ResponseHead
from asgi_master.http.server_fields import ServerFields


def encoder(**settings) -> ResponseHeadEncoder:
    """By default one that adds no fields."""
    settings = {"server_header": False, "date_header": False} | settings
    return ServerFields(**settings).encoder(ResponseHeadEncoder)


def fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """What a client reads. Nothing stays in its table."""
    decoder = hpack.Decoder(max_header_list_size=1_000_000)
    decoded = decoder.decode(block, raw=True)
    assert not decoder.header_table.dynamic_entries
    return list(decoded)


def sent(status: int, *headers: tuple[bytes, bytes], length: int | None = None) -> list[tuple[bytes, bytes]]:
    return fields(encoder().head(ResponseHead(status, headers), length))


@pytest.mark.parametrize("status", [200, 204, 206, 304, 400, 404, 500, 201, 299, 503, 999])
def test_statuses(status):
    assert sent(status) == [(b":status", b"%d" % status)]


def test_the_usual_statuses_are_a_byte():
    assert encoder().head(ResponseHead(200, []), None) == b"\x88"


def test_names_are_in_lower_case_and_those_of_the_static_table():
    """RFC 9113 §8.2.1."""
    assert sent(200, (b"Content-Type", b"text/html"), (b"X-Own", b"a")) == [
        (b":status", b"200"),
        (b"content-type", b"text/html"),
        (b"x-own", b"a"),
    ]
    assert len(encoder().head(ResponseHead(200, [(b"Content-Type", b"text/html")]), None)) == 1 + 2 + 1 + 9


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 382, 383, 20_000])
def test_values_of_any_size(size):
    assert sent(200, (b"a", b"v" * size))[1] == (b"a", b"v" * size)
    assert sent(200, (b"n" * (size + 1), b"v"))[1] == (b"n" * (size + 1), b"v")


def test_white_space_around_values():
    """RFC 9113 §8.2.1: it may not be there, while HTTP/1 does not mind."""
    assert sent(200, (b"a", b" \tb c\t "))[1] == (b"a", b"b c")


@pytest.mark.parametrize(
    "name", [b"Connection", b"keep-alive", b"Transfer-Encoding", b"upgrade", b"Proxy-Connection"]
)
def test_fields_that_http_2_does_not_have(name):
    """RFC 9113 §8.2.2."""
    assert sent(200, (name, b"x"), (b"a", b"b")) == [(b":status", b"200"), (b"a", b"b")]


@pytest.mark.parametrize(
    ("status", "given", "length", "expected"),
    [
        (200, None, None, []),
        (200, None, 0, [b"0"]),
        (200, None, 1234, [b"1234"]),
        (200, b"7", 5, [b"7"]),
        (200, b"7", None, [b"7"]),
        (204, None, 0, []),
        (204, b"0", None, []),
        (304, None, 0, []),
        (304, b"9", 0, [b"9"]),
        (404, None, 3, [b"3"]),
    ],
)
def test_content_length(status, given, length, expected):
    headers = [] if given is None else [(b"content-length", given)]
    assert [
        value for name, value in sent(status, *headers, length=length) if name == b"content-length"
    ] == expected


def test_fields_of_the_server():
    server_fields = ServerFields(extra_headers=((b"X-A", b"1"), (b"b", b"2")))
    heads = server_fields.encoder(ResponseHeadEncoder)
    assert fields(heads.head(ResponseHead(200, []), None))[1:] == [
        (b"server", b"asgi-master"),
        (b"x-a", b"1"),
        (b"b", b"2"),
    ]
    server_fields.set_date("today")
    assert fields(heads.head(ResponseHead(200, [(b"x-a", b"own")]), 0))[1:] == [
        (b"date", b"today"),
        (b"server", b"asgi-master"),
        (b"x-a", b"own"),
        (b"b", b"2"),
        (b"content-length", b"0"),
    ]
    own = [(b"DATE", b"own"), (b"Server", b"own")]
    assert fields(heads.head(ResponseHead(200, own), None))[1:3] == [(b"date", b"own"), (b"server", b"own")]


def test_an_encoder_that_is_asked_for_after_the_date():
    server_fields = ServerFields(server_header=False)
    server_fields.set_date("today")
    heads = server_fields.encoder(ResponseHeadEncoder)
    assert fields(heads.head(ResponseHead(200, []), None))[1:] == [(b"date", b"today")]
    assert server_fields.encoder(ResponseHeadEncoder) is heads


def test_heads_that_are_sent_again_are_dated_anew():
    server_fields = ServerFields(server_header=False)
    heads = server_fields.encoder(ResponseHeadEncoder)
    for date in ("today", "tomorrow"):
        server_fields.set_date(date)
        for length in (None, 5, None):
            block = heads.head(ResponseHead.of(200, [(b"a", b"b")]), length)
            expected = [(b"date", date.encode()), (b"a", b"b")]
            assert fields(block)[1:] == expected + [(b"content-length", b"5")] * (length is not None)


def test_heads_that_are_usual_are_encoded_once():
    heads = encoder()
    head = ResponseHead.of(200, [(b"some", b"thing usual")])
    assert heads.head(head, None) is heads.head(head, None)
    personal = ResponseHead.of(200, [(b"set-cookie", b"a=b")])
    assert heads.head(personal, None) is not heads.head(personal, None)


def test_the_number_of_encoded_heads_is_bounded():
    heads = encoder()
    for index in range(7000):
        block = heads.head(ResponseHead.of(200, [(b"a", b"%d" % index)]), None)
        assert fields(block)[1:] == [(b"a", b"%d" % index)]
    assert len(heads._encoded_heads) <= 1024


def test_interim_responses():
    assert fields(encoder().interim(103, ((b"Link", b"</a>"), (b"link", b"</b>")))) == [
        (b":status", b"103"),
        (b"link", b"</a>"),
        (b"link", b"</b>"),
    ]
    assert fields(encoder(server_header=True).interim(100, ())) == [(b":status", b"100")]


def test_trailers():
    assert fields(encoder(server_header=True).trailers(((b"X-Sum", b" 1"),))) == [(b"x-sum", b"1")]
    assert encoder().trailers(()) == b""


NAMES = st.lists(st.sampled_from(list(TOKEN)), min_size=1, max_size=200).map(bytes)
VALUES = st.lists(st.sampled_from(list(FIELD_TEXT)), max_size=300).map(bytes)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=10))
def test_what_clients_read(headers):
    assert fields(encoder().trailers(tuple(headers))) == [
        (name.lower(), value.strip()) for name, value in headers
    ]
