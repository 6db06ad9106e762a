"""`wsgi.input` of a body that was not there when the application was called: pieces from the loop, as they arrive.

The loop puts as many bytes as it may read ahead, and reads on as the thread takes them.
"""

import io
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from asgi_master.asgi.errors import ClientDisconnectedError

BUFFER_SIZE: Final = 64 * 1024
_END: Final = b""


class BodyPipe(io.RawIOBase):
    """The raw half of the stream; an `io.BufferedReader` above it is what the application reads."""

    def __init__(self, wanted: Callable[[], None], taken: Callable[[int], None]) -> None:
        """`wanted` is called before a wait, and `taken` with the number of bytes that were taken; by the thread."""
        self._wanted = wanted
        self._taken = taken
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
        self._piece = memoryview(b"")
        self._has_ended = False

    # -- called by the loop ------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """A piece of the body arrived, which is not empty."""
        self._pieces.put(data)

    def end(self) -> None:
        """The body is complete."""
        self._pieces.put(_END)

    def break_off(self) -> None:
        """No more comes of a body that is not complete: reading raises `ClientDisconnectedError` from then on."""
        self._pieces.put(None)

    # -- called by the thread ----------------------------------------------------------------------

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]", /) -> int:  # type: ignore[override]
        """Take what there is, at least one byte before the end; see `io.RawIOBase.readinto`."""
        if not self._piece and not self._has_ended:
            self._next()
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    def _next(self) -> None:
        try:
            piece = self._pieces.get_nowait()
        except Empty:
            self._wanted()
            piece = self._pieces.get()
        if piece is None:
            self._pieces.put(None)
            raise ClientDisconnectedError("the client disconnected before the request body was complete")
        if piece is _END:
            self._has_ended = True
        else:
            self._piece = memoryview(piece)
            self._taken(len(piece))
