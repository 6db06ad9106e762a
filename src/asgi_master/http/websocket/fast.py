"""The engine of production: frames read and written in plain Python, with the bytes touched only at C speed.

A short, whole, unfragmented, uncompressed data frame, which is what most traffic is, takes one short path;
every other frame the long one. Both are tested against `websocket_reference.WsprotoEngine` on the same bytes.
"""

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader, PathFinder
from importlib.util import module_from_spec
from io import BytesIO, StringIO
from struct import Struct
from typing import Any, Final

from asgi_master.http.websocket.deflate import Compression, InflateError, InflateOverflowError
from asgi_master.http.websocket.frames import (
    FRAGMENT,
    UNLIMITED,
    Close,
    CloseCode,
    Event,
    Ping,
    Pong,
    WebSocketError,
    may_be_sent,
)

_FIN: Final = 0x80
_RSV1: Final = 0x40
_RSV2_RSV3: Final = 0x30
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_DATA_OPCODES: Final = frozenset((_CONTINUATION, _TEXT, _BINARY))
_CONTROL_OPCODES: Final = frozenset((_CLOSE, _PING, _PONG))

_CONTROL_PAYLOAD: Final = 125
_TWO_BYTE_LENGTH: Final = 126
_EIGHT_BYTE_LENGTH: Final = 127

_CODE: Final = Struct("!H")
_MEDIUM_HEADER: Final = Struct("!BBH")
_LARGE_HEADER: Final = Struct("!BBQ")
_SHORT_TEXT_HEADERS: Final = [bytes((_FIN | _TEXT, size)) for size in range(126)]
_SHORT_BINARY_HEADERS: Final = [bytes((_FIN | _BINARY, size)) for size in range(126)]

_ALL_BYTES: Final = int.from_bytes(bytes(range(256)))
_XOR_TABLES: Final = [(_ALL_BYTES ^ int.from_bytes(bytes((key,)) * 256)).to_bytes(256) for key in range(256)]
_TABLES_FROM: Final = 2048
"""Bytes from which four table look-ups beat one XOR of two long integers."""


def unmask_in_python(payload: bytes | bytearray, key: bytes) -> bytes:
    """The payload XOR the repeated four-byte key (RFC 6455 §5.3). It is its own inverse."""
    size = len(payload)
    if size < _TABLES_FROM:
        keys = (key * ((size + 3) >> 2))[:size]
        return (int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")
    data = bytearray(payload)
    for offset in range(4):
        data[offset::4] = data[offset::4].translate(_XOR_TABLES[key[offset]])
    return bytes(data)


def _load_unmask() -> Callable[[bytes | bytearray, bytes], bytes]:
    """The compiled function of `websockets`, where it was compiled: 1 µs for 16 KiB, not 25.

    Its module is loaded without the package around it, which imports `importlib.metadata`: a tenth of a zygote's start.
    """
    package = PathFinder.find_spec("websockets")
    spec = package and PathFinder.find_spec("websockets.speedups", package.submodule_search_locations)
    if not spec or not isinstance(spec.loader, ExtensionFileLoader):
        return unmask_in_python
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        function: Callable[[bytes | bytearray, bytes], bytes] = module.apply_mask
    except (ImportError, AttributeError):
        return unmask_in_python
    return function


unmask: Final = _load_unmask()


class FastEngine:
    """See `websocket.Engine`."""

    __slots__ = (
        "_buffer",
        "_compressed",
        "_compression",
        "_control",
        "_decoder",
        "_final",
        "_first",
        "_is_inflating",
        "_key",
        "_limit",
        "_message",
        "_missing",
        "_opcode",
        "_position",
        "_size",
    )

    def __init__(self, *, message_size: int, compression: Compression | None) -> None:
        self._limit = message_size or UNLIMITED
        self._compression = compression
        self._buffer = b""
        self._position = 0
        # A frame whose payload is still arriving.
        self._missing = 0
        self._first = 0
        self._key = b""
        self._control = b""
        # A message whose parts are still arriving; opcode 0 if none is.
        self._opcode = _CONTINUATION
        self._compressed = False
        self._is_inflating = False
        self._final = False
        self._size = 0
        self._message: Any = None  # `StringIO` or `BytesIO`
        self._decoder: IncrementalDecoder | None = None

    def receive_data(self, data: bytes) -> None:
        if self._position < len(self._buffer):
            data = self._buffer[self._position :] + data
        self._buffer = data
        self._position = 0

    @property
    def held(self) -> int:
        return len(self._buffer) - self._position + self._size

    def next_event(self) -> Event | None:
        buffer = self._buffer
        start = self._position + 6
        if start - 6 == len(buffer) and not (self._missing or self._is_inflating):
            return None
        # The short path skips no check that could fail here: FIN is set and RSV is not, the payload is masked
        # and its length minimal, and neither a frame nor a message is underway.
        if (
            len(buffer) >= start
            and _MASKED <= (masked_size := buffer[start - 5]) < _MASKED + _TWO_BYTE_LENGTH
            and not (self._missing or self._opcode)
            and (first := buffer[start - 6]) in (_FIN | _TEXT, _FIN | _BINARY)
            and len(buffer) >= (end := start + masked_size - _MASKED)
            and masked_size - _MASKED <= self._limit
        ):
            self._position = end
            payload = unmask(buffer[start:end], buffer[start - 4 : start])
            return payload if first & _OPCODE == _BINARY else _decode(payload)
        if self._is_inflating:
            return self._inflate()
        if self._missing:
            return self._collect()
        header = self._read_header()
        if header is None:
            return None
        first, size, key = header
        start = self._position
        end = start + size
        if end <= len(buffer):
            self._position = end
            return self._interpret(first, unmask(buffer[start:end], key))
        self._first, self._missing, self._key = first, size, key
        self._control = b""
        if first & _OPCODE in (_TEXT, _BINARY):
            self._begin_message(first)
        return self._collect()

    def _collect(self) -> Event | None:
        """Use what arrived of a payload whose frame is not complete yet."""
        piece = self._buffer[self._position : self._position + self._missing]
        size = len(piece)
        if not size:
            return None
        self._position += size
        self._missing -= size
        key, turn = self._key, size & 3
        self._key = key[turn:] + key[:turn]
        piece = unmask(piece, key)
        ends = not self._missing
        if self._first & _OPCODE in _DATA_OPCODES:
            return self._add(piece, final=ends and bool(self._first & _FIN))
        self._control += piece
        return self._interpret(self._first, self._control) if ends else None

    def _read_header(self) -> tuple[int, int, bytes] | None:
        """First byte, payload length and masking key of the next frame, if all are there (RFC 6455 §5.2)."""
        buffer, position = self._buffer, self._position
        if len(buffer) < position + 2:
            return None
        first, second = buffer[position], buffer[position + 1]
        self._check_first(first)
        size = second & ~_MASKED
        position += 2
        if first & _OPCODE in _CONTROL_OPCODES and size > _CONTROL_PAYLOAD:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "control frame too long")
        if size > _CONTROL_PAYLOAD:
            width = 2 if size == _TWO_BYTE_LENGTH else 8
            if len(buffer) < position + width:
                return None
            size = int.from_bytes(buffer[position : position + width], "big")
            position += width
            if size < (_TWO_BYTE_LENGTH if width == 2 else 0x10000) or size >> 63:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "length not in its shortest form")
        if not second & _MASKED:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "frame not masked")
        self._check_size(first, size)
        if len(buffer) < position + 4:
            return None
        self._position = position + 4
        return first, size, buffer[position : position + 4]

    def _check_first(self, first: int) -> None:
        """Opcode, FIN and RSV against each other and the message underway."""
        opcode = first & _OPCODE
        if opcode in _DATA_OPCODES:
            if (opcode == _CONTINUATION) != (self._opcode != _CONTINUATION):
                reason = "nothing to continue" if opcode == _CONTINUATION else "message within a message"
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, reason)
        elif opcode not in _CONTROL_OPCODES:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "unknown opcode")
        elif not first & _FIN:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "fragmented control frame")
        compressible = self._compression is not None and opcode in (_TEXT, _BINARY)
        if first & (_RSV2_RSV3 if compressible else _RSV2_RSV3 | _RSV1):
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "reserved bit set")

    def _check_size(self, first: int, size: int) -> None:
        """Refuse what is too big before it is buffered; what cannot be compressed grows a little by it."""
        if first & _OPCODE in _CONTROL_OPCODES:
            return
        compressed = first & _RSV1 or (self._opcode and self._compressed)
        room = self._limit + (self._limit >> 8) + 64 if compressed else self._limit - self._size
        if size > room:
            raise WebSocketError(CloseCode.TOO_BIG, "message too big")

    def _interpret(self, first: int, payload: bytes) -> Event:
        """What a whole frame means, its header being valid."""
        opcode = first & _OPCODE
        if opcode == _PING:
            return Ping(payload)
        if opcode == _PONG:
            return Pong(payload)
        if opcode == _CLOSE:
            return _read_close(payload)
        if opcode != _CONTINUATION:
            self._begin_message(first)
        return self._add(payload, final=bool(first & _FIN))

    def _begin_message(self, first: int) -> None:
        self._opcode = first & _OPCODE
        self._compressed = bool(first & _RSV1)
        self._size = 0
        self._message = None

    def _add(self, payload: bytes, *, final: bool) -> Event:
        """Add what came of a message; `final` if that is the end of it."""
        if not self._compressed:
            return self._append(payload, final=final)
        assert self._compression is not None
        self._compression.receive(payload, final=final)
        self._final = final
        return self._inflate()

    def _inflate(self) -> Event:
        """Add a bit of what is compressed in the last part of a message."""
        assert self._compression is not None
        try:
            payload, self._is_inflating = self._compression.inflate(self._limit - self._size)
        except InflateOverflowError:
            raise WebSocketError(CloseCode.TOO_BIG, "message too big") from None
        except InflateError as error:
            raise WebSocketError(CloseCode.INVALID_DATA, str(error)) from None
        return self._append(payload, final=self._final and not self._is_inflating)

    def _append(self, payload: bytes, *, final: bool) -> Event:
        """Add to a message what is not compressed (any more). Text is checked as it comes: bad text fails early."""
        if self._message is None:
            if final:
                is_text, self._opcode = self._opcode == _TEXT, _CONTINUATION
                return _decode(payload) if is_text else payload
            if self._opcode == _TEXT:
                self._message, self._decoder = StringIO(), _utf8_decoder()
            else:
                self._message, self._decoder = BytesIO(), None
        message = self._message
        self._size += len(payload)
        if self._decoder is None:
            message.write(payload)
        else:
            try:
                message.write(self._decoder.decode(payload, final))
            except UnicodeDecodeError:
                raise _not_utf8() from None
        if not final:
            return FRAGMENT
        self._opcode = _CONTINUATION
        self._message = None
        self._size = 0
        whole: str | bytes = message.getvalue()
        return whole

    def text(self, text: str) -> bytes:
        payload = text.encode()
        if self._compression is None and len(payload) < _TWO_BYTE_LENGTH:
            return _SHORT_TEXT_HEADERS[len(payload)] + payload
        return self._message_frame(_FIN | _TEXT, payload)

    def binary(self, data: bytes) -> bytes:
        if self._compression is None and len(data) < _TWO_BYTE_LENGTH:
            return _SHORT_BINARY_HEADERS[len(data)] + data
        return self._message_frame(_FIN | _BINARY, data)

    def _message_frame(self, first: int, payload: bytes) -> bytes:
        if self._compression is not None:
            deflated = self._compression.deflate(payload)
            if deflated is not None:
                first, payload = first | _RSV1, deflated
        size = len(payload)
        if size < _TWO_BYTE_LENGTH:
            return bytes((first, size)) + payload
        if size < 0x10000:
            return _MEDIUM_HEADER.pack(first, _TWO_BYTE_LENGTH, size) + payload
        return _LARGE_HEADER.pack(first, _EIGHT_BYTE_LENGTH, size) + payload

    def ping(self, payload: bytes) -> bytes:
        return _control_frame(_PING, payload)

    def pong(self, payload: bytes) -> bytes:
        return _control_frame(_PONG, payload)

    def close(self, code: int, reason: str) -> bytes:
        if code == CloseCode.NO_STATUS:
            return _control_frame(_CLOSE, b"")
        text = reason.encode()[: _CONTROL_PAYLOAD - _CODE.size].decode(errors="ignore")
        return _control_frame(_CLOSE, _CODE.pack(code) + text.encode())


_utf8_decoder: Final = getincrementaldecoder("utf-8")


def _not_utf8() -> WebSocketError:
    return WebSocketError(CloseCode.INVALID_DATA, "text is not UTF-8")


def _decode(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _not_utf8() from None


def _read_close(payload: bytes) -> Close:
    """RFC 6455 §5.5.1 and §7.4."""
    if not payload:
        return Close(CloseCode.NO_STATUS, "")
    if len(payload) < _CODE.size:
        raise WebSocketError(CloseCode.PROTOCOL_ERROR, "half a close code")
    (code,) = _CODE.unpack_from(payload)
    if not may_be_sent(code):
        raise WebSocketError(CloseCode.PROTOCOL_ERROR, "invalid close code")
    return Close(code, _decode(payload[_CODE.size :]))


def _control_frame(opcode: int, payload: bytes) -> bytes:
    assert len(payload) <= _CONTROL_PAYLOAD
    return bytes((_FIN | opcode, len(payload))) + payload
