"""Requests and responses, whatever version of HTTP carries them (RFC 9110)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.grammar import FIELD_TEXT, is_token

Field = tuple[bytes, bytes]
Headers = list[Field]
Fields = tuple[Field, ...]

PLAIN_TEXT: Field = (b"content-type", b"text/plain; charset=utf-8")
"""What the server's own answers are."""

MOST_LENGTH_DIGITS = 18
"""Of a Content-Length: longer numbers are near 2^63, where some other peer's arithmetic overflows."""


@dataclass(slots=True)
class Request:
    """A request without its body. Requests that are repeated share one object: it is not changed once it was read."""

    method: str
    target: bytes
    """The request target (RFC 9110 §7.1), as sent."""
    raw_path: bytes
    """The target's path, without the query, as sent."""
    query_string: bytes
    headers: Headers
    """Lower-case names, in the order sent."""
    http_version: str
    """As in the ASGI scope: `1.0`, `1.1` or `2`."""
    expect_continue: bool = False
    """Whether the peer waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1)."""
    body_length: int | None = 0
    """Bytes of the body; `None` if the peer does not announce them."""
    accepts_trailers: bool = field(default=False, init=False)
    """Whether trailer fields of the response reach the peer (RFC 9110 §6.5.1, §10.1.4)."""
    accepts_hints: bool = field(default=False, init=False)
    """Whether the peer makes use of 103 (RFC 8297), and can be expected to understand it."""


BODYLESS: Final = (204, 304)
"""Statuses whose responses have no content, whatever their request (RFC 9110 §6.4.1)."""

# Fields that decide about framing or replace what the server would add, and those that are personal. All others pass.
_NOTED_FIELDS = frozenset(
    (b"content-length", b"connection", b"transfer-encoding", b"keep-alive", b"date", b"server", b"set-cookie")
)


@lru_cache(maxsize=1024)
def _noted_name(name: bytes) -> bytes | None:
    """A field name in lower case if the field is noted, else `None`. Raises `ValueError` for what is no name.

    Applications use few names, and always the same.
    """
    if not is_token(name):
        raise ValueError(f"header name {name!r} is not a token")
    lower = name.lower()
    return lower if lower in _NOTED_FIELDS else None


class ResponseHead:
    """Status and fields of a response, checked. Raises `ValueError` or `TypeError` for what may not be sent.

    Framing and connection are the server's: `Connection`, `Keep-Alive` and `Transfer-Encoding` are taken out, and of
    them only `Connection: close` is remembered.
    """

    __slots__ = (
        "close",
        "content_length",
        "fields",
        "has_date",
        "has_server",
        "is_cached",
        "is_personal",
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
        self.close = self.has_date = self.has_server = self.is_personal = False
        self.is_cached = False
        """Whether it is kept, and used for every response that has the same head."""
        fields = []
        size = 0
        for name, value in headers:
            noted = _noted_name(name)
            if type(value) is not bytes:
                value = field_bytes(name, value)  # noqa: PLW2901 -- an application could change it after this check
            size += len(name) + len(value)
            if noted is None or self._note(noted, value):
                fields.append((name, value))
        self.fields: Fields = tuple(fields)
        """What is sent of the fields, in the order given."""
        self.size = size
        """Bytes of the names and values that were given."""
        if b"".join([value for _, value in fields]).translate(None, FIELD_TEXT):
            raise ValueError(f"a header holds a control character: {fields!r}")

    @classmethod
    def of(cls, status: int, headers: Iterable[Iterable[bytes]]) -> "ResponseHead":
        """The head with these; one that was checked before is not checked again."""
        fields = tuple(headers)
        try:
            known = _CACHED_HEADS.get((status, fields))
        except TypeError:  # pairs may be lists
            return cls(status, fields)
        if known is None:
            known = cls(status, fields)
            if known.size <= _MAX_CACHED_BYTES and not known.is_personal:
                known.is_cached = _CACHED_HEADS.offer((status, fields), known)
        return known

    def without_length(self) -> "ResponseHead":
        """The same without Content-Length, for a body whose end is marked otherwise."""
        head = ResponseHead(
            self.status, [field for field in self.fields if field[0].lower() != b"content-length"]
        )
        head.close = self.close
        return head

    def _note(self, name: bytes, value: bytes) -> bool:
        """Take in a noted field; true if it is also sent as it is."""
        if name == b"content-length":
            if not value.isdigit() or len(value) > MOST_LENGTH_DIGITS:
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
        if name == b"set-cookie":
            self.is_personal = True
            return True
        if name == b"connection":
            self.close = self.close or b"close" in [token.strip() for token in value.lower().split(b",")]
        return False


def field_bytes(name: bytes, value: object) -> bytes:
    """A part of the field of this name, as bytes that nobody changes. Raises `TypeError` for what is not bytes."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"header {name!r}: {value!r} is not bytes")


# Applications send few different heads: most differ in nothing but their length. What is personal is not kept.
_CACHED_HEADS: BoundedCache[tuple[int, tuple[Iterable[bytes], ...]], ResponseHead] = BoundedCache(1024)
_MAX_CACHED_BYTES = 512
