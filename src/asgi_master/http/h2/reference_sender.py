"""The half of the reference engine that has the streams, and sends their responses as the windows let them through."""

import contextlib
from collections import deque
from collections.abc import Collection
from typing import Final

import h2.config
import h2.connection
import h2.exceptions
import hpack

from asgi_master.http.h2.engine import HIGH_WATER, LOW_WATER, Engine, EngineStream, Owner
from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.h2.frames import FRAME_SIZE
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.http.message import Field, Fields, ResponseHead

_MOST_FRAMED: Final = 64 * 1024
"""Bytes of frames beyond which responses wait with their streams."""


class Sending:
    """What a stream has of its request's end, and what of its response waits."""

    def __init__(self, is_read: bool) -> None:
        self.is_read = is_read
        """Whether the request is complete."""
        self.is_complete = False
        """Whether all of the response was framed."""
        self.is_closed = False
        """Whether the stream was reset."""
        self.head: list[Field] | None = None
        self.pieces: deque[bytes] = deque()
        self.trailers: list[Field] | None = None
        self.ends = False
        """Whether the response is known to its end."""
        self.resets = False
        """Whether RST_STREAM follows that end."""
        self.has_paused = False

    @property
    def is_over(self) -> bool:
        return self.is_closed or (self.is_read and self.is_complete)

    @property
    def takes_more(self) -> bool:
        """Whether more of the response may be written."""
        return not (self.is_closed or self.ends)


class ReferenceSender(Engine):
    """What `ReferenceEngine` is of the direction to the peer."""

    def __init__(self, owner: Owner, encoder: ResponseHeadEncoder, quota: StreamQuota) -> None:
        self._owner = owner
        self._encoder = encoder
        self._quota = quota
        configuration = h2.config.H2Configuration(
            client_side=False,
            # The library ends the connection for a malformed request, RFC 9113 §8.1.1 the stream.
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._connection = h2.connection.H2Connection(configuration)
        self._out = bytearray()
        self._streams: dict[int, EngineStream] = {}
        self._waiting: deque[EngineStream] = deque()  # whose response has more to frame
        self._is_announced = False
        self._is_over = False

    # -- streams -----------------------------------------------------------------------------------

    @property
    def streams(self) -> Collection[EngineStream]:
        return self._streams.values()

    def finished(self, stream: EngineStream) -> None:
        stream.is_finished = True
        self._quota.running -= 1
        self._forget_if_over(stream)
        self.consumed(stream, stream.unconsumed)

    def consumed(self, stream: EngineStream, size: int) -> None:
        size = min(size, stream.unconsumed)
        stream.unconsumed -= size
        self._acknowledge(stream, size)

    def _acknowledge(self, stream: EngineStream, size: int) -> None:
        if size and not self._is_over:
            self._connection.acknowledge_received_data(size, stream.stream_id)
            self._announce()

    def _forget_if_over(self, stream: EngineStream) -> None:
        if stream.is_finished and stream.engine_state.is_over:
            self._streams.pop(stream.stream_id, None)

    def _close(self, stream: EngineStream) -> None:
        """The stream ends before its time: nothing of it leaves any more."""
        state: Sending = stream.engine_state
        state.is_closed = True
        state.head = state.trailers = None
        state.pieces.clear()
        stream.unsent = 0
        if stream in self._waiting:
            self._waiting.remove(stream)
        self._forget_if_over(stream)

    def _send_reset(self, stream_id: int, code: ErrorCode) -> None:
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            self._connection.reset_stream(stream_id, code)

    # -- responses ---------------------------------------------------------------------------------

    def send_head(
        self, stream: EngineStream, head: ResponseHead, body: bytes, ends: bool, length: int | None
    ) -> None:
        state: Sending = stream.engine_state
        if state.takes_more:
            state.head = _decoded(self._encoder.head(head, length))
            self._write(stream, body, ends)

    def send_data(self, stream: EngineStream, data: bytes, ends: bool) -> None:
        state: Sending = stream.engine_state
        if state.takes_more and (data or ends):
            self._write(stream, data, ends)

    def send_trailers(self, stream: EngineStream, fields: Fields) -> None:
        state: Sending = stream.engine_state
        if state.takes_more:
            state.trailers = _decoded(self._encoder.trailers(fields)) or None
            self._write(stream, b"", True)

    def send_interim(self, stream: EngineStream, status: int, fields: Fields) -> None:
        state: Sending = stream.engine_state
        if state.takes_more:
            self._connection.send_headers(stream.stream_id, _decoded(self._encoder.interim(status, fields)))
            self._announce()

    def _write(self, stream: EngineStream, data: bytes, ends: bool) -> None:
        """Frame a small piece of a response at once, if it may leave, and let others wait."""
        state: Sending = stream.engine_state
        state.ends = ends
        if data:
            state.pieces.append(data)
            stream.unsent += len(data)
            state.has_paused = state.has_paused or stream.unsent > HIGH_WATER
        if (data or ends) and self._may_leave_at_once(stream):
            while state.pieces or (ends and not state.is_complete):
                self._frame_next_of(stream)
        elif stream not in self._waiting:
            self._waiting.append(stream)
        self._announce()

    def _may_leave_at_once(self, stream: EngineStream) -> bool:
        return (
            stream.unsent <= min(FRAME_SIZE, max(0, self._window(stream)))
            and len(self._out) <= _MOST_FRAMED
            and stream not in self._waiting
            and not any(other.unsent and self._can_leave(other) for other in self._waiting)
        )

    def take_back_head(self, stream: EngineStream) -> bool:
        state: Sending = stream.engine_state
        if state.head is None or state.pieces or state.ends:
            return False
        state.head = None
        self._waiting.remove(stream)
        return True

    def reset(self, stream: EngineStream, code: ErrorCode) -> None:
        state: Sending = stream.engine_state
        if state.is_over:
            return
        if code is ErrorCode.NO_ERROR and state.ends and not state.is_complete:
            state.resets = True
            return
        self._send_reset(stream.stream_id, code)
        self._close(stream)
        self._announce()

    def has_stalled(self, stream: EngineStream) -> bool:
        return stream.unsent > 0 and self._window(stream) <= 0

    def _window(self, stream: EngineStream) -> int:
        return self._connection.local_flow_control_window(stream.stream_id)

    # -- the output --------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Have the owner take what can leave. To be called last, as it may do so at once."""
        self._out += self._connection.data_to_send()
        if not self._is_announced and self._has_output():
            self._is_announced = True
            self._owner.output_ready()

    def _has_output(self) -> bool:
        return bool(self._out) or any(map(self._can_leave, self._waiting))

    def _can_leave(self, stream: EngineStream) -> bool:
        state: Sending = stream.engine_state
        return state.head is not None or not state.pieces or self._window(stream) > 0

    @property
    def backlog(self) -> int:
        return len(self._out)

    def data_to_send(self, limit: int) -> bytes:
        while len(self._out) < limit and self._frame_next():
            pass
        data = bytes(self._out)
        self._out.clear()
        self._is_announced = self._has_output()
        return data

    def _frame_next(self) -> bool:
        """Frame a piece of the response of the stream whose turn it is; false if nothing may leave."""
        stream = next(filter(self._can_leave, self._waiting), None)
        if stream is None:
            return False
        self._waiting.remove(stream)
        self._frame_next_of(stream)
        state: Sending = stream.engine_state
        if state.pieces or (state.ends and not state.is_complete):
            self._waiting.append(stream)
        if state.has_paused and stream.unsent <= LOW_WATER:
            state.has_paused = False
            stream.resumed()
        return True

    def _frame_next_of(self, stream: EngineStream) -> None:
        state: Sending = stream.engine_state
        if state.head is not None:
            self._frame_head(stream, state.head)
        elif state.pieces:
            self._frame_data(stream)
        else:
            self._frame_end(stream)
        self._out += self._connection.data_to_send()

    def _frame_head(self, stream: EngineStream, head: list[Field]) -> None:
        state: Sending = stream.engine_state
        state.head = None
        ends = state.ends and not state.pieces and state.trailers is None
        self._connection.send_headers(stream.stream_id, head, end_stream=ends)
        if ends:
            self._completed(stream)

    def _frame_data(self, stream: EngineStream) -> None:
        state: Sending = stream.engine_state
        piece = state.pieces.popleft()
        size = min(FRAME_SIZE, self._window(stream))
        data, rest = piece[:size], piece[size:]
        if rest:
            state.pieces.appendleft(rest)
        stream.unsent -= len(data)
        ends = state.ends and not state.pieces and state.trailers is None
        self._connection.send_data(stream.stream_id, data, end_stream=ends)
        if ends:
            self._completed(stream)

    def _frame_end(self, stream: EngineStream) -> None:
        state: Sending = stream.engine_state
        if state.trailers is not None:
            self._connection.send_headers(stream.stream_id, state.trailers, end_stream=True)
        else:
            self._connection.end_stream(stream.stream_id)
        self._completed(stream)

    def _completed(self, stream: EngineStream) -> None:
        """All of the response is framed."""
        state: Sending = stream.engine_state
        state.is_complete = True
        if state.resets and not state.is_read:
            self._send_reset(stream.stream_id, ErrorCode.NO_ERROR)
            state.is_closed = True
        self._forget_if_over(stream)


def _decoded(block: bytes) -> list[Field]:
    """The fields of a block in which nothing is indexed but in the static table."""
    return [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(block, raw=True)]
