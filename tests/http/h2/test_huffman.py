"""Huffman-coded strings."""

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_master.http.h2 import huffman

encode = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)).map(str.encode)


def test_every_byte_between_others():
    for byte in range(256):
        for around in (b"", b"0", b"abc", b"a longer text around it"):
            text = around + bytes((byte,)) + around
            assert huffman.decode(encode(text)) == text


@given(st.binary() | PRINTABLE)
def test_what_was_coded(text):
    assert huffman.decode(encode(text)) == text


@given(st.binary(), st.binary(max_size=3))
@example(b"0" * 20, b"")
def test_arbitrary_bytes_mean_what_they_mean_to_others(text, more):
    for data in (text, encode(text) + more):
        try:
            expected = decode_huffman(data)
        except Exception:  # noqa: BLE001 -- it has several
            with pytest.raises(ValueError, match="padding"):
                huffman.decode(data)
        else:
            assert huffman.decode(data) == expected


@pytest.mark.parametrize("text", [b"", b"0000", b"0" * 16], ids=["empty", "short", "long"])
@pytest.mark.parametrize("padding", [1, 2, 3, 4])
def test_padding_of_more_than_seven_bits(text, padding):
    """RFC 7541 §5.2. The last four of these bytes are EOS and two bits."""
    with pytest.raises(ValueError, match="padding"):
        huffman.decode(encode(text) + b"\xff" * padding)


@pytest.mark.parametrize("length", [3, 4, 6, 20, 22, 28, 30])
def test_padding_that_is_not_of_ones(length):
    """RFC 7541 §5.2. The code of `a` has five bits, so that less than five of padding are none."""
    data = encode(b"a" * length)
    free = -length * 5 % 8
    assert 1 <= free < 5
    for bit in range(free):
        with pytest.raises(ValueError, match="padding"):
            huffman.decode(data[:-1] + bytes((data[-1] & ~(1 << bit),)))


@pytest.mark.parametrize("before", [b"", b"a", b"a" * 30])
@pytest.mark.parametrize("after", [b"", b"a", b"a" * 300])
def test_eos_within_a_string(before, after):
    """RFC 7541 §5.2."""
    bits = "".join(f"{REQUEST_CODES[byte]:0{REQUEST_CODES_LENGTH[byte]}b}" for byte in before)
    bits += "1" * 30
    bits += "".join(f"{REQUEST_CODES[byte]:0{REQUEST_CODES_LENGTH[byte]}b}" for byte in after)
    bits += "1" * (-len(bits) % 8)
    with pytest.raises(ValueError, match="padding"):
        huffman.decode(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def test_a_string_of_the_longest_codes_of_zlib_and_of_longer_ones():
    for text in (b"{`<" * 20, b"\\" * 20, b"{\\" * 20, b"\n" * 100):
        assert huffman.decode(encode(text)) == text


def test_an_empty_string():
    assert huffman.decode(b"") == b""
