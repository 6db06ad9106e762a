"""Both parsers, fed the same bytes in the same random pieces, tell the same; and h11 by itself accepts what they accept."""

from dataclasses import dataclass, field
from itertools import product

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h1.h11_parser import H11Parser
from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.h1.parser import END_OF_MESSAGE, NEED_DATA
from asgi_master.http.limits import HttpLimits
from asgi_master.http.message import Request
from http_tokens import METHODS, SPECIAL_FIELDS

LIMITS = HttpLimits(request_line=200, header_count=10, header_bytes=400, body_size=500)


@dataclass
class Told:
    """What a parser told of a stream."""

    requests: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    complete: int = 0
    error: int | None = None


def feed(kind, pieces):
    parser = kind(LIMITS)
    told = Told()
    try:
        for piece in pieces:
            parser.receive_data(piece)
            _take(parser, told)
    except ProtocolError as error:
        told.error = error.status
    return told


def _take(parser, told):
    while (event := parser.next_event()) is not NEED_DATA:
        if event is END_OF_MESSAGE:
            told.complete += 1
            parser.start_next_cycle()
        elif isinstance(event, Request):
            told.requests.append(event)
            told.bodies.append(b"")
        else:
            assert event, "a piece of a body is never empty"
            told.bodies[-1] += event


tokens = st.text("abcXYZ!-_09", min_size=1, max_size=6).map(str.encode)
values = st.one_of(
    st.sampled_from([b"", b"a", b"a b", b"a\tb", b"\xff\xfe", b"a,b", b'"q"']), st.binary(max_size=8)
)
targets = st.sampled_from(
    [
        b"/",
        b"/a/b?c=d",
        b"/%41?",
        b"//x",
        b"*",
        b"http://h/p?q",
        b"http://h",
        b"HTTPS://[::1]:1/",
        b"h:80",
        b"x",
        b"/#f",
        b"?q",
        b'/"<>^`{|}\\',
    ]
)
special_fields = st.sampled_from(
    [
        *SPECIAL_FIELDS,
        b"Host: a",
        b"Host:",
        b"hOST: [::1]:80",
        b"Host: a/b",
        b"Content-Length: 3",
        b"Content-Length: 0",
        b"content-length: 003",
        b"Content-Length: 3, 3",
        b"Content-Length: +3",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: CHUNKED",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Expect: x",
        b"Cookie: " + b"c" * 300,
        b" folded",
        b"\tfolded",
        b"no colon",
        b": no name",
        b"Trailing: space \t ",
    ]
)
fields = st.one_of(special_fields, st.builds(lambda name, value: name + b": " + value, tokens, values))
chunked_bodies = st.sampled_from(
    [
        b"0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"003;x=y\r\nabc\r\n0;z\r\n\r\n",
        b"3 ;x\r\nabc\r\n0\r\nHost: evil\r\nContent-Length: 7\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        b"fffffffffffffff\r\nabc",
        b"201\r\n" + b"x" * 0x201 + b"\r\n0\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
    ]
)
heads = st.builds(
    lambda method, target, version, fields, end: (
        b" ".join([method, target, version]) + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + end
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS"] * 10 + [*METHODS, b"get", b"B(D"]),
    targets,
    st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/11"]),
    st.lists(fields, max_size=5),
    st.just(b"\r\n"),
)
good_requests = st.builds(
    lambda method, extra, framing: (
        b"%b /x HTTP/1.1\r\nHost: a\r\n%b%b" % (method, b"".join(f + b"\r\n" for f in extra), framing)
    ),
    st.sampled_from([b"GET", b"POST", b"DELETE", b"BREW"]),
    st.lists(
        st.builds(lambda n, v: n + b": " + v, tokens, st.sampled_from([b"", b"a b", b"\xe9"])), max_size=3
    ),
    st.sampled_from(
        [
            b"\r\n",
            b"Content-Length: 3\r\n\r\nabc",
            b"Transfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n1\r\nd\r\n0\r\nT: u\r\n\r\n",
            b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
            b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
            b"Proxy-Connection: close\r\n\r\n",
        ]
    ),
)
messages = st.one_of(
    good_requests,
    st.builds(
        lambda head, body: head + body, heads, st.one_of(st.just(b""), st.just(b"abc"), chunked_bodies)
    ),
    chunked_bodies.map(
        lambda body: b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    ),
)
hostile_bytes = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"\x0b", b"\x7f", b"\x80", b"a", b";", b"0"]
)


@st.composite
def streams(draw):
    """Several requests, and some bytes of them replaced, left out or put in."""
    data = b"".join(draw(st.lists(messages, min_size=1, max_size=4)))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 2))
        data = data[:start] + draw(st.one_of(st.just(b""), hostile_bytes)) + data[end:]
    return data


@st.composite
def cut_streams(draw):
    """A stream, whole and in pieces."""
    data = draw(streams())
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return data, [piece for piece in pieces if piece]


@settings(max_examples=400, deadline=None)
@given(cut_streams())
@example(
    (b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n", [b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n"])
)
def test_both_parsers_tell_the_same(stream):
    data, pieces = stream
    assert feed(HttptoolsParser, pieces) == feed(H11Parser, pieces)
    assert feed(HttptoolsParser, [data]) == feed(H11Parser, [data])


@pytest.mark.parametrize(
    "line",
    [
        b"X:y",
        b"X:",
        b"Content-Length:5",
        b"Content-Length:",
        b"Transfer-Encoding:chunked",
        b"Transfer-Encoding:Chunked",
        b"Transfer-Encoding:chunked,",
        b"Transfer-Encoding:gzip",
        b"Connection:close",
        b"Connection:keep-alive",
        b"Connection:close, x",
        b"Connection:upgrade\r\nUpgrade:websocket",
        b"Expect:100-continue",
    ],
)
def test_white_space_around_a_value_means_the_same_to_both(line):
    name, value = line.split(b":", 1)
    for before, after in product((b"", b" ", b"\t", b" \t", b"\t ", b"\t\t"), repeat=2):
        field = name + b":" + before + value + after
        data = b"POST /x HTTP/1.1\r\nHost: a\r\n" + field + b"\r\nY: z\r\n\r\n0\r\n\r\n"
        assert feed(HttptoolsParser, [data]) == feed(H11Parser, [data])


@pytest.mark.parametrize("kind", [HttptoolsParser, H11Parser])
@settings(max_examples=200, deadline=None)
@given(cut_streams())
def test_how_the_bytes_are_cut_does_not_matter(kind, stream):
    data, pieces = stream
    whole, cut = feed(kind, [data]), feed(kind, pieces)
    single = feed(kind, [data[index : index + 1] for index in range(len(data))])
    for other in (cut, single):
        # A stream with several faults may be refused for another one of them, and an early cut may see its fault before
        # the whole request is there; what was accepted is the same.
        assert (other.complete, other.error is None) == (whole.complete, whole.error is None)
        assert other.requests[: whole.complete] == whole.requests[: whole.complete]
        assert other.bodies[: whole.complete] == whole.bodies[: whole.complete]


@settings(max_examples=300, deadline=None)
@given(st.one_of(streams(), st.lists(good_requests, min_size=1, max_size=5).map(b"".join)))
def test_h11_alone_accepts_what_is_accepted_here(data):
    told = feed(HttptoolsParser, [data])
    rest = data
    for request, body in list(zip(told.requests, told.bodies, strict=True))[: told.complete]:
        method, target, headers, reference_body, rest = _h11_alone(rest)
        assert (method, target, reference_body) == (request.method, request.target, body)
        assert [f for f in headers if f[0] != b"host"] == [
            (name, value.lower() if name == b"transfer-encoding" else value)
            for name, value in request.headers
            if name != b"host"
        ]


def _h11_alone(data):
    """The first request of `data` as h11 itself reads it, head and body, and what is left."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data.removeprefix(b"\r\n"))
    request = connection.next_event()
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += bytes(event.data)
    return request.method.decode(), request.target, list(request.headers), body, connection.trailing_data[0]
