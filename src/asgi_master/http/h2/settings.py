"""The settings of a connection: those that are announced, and what a peer's may be (RFC 9113 §6.5)."""

import struct
from collections.abc import Collection
from typing import Final

from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113 §5.4.1
from asgi_master.http.h2.frames import FRAME_SIZE, LARGEST_WINDOW
from asgi_master.http.limits import Http2Limits, HttpLimits

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8
NO_RFC7540_PRIORITIES: Final = 0x9

_DEFAULTS: Final = frozenset({(HEADER_TABLE_SIZE, 4096), (MAX_FRAME_SIZE, FRAME_SIZE)})
_LARGEST_FRAME_SIZE: Final = 0xFF_FFFF
_SWITCHES: Final = (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES)

_SETTING: Final = struct.Struct(">HI")


def own_settings(limits: HttpLimits, http2: Http2Limits) -> dict[int, int]:
    """What the server announces. What is unlimited is left out, or as large as it can be."""
    settings = {
        MAX_CONCURRENT_STREAMS: http2.max_concurrent_streams,
        INITIAL_WINDOW_SIZE: http2.stream_window or LARGEST_WINDOW,
        MAX_HEADER_LIST_SIZE: limits.header_bytes,
        ENABLE_CONNECT_PROTOCOL: int(http2.extended_connect),
        NO_RFC7540_PRIORITIES: 1,  # RFC 9218 §2.1
    }
    return {identifier: value for identifier, value in settings.items() if value}


def encode(settings: dict[int, int]) -> bytes:
    """The payload of SETTINGS."""
    return b"".join([_SETTING.pack(*setting) for setting in settings.items()])


def decode(payload: bytes | bytearray) -> list[tuple[int, int]]:
    """Identifiers and values, in the order sent. Raises `ConnectionError` for what may not be sent."""
    if len(payload) % _SETTING.size:
        raise ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "the length of SETTINGS is no multiple of 6")
    settings = list(_SETTING.iter_unpack(payload))
    for identifier, value in settings:
        _check(identifier, value)
    return settings


def gives_up_at_goaway(settings: Collection[tuple[int, int]]) -> bool:
    """Whether a client with these settings takes GOAWAY for the end of all its streams (RFC 9113 §6.8 does not).

    Those on the Python library h2 do, such as httpx. They are known by announcing what is the default anyway, which
    other clients do not. A wrong guess costs a little time at the end of the connection.
    """
    return _DEFAULTS.issubset(settings)


def _check(identifier: int, value: int) -> None:
    """RFC 9113 §6.5.2, RFC 8441 §3, RFC 9218 §2.1."""
    if identifier == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
        raise ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
    if identifier == MAX_FRAME_SIZE and not FRAME_SIZE <= value <= _LARGEST_FRAME_SIZE:
        raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of bounds")
    if identifier in _SWITCHES and value > 1:
        raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "a setting is neither 0 nor 1")
