"""The frames between two workers, on a Unix socket: a length of four bytes, then a value in Python's marshal format.

Version 2 of that format, which all versions of Python write alike for the plain values of ASGI: a live upgrade may have
brought another one. Both sides are workers of one master and run one application, as one user.
"""

import marshal
import struct
from enum import IntEnum
from typing import Any

_VERSION = 2
_LENGTH = struct.Struct("!I")


class Kind(IntEnum):
    """What a frame is. Each is `(serial, kind, content)`, with the serial number of the request on this socket."""

    SCOPE = 0
    """To the worker with the session: serve this."""
    RECEIVE = 1
    """From there: the application waits for a message."""
    RECEIVED = 2
    """To there: the message."""
    SEND = 3
    """From there: a message of the application."""
    END = 4
    """From there: the application has returned."""
    FAILED = 5
    """From there: it has raised this."""


Frame = tuple[int, int, Any]


def encode(serial: int, kind: Kind, content: Any = None) -> bytes:
    """The bytes of a frame. Raises `ValueError` for what is no plain value."""
    data = marshal.dumps((serial, int(kind), content), _VERSION)
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Frames out of pieces of the stream."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()
        """In place: a large frame comes in many pieces, and copying what there is for each would cost its square."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with these bytes."""
        frames: list[Frame] = []
        buffer = self._buffer
        buffer += data
        start, size = 0, len(buffer)
        with memoryview(buffer) as view:
            while size - start >= _LENGTH.size:
                end = start + _LENGTH.size + _LENGTH.unpack_from(view, start)[0]
                if end > size:
                    break
                frames.append(marshal.loads(view[start + _LENGTH.size : end]))  # noqa: S302 -- see above
                start = end
        del buffer[:start]
        return frames
