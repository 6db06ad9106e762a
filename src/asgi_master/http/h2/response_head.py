"""The heads and trailers of responses as field blocks of HPACK (RFC 7541, RFC 9113 §8.3.2).

No field enters the peer's dynamic table: then a head is the same bytes on every connection, and all of a worker share
what the usual ones came to. Names, and a few statuses, are those of the static table.
"""

from functools import lru_cache

from asgi_master.http.h2.field_kinds import CONNECTION_FIELDS
from asgi_master.http.h2.static_table import NAME_INDEXES, STATIC_INDEXES
from asgi_master.http.message import BODYLESS, Fields, ResponseHead
from asgi_master.http.server_fields import ServerFields

_MAX_ENCODED_HEADS = 1024
"""Heads whose encoded form is kept."""


def _integer(value: int, prefix_bits: int, pattern: int) -> bytes:
    """An integer behind the bits of `pattern` (RFC 7541 §5.1)."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((pattern | value,))
    encoded = [pattern | most]
    value -= most
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_LENGTHS = [_integer(length, 7, 0) for length in range(256)]
"""The beginnings of strings that are not Huffman-coded."""


def _string(text: bytes) -> bytes:
    """RFC 7541 §5.2. White space around it may not stand there (RFC 9113 §8.2.1)."""
    text = text.strip()
    size = len(text)
    return (_LENGTHS[size] if size < len(_LENGTHS) else _integer(size, 7, 0)) + text


@lru_cache(maxsize=1024)
def _name(name: bytes) -> bytes:
    """The beginning of a field that is not indexed (RFC 7541 §6.2.2); empty if HTTP/2 does not have the field.

    Applications use few names, and always the same.
    """
    name = name.lower()
    if name in CONNECTION_FIELDS:
        return b""
    index = NAME_INDEXES.get(name)
    return b"\0" + _string(name) if index is None else _integer(index, 4, 0)


def _encoded(fields: Fields) -> bytes:
    return b"".join([start + _string(value) for name, value in fields if (start := _name(name))])


@lru_cache(maxsize=1024)
def _status(status: int) -> bytes:
    value = b"%d" % status
    index = STATIC_INDEXES.get((b":status", value))
    return _name(b":status") + _string(value) if index is None else _integer(index, 7, 0x80)


_LENGTH_NAME = _name(b"content-length")


class ResponseHeadEncoder:
    """Encodes the responses of all of a worker's connections. Ask `ServerFields.encoder` for it."""

    __slots__ = ("_date", "_encoded_heads", "_fields", "_server")

    def __init__(self, fields: ServerFields) -> None:
        self._fields = fields
        self._server = _encoded(((b"server", fields.server),)) if fields.server else b""
        self._date = b""
        self._encoded_heads: dict[ResponseHead, bytes] = {}
        self.date_changed()

    def date_changed(self) -> None:
        """See `server_fields.HeadEncoder`."""
        date = self._fields.date
        self._date = _encoded(((b"date", date),)) if date else b""
        self._encoded_heads.clear()

    def head(self, head: ResponseHead, length: int | None) -> bytes:
        """The field block of a final response; `length` is that of the body, if all of it is known.

        A response to HEAD whose length is not known has `None`, though its body is empty.
        """
        data = self._encoded_heads.get(head)
        if data is None:
            data = self._encode(head)
            if head.is_cached:
                if len(self._encoded_heads) >= _MAX_ENCODED_HEADS:
                    self._encoded_heads.clear()
                self._encoded_heads[head] = data
        if length is None or head.content_length is not None or (not length and head.status in BODYLESS):
            return data
        return data + _LENGTH_NAME + _string(b"%d" % length)

    def interim(self, status: int, fields: Fields) -> bytes:
        """The field block of an interim response (RFC 9110 §15.2)."""
        return _status(status) + _encoded(fields)

    def trailers(self, fields: Fields) -> bytes:
        """The field block of trailers (RFC 9110 §6.5)."""
        return _encoded(fields)

    def _encode(self, head: ResponseHead) -> bytes:
        added = self._fields
        return b"".join(
            (
                _status(head.status),
                b"" if head.has_date else self._date,
                b"" if head.has_server else self._server,
                _encoded(head.fields),
                _encoded(added.missing(head)) if added.extra else b"",
            )
        )
