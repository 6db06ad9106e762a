"""The Huffman code of HPACK strings (RFC 7541 §5.2, Appendix B).

The code is canonical: the lengths of its codes say all of it. DEFLATE (RFC 1951) has canonical codes too, packed into
bytes from their other end, so zlib decodes what DEFLATE can have: codes of 15 bits at most, which are those of all
printable characters but one. Strings with other characters, short ones and wrong ones are for an automaton in Python.
"""

import zlib
from typing import Final

_TABLE: Final = """
13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 6 10 10 12 13 6 8 11
10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19
13 14 6 15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 20 22 20 20 22 22 22 23 22 23 23 23 23
23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21
23 22 23 23 20 22 22 22 23 22 22 23 26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26
26 28 27 27 27 20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 30
"""
"""Bits of the code of each byte, and of EOS."""

_CODE_LENGTHS: Final = tuple(int(length) for length in _TABLE.split())

_EOS: Final = 256
_SHORT: Final = 9
"""Bytes below which the automaton is not slower than the calls of zlib."""

_LONGEST_IN_DEFLATE: Final = 15
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_PADDINGS: Final = (0x00, 0x01, 0x03, 0x07, 0x0F, 0x1F, 0x3F, 0x7F)
"""So many bits of ones."""


def _codes() -> dict[int, str]:
    """The code of each symbol, as a text of its bits."""
    codes = {}
    code = former = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(_CODE_LENGTHS)):
        code <<= length - former
        codes[symbol] = f"{code:0{length}b}"
        code += 1
        former = length
    return codes


_Row = list[tuple[int, bytes]]
"""A state of an automaton: by the bits that come next, the number of the state after them, and what they complete."""


def _bit_rows() -> tuple[list[_Row], list[bool]]:
    """The automaton that takes a bit at a time, and in which of its states a string may end.

    The first state is where a code begins; the last is that behind EOS, which does not belong into a string (§5.2).
    """
    symbols = {code: symbol for symbol, code in _codes().items()}
    beginnings: dict[str, int] = {}
    for code in symbols:
        for depth in range(len(code)):
            beginnings.setdefault(code[:depth], len(beginnings))
    wrong = len(beginnings)
    rows: list[_Row] = []
    for beginning in beginnings:
        row = []
        for code in (beginning + "0", beginning + "1"):
            symbol = symbols.get(code)
            if symbol is None:
                row.append((beginnings[code], b""))
            else:
                row.append((wrong, b"") if symbol == _EOS else (0, bytes((symbol,))))
        rows.append(row)
    rows.append([(wrong, b"")] * 2)
    ends = [len(beginning) < 8 and "0" not in beginning for beginning in beginnings]
    return rows, [*ends, False]


def _two_steps_in_one(rows: list[_Row]) -> list[_Row]:
    """The automaton that takes twice as many bits at a time."""
    return [[(after, text + more) for number, text in row for after, more in rows[number]] for row in rows]


def _automaton() -> tuple[_Row, list[bool]]:
    """The automaton that takes half a byte at a time. Its rows are one list: a state is where its row begins in it."""
    rows, ends = _bit_rows()
    steps = [
        (number << 4, text) for row in _two_steps_in_one(_two_steps_in_one(rows)) for number, text in row
    ]
    return steps, ends


def _deflate_header() -> bytes:
    """The head of a DEFLATE block with this code (RFC 1951 §3.2). EOB has the code that all longer ones begin with.

    It ends with a byte, thanks to three empty blocks before it, so that strings can follow as they are.
    """

    def number(value: int, size: int) -> str:  # from its lowest bit on
        return f"{value:0{size}b}"[::-1]

    # Not the last block, with the fixed codes, and its end. Then the last block, with codes of its own: 257 literals,
    # one distance, and 19 lengths of the codes in which lengths are written, that is, four bits each.
    bits = 3 * (number(0b010, 3) + "0000000")
    bits += number(0b101, 3) + number(257 - 257, 5) + number(1 - 1, 5) + number(19 - 4, 4)
    for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15):
        bits += number(4 if symbol <= _LONGEST_IN_DEFLATE else 0, 3)
    for length in _CODE_LENGTHS[:_EOS]:
        bits += f"{length if length <= _LONGEST_IN_DEFLATE else 0:04b}"
    bits += f"{_LONGEST_IN_DEFLATE:04b}{0:04b}"  # of EOB, and of the distance
    return int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")


_LENGTHS: Final = bytes(_CODE_LENGTHS[:_EOS])
_STEPS, _ENDS = _automaton()
_INFLATER: Final = zlib.decompressobj(-9)
_INFLATER.decompress(_deflate_header())


def decode(data: bytes) -> bytes:
    """The string that is coded as `data`. Raises `ValueError` if none is."""
    size = len(data)
    if size < _SHORT:
        return _decode_by_halves(data)
    inflater = _INFLATER.copy()
    text = inflater.decompress(data.translate(_REVERSED), 2 * size)
    # What is left are fewer bits than the longest code has, unless zlib met one that it has not. A number in base 256
    # is, modulo 255, the sum of its digits.
    left = (8 * size - int.from_bytes(text.translate(_LENGTHS), "big")) % 255
    if left < 8 and not inflater.eof and data[-1] & _PADDINGS[left] == _PADDINGS[left]:
        return text
    return _decode_by_halves(data)


def _decode_by_halves(data: bytes) -> bytes:
    steps = _STEPS
    state = 0
    pieces = []
    for byte in data:
        state, text = steps[state | byte >> 4]
        pieces.append(text)
        state, text = steps[state | byte & 0x0F]
        pieces.append(text)
    if not _ENDS[state >> 4]:
        raise ValueError("a Huffman-coded string does not end with padding")
    return b"".join(pieces)
