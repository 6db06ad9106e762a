"""The framing of HTTP/1.1 requests: where a head ends, how long a body is, and how much of each is let in.

Parsers are pulled: give bytes to `receive_data`, take events from `next_event` until `NEED_DATA`. What a library
(`httptools`, `h11`) adds is the reading of a head whose end was found here, so limits hold whatever the library does.
"""

import sys
from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import Final, Literal

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import HEAD_TEXT
from asgi_master.http.h1.chunked import ChunkedDecoder
from asgi_master.http.h1.head_cache import HeadCache
from asgi_master.http.h1.request_head import H1Request, judge_headers, read_request_line
from asgi_master.http.limits import HttpLimits
from asgi_master.http.message import Headers


class Signal(Enum):
    """Events without content."""

    NEED_DATA = auto()
    """Nothing more can be said about the bytes so far."""
    END_OF_MESSAGE = auto()
    """The request is complete, its body included."""


NEED_DATA: Final = Signal.NEED_DATA
END_OF_MESSAGE: Final = Signal.END_OF_MESSAGE

Event = H1Request | bytes | Literal[Signal.NEED_DATA, Signal.END_OF_MESSAGE]
"""What the bytes mean; `bytes` are a piece of the body."""


class _State(Enum):
    HEAD = auto()
    BODY = auto()
    CHUNKED = auto()
    ENDING = auto()
    """The body is complete and `END_OF_MESSAGE` is still to come."""
    DONE = auto()
    """The message is over; `start_next_cycle` goes on."""
    CLOSED = auto()
    """The last request said that it is the last (RFC 9112 §9.6): what follows is not read."""


# Module constants are looked up faster than members.
_HEAD, _BODY, _CHUNKED, _ENDING, _DONE, _CLOSED = _State

_CR = 0x0D
_KEPT = 4096
"""Bytes of what was read that may stay until more arrives: to let go of them each time would cost each request."""


_MOST_MISSES = 4
"""Heads in a row that repeat nothing of the one before, after which a connection's heads are not kept."""
_NEXT_TRY = 64
"""One of this many is kept then, in case that they repeat themselves again."""

_LONGEST_SHOWN = 1024
"""Bytes of a line that was refused."""


class HeadError(Exception):
    """A library's objection to a head; it becomes the `ProtocolError` that names the cause."""


class Parser(ABC):
    """Reads the requests of one connection, one after the other."""

    __slots__ = (
        "_buffer",
        "_count_limit",
        "_decoder",
        "_head_cache",
        "_header_limit",
        "_is_last",
        "_least_limit",
        "_limits",
        "_line_limit",
        "_line_size",
        "_misses",
        "_position",
        "_remaining",
        "_searched",
        "_skipped",
        "_state",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._line_limit = limits.request_line or sys.maxsize
        self._header_limit = limits.header_bytes or sys.maxsize
        self._count_limit = limits.header_count or sys.maxsize
        self._least_limit = min(self._line_limit, self._header_limit)  # what is smaller exceeds neither
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._searched = 0  # up to here the buffer holds no end of a head
        self._line_size = -1  # bytes of the request line of an incomplete head; -1 while its end is not here
        self._skipped = False  # the empty line before a request that RFC 9112 §2.2 tolerates
        self._state = _HEAD
        self._is_last = False
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._head_cache: HeadCache | None = None
        self._misses = 0  # heads in a row that repeated nothing

    @abstractmethod
    def _read_headers(self, head: bytes, request: H1Request) -> Headers:
        """The fields of a complete head: lower-case names, values without surrounding white space.

        `request` is what its first line says. Raises `HeadError` if the library refuses the head.
        """

    def _read_request(self, head: bytes) -> H1Request:
        """A complete head as a request, whose fields are not judged yet. Raises `ProtocolError`."""
        request = read_request_line(head[: head.find(b"\r\n")])
        try:
            request.headers = self._read_headers(head, request)
        except HeadError as error:
            raise _diagnose(head, request) from error
        return request

    @property
    def buffered(self) -> int:
        """Bytes received that no event has covered yet."""
        return len(self._buffer) - self._position

    @property
    def first_line(self) -> bytes:
        """The first line of a request that was refused, or did not come in time: its beginning, as far as it came."""
        beginning = self._buffer[self._position : self._position + _LONGEST_SHOWN]
        return bytes(beginning).lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r")

    @property
    def body_remaining(self) -> int | None:
        """Bytes of the current request's body that have not arrived; `None` if its length is unknown."""
        if self._state is _BODY:
            return max(0, self._remaining - self.buffered)
        return None if self._state is _CHUNKED else 0

    @property
    def is_idle(self) -> bool:
        """Whether it stands between two requests and nothing of the next has arrived."""
        return self._state is _HEAD and self._position == len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Take in what arrived."""
        buffer, position = self._buffer, self._position
        if position == len(buffer):
            self._buffer = data
            self._position = self._searched = 0
            return
        # What is small beside what waits here must not have that copied each time: it comes a byte at a time, perhaps.
        if type(buffer) is bytearray:
            del buffer[:position]
            buffer += data
        elif len(data) < len(buffer) - position:
            self._buffer = bytearray(buffer[position:])
            self._buffer += data
        else:
            self._buffer = buffer[position:] + data
        self._searched -= position
        self._position = 0

    def next_event(self) -> Event:
        """What the bytes say next. Raises `ProtocolError`; after that the connection is of no more use."""
        state = self._state
        if state is _HEAD:
            return self.next_request() or NEED_DATA
        if state is _BODY:
            return self._next_of_length()
        if state is _CHUNKED:
            return self._next_chunked()
        if state is _ENDING:
            self._state = _DONE
            return END_OF_MESSAGE
        return NEED_DATA

    def next_request(self) -> H1Request | None:
        """The event that is due between two messages, if it is a request. Raises `ProtocolError` as `next_event`."""
        buffer, start = self._buffer, self._position
        if start == len(buffer) or self._state is not _HEAD:
            return None
        if buffer[start] == _CR:
            return self._skip_empty_line()
        repeated = self._head_cache
        if repeated is not None and buffer.startswith(repeated.head, start):
            request = repeated.request
            self._misses = 0
            end = start + len(repeated.head)
        else:
            end = buffer.find(b"\r\n\r\n", self._searched)
            if end < 0:
                self._check_incomplete()
                return None
            end += 4
            head = buffer[start:end]
            request = self._read_head(head if type(head) is bytes else bytes(head))
        if request.body_length == 0:
            self._state = _ENDING
        else:
            self._begin_body(request.body_length)
        self._position = self._searched = end
        self._is_last = not request.keep_alive
        return request

    def start_next_cycle(self) -> bool:
        """Start the next request, once this one is complete. Returns whether some of its bytes are buffered."""
        assert self._state is _ENDING or self._state is _DONE
        self._state = _CLOSED if self._is_last else _HEAD
        self._skipped = False
        position = self._searched = self._position
        size = len(self._buffer)
        if position != size:
            return True
        if size > _KEPT:
            self._buffer = b""  # a connection that now idles for long must not hold what was uploaded
            self._position = self._searched = 0
        return False

    def take_complete_body(self) -> bytes | None:
        """The body of the request just returned, if all of it is buffered: no further events follow then."""
        start, end = self._position, self._position + self._remaining
        if self._state is not _BODY or end > len(self._buffer):
            return None
        self._position = end
        self._remaining = 0
        self._state = _DONE
        body = self._buffer[start:end]
        return body if type(body) is bytes else bytes(body)

    def trailing_data(self) -> bytes:
        """Take out what follows the request: it belongs to the protocol upgraded to."""
        data = self._buffer[self._position :]
        self._buffer = b""
        self._position = 0
        return bytes(data)

    def _read_head(self, head: bytes) -> H1Request:
        """Read and judge a head that is not that of the last request again."""
        if len(head) > self._least_limit:
            self._check_sizes(head)
        cache = self._head_cache
        if cache is not None and (request := cache.read_other_line(head)) is not None:
            self._misses = 0
            return request
        request = self._read_request(head)
        judge_headers(request)
        if len(request.headers) > self._count_limit:
            raise ProtocolError(431, "too many header fields")
        self._misses = misses = self._misses + 1
        if not request.keep_alive:
            self._head_cache = None  # no other head comes
        elif misses <= _MOST_MISSES or not misses % _NEXT_TRY:
            self._head_cache = HeadCache.of(head, request, cache)
        elif cache is not None:
            self._head_cache = None
        return request

    def _check_sizes(self, head: bytes) -> None:
        line_size = head.find(b"\r\n")
        if line_size > self._line_limit:
            raise _line_too_long()
        if len(head) - line_size - 2 > self._header_limit:
            raise _header_too_large()

    def _begin_body(self, length: int | None) -> None:
        limit = self._limits.body_size
        if length is None:
            self._state = _CHUNKED
            self._decoder = ChunkedDecoder(self._limits)
        elif limit and length > limit:
            raise ProtocolError(413, "the request body is too large")
        else:
            self._state = _BODY
            self._remaining = length

    def _skip_empty_line(self) -> H1Request | None:
        rest = self._buffer[self._position : self._position + 2]
        if rest == b"\r":
            return None
        if rest != b"\r\n" or self._skipped:
            raise ProtocolError(400, "the request line is not: method, target, version")
        self._skipped = True
        self._position += 2
        self._searched = max(self._position, self._searched)
        return self.next_request()

    def _check_incomplete(self) -> None:
        """Refuse as soon as it is certain that no acceptable head will come of this."""
        buffer, start, fresh = self._buffer, self._position, self._searched
        if buffer[fresh:].translate(None, HEAD_TEXT):
            raise ProtocolError(400, "a control character in the header section")
        if buffer.count(b"\n", fresh) != buffer.count(b"\r\n", max(start, fresh - 1)):
            raise ProtocolError(400, "a line ends without CR LF")
        if fresh <= start or self._line_size < 0:
            self._line_size = max(-1, buffer.find(b"\r\n", max(start, fresh)) - start)
        line_size = self._line_size
        if line_size < 0:
            pending = len(buffer) - start - (buffer[-1] == _CR)
            if pending > self._line_limit:
                raise _line_too_long()
        elif line_size > self._line_limit:
            raise _line_too_long()
        elif len(buffer) - start - line_size - 2 > self._header_limit:
            raise _header_too_large()
        # The next search starts where an end that is cut in two may begin.
        self._searched = max(start, len(buffer) - 3)

    def _next_of_length(self) -> Event:
        buffer, start = self._buffer, self._position
        data = buffer[start : start + self._remaining]
        if not data:
            return NEED_DATA
        self._position += len(data)
        self._remaining -= len(data)
        if not self._remaining:
            self._state = _ENDING
        return data if type(data) is bytes else bytes(data)

    def _next_chunked(self) -> Event:
        decoder = self._decoder
        assert decoder is not None
        piece, self._position = decoder.decode(self._buffer, self._position)
        data = bytes(piece)
        if decoder.is_done:
            self._decoder = None
            self._state = _ENDING if data else _DONE
            return data or END_OF_MESSAGE
        return data or NEED_DATA


def _line_too_long() -> ProtocolError:
    return ProtocolError(414, "the request line is too long")


def _header_too_large() -> ProtocolError:
    return ProtocolError(431, "the header section is too large")


def _diagnose(head: bytes, request: H1Request) -> ProtocolError:
    """Why a library refused a head: our own rule if one is broken, so that all libraries say the same."""
    headers: Headers = []
    for text in head[:-4].split(b"\r\n")[1:]:
        name, _, value = text.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    request.headers = headers
    try:
        judge_headers(request)
    except ProtocolError as error:
        return error
    return ProtocolError(400, "the header section is malformed")
