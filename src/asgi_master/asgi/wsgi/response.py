"""One response as a WSGI application gives it: `start_response`, `write` and pieces, held to PEP 3333.

    AWAITING ── start_response ── HELD ── first bytes ── SENT
                      └───── again, with exc_info ──┘      └── again, with exc_info: raises what is in it

Raises in the application's own call, wherever there is one. The thread of one request uses it.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.message import BODYLESS, ResponseHead

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Write = Callable[[bytes], None]

_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    )
)
"""Fields that are the server's (PEP 3333, "Other HTTP Features"; RFC 9110 §7.6.1)."""

# Checked and encoded once: applications send few different heads. What is personal is not kept.
_HEADS: BoundedCache[tuple[str, tuple[Any, ...]], ResponseHead] = BoundedCache(1024)


def response_head(status: object, headers: object) -> ResponseHead:
    """The head of what `start_response` is given. Raises `TypeError` or `ValueError` for what it may not be given."""
    if not isinstance(status, str):
        raise TypeError(f"the status is of type {type(status).__name__}, not str")
    if not isinstance(headers, list):
        raise TypeError(f"the headers are of type {type(headers).__name__}, not list")
    key = status, tuple(headers)
    try:
        known = _HEADS.get(key)
    except TypeError:  # a header is a list: it is refused below
        known = None
    if known is None:
        known = ResponseHead(_code(status), [_field(entry) for entry in headers])
        if known.size <= _MAX_CACHED_BYTES and not known.is_personal:
            known.is_cached = _HEADS.offer(key, known)
    return known


_MAX_CACHED_BYTES: Final = 512


def _code(status: str) -> int:
    digits, space, _reason = status[:3], status[3:4], status[4:]
    if not (digits.isascii() and digits.isdigit() and len(digits) == 3) or space not in ("", " "):
        raise ValueError(f"the status {status!r} is not a number of three digits, a space and a reason")
    return int(digits)


def _field(entry: object) -> tuple[bytes, bytes]:
    if not isinstance(entry, tuple) or len(entry) != 2:
        raise TypeError(f"the header {entry!r} is not a tuple of name and value")
    name, value = entry
    if not (isinstance(name, str) and isinstance(value, str)):
        raise TypeError(f"the header {entry!r} is not of type str")
    if name.lower() in _HOP_BY_HOP:
        raise ValueError(f"the header {name} is hop-by-hop: it is the server's")
    try:
        return name.encode("latin-1"), value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(f"the header {name!r}: {error.object!r} is not latin-1") from None


class Response:
    """The state of one response."""

    __slots__ = ("_is_head", "_left", "_sent", "head", "length", "sends_body")

    def __init__(self, method: str) -> None:
        self.head: ResponseHead | None = None
        """What was said last, until it is sent."""
        self._is_head = method == "HEAD"
        self.sends_body = True
        """Whether the response has a body to send; known for certain from its first bytes on."""
        self._sent = False
        self._left: int | None = None
        """Bytes that the Content-Length leaves; `None` without one."""
        self.length = 0
        """Bytes of the body that were given, also those that a response to HEAD does not send."""

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None) -> None:
        """Take the head. Raises `AssertionError` if there is one and no `exc_info`.

        With `exc_info`, a head that was not sent is replaced; else what is in it is raised.
        """
        if exc_info is not None:
            try:
                if self._sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                del exc_info
        elif self.head is not None:
            raise AssertionError("start_response was called a second time, without exc_info")
        self.head = response_head(status, headers)

    @property
    def is_begun(self) -> bool:
        """Whether bytes were given, so that the head cannot be replaced."""
        return self._sent

    @property
    def is_whole(self) -> bool:
        """Whether as many bytes were given as the Content-Length says."""
        return self._left == 0

    def begin(self) -> ResponseHead:
        """The head, which is sent now. Raises `AssertionError` if `start_response` was not called."""
        head = self.head
        if head is None:
            raise AssertionError("start_response was not called before the first bytes of the body")
        self._sent = True
        if self._is_head or head.status in BODYLESS:
            self.sends_body = False
        self._left = head.content_length
        return head

    def piece(self, data: bytes) -> bytes:
        """What is to be sent of a piece that the iterable gave; of one that is too long, what the length allows.

        Raises `TypeError` for what is no bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"a piece of the body is of type {type(data).__name__}, not bytes")
        if not data:
            return b""
        if not self._sent:
            self.begin()
        left = self._left
        size = len(data)
        if left is not None:
            if size > left:
                data = data[:left]
                size = left
            self._left = left - size
        self.length += size
        return data if self.sends_body else b""

    def write(self, data: bytes) -> bytes:
        """What is to be sent of a piece given to `write`. Raises `ValueError` for more than the length allows."""
        if data and isinstance(data, bytes):
            if not self._sent:
                self.begin()
            if self._left is not None and len(data) > self._left:
                raise ValueError("the response body is longer than its Content-Length")
        return self.piece(data)

    def end(self) -> None:
        """The iterable ended. Raises `ValueError` if less was given than the Content-Length says."""
        if not self._sent:
            self.begin()
        if self._left and self.sends_body:
            raise ValueError("the response body is shorter than its Content-Length")
