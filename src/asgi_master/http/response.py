"""One response as bytes of HTTP/1.1: what its application may put into the head, and how its body is framed."""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from asgi_master.http.grammar import HEAD_TEXT, is_token

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_MOST_LENGTH_DIGITS = 18

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

# Fields that decide about framing or replace what the server would add. All others pass.
_NOTED_FIELDS = frozenset(
    (b"content-length", b"connection", b"transfer-encoding", b"keep-alive", b"date", b"server")
)


@lru_cache(maxsize=1024)
def _noted_name(name: bytes) -> bytes | None:
    """A field name in lower case if the field is noted, else `None`, once it is known to be a name.

    Applications use few names, and always the same.
    """
    if not is_token(name):
        raise ValueError(f"header name {name!r} is not a token")
    lower = name.lower()
    return lower if lower in _NOTED_FIELDS else None


class ResponseHead:
    """Status and fields of a response, checked. Raises `ValueError` or `TypeError` for what may not be sent.

    The framing is the server's: `Connection`, `Keep-Alive` and `Transfer-Encoding` are taken out, and only
    `Connection: close` is remembered.
    """

    __slots__ = (
        "block",
        "close",
        "content_length",
        "has_date",
        "has_server",
        "is_known",
        "size",
        "status",
        "status_class",
    )

    def __init__(self, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise ValueError(f"{status!r} is no status of a final response")
        self.status = status
        self.status_class = min(status // 100, 5)
        """Its first digit (RFC 9110 §15); one that is in no class counts as a server error."""
        self.content_length: int | None = None
        self.close = self.has_date = self.has_server = False
        self.is_known = False
        """Whether it is kept, and used for every response that has the same head."""
        lines = []
        left_out = 0
        for name, value in headers:
            try:
                noted = _noted_name(name)
                line = b"%b: %b\r\n" % (name, value)
            except TypeError:
                raise TypeError(f"header {name!r}: {value!r} is not a pair of bytes") from None
            if noted is None or self._note(noted, value):
                lines.append(line)
            else:
                left_out += len(line)
        block = self.block = b"".join(lines)
        """The fields as they are sent."""
        self.size = len(block) + left_out
        """Bytes of all fields that were given."""
        count = len(lines)
        if block.count(b"\n") != count or block.count(b"\r") != count or block.translate(None, HEAD_TEXT):
            raise ValueError(f"a header holds a control character: {block!r}")

    @classmethod
    def of(cls, status: int, headers: Iterable[Iterable[bytes]]) -> "ResponseHead":
        """The head with these; one that was checked before is not checked again."""
        fields = tuple(headers)
        try:
            known = _KNOWN_HEADS.get((status, fields))
        except TypeError:  # pairs may be lists
            return cls(status, fields)
        if known is None:
            known = cls(status, fields)
            if known.size <= _LONGEST_KNOWN and not known.has(b"set-cookie"):
                if len(_KNOWN_HEADS) >= _MOST_KNOWN_HEADS:
                    _KNOWN_HEADS.clear()
                known.is_known = True
                _KNOWN_HEADS[status, fields] = known
        return known

    def has(self, name: bytes) -> bool:
        """Whether there is a field with this name, in lower case."""
        return (b"\n" + self.block.lower()).find(b"\n" + name + b":") >= 0

    def _note(self, name: bytes, value: bytes) -> bool:
        """Take in a noted field; true if it is also sent as it is."""
        if name == b"content-length":
            if not value.isdigit() or len(value) > _MOST_LENGTH_DIGITS:
                raise ValueError(f"content-length {value!r} is not a number")
            length = int(value)
            if self.content_length is not None:
                if self.content_length != length:
                    raise ValueError("two different content-lengths")
                return False
            self.content_length = length
            # RFC 9110 §8.6: a response that cannot have a body has no length either.
            return self.status != 204
        if name == b"date":
            self.has_date = True
            return True
        if name == b"server":
            self.has_server = True
            return True
        if name == b"connection":
            self.close = self.close or b"close" in [token.strip() for token in value.lower().split(b",")]
        return False


# Applications send few different heads: most differ in nothing but their length. What is personal is not kept.
_KNOWN_HEADS: dict[tuple[int, tuple[Iterable[bytes], ...]], ResponseHead] = {}
_MOST_KNOWN_HEADS = 1024
_LONGEST_KNOWN = 512


class ServerFields:
    """The fields that the server adds to its responses: Date, Server and those of its settings.

    The connections of a worker share them, and with them what the usual heads came to since the date changed.
    """

    __slots__ = ("_date_line", "_extra", "_is_dated", "_server_line", "_usual")

    def __init__(
        self,
        *,
        server_header: bool = True,
        date_header: bool = True,
        extra_headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self._server_line = b"server: asgi-master\r\n" if server_header else b""
        self._is_dated = date_header
        self._date_line = b""
        self._extra = extra_headers
        self._usual: dict[ResponseHead, bytes] = {}

    def set_date(self, date: str) -> None:
        """Say from now on that it is `date`, an IMF-fixdate (RFC 9110 §5.6.7)."""
        if self._is_dated:
            self._date_line = f"date: {date}\r\n".encode("ascii")
            self._usual.clear()

    def lines(self) -> dict[bytes, bytes]:
        """A line of each, by its name in lower case."""
        lines = {name.lower(): b"%b: %b\r\n" % (name, value) for name, value in self._extra}
        if self._date_line:
            lines[b"date"] = self._date_line
        if self._server_line:
            lines[b"server"] = self._server_line
        return lines

    def encode(self, head: ResponseHead, framing: bytes, end: bytes) -> bytes:
        """The whole of a head, with a line that tells the framing and the last lines."""
        return b"".join(
            (
                _STATUS_LINES.get(head.status) or _status_line(head.status),
                b"" if head.has_date else self._date_line,
                b"" if head.has_server else self._server_line,
                head.block,
                self._missing(head) if self._extra else b"",
                framing,
                end,
            )
        )

    def encode_usual(self, head: ResponseHead) -> bytes:
        """The same of one that tells its length, on a connection of HTTP/1.1 that goes on."""
        data = self._usual.get(head)
        if data is None:
            data = self.encode(head, b"", _END)
            if head.is_known:
                if len(self._usual) >= _MOST_KNOWN_HEADS:
                    self._usual.clear()
                self._usual[head] = data
        return data

    def _missing(self, head: ResponseHead) -> bytes:
        return b"".join([b"%b: %b\r\n" % field for field in self._extra if not head.has(field[0].lower())])


class ResponseEncoder:
    """Encodes the responses of one connection, one after the other."""

    __slots__ = ("_chunked", "_fields", "keep_alive")

    def __init__(self, fields: ServerFields) -> None:
        self._fields = fields
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
        if keep_alive and is_1_1 and not framing:
            return self._fields.encode_usual(head)
        end = _END if keep_alive and is_1_1 else _END_KEEP_ALIVE if keep_alive else _END_CLOSE
        return self._fields.encode(head, framing, end)

    def body(self, data: bytes, more: bool) -> bytes:
        """A piece of the body, framed as the head announced."""
        if not self._chunked:
            return data
        if data:
            return (b"%x\r\n%b\r\n" if more else b"%x\r\n%b\r\n0\r\n\r\n") % (len(data), data)
        return b"" if more else b"0\r\n\r\n"
