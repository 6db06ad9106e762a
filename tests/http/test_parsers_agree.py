"""All parsers, fed the same bytes in the same random pieces, tell the same; and h11 by itself accepts what they accept."""

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
from asgi_master.http.h1.zttp_parser import ZttpParser
from asgi_master.http.limits import HttpLimits
from asgi_master.http.message import Request
from http_tokens import METHODS, SPECIAL_FIELDS

FAST = [ZttpParser, HttptoolsParser]
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
def test_all_parsers_tell_the_same(stream):
    data, pieces = stream
    for kind in FAST:
        assert feed(kind, pieces) == feed(H11Parser, pieces)
        assert feed(kind, [data]) == feed(H11Parser, [data])


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
def test_white_space_around_a_value_means_the_same_to_all(line):
    name, value = line.split(b":", 1)
    for before, after in product((b"", b" ", b"\t", b" \t", b"\t ", b"\t\t"), repeat=2):
        field = name + b":" + before + value + after
        data = b"POST /x HTTP/1.1\r\nHost: a\r\n" + field + b"\r\nY: z\r\n\r\n0\r\n\r\n"
        reference = feed(H11Parser, [data])
        assert [feed(kind, [data]) for kind in FAST] == [reference, reference]


HOSTILE = {
    "obsolete line folding": b"X: y\r\n z",
    "folding by a tab": b"X: y\r\n\tz",
    "folding before all fields": b" X: y",
    "a bare CR": b"X: a\rb",
    "a bare CR at the end": b"X: a\r",
    "a bare LF": b"X: a\nY: b",
    "a bare LF before the end": b"X: a\n",
    "an end by bare LFs": b"X: a\n\nGET /2 HTTP/1.1\r\nHost: a",
    "a space before the colon": b"X : y",
    "a tab before the colon": b"X\t: y",
    "an empty name": b": y",
    "no colon": b"X",
    "a space inside a name": b"X Y: z",
    "a name that is no token": b"X(y): z",
    "a name beyond ASCII": "\u00e9: z".encode(),
    "a name with NUL": b"X\0: y",
    "a value with NUL": b"X: a\0b",
    "a value with DEL": b"X: a\x7fb",
    "a value with a control character": b"X: \x01",
}
UNUSUAL = {
    "names in upper case": b"X-UPPER: a\r\nACCEPT: b\r\nCoOkIe: C=D",
    "a name of every tchar": b"!#$%&'*+-.^_`|~09azAZ: x",
    "values beyond ASCII": b"X: " + bytes(range(0x80, 0x100)),
    "an empty value": b"X:\r\nY: \r\nZ:\t",
    "white space inside a value": b"X: a \t b",
    "colons in a value": b"X:::a:",
    "a name that comes again": b"X: 1\r\nx: 2\r\nX: 1",
    "more fields than zttp reads": b"\r\n".join(b"X%d: y" % number for number in range(150)),
    "a longer line than zttp reads": b"X: " + b"y" * 20_000,
    "a larger head than zttp reads": b"\r\n".join(b"X%d: %b" % (number, b"y" * 9000) for number in range(9)),
}
UNLIMITED = HttpLimits(request_line=0, header_count=0, header_bytes=0)


def read(kind, line, fields):
    """The request of a head, or the status with which it is refused."""
    parser = kind(UNLIMITED)
    parser.receive_data(line + b"\r\nHost: a\r\n" + fields + b"\r\n\r\n")
    try:
        return parser.next_request()
    except ProtocolError as error:
        return error.status


@pytest.mark.parametrize("kind", [*FAST, H11Parser])
@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_what_no_field_may_be_is_refused(kind, fields):
    assert read(kind, b"GET / HTTP/1.1", fields) == 400


@pytest.mark.parametrize("fields", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_fields_mean_the_same_to_all(fields):
    read_by = [read(kind, b"GET / HTTP/1.1", fields) for kind in FAST]
    lines = [line.partition(b":") for line in fields.split(b"\r\n")]
    expected = [(name.lower(), value.strip(b" \t")) for name, _, value in lines]
    assert [request.headers[1:] for request in read_by] == [expected, expected]
    assert read_by[0] == read_by[1]


@pytest.mark.parametrize(
    ("target", "result"),
    [
        (b"/\xc3\xa9", 400),
        (b"/\x80", 400),
        (b"/a#b", 400),
        (b"/a\tb", 400),
        (b"/\0", 400),
        (b"/\x7f", 400),
        (b'/"a"', b'/"a"'),
        (b"/<>^`{|}\\", b"/<>^`{|}\\"),
        (b"/" + b"a" * 20_000, b"/" + b"a" * 20_000),
    ],
)
def test_targets_mean_the_same_to_all(target, result):
    for kind in [*FAST, H11Parser]:
        request = read(kind, b"GET " + target + b" HTTP/1.1", b"X: y")
        assert getattr(request, "target", request) == result


@pytest.mark.parametrize("kind", [ZttpParser, HttptoolsParser, H11Parser])
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


@pytest.mark.parametrize("kind", FAST)
@settings(max_examples=300, deadline=None)
@given(st.one_of(streams(), st.lists(good_requests, min_size=1, max_size=5).map(b"".join)))
def test_h11_alone_accepts_what_is_accepted_here(kind, data):
    told = feed(kind, [data])
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
