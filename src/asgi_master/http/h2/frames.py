"""The frames of HTTP/2 as bytes (RFC 9113 §4, §6; RFC 9218 §7). Writing them is here; reading is the engine's."""

import struct
from typing import Final

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9
PRIORITY_UPDATE: Final = 0x10

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20
"""PRIORITY, the flag of HEADERS."""

HEADER_SIZE: Final = 9
FRAME_SIZE: Final = 16_384
"""The largest payload in either direction. Each side accepts as much (RFC 9113 §4.2); this one announces no more."""
STREAM_ID: Final = 0x7FFF_FFFF
"""The bits of a stream identifier, or of a window's increment, without the reserved one."""
LARGEST_WINDOW: Final = 0x7FFF_FFFF
DEFAULT_WINDOW: Final = 65_535

HEADER: Final = struct.Struct(">IBI")
"""A frame header; its first number holds the length, shifted by 8 bits, and the type."""
NUMBER: Final = struct.Struct(">I")
_GOAWAY: Final = struct.Struct(">II")

_header = HEADER.pack
_LONGEST_REASON: Final = 256

SETTINGS_ACK: Final = _header(SETTINGS, ACK, 0)


def settings(payload: bytes) -> bytes:
    """SETTINGS."""
    return _header(len(payload) << 8 | SETTINGS, 0, 0) + payload


def ping(payload: bytes, flags: int = 0) -> bytes:
    """PING, or with the flag `ACK` the answer to one."""
    return _header(len(payload) << 8 | PING, flags, 0) + payload


def rst_stream(stream_id: int, code: int) -> bytes:
    """RST_STREAM."""
    return _header(NUMBER.size << 8 | RST_STREAM, 0, stream_id) + NUMBER.pack(code)


def window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE, of the connection if `stream_id` is 0."""
    return _header(NUMBER.size << 8 | WINDOW_UPDATE, 0, stream_id) + NUMBER.pack(increment)


def goaway(last_stream_id: int, code: int, reason: str = "") -> bytes:
    """GOAWAY; `reason` is its debug data, cut to what is worth sending."""
    payload = _GOAWAY.pack(last_stream_id, code) + reason.encode()[:_LONGEST_REASON]
    return _header(len(payload) << 8 | GOAWAY, 0, 0) + payload


def headers(stream_id: int, block: bytes, flags: int) -> bytes:
    """HEADERS with a whole field block, and CONTINUATION as far as that is too large for one frame."""
    if len(block) <= FRAME_SIZE:
        return _header(len(block) << 8 | HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [_header(FRAME_SIZE << 8 | HEADERS, flags, stream_id), block[:FRAME_SIZE]]
    for start in range(FRAME_SIZE, len(block), FRAME_SIZE):
        part = block[start : start + FRAME_SIZE]
        is_last = start + FRAME_SIZE >= len(block)
        parts += (_header(len(part) << 8 | CONTINUATION, END_HEADERS if is_last else 0, stream_id), part)
    return b"".join(parts)
