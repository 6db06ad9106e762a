"""Compress and decompress messages by permessage-deflate (RFC 7692), never inflating far above a limit."""

import zlib
from typing import Final

from asgi_master.records import record

_TAIL: Final = b"\x00\x00\xff\xff"
"""Ends every compressed message; the sender leaves it out, the receiver puts it back (RFC 7692 §7.2)."""

_WINDOW_BITS: Final = 12
_MEMORY_LEVEL: Final = 5
"""A compressor of 32 KiB a connection, where zlib's defaults take 256 KiB for a few per cent less traffic."""

_INFLATED_AT_ONCE: Final = 16 * 1024
"""Bytes that are made at a time of what a peer compressed."""

_WORTH_IT: Final = 128
"""Messages with fewer bytes go uncompressed, as each may: their header would outweigh what is won."""

_AFTER_FINAL: Final = (b"", b"\x00", _TAIL, b"\x00" + _TAIL)
"""What may follow a final DEFLATE block: the start of an empty one, and the tail (RFC 7692 §7.2.3.4)."""


class InflateError(Exception):
    """The bytes are not what DEFLATE makes."""


class InflateOverflowError(Exception):
    """More came out than there is room for."""


@record
class DeflateParameters:
    """What was agreed (RFC 7692 §7.1)."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    """9 to 15; `None` if the client did not ask."""

    def header(self) -> bytes:
        """The value of `Sec-WebSocket-Extensions` in the answer."""
        value = b"permessage-deflate"
        if self.server_no_context_takeover:
            value += b"; server_no_context_takeover"
        if self.client_no_context_takeover:
            value += b"; client_no_context_takeover"
        if self.server_max_window_bits is not None:
            value += b"; server_max_window_bits=%d" % self.server_max_window_bits
        return value


class Compression:
    """Both directions of one connection, seen from the server. Contexts are made when first needed."""

    __slots__ = ("_deflated", "_deflater", "_ends", "_inflater", "_parameters", "_window_bits")

    def __init__(self, parameters: DeflateParameters) -> None:
        self._parameters = parameters
        self._window_bits = min(_WINDOW_BITS, parameters.server_max_window_bits or _WINDOW_BITS)
        self._deflater: zlib._Compress | None = None
        self._inflater: zlib._Decompress | None = None
        self._deflated = b""  # what is to be inflated yet
        self._ends = False  # whether the message ends with that

    def deflate(self, data: bytes) -> bytes | None:
        """The payload of a compressed message; `None` if it is better sent as it is."""
        if len(data) < _WORTH_IT:
            return None
        deflater = self._deflater
        if deflater is None:
            deflater = zlib.compressobj(wbits=-self._window_bits, memLevel=_MEMORY_LEVEL)
            if not self._parameters.server_no_context_takeover:
                self._deflater = deflater
        return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]

    def receive(self, payload: bytes, *, final: bool) -> None:
        """Take in a part of a compressed message; `final` if it is the last. `inflate` makes something of it."""
        self._deflated = payload + _TAIL if final else payload
        self._ends = final

    def inflate(self, room: int) -> tuple[bytes, bool]:
        """What the part that was received adds to its message, or the next bit of that; and whether more follows.

        A few bytes can inflate to megabytes: the output of one call is limited, so that other connections are served.

        Raises `InflateOverflowError` once that is more than `room` bytes, having made hardly more, and
        `InflateError` for bytes that are no DEFLATE.
        """
        inflater = self._inflater
        if inflater is None:
            # Reads whatever window the client uses.
            inflater = self._inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        most = min(room + 1, _INFLATED_AT_ONCE)
        try:
            data = inflater.decompress(self._deflated, most)
        except zlib.error as error:
            raise InflateError(str(error)) from None
        if len(data) > room:
            raise InflateOverflowError
        self._deflated = inflater.unconsumed_tail
        if inflater.eof:
            if inflater.unused_data not in _AFTER_FINAL:
                raise InflateError("data after the final block")
        elif self._deflated or len(data) == most:
            return data, True
        if self._ends and (inflater.eof or self._parameters.client_no_context_takeover):
            self._inflater = None
        return data, False
