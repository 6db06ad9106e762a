"""A stream that comes while its connection is about to leave: served here, or sent again by the peer elsewhere."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.engine import H2Request
from asgi_master.http.h2.errors import ErrorCode
from asgi_master.worker.http.h2_stream import H2Stream, StreamOwner


class HoldingOwner(StreamOwner, Protocol):
    """A connection that holds streams."""

    def held_stream_ended(self, stream: "HeldStream") -> None:
        """A stream that is held is over: nothing of it was served."""


class HeldStream(H2Stream):
    """Keeps what the engine calls until `release`. What comes of a body is bounded by the stream's window."""

    __slots__ = ("_calls", "_owner")

    def __init__(self, connection: HoldingOwner) -> None:
        H2Stream.__init__(self, connection)
        self._owner = connection
        self._calls: list[Callable[[], None]] | None = []

    def request_received(self, request: H2Request, ends: bool) -> None:
        self._call(partial(H2Stream.request_received, self, request, ends))

    def data_received(self, data: bytes, ends: bool) -> None:
        self._call(partial(H2Stream.data_received, self, data, ends))

    def refused(self, error: ProtocolError) -> None:
        self._call(partial(H2Stream.refused, self, error))

    def closed(self, code: ErrorCode) -> None:
        if not self._end():
            H2Stream.closed(self, code)

    def disconnect(self) -> None:
        if not self._end():
            H2Stream.disconnect(self)

    def release(self) -> None:
        """Serve it from now on."""
        calls, self._calls = self._calls or [], None
        for call in calls:
            call()

    def _call(self, call: Callable[[], None]) -> None:
        if self._calls is None:
            call()
        else:
            self._calls.append(call)

    def _end(self) -> bool:
        """End it, if it is held; returns whether it was."""
        if self._calls is None:
            return False
        self._calls = None
        self._owner.held_stream_ended(self)
        return True
