"""The chunked decoder by itself, and against h11's."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h1.chunked import ChunkedDecoder
from asgi_master.http.limits import HttpLimits


def decode(pieces, limits=None):
    """The body, and what follows it; `None` in its place if it is not complete."""
    decoder = ChunkedDecoder(limits or HttpLimits())
    body, buffer = b"", b""
    for piece in pieces:
        buffer += piece
        data = b"there may be more"
        while data:
            data, position = decoder.decode(buffer, 0)
            body += data
            buffer = buffer[position:]
    return body, buffer if decoder.is_done else None


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (b"0\r\n\r\n", (b"", b"")),
        (b"3\r\nabc\r\n0\r\n\r\nrest", (b"abc", b"rest")),
        (b"0003\r\nabc\r\nA;x\r\n0123456789\r\n00;y=z\r\n\r\n", (b"abc0123456789", b"")),
        (b"3\r\nabc\r\n0\r\nX: y\r\nZ:\r\n\r\nrest", (b"abc", b"rest")),
        (b"3\r\nab", (b"ab", None)),
        (b"3\r\nabc\r\n0\r\n", (b"abc", None)),
        (b"", (b"", None)),
    ],
)
def test_bodies(data, result):
    assert decode([data]) == result
    assert decode([data[index : index + 1] for index in range(len(data))]) == result


def test_extensions_may_grow_with_the_body_but_not_without():
    signed = b"400;chunk-signature=" + b"f" * 64 + b"\r\n" + b"x" * 0x400 + b"\r\n"
    body, rest = decode([signed * 2000 + b"0\r\n\r\n"])
    assert (len(body), rest) == (2000 * 0x400, b"")
    with pytest.raises(ProtocolError) as caught:
        decode([(b"1;" + b"f" * 100 + b"\r\nx\r\n") * 1000])
    assert caught.value.status == 431


@pytest.mark.parametrize("extension", [b"", b";a", b";" + b"e" * 40])
def test_of_tiny_chunks_only_some_are_decoded_at_once(extension):
    decoder = ChunkedDecoder(HttpLimits())
    buffer = (b"2" + extension + b"\r\nxy\r\n") * 1000
    data, position = decoder.decode(buffer, 0)
    assert 0 < len(data) <= 128
    assert position < len(buffer) // 4


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"3", b"0", b"abc", b"\r\n", b"\r", b"\n", b";", b"x: y", b" ", b"\0"]), max_size=12
    ),
    st.integers(0, 40),
)
def test_h11_accepts_what_is_accepted_here(parts, cut):
    data = b"".join(parts)
    try:
        body, rest = decode([data[:cut], data[cut:]])
    except ProtocolError:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    connection.next_event()
    reference = b""
    while isinstance(event := connection.next_event(), h11.Data):
        reference += bytes(event.data)
    assert (body, rest is None) == (reference, event is h11.NEED_DATA)
    if rest is not None:
        assert connection.trailing_data[0] == rest


@pytest.mark.parametrize(
    ("data", "limits", "status"),
    [
        (b"ffffffffffffffff\r\n", HttpLimits(), 400),
        (b"5;" + b"x" * 5000, HttpLimits(), 431),
        (b"0\r\n" + b"A: b\r\n" * 3, HttpLimits(header_count=2), 431),
        (b"0\r\n" + b"A: bcd\r\n" * 20, HttpLimits(header_bytes=100), 431),
        (b"0\r\nA: " + b"b" * 200, HttpLimits(header_bytes=100), 431),
        (b"0\r\nA\r\n", HttpLimits(), 400),
    ],
)
def test_what_exceeds_a_limit_or_the_grammar(data: bytes, limits: HttpLimits, status: int) -> None:
    with pytest.raises(ProtocolError) as raised:
        decode([data], limits)
    assert raised.value.status == status
