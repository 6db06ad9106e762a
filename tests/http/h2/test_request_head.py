"""Heads of requests: what they come to, and the rules of RFC 9113 §8.1 to §8.3 and §8.5."""

from contextlib import nullcontext

import hpack
import pytest
from hpack import NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.engine import H2Request
from asgi_master.http.h2.errors import ConnectionError, ErrorCode, StreamError  # noqa: A004 -- the term of RFC 9113
from asgi_master.http.h2.layouts import KNOWN_LAYOUTS
from asgi_master.http.h2.request_head import RequestDecoder
from asgi_master.http.limits import HttpLimits

Head = list[tuple[bytes, bytes]]

METHOD, SCHEME, PATH = (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")
AUTHORITY = (b":authority", b"example.com")
GET: Head = [METHOD, SCHEME, AUTHORITY, PATH]
POST: Head = [(b":method", b"POST"), *GET[1:]]
CONNECT: Head = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]


class Client:
    """An encoder and a decoder that go through the same blocks."""

    def __init__(self, **limits: int) -> None:
        self.encoder = hpack.Encoder()
        self.decoder = RequestDecoder(HttpLimits(**limits))

    def send(self, head: Head, ends: bool = True) -> H2Request:
        return self.decoder.decode(self._encode(head), ends)

    def send_trailers(self, fields: Head) -> None:
        self.decoder.decode_trailers(self._encode(fields))

    def _encode(self, fields: Head) -> bytes:
        # Its Huffman coding takes time by the square of the length.
        return self.encoder.encode(fields, huffman=max([len(value) for _, value in fields], default=0) < 1000)


def read(head: Head, ends: bool = True, **limits: int) -> H2Request:
    return Client(**limits).send(head, ends)


def malformed(head: Head, ends: bool = True) -> str:
    """Why it is: the same when it comes again, from the table."""
    client = Client()
    reasons = []
    for _ in range(2):
        with pytest.raises(StreamError) as caught:
            client.send(head, ends)
        assert caught.value.code is ErrorCode.PROTOCOL_ERROR
        reasons.append(caught.value.reason)
    assert reasons[0] == reasons[1]
    assert client.send(GET).target == b"/"
    return reasons[0]


def refused(head: Head, ends: bool = True, **limits: int) -> int:
    """The status, the same when it comes again."""
    client = Client(**limits)
    statuses = []
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            client.send(head, ends)
        statuses.append(caught.value.status)
    assert statuses[0] == statuses[1]
    assert client.send(GET).target == b"/"
    return statuses[0]


# -- what a request comes to ---------------------------------------------------------------------------


def test_a_request():
    request = read([*GET[:3], (b":path", b"/a%20b?c=d?e"), (b"accept", b"*/*"), (b"x-y", b"")])
    assert request == H2Request(
        method="GET",
        target=b"/a%20b?c=d?e",
        raw_path=b"/a%20b",
        query_string=b"c=d?e",
        headers=[(b"host", b"example.com"), (b"accept", b"*/*"), (b"x-y", b"")],
        http_version="2",
        expect_continue=False,
        body_length=0,
        scheme=b"https",
        protocol=None,
        urgency=3,
        is_incremental=False,
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_pseudo_fields_in_any_order(order):
    """RFC 9113 §8.3."""
    request = read([GET[place] for place in order] + [(b"a", b"b")])
    assert (request.method, request.target, request.scheme) == ("GET", b"/", b"https")
    assert request.headers == [(b"host", b"example.com"), (b"a", b"b")]


@pytest.mark.parametrize(
    ("fields", "ends", "length", "expects"),
    [
        ([], True, 0, False),
        ([], False, None, False),
        ([(b"content-length", b"5")], False, 5, False),
        ([(b"content-length", b"0")], True, 0, False),
        ([(b"content-length", b"0"), (b"expect", b"100-continue")], False, 0, False),
        ([(b"content-length", b"5"), (b"expect", b"100-Continue")], False, 5, True),
        ([(b"expect", b"100-continue")], False, None, True),
        ([(b"expect", b"100-continue")], True, 0, False),
    ],
)
def test_the_body_that_is_announced(fields, ends, length, expects):
    request = read([*POST, *fields], ends)
    assert (request.body_length, request.expect_continue) == (length, expects)
    assert request.headers[1:] == fields


@pytest.mark.parametrize(
    "method", ["POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "M-SEARCH"]
)
def test_methods(method):
    assert read([(b":method", method.encode()), *GET[1:]]).method == method


def test_cookie_fields_become_one():
    """RFC 9113 §8.2.3."""
    head = [
        *GET,
        (b"a", b"1"),
        (b"cookie", b"b=2"),
        (b"c", b"3"),
        (b"cookie", b"d=4"),
        (b"cookie", b"e=5"),
        (b"f", b"6"),
    ]
    assert read(head).headers[1:] == [(b"a", b"1"), (b"cookie", b"b=2; d=4; e=5"), (b"c", b"3"), (b"f", b"6")]
    assert read([*GET, (b"cookie", b"a=1; b=2")]).headers[1:] == [(b"cookie", b"a=1; b=2")]
    head = [*GET, (b"cookie", b"a=1"), (b"content-length", b"0")]
    assert read(head).headers[1:] == [(b"cookie", b"a=1"), (b"content-length", b"0")]


def test_host_without_authority():
    """RFC 9113 §8.3.1: of a request that an intermediary translated."""
    request = read([METHOD, SCHEME, PATH, (b"a", b"b"), (b"host", b"example.com")])
    assert request.headers == [(b"a", b"b"), (b"host", b"example.com")]


def test_host_beside_authority():
    """RFC 9113 §8.3.1: it is the same but for the case, and :authority takes its place."""
    request = read([*GET, (b"a", b"b"), (b"host", b"EXAMPLE.com"), (b"c", b"d")])
    assert request.headers == [(b"host", b"example.com"), (b"a", b"b"), (b"c", b"d")]


def test_trailers_are_announced():
    """RFC 9113 §8.2.2: the one value that TE may have."""
    assert read([*GET, (b"te", b"trailers")]).headers[1:] == [(b"te", b"trailers")]


def test_the_asterisk_goes_with_options():
    """RFC 9113 §8.3.1."""
    request = read([(b":method", b"OPTIONS"), SCHEME, AUTHORITY, (b":path", b"*")])
    assert (request.target, request.raw_path) == (b"*", b"*")


def test_extended_connect():
    """RFC 8441 §4."""
    request = read([*CONNECT, (b"sec-websocket-version", b"13")], ends=False)
    assert (request.method, request.protocol, request.target) == ("CONNECT", b"websocket", b"/")
    assert request.headers == [(b"host", b"example.com"), (b"sec-websocket-version", b"13")]


@pytest.mark.parametrize(
    ("values", "priority"),
    [
        ([b"u=0"], (0, False)),
        ([b"i"], (3, True)),
        ([b"u=5, i"], (5, True)),
        ([b"u=5", b"i"], (5, True)),
        ([b"u=5", b"u=6, i=?0"], (6, False)),
    ],
)
def test_priority(values, priority):
    """RFC 9218 §5. It is a field for the application, too."""
    request = read([*GET, *((b"priority", value) for value in values)])
    assert (request.urgency, request.is_incremental) == priority
    assert [value for _, value in request.headers[1:]] == values


# -- malformed requests --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"A", b"aB", b"", b"a b", b"a:", b"a\0", b"\xe4", b"a\x7f", b"X" * 100])
def test_8_2_1_field_names(name):
    assert "name" in malformed([*GET, (name, b"v")])


@pytest.mark.parametrize("value", [b"a\r", b"\nb", b"a\0b", b" a", b"a ", b"\ta", b"a\t", b" ", b"a\x7f"])
@pytest.mark.parametrize("name", [b"a", b"cookie", b"host", b"te", b"priority"])
def test_8_2_1_field_values(name, value):
    assert malformed([*GET, (name, value)])


@pytest.mark.parametrize("value", [b"", b"a b", b"a\tb", b"\xe4\xff", b"!~"])
def test_8_2_1_field_values_that_are_in_order(value):
    assert read([*GET, (b"a", value)]).headers[1:] == [(b"a", value)]


@pytest.mark.parametrize(
    "name", [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"]
)
@pytest.mark.parametrize("value", [b"", b"x", b" x"])
def test_8_2_2_connection_specific_fields(name, value):
    assert "connection" in malformed([*GET, (name, value)])


@pytest.mark.parametrize("value", [b"", b"gzip", b"trailers, gzip", b"trailers;q=1", b" trailers"])
def test_8_2_2_te(value):
    assert "TE" in malformed([*GET, (b"te", value)])


@pytest.mark.parametrize(
    "field",
    [(b":status", b"200"), (b":unknown", b"x"), (b":", b"x"), (b":Method", b"GET"), (b":path ", b"/")],
)
def test_8_3_unknown_pseudo_fields(field):
    assert "pseudo-field" in malformed([*GET, field])


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_8_3_pseudo_fields_after_others(place):
    head = GET[:place] + GET[place + 1 :] + [(b"a", b"b"), GET[place]]
    assert "after" in malformed(head)


@pytest.mark.parametrize("field", [*GET, (b":method", b"CONNECT"), (b":scheme", b"ftp"), (b":path", b"*")])
def test_8_3_pseudo_fields_that_come_more_than_once(field):
    assert "more than once" in malformed([*GET, field])
    assert "more than once" in malformed([field, *GET])


@pytest.mark.parametrize("left_out", [METHOD, SCHEME, PATH])
def test_8_3_1_pseudo_fields_that_are_missing(left_out):
    assert "missing" in malformed([field for field in GET if field is not left_out])


def test_8_3_1_an_empty_head():
    assert "missing" in malformed([])


@pytest.mark.parametrize(
    "path", [b"", b"a", b"http://example.com/", b"?a", b"/a b", b"/a#b", b"/\xe4", b"/\0", b"**"]
)
def test_8_3_1_paths(path):
    assert "path" in malformed([*GET[:3], (b":path", path)])


def test_8_3_1_the_asterisk_without_options():
    assert "OPTIONS" in malformed([*GET[:3], (b":path", b"*")])


@pytest.mark.parametrize("method", [b"", b"G T", b"GET\0"])
def test_8_3_1_methods(method):
    assert malformed([(b":method", method), *GET[1:]])


@pytest.mark.parametrize("scheme", [b"", b"1", b"ht tp", b"http:"])
def test_8_3_1_schemes(scheme):
    assert "scheme" in malformed([METHOD, (b":scheme", scheme), *GET[2:]])


@pytest.mark.parametrize("host", [b"user@host", b"a b", b"host/", b"host:a", b"[::1", b"a,b@c"])
def test_8_3_1_hosts(host):
    assert "host" in malformed([METHOD, SCHEME, (b":authority", host), PATH])
    assert "host" in malformed([METHOD, SCHEME, PATH, (b"host", host)])


def test_8_3_1_an_empty_authority():
    assert "authority" in malformed([METHOD, SCHEME, (b":authority", b""), PATH])


def test_8_3_1_a_host_that_differs_from_authority():
    assert "not :authority" in malformed([*GET, (b"host", b"example.org")])
    assert "not :authority" in malformed([*GET, (b"host", b"")])


def test_more_than_one_host():
    assert "more than once" in malformed([*GET, (b"host", b"example.com"), (b"host", b"example.com")])


@pytest.mark.parametrize("value", [b"", b"a", b"-1", b"+1", b"1,1", b"1 1", b"0x1", b"1" * 19])
def test_8_1_1_content_length(value):
    assert "Content-Length" in malformed([*POST, (b"content-length", value)], ends=False)


def test_8_1_1_more_than_one_content_length():
    assert "more than once" in malformed([*POST, *[(b"content-length", b"1")] * 2], ends=False)


def test_8_1_1_a_content_length_without_a_body():
    assert "Content-Length" in malformed([*POST, (b"content-length", b"1")])


def test_8_5_connect():
    for fields in ([AUTHORITY, SCHEME], [AUTHORITY, PATH], GET[1:], []):
        assert "CONNECT" in malformed([(b":method", b"CONNECT"), *fields])


@pytest.mark.parametrize("left_out", [SCHEME, PATH])
def test_extended_connect_without_all_that_it_needs(left_out):
    """RFC 8441 §4."""
    assert "missing" in malformed([field for field in CONNECT if field is not left_out])


def test_protocol_without_connect():
    """RFC 8441 §4."""
    assert ":protocol" in malformed([*GET, (b":protocol", b"websocket")])


@pytest.mark.parametrize("protocol", [b"", b"a b"])
def test_protocols(protocol):
    assert malformed([CONNECT[0], (b":protocol", protocol), *CONNECT[2:]])


# -- requests that are not served ----------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"get", b"Get", b"CONNECt"])
def test_methods_that_are_not_implemented(method):
    assert refused([(b":method", method), *GET[1:]]) == 501


def test_connect_is_not_implemented():
    assert refused([(b":method", b"CONNECT"), AUTHORITY]) == 501


def test_neither_authority_nor_host():
    assert refused([METHOD, SCHEME, PATH]) == 400


@pytest.mark.parametrize("scheme", [b"ftp", b"wss", b"HTTP", b"coap+tcp"])
def test_other_schemes(scheme):
    assert refused([METHOD, (b":scheme", scheme), *GET[2:]]) == 400


@pytest.mark.parametrize("values", [[b"200-ok"], [b""], [b"100-continue", b"100-continue"]])
def test_expectations(values):
    assert refused([*POST, *((b"expect", value) for value in values)], ends=False) == 417


def test_a_long_path():
    path = b"/" + b"a" * 99
    assert read([*GET[:3], (b":path", path)], request_line=100).target == path
    assert refused([*GET[:3], (b":path", path + b"a")], request_line=100) == 414
    assert read([*GET[:3], (b":path", path * 1000)], request_line=0, header_bytes=0).target == path * 1000


def test_too_many_fields():
    """Cookies that a client sent apart count as the one field that they are."""
    fields = [(b"a", b"b")] * 9
    assert len(read([*GET, *fields], header_count=10).headers) == 10
    assert refused([*GET, *fields, (b"a", b"b")], header_count=10) == 431
    head = [*GET, *fields[1:], *[(b"cookie", b"c")] * 9]
    assert len(read(head, header_count=10).headers) == 10
    assert len(read([*GET, *fields * 100], header_count=0).headers) == 901


def test_fields_that_are_too_large():
    """RFC 9113 §6.5.2, §10.5.1: 32 bytes count for each, beside its name and its value."""
    size = sum(32 + len(name) + len(value) for name, value in GET)
    value = b"v" * (10_000 - size - 33)
    assert read([*GET, (b"a", value)], header_bytes=10_000).headers[1:] == [(b"a", value)]
    assert refused([*GET, (b"a", value + b"v")], header_bytes=10_000) == 431
    assert len(read([*GET, (b"a", value * 100)], header_bytes=0).headers) == 2


def test_references_to_a_large_field():
    """A bomb: some hundred bytes for half a megabyte. What follows is decoded as ever."""
    client = Client()
    client.send([*GET, (b"a", b"v" * 3900)])
    assert len(client.send([*GET, *[(b"a", b"v" * 3900)] * 10]).headers) == 11
    for count in (20, 120, 4000):
        with pytest.raises(ProtocolError) as caught:
            client.send([*GET, *[(b"a", b"v" * 3900)] * count])
        assert caught.value.status == 431
    assert client.send([*GET, (b"a", b"v" * 3900)]).headers[1:] == [(b"a", b"v" * 3900)]


def test_far_too_many_fields():
    """Of more than twice as many as can be within the limit a connection gets rid: each costs time to decode."""
    for fields, error in ((4092, ProtocolError), (4093, ConnectionError)):
        client = Client()
        with pytest.raises(error) as caught:
            client.send([*GET, *[(b"a", b"b")] * fields])
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_many_cookies_do_not_pass_the_limit():
    client = Client()
    assert len(client.send([*GET, *[(b"cookie", b"c" * 100)] * 300]).headers) == 2
    with pytest.raises(ProtocolError):
        client.send([*GET, *[(b"cookie", b"c" * 100)] * 500])


def test_fields_of_a_head_that_is_refused_are_in_the_table():
    client = Client(header_count=5)
    head = [*GET, *((b"name-%d" % index, b"value") for index in range(5))]
    with pytest.raises(ProtocolError):
        client.send(head)
    assert client.send([*GET, *head[-4:]]).headers[1:] == head[-4:]


# -- trailers ------------------------------------------------------------------------------------------


def test_trailers():
    client = Client(header_count=5)
    client.send_trailers([(b"a", b"b"), (b"content-length", b"5")])
    assert client.send([*GET, (b"a", b"b")]).headers[1:] == [(b"a", b"b")]
    client.send_trailers([])


@pytest.mark.parametrize("field", [*GET, (b"A", b"b"), (b"a", b" b"), (b"connection", b"x"), (b":x", b"")])
def test_malformed_trailers(field):
    """RFC 9113 §8.1."""
    with pytest.raises(StreamError) as caught:
        Client().send_trailers([(b"a", b"b"), field])
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_trailers_that_are_too_large():
    for fields in ([(b"a", b"b")] * 101, [(b"a", b"b" * 66_000)]):
        with pytest.raises(ProtocolError) as caught:
            Client().send_trailers(fields)
        assert caught.value.status == 431


# -- heads that are repeated ---------------------------------------------------------------------------


def without_index(path: bytes) -> tuple[bytes, bytes]:
    return NeverIndexedHeaderTuple(b":path", path)


def head_of(path: bytes, *fields: tuple[bytes, bytes]) -> Head:
    return [*GET[:3], without_index(path), (b"a", b"b"), *fields]


@pytest.mark.parametrize("huffman", [True, False])
def test_a_repeated_head_is_the_same_request(huffman):
    client = Client()
    client.send(head_of(b"/"))
    block = client.encoder.encode(head_of(b"/a"), huffman=huffman)
    first = client.decoder.decode(block, True)
    assert client.decoder.decode(block, True) is first
    assert client.decoder.decode(block, False).body_length is None
    assert client.decoder.decode(block, True) == first


@pytest.mark.parametrize("huffman", [True, False])
def test_a_head_with_another_path(huffman):
    client = Client()
    fields = [(b"priority", b"u=1, i"), (b"content-length", b"7"), (b"expect", b"100-continue")]
    for path in (b"/", b"/abc", b"/abc?d=e", b"/" + b"f" * 100, b"/g", b"/" + b"h" * 300, b"/i%20j?"):
        block = client.encoder.encode(head_of(path, *fields), huffman=huffman)
        assert client.decoder.decode(block, False) == read(head_of(path, *fields), False)


@pytest.mark.parametrize(
    ("path", "error"),
    [(b"*", StreamError), (b"", StreamError), (b"/a b", StreamError), (b"/" + b"a" * 100, ProtocolError)],
)
def test_a_head_with_another_path_is_judged(path, error):
    client = Client(request_line=100)
    for good in (b"/", b"/a"):
        client.send(head_of(good))
    with pytest.raises(error):
        client.send(head_of(path))
    assert client.send(head_of(b"/c")).target == b"/c"


@pytest.mark.parametrize("huffman", [True, False])
def test_paths_that_come_again(huffman):
    for _ in range(2):
        client = Client()
        for path in (b"/", b"/a", b"/b?c=d", b"/" + b"e" * 70, b"/a", b"/" + b"e" * 70):
            block = client.encoder.encode(head_of(path), huffman=huffman)
            request = client.decoder.decode(block, True)
            assert (request.target, request.raw_path, request.query_string) == (
                path,
                *path.partition(b"?")[::2],
            )


def test_a_path_that_is_too_long_for_one_connection_alone():
    path = b"/just-one-connection"
    for limit, error in ((100, None), (10, ProtocolError), (100, None)):
        client = Client(request_line=limit)
        for other in (b"/", b"/"):
            client.send(head_of(other))
        with nullcontext() if error is None else pytest.raises(error):
            assert client.send(head_of(path)).target == path


def test_a_head_that_is_repeated_but_for_its_end():
    client = Client()
    client.send(head_of(b"/"))
    block = client.encoder.encode(head_of(b"/aaaa"), huffman=False)
    before = block[: block.index(b"/") - 1]
    after = block[len(before) + 6 :]
    assert client.decoder.decode(block, True).target == b"/aaaa"
    assert client.decoder.decode(before + b"\x05/aaaa", True).headers == [(b"host", b"example.com")]
    assert client.decoder.decode(before + b"\x02/b" + after, True).headers[1:] == [(b"a", b"b")]
    for wrong in (before, before + b"\x85/aaaa" + after, before + b"\x7f/aaaa" + after, before + after):
        with pytest.raises((ConnectionError, StreamError)):
            client.decoder.decode(wrong, True)
        assert client.decoder.decode(before + b"\x02/c" + after, True).target == b"/c"


def test_a_change_of_the_table_means_other_fields():
    """The same bytes again, after a head or trailers that moved what they refer to."""
    for change in (
        lambda decoder: decoder.decode(b"\x82\x87\x84\x41\x01h\x40\x01x\x01y", True),
        lambda decoder: decoder.decode_trailers(b"\x40\x01x\x01y"),
    ):
        decoder = RequestDecoder(HttpLimits())
        decoder.decode(b"\x82\x87\x84\x41\x01h\x40\x01a\x01b", True)
        for _ in range(2):
            assert decoder.decode(b"\x82\x87\x04\x01/\x01\x01h\xbe", True).headers[1:] == [(b"a", b"b")]
        change(decoder)
        assert decoder.decode(b"\x82\x87\x04\x01/\x01\x01h\xbe", True).headers[1:] == [(b"x", b"y")]


def test_a_head_that_is_malformed_can_change_the_table():
    decoder = RequestDecoder(HttpLimits())
    decoder.decode(b"\x82\x87\x84\x41\x01h\x40\x01a\x01b", True)
    for _ in range(2):
        assert decoder.decode(b"\x82\x87\x84\x01\x01h\xbe", True).headers[1:] == [(b"a", b"b")]
    with pytest.raises(StreamError):
        decoder.decode(b"\x40\x01x\x01y", True)
    assert decoder.decode(b"\x82\x87\x84\x01\x01h\xbe", True).headers[1:] == [(b"x", b"y")]


def test_heads_that_repeat_nothing_are_kept_now_and_then():
    client = Client()
    plain = client.encoder.encode(head_of(b"/"))
    client.decoder.decode(plain, True)
    for index in range(200):
        never = NeverIndexedHeaderTuple(b"c", b"%d" % index)
        assert client.send(head_of(b"/%d" % index, never)).headers[-1] == (b"c", b"%d" % index)
    repeated = client.encoder.encode(head_of(b"/"))
    requests = [client.decoder.decode(repeated, True) for _ in range(200)]
    assert requests[0] == requests[-1]
    assert requests[-1] is requests[-2]


def test_large_heads_are_not_kept():
    client = Client()
    head = head_of(b"/", NeverIndexedHeaderTuple(b"c", b"d" * 2000))
    requests = [client.send(head) for _ in range(3)]
    assert requests[1] == requests[2]
    assert requests[1] is not requests[2]


def test_layouts_that_are_kept_are_small():
    KNOWN_LAYOUTS.clear()
    read([*GET, *[(b"a", b"b")] * 90])
    assert not KNOWN_LAYOUTS
    read(GET)
    assert len(KNOWN_LAYOUTS) == 1


# -- arbitrary heads -----------------------------------------------------------------------------------

NAMES = st.sampled_from([
    b":method", b":scheme", b":path", b":authority", b":protocol", b":status", b"host", b"cookie", b"content-length",
    b"expect", b"te", b"priority", b"connection", b"a", b"A",
])  # fmt: skip
VALUES = st.sampled_from([
    b"GET", b"CONNECT", b"https", b"/", b"/a", b"*", b"example.com", b"websocket", b"1", b"100-continue", b"trailers",
    b"u=1", b"", b" x", b"a=b",
])  # fmt: skip
FIELDS = st.tuples(NAMES, VALUES)
ARBITRARY = st.lists(FIELDS, max_size=6).flatmap(
    lambda fields: st.sampled_from(
        [fields, [*GET, *fields], [*CONNECT, *fields], [*GET[:3], *fields, *GET[3:]]]
    )
)


@given(st.lists(st.tuples(ARBITRARY, st.booleans()), max_size=6))
def test_what_came_before_does_not_matter(heads):
    """A decoder that has seen others says the same of a head as a new one."""
    client = Client()
    for head, ends in [pair for pair in heads for _ in range(2)]:
        outcomes = []
        for send in (client.send, read):
            try:
                outcomes.append(send(head, ends))
            except (StreamError, ProtocolError) as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]


@given(st.lists(st.binary(max_size=100), max_size=5), st.booleans())
def test_arbitrary_bytes(blocks, ends):
    decoder = RequestDecoder(HttpLimits())
    try:
        for block in blocks:
            try:
                assert isinstance(decoder.decode(block, ends), H2Request)
                decoder.decode_trailers(block)
            except (StreamError, ProtocolError):
                pass
    except ConnectionError:
        pass
