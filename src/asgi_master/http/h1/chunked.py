"""The chunked transfer coding of RFC 9112 §7.1, without leniency and with bounds on all that is not body."""

from enum import Enum, auto

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import FIELD_TEXT, HEX_DIGITS, is_token
from asgi_master.http.limits import HttpLimits

_CR = 0x0D
_LINE_LIMIT = 4096
"""Bytes of a chunk's first line, extensions included."""
_CHUNKS_AT_ONCE = 64
"""Chunks that one call decodes at most: tiny ones cost microseconds each, and a read may bring ten thousands."""
_SIZE_DIGITS_LIMIT = 16
_SIZE_LIMIT = 2**63 - 1


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


class ChunkedDecoder:
    """Takes one body out of its chunks. Extensions and trailers are checked, bounded and dropped."""

    __slots__ = (
        "_checked",
        "_decoded",
        "_extensions",
        "_limits",
        "_remaining",
        "_state",
        "_trailer_bytes",
        "_trailers",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._state = _State.SIZE
        self._checked = 0  # bytes of an incomplete line that are in order, and hold no end of it
        self._remaining = 0  # of the current chunk
        self._decoded = 0
        self._extensions = 0
        self._trailers = 0
        self._trailer_bytes = 0

    @property
    def is_done(self) -> bool:
        """Whether the body and its trailer section are complete."""
        return self._state is _State.DONE

    def decode(self, buffer: bytes | bytearray, position: int) -> tuple[bytes | bytearray, int]:
        """The body bytes in `buffer` from `position`, and the position up to which it was used.

        There may be more of them in it, if there are any. Raises `ProtocolError`.
        """
        pieces: list[bytes | bytearray] = []
        while self._state is not _State.DONE:
            if self._state is _State.DATA:
                piece = buffer[position : position + self._remaining]
                if not piece:
                    break
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if not self._remaining:
                    self._state = _State.DATA_END
                    if len(pieces) == _CHUNKS_AT_ONCE:
                        break
            elif self._state is _State.DATA_END:
                end = buffer[position : position + 2]
                if not b"\r\n".startswith(end):
                    raise ProtocolError(400, "a chunk is longer than its size")
                if len(end) < 2:
                    break
                position += 2
                self._state = _State.SIZE
            else:
                line = self._line(buffer, position)
                if line is None:
                    break
                position += len(line) + 2
                if self._state is _State.SIZE:
                    self._begin_chunk(line)
                else:
                    self._read_trailer(line)
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), position

    def _line(self, buffer: bytes | bytearray, position: int) -> bytes | bytearray | None:
        """The line at `position` without its end; `None` if it is not complete."""
        fresh = position + self._checked
        end = buffer.find(b"\r\n", fresh)
        seen = len(buffer) if end < 0 else end
        limit = _LINE_LIMIT if self._state is _State.SIZE else self._limits.header_bytes
        if limit and seen - position > limit:
            raise ProtocolError(431, "a line of the chunked body is too long")
        if end < 0 and seen > fresh and buffer[-1] == _CR:
            seen -= 1  # of an end that is cut in two
        if buffer[fresh:seen].translate(None, FIELD_TEXT):
            raise ProtocolError(400, "a control character in the framing of the body")
        self._checked = seen - position if end < 0 else 0
        return None if end < 0 else buffer[position:end]

    def _begin_chunk(self, line: bytes | bytearray) -> None:
        # RFC 9112 §7.1.1 has recipients bear white space before the semicolon. No client sends it, and peers disagree.
        digits, _, _extension = line.partition(b";")
        # What extensions take grows with the body: signed chunks are legal, nothing but extensions is not.
        self._extensions += len(line) - len(digits)
        if self._limits.header_bytes and self._extensions > self._limits.header_bytes + self._decoded:
            raise ProtocolError(431, "too many chunk extensions")
        if not digits or len(digits) > _SIZE_DIGITS_LIMIT or digits.translate(None, HEX_DIGITS):
            raise ProtocolError(400, "a chunk size is not a number")
        size = int(digits, 16)
        if size > _SIZE_LIMIT:
            raise ProtocolError(400, "a chunk size is out of bounds")
        self._decoded += size
        if self._limits.body_size and self._decoded > self._limits.body_size:
            raise ProtocolError(413, "the request body is too large")
        self._remaining = size
        self._state = _State.DATA if size else _State.TRAILERS

    def _read_trailer(self, line: bytes | bytearray) -> None:
        if not line:
            self._state = _State.DONE
            return
        self._trailers += 1
        self._trailer_bytes += len(line) + 2
        limits = self._limits
        if limits.header_count and self._trailers > limits.header_count:
            raise ProtocolError(431, "too many trailer fields")
        if limits.header_bytes and self._trailer_bytes > limits.header_bytes:
            raise ProtocolError(431, "the trailer section is too large")
        name, colon, _value = line.partition(b":")
        if not colon or not is_token(name):
            raise ProtocolError(400, "a trailer field is malformed")
