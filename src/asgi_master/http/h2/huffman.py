"""The Huffman code of HPACK strings (RFC 7541 §5.2, Appendix B).

The code is canonical: the lengths of its codes say all of it. DEFLATE (RFC 1951) has canonical codes too, packed into
bytes from their other end, so zlib decodes what DEFLATE can have: codes of 15 bits at most, which are those of all
printable characters but one. Strings with other characters, short ones and wrong ones are for an automaton in Python.
"""

import zlib
from typing import Final

_LENGTHS_OF_CODES: Final = """
13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 6 10 10 12 13 6 8 11
10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19
13 14 6 15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 20 22 20 20 22 22 22 23 22 23 23 23 23
23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21
23 22 23 23 20 22 22 22 23 22 22 23 26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26
26 28 27 27 27 20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 30
"""
"""Bits of the code of each byte, and of EOS."""

_CODE_LENGTHS: Final = tuple(int(length) for length in _LENGTHS_OF_CODES.split())

_EOS: Final = 256
_SHORT: Final = 6
"""Bytes below which the automaton is not slower than the calls of zlib."""

_LONGEST_IN_DEFLATE: Final = 15
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_PADDINGS: Final = (0x00, 0x01, 0x03, 0x07, 0x0F, 0x1F, 0x3F, 0x7F)
"""So many bits of ones."""


_Row = list[tuple[int, bytes] | None]
"""A state of an automaton: by the bits that come, the number of the next state, and what they complete.

`None` where no code goes on.
"""


class _Node(list["tuple[_Node, bytes] | None"]):
    """The same for half a byte, with the next state itself."""

    __slots__ = ("is_end",)

    is_end: bool
    """Whether a string may end here: within a byte, after nothing but ones (RFC 7541 §5.2)."""


def _bit_rows() -> tuple[list[_Row], list[bool]]:
    """The automaton that takes bits, and in which of its states a string may end. The first state comes first."""
    symbols = {}
    code = former = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(_CODE_LENGTHS)):
        code <<= length - former
        symbols[length, code] = symbol
        code += 1
        former = length
    numbers: dict[tuple[int, int], int] = {}
    for length, code in symbols:
        for depth in range(length):
            numbers.setdefault((depth, code >> length - depth), len(numbers))
    rows: list[_Row] = []
    for depth, prefix in numbers:
        row: _Row = []
        for code in (prefix << 1, prefix << 1 | 1):
            symbol_ended = symbols.get((depth + 1, code))
            if symbol_ended is None:
                row.append((numbers[depth + 1, code], b""))
            else:
                row.append(None if symbol_ended == _EOS else (0, bytes((symbol_ended,))))
        rows.append(row)
    return rows, [depth < len(_PADDINGS) and prefix == _PADDINGS[depth] for depth, prefix in numbers]


def _two_steps_in_one(rows: list[_Row]) -> list[_Row]:
    """The automaton that takes twice as many bits at once."""
    width = len(rows[0])
    result = []
    for row in rows:
        steps: _Row = []
        for step in row:
            if step is None:
                steps += [None] * width
            else:
                text = step[1]
                steps += [None if next_ is None else (next_[0], text + next_[1]) for next_ in rows[step[0]]]
        result.append(steps)
    return result


def _automaton() -> _Node:
    """The one that takes half a byte at once: its first state."""
    rows, ends = _bit_rows()
    nodes = [_Node() for _ in rows]
    for node, row, is_end in zip(nodes, _two_steps_in_one(_two_steps_in_one(rows)), ends, strict=True):
        node.is_end = is_end
        node.extend([None if step is None else (nodes[step[0]], step[1]) for step in row])
    return nodes[0]


def _deflate_header() -> bytes:
    """The head of a DEFLATE block with this code; EOB has the code with which the longer ones begin (RFC 1951 §3.2).

    It is an even number of bytes long, thanks to three empty blocks before it: so the string can follow as it is.
    """
    bits: list[int] = []

    def put(value: int, size: int) -> None:
        bits.extend(value >> shift & 1 for shift in range(size))

    for _ in range(3):
        put(0b010, 3)  # not the last block; fixed codes
        put(0, 7)  # its end
    put(0b101, 3)  # the last block; codes of its own
    put(0, 5)  # 257 literals
    put(0, 5)  # one distance
    put(15, 4)  # 19 lengths of the code in which lengths are written:
    for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15):
        put(4 if symbol <= _LONGEST_IN_DEFLATE else 0, 3)
    lengths = [length if length <= _LONGEST_IN_DEFLATE else 0 for length in _CODE_LENGTHS[:_EOS]]
    for length in (*lengths, _LONGEST_IN_DEFLATE, 0):
        bits.extend(length >> shift & 1 for shift in (3, 2, 1, 0))
    return bytes(
        sum(bit << place for place, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8)
    )


_LENGTHS: Final = bytes(_CODE_LENGTHS[:_EOS])
_FIRST: Final = _automaton()
_INFLATER: Final = zlib.decompressobj(-9)
_INFLATER.decompress(_deflate_header())


def decode(data: bytes) -> bytes:
    """The string that is coded as `data`. Raises `ValueError` if none is."""
    size = len(data)
    if size < _SHORT:
        return _decode_by_halves(data)
    inflater = _INFLATER.copy()
    text = inflater.decompress(data.translate(_REVERSED))
    # What is left are fewer bits than the longest code has, unless zlib met one that it has not. The sum of bytes is,
    # modulo 255, the number that they make.
    left = (8 * size - int.from_bytes(text.translate(_LENGTHS), "big")) % 255
    if left < 8 and not inflater.eof and data[-1] & _PADDINGS[left] == _PADDINGS[left]:
        return text
    return _decode_by_halves(data)


def _decode_by_halves(data: bytes) -> bytes:
    node = _FIRST
    pieces = []
    try:
        for byte in data:
            node, text = node[byte >> 4]  # type: ignore[misc]
            pieces.append(text)
            node, text = node[byte & 0x0F]  # type: ignore[misc]
            pieces.append(text)
    except TypeError:
        raise ValueError("EOS within a Huffman-coded string") from None
    if not node.is_end:
        raise ValueError("a Huffman-coded string does not end with padding")
    return b"".join(pieces)
