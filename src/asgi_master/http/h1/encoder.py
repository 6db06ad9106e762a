"""One response as bytes of HTTP/1.1: its head, and how its body is framed (RFC 9112 §4 to §7)."""

from http import HTTPStatus

from asgi_master.http.message import Fields, ResponseHead
from asgi_master.http.server_fields import ServerFields

_END = b"\r\n"
_END_CLOSE = b"connection: close\r\n\r\n"
_END_KEEP_ALIVE = b"connection: keep-alive\r\n\r\n"


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # RFC 9112 §4: the phrase may be empty, the space before it not
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


_STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}

_MAX_ENCODED_HEADS = 1024
"""Heads whose encoded form is kept."""


def interim(status: int, fields: Fields = ()) -> bytes:
    """An interim response (RFC 9110 §15.2), whose fields were checked."""
    return b"%b%b\r\n" % (_status_line(status), _lines(fields))


def _lines(fields: Fields) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


class HeadEncoder:
    """Encodes the heads of a worker's responses, and remembers what the usual ones came to since the date changed."""

    __slots__ = ("_date_line", "_fields", "_server_line", "encoded_heads", "encoded_last_heads")

    def __init__(self, fields: ServerFields) -> None:
        self._fields = fields
        self._server_line = b"server: %b\r\n" % fields.server if fields.server else b""
        self._date_line = b""
        self.encoded_heads: dict[ResponseHead, bytes] = {}
        """Of the common case: content-length known, HTTP/1.1."""
        self.encoded_last_heads: dict[ResponseHead, bytes] = {}
        """Likewise of connections that end with the response."""
        self.date_changed()

    def date_changed(self) -> None:
        """See `server_fields.HeadEncoder`."""
        date = self._fields.date
        self._date_line = b"date: %b\r\n" % date if date else b""
        self.encoded_heads.clear()
        self.encoded_last_heads.clear()

    def server_lines(self) -> dict[bytes, bytes]:
        """A line of each field that the server adds, by its name in lower case."""
        lines = {name.lower(): b"%b: %b\r\n" % (name, value) for name, value in self._fields.extra}
        if self._date_line:
            lines[b"date"] = self._date_line
        if self._server_line:
            lines[b"server"] = self._server_line
        return lines

    def encode(self, head: ResponseHead, framing: bytes, end: bytes) -> bytes:
        """The whole head: `framing` is the line for the body's length, `end` the last lines."""
        fields = head.fields + self._fields.missing(head) if self._fields.extra else head.fields
        return b"".join(
            (
                _STATUS_LINES.get(head.status) or _status_line(head.status),
                b"" if head.has_date else self._date_line,
                b"" if head.has_server else self._server_line,
                b"".join([b"%b: %b\r\n" % field for field in fields]),
                framing,
                end,
            )
        )

    def encode_common(self, head: ResponseHead, keep_alive: bool) -> bytes:
        """`encode` for the common case; remembers what comes again."""
        data = self.encode(head, b"", _END if keep_alive else _END_CLOSE)
        if head.is_cached:
            encoded = self.encoded_heads if keep_alive else self.encoded_last_heads
            if len(encoded) >= _MAX_ENCODED_HEADS:
                encoded.clear()
            encoded[head] = data
        return data


class ResponseEncoder:
    """Encodes the responses of one connection, one after the other."""

    __slots__ = ("_chunked", "_heads", "keep_alive")

    def __init__(self, fields: ServerFields) -> None:
        self._heads = fields.encoder(HeadEncoder)
        self._chunked = False
        self.keep_alive = True
        """Whether the connection may go on after the response whose head was encoded last."""

    def head(
        self, head: ResponseHead, length: int | None, bodyless: bool, is_1_1: bool, keep_alive: bool
    ) -> bytes:
        """The head of a response.

        `length` is that of the body, if all of it is known; `bodyless` a response that has none by its nature (to
        HEAD, 204, 304); `keep_alive` whether both sides would go on.
        """
        chunked = False
        framing = b""
        if head.content_length is None and not (bodyless and not length):
            if length is not None:
                framing = b"content-length: %d\r\n" % length
            elif is_1_1:
                chunked = True
                framing = b"transfer-encoding: chunked\r\n"
            else:
                keep_alive = False  # the end of the connection is the end of the body
        if head.close:
            keep_alive = False
        self._chunked = chunked
        self.keep_alive = keep_alive
        if is_1_1 and not framing:
            heads = self._heads
            encoded = heads.encoded_heads if keep_alive else heads.encoded_last_heads
            return encoded.get(head) or heads.encode_common(head, keep_alive)
        end = _END if keep_alive and is_1_1 else _END_KEEP_ALIVE if keep_alive else _END_CLOSE
        return self._heads.encode(head, framing, end)

    def body(self, data: bytes, more: bool) -> bytes:
        """A piece of the body, framed as the head announced."""
        if not self._chunked:
            return data
        if data:
            return (b"%x\r\n%b\r\n" if more else b"%x\r\n%b\r\n0\r\n\r\n") % (len(data), data)
        return b"" if more else b"0\r\n\r\n"

    def file_begins(self, size: int) -> bytes:
        """What comes before a piece of the body that is written by others: more than no bytes, and not the last."""
        return b"%x\r\n" % size if self._chunked else b""

    def file_ends(self) -> bytes:
        """What comes behind such a piece."""
        return b"\r\n" if self._chunked else b""

    def trailers(self, fields: Fields) -> bytes:
        """The end of the body, with trailer fields if its framing has room for them (RFC 9112 §7.1.2)."""
        if not self._chunked:
            return b""
        self._chunked = False  # the end that is written next is here already
        return b"0\r\n%b\r\n" % _lines(fields)
