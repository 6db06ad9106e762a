"""HPACK, the decoder's side (RFC 7541): field blocks as fields, with a table that both sides keep alike.

Static and dynamic table are one list, in which an indexed field stands at the byte that it is written as: a run of such
bytes is looked up by one `map`. Beside it the kinds of the fields (`field_kinds`) stand at the same bytes.
"""

import re
from typing import Final

from asgi_master.http.h2 import huffman
from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- see there
from asgi_master.http.h2.field_kinds import kind_of
from asgi_master.http.h2.static_table import STATIC_FIELDS
from asgi_master.http.message import Field

TABLE_SIZE: Final = 4096
"""SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2): the value before any is announced."""

_ENTRY_OVERHEAD: Final = 32
"""Of each entry, beside its name and its value (RFC 7541 §4.1)."""

_INDEXED: Final = 0x80
_FIRST_DYNAMIC: Final = _INDEXED + 1 + len(STATIC_FIELDS)
_BYTES: Final = 256

_STATIC: Final[list[Field]] = [(b"", b"")] * (_INDEXED + 1) + list(STATIC_FIELDS)
_STATIC_KINDS: Final = bytes([kind_of(*field) for field in _STATIC]).ljust(_BYTES, b"\0")

_indexed_run = re.compile(rb"[\x81-\xfe]*").match
_MOST_INTEGER_BYTES: Final = 4
"""Behind the prefix of an integer: 2^28 is more than any block is long."""


def _error(reason: str) -> ConnectionError:
    return ConnectionError(ErrorCode.COMPRESSION_ERROR, reason)


class FieldDecoder:
    """Decodes the field blocks of one connection, in the order in which they were sent."""

    __slots__ = ("_capacity", "_kinds", "_most_fields", "_size", "_table", "is_changed", "largest", "target")

    def __init__(self, most_fields: int) -> None:
        """Of a block with more than `most_fields` fields only the beginning is kept."""
        self._table = _STATIC.copy()
        self._kinds = bytearray(_STATIC_KINDS)
        self._size = 0
        self._capacity = TABLE_SIZE
        self._most_fields = most_fields
        self.largest = 0
        """No entry was larger than this."""
        self.is_changed = False
        """Whether a block changed the table, since somebody set this to false."""
        self.target: tuple[int, int] | None = None
        """Where in the block that was decoded last the string of `:path` stands, if it is not in the table."""

    def decode(self, block: bytes) -> tuple[list[Field], bytes]:
        """The fields of a block and their kinds.

        Raises `ConnectionError` with COMPRESSION_ERROR: what follows cannot be decoded then (RFC 7541 §4.3).
        """
        try:
            return self._decode(block)
        except IndexError:
            raise _error("an index is not in the table, or a field block ends too early") from None
        except ValueError as error:
            raise _error(str(error)) from None

    def _decode(self, block: bytes) -> tuple[list[Field], bytes]:
        table = self._table
        field_at = table.__getitem__
        fields: list[Field] = []
        kinds = b""
        self.target = None
        size = len(block)
        position = self._resize(block) if block and 0x20 <= block[0] < 0x40 else 0
        while position < size:
            first = block[position]
            if first >= _INDEXED:
                end = _indexed_run(block, position).end()  # type: ignore[union-attr]
                if end > position:
                    run = block[position:end]
                    fields += map(field_at, run)
                    kinds += run.translate(
                        self._kinds if len(self._kinds) == _BYTES else self._kinds[:_BYTES]
                    )
                    position = end
                else:
                    place, position = self._long_index(block, position)
                    fields.append(table[place])
                    kinds += self._kinds[place : place + 1]
                continue
            if first >= 0x40:
                mask = 0x3F
            elif first < 0x20:
                mask = 0x0F
            else:
                raise _error("the size of the table is changed within a field block")
            index = first & mask
            position += 1
            if index == mask:
                index, position = _integer(block, position, index)
            if index:
                name = table[_INDEXED + index][0]
            else:
                name, position = _string(block, position)
            start = position
            value, position = _string(block, position)
            kind = kind_of(name, value)
            field = (name, value)
            if mask == 0x3F:
                self._insert(field, kind)
            elif index == 4:
                self.target = (start, position)
            if len(fields) <= self._most_fields:
                fields.append(field)
                kinds += b"%c" % kind
        return fields, kinds

    def _long_index(self, block: bytes, position: int) -> tuple[int, int]:
        """The place in the table of an indexed field that is no single byte, and where it ends."""
        if block[position] == _INDEXED:
            raise _error("index 0 is used")
        index, position = _integer(block, position + 1, 0x7F)
        return _INDEXED + index, position

    def _resize(self, block: bytes) -> int:
        """Take in the changes of the table's size that a block begins with, and return where its fields begin."""
        position = 0
        while position < len(block) and 0x20 <= block[position] < 0x40:
            capacity = block[position] & 0x1F
            position += 1
            if capacity == 0x1F:
                capacity, position = _integer(block, position, capacity)
            if capacity > TABLE_SIZE:
                raise _error("the table is made larger than was announced")
            self._capacity = capacity
            self.is_changed = True
            self._evict()
        return position

    def _insert(self, field: Field, kind: int) -> None:
        """RFC 7541 §4.4."""
        self.is_changed = True
        size = len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        self.largest = max(self.largest, size)
        self._table.insert(_FIRST_DYNAMIC, field)
        self._kinds.insert(_FIRST_DYNAMIC, kind)
        self._size += size
        self._evict()

    def _evict(self) -> None:
        """Drop the oldest entries until the others fit. One that is too large by itself leaves nothing."""
        table = self._table
        while self._size > self._capacity:
            name, value = table.pop()
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD
        if not self._size:
            self.largest = 0
        del self._kinds[max(_BYTES, len(table)) :]


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """An integer whose prefix of ones, `value`, ends before `position`, and where it ends (RFC 7541 §5.1)."""
    for shift in range(0, 7 * _MOST_INTEGER_BYTES, 7):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _error("an integer is too large")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """A string, and where it ends (RFC 7541 §5.2)."""
    first = block[position]
    length = first & 0x7F
    position += 1
    if length == 0x7F:
        length, position = _integer(block, position, length)
    end = position + length
    if end > len(block):
        raise _error("a string is longer than its field block")
    data = block[position:end]
    return (huffman.decode(data) if first >= 0x80 else data), end
