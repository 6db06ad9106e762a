"""HPACK, the decoder's side (RFC 7541): field blocks as fields, with a table that both sides keep alike.

Static and dynamic table are one list, in which an indexed field stands at the byte that it is written as: a run of such
bytes is looked up by one `map`. Beside it the kinds of the fields (`field_kinds`) stand at the same bytes.
"""

import re
from typing import Final

from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.h2 import huffman
from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- see there
from asgi_master.http.h2.field_kinds import kind_of
from asgi_master.http.h2.static_table import NAME_INDEXES, STATIC_FIELDS
from asgi_master.http.message import Field

TABLE_SIZE: Final = 4096
"""SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2): the value before any is announced."""

_ENTRY_OVERHEAD: Final = 32
"""Of each entry, beside its name and its value (RFC 7541 §4.1)."""

_INDEXED: Final = 0x80
_FIRST_DYNAMIC: Final = _INDEXED + 1 + len(STATIC_FIELDS)
_LARGEST_STATIC: Final = max(len(name) + len(value) for name, value in STATIC_FIELDS) + _ENTRY_OVERHEAD
_BYTES: Final = [bytes((byte,)) for byte in range(256)]
_PATH_INDEX: Final = NAME_INDEXES[b":path"]

_STATIC: Final[list[Field]] = [(b"", b"")] * (_INDEXED + 1) + list(STATIC_FIELDS)
_STATIC_KINDS: Final = bytes([kind_of(*field) for field in _STATIC]).ljust(256, b"\0")

_indexed_run = re.compile(rb"[\x81-\xfe]+").match
_MOST_INTEGER_BYTES: Final = 4
"""Behind the prefix of an integer: 2^28 is more than any block is long."""


_RESTING: Final = frozenset(range(len(STATIC_FIELDS) + 1)) - {
    _PATH_INDEX,
    _PATH_INDEX + 1,
    NAME_INDEXES[b"cookie"],
}
"""Index of the name of fields that are likely to come again with the same value: 0 for a name that is spelt out."""

_NAMED: Final = 3


def _form(first: int) -> int:
    """How many bytes a literal field with this first byte may have before its value; 0 if such fields are not kept.

    `_NAMED` stands for two bytes and the name.
    """
    if first >= 0x40:
        index, most = first & 0x3F, 0x3F
    elif first < 0x10:
        index, most = first, 0x0F
    else:  # a change of the table's size, or a field that is never to be indexed: nobody keeps it
        return 0
    if index == most:  # and it goes on in the second byte
        return 2
    if index not in _RESTING:
        return 0
    return 1 if index else _NAMED


_FORMS: Final = bytes(_form(first) for first in range(_INDEXED))

_LONGEST_KNOWN: Final = 160
"""Bytes of a literal field that is known."""

_known: BoundedCache[bytes, tuple[Field, int]] = BoundedCache(1024)
"""Literal fields and their kinds, by their bytes: what clients send first on each connection, and proxies always.

No such field is the beginning of another, so a block that begins with one of these begins with that field.
"""


_MOST_CHANGES: Final = 8
"""Of the table's size in one block, where an encoder needs two (RFC 7541 §4.2)."""


def _error(reason: str) -> ConnectionError:
    return ConnectionError(ErrorCode.COMPRESSION_ERROR, reason)


class FieldDecoder:
    """Decodes the field blocks of one connection, in the order in which they were sent."""

    __slots__ = ("_capacity", "_kinds", "_most_fields", "_size", "_table", "is_changed", "largest", "path")

    def __init__(self, most_fields: int) -> None:
        """A block may have `most_fields` fields, whatever their size."""
        self._table = _STATIC.copy()
        self._kinds = bytearray(_STATIC_KINDS)  # 256 or more, as `translate` takes so many
        self._size = 0
        self._capacity = TABLE_SIZE
        self._most_fields = most_fields
        self.largest = _LARGEST_STATIC
        """No entry that is left is larger."""
        self.is_changed = False
        """Whether a block changed the table, since somebody set this to false."""
        self.path: tuple[int, int] | None = None
        """Where in the block that was decoded last the string of `:path` stands, if it is not in the table."""

    def decode(self, block: bytes) -> tuple[list[Field], bytes]:
        """The fields of a block and their kinds.

        Raises `ConnectionError`, as what follows cannot be decoded then (RFC 7541 §4.3): COMPRESSION_ERROR, or
        ENHANCE_YOUR_CALM for far too many fields.
        """
        table = self._table
        fields: list[Field] = []
        kinds = b""
        self.path = None
        size = len(block)
        try:
            position = self._resize(block) if size and 0x20 <= block[0] < 0x40 else 0
            while position < size:
                first = block[position]
                if first < _INDEXED:
                    known = None
                    form = _FORMS[first]
                    if form:
                        place = position + form
                        if form == _NAMED:
                            place += (block[position + 1] & 0x7F) - 1
                        end = place + 1 + (block[place] & 0x7F)
                        known = _known.get(block[position:end])
                    if known is None:
                        field, kind, position = self._literal(block, position, first)
                    else:
                        field, kind = known
                        position = end
                        if first >= 0x40:
                            self._insert(field, kind)
                    fields.append(field)
                    kinds += _BYTES[kind]
                elif (match := _indexed_run(block, position)) is not None:
                    run = match[0]
                    fields += [table[place] for place in run]
                    kinds += run.translate(self._kinds if len(self._kinds) == 256 else self._kinds[:256])
                    position += len(run)
                else:
                    place, position = self._long_index(block, position)
                    fields.append(table[place])
                    kinds += _BYTES[self._kinds[place]]
                if len(fields) > self._most_fields:
                    raise ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "a field block has too many fields")
        except IndexError:
            raise _error("an index is not in the table, or a field block ends too early") from None
        return fields, kinds

    def _literal(self, block: bytes, position: int, first: int) -> tuple[Field, int, int]:
        """A field that is not in the table, its kind, and where it ends (RFC 7541 §6.2); `first` is its first byte."""
        if first >= 0x40:
            mask = 0x3F
        elif first < 0x20:
            mask = 0x0F
        else:
            raise _error("the size of the table is changed within a field block")
        start = position
        index = first & mask
        position += 1
        if index == mask:
            index, position = _integer(block, position, index)
        if index:
            name = self._table[_INDEXED + index][0]
        else:
            name, position = _string(block, position)
        value, end = _string(block, position)
        field = (name, value)
        kind = kind_of(name, value)
        if _FORMS[first] and index in _RESTING and end - start <= _LONGEST_KNOWN:
            _known.offer(block[start:end], (field, kind))
        if mask == 0x3F:
            self._insert(field, kind)
        elif index == _PATH_INDEX:
            self.path = (position, end)
        return field, kind, end

    def _long_index(self, block: bytes, position: int) -> tuple[int, int]:
        """The place in the table of an indexed field that is no single byte, and where it ends."""
        if block[position] == _INDEXED:
            raise _error("index 0 is used")
        index, position = _integer(block, position + 1, 0x7F)
        return _INDEXED + index, position

    def _resize(self, block: bytes) -> int:
        """Take in the changes of the table's size that a block begins with, and return where its fields begin."""
        position = 0
        changes = 0
        while position < len(block) and 0x20 <= block[position] < 0x40:
            changes += 1
            if changes > _MOST_CHANGES:
                raise _error("the size of the table is changed too often")
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
        table, kinds = self._table, self._kinds
        table.insert(_FIRST_DYNAMIC, field)
        kinds.insert(_FIRST_DYNAMIC, kind)
        if len(table) <= 256:
            kinds.pop()
        self._size += size
        if self._size > self._capacity:
            self._evict()

    def _evict(self) -> None:
        """Drop the oldest entries until the others fit. One that is too large by itself leaves nothing (§4.4)."""
        table, capacity = self._table, self._capacity
        size = self._size
        while size > capacity:
            name, value = table.pop()
            size -= len(name) + len(value) + _ENTRY_OVERHEAD
        self._size = size
        if not size:
            self.largest = _LARGEST_STATIC
        if len(self._kinds) > 256:
            del self._kinds[max(256, len(table)) :]


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
    if first >= 0x80:
        try:
            data = huffman.decode(data)
        except ValueError as error:
            raise _error(str(error)) from None
    return data, end
