"""The half of the engine that sends: responses in frames, as the peer's windows and its priorities have them.

What is framed stands in one list, in the order in which it leaves. A small response is framed at once; what is large,
or finds a window closed, waits with its stream, and is framed by `data_to_send` when there is room. So what is framed
is little, and most of what waits can still be dropped, or overtaken by what is more urgent.
"""

from collections.abc import Collection
from typing import Final

from asgi_master.http.h2 import frames
from asgi_master.http.h2.engine import HIGH_WATER, LOW_WATER, Engine, EngineStream, Owner
from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.h2.floods import FloodGuard
from asgi_master.http.h2.frames import (
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    HEADER,
    HEADER_SIZE,
    HEADERS,
)
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.h2.scheduler import Scheduler
from asgi_master.http.h2.streams import AFTER_LOCAL_END, CLOSED, HALF_CLOSED_LOCAL, HALF_CLOSED_REMOTE
from asgi_master.http.h2.waiting_body import WaitingBody
from asgi_master.http.message import Fields, ResponseHead

_header = HEADER.pack

_MOST_FRAMED: Final = 64 * 1024
"""Bytes of frames beyond which bodies wait with their streams."""
_MOST_RESETS: Final = 1024
"""Streams whose late frames are ignored: those reset last."""
_EMPTY_TABLE: Final = b"\x20"
"""A dynamic table size update to 0 (RFC 7541 §6.3)."""


class SendingEngine(Engine):
    """What `BuiltinEngine` is of the direction to the peer."""

    __slots__ = (
        "_answers_size",
        "_encode_head",
        "_encoder",
        "_framed",
        "_framed_size",
        "_guard",
        "_heads",
        "_initial_send_window",
        "_is_announced",
        "_last_data",
        "_last_end",
        "_last_place",
        "_last_size",
        "_leaving",
        "_must_empty_table",
        "_owner",
        "_ready",
        "_reset_streams",
        "_scheduler",
        "_send_window",
        "_streams",
    )

    def __init__(self, owner: Owner, encoder: ResponseHeadEncoder) -> None:
        self._owner = owner
        self._encoder = encoder
        self._encode_head = encoder.head
        self._streams: dict[int, EngineStream] = {}
        self._scheduler = Scheduler()
        self._ready = self._scheduler.places
        self._framed: list[bytes | memoryview] = []
        self._framed_size = 0
        self._answers_size = 0  # of it, what the peer asked for
        self._is_announced = False  # whether the owner knows that there is something to send
        self._send_window = DEFAULT_WINDOW
        self._initial_send_window = DEFAULT_WINDOW
        self._last_data: EngineStream | None = None  # whose DATA was framed last, and may get longer
        self._last_size = 0  # of its payload
        self._last_place = self._last_end = 0  # where in `_framed` it begins, and how long that was then
        self._must_empty_table = False
        self._heads: dict[EngineStream, int] = {}  # where in `_framed` those stand that nothing follows yet
        self._leaving: list[int] = []  # streams that go when `_framed` does
        self._reset_streams: dict[int, None] = {}
        self._guard = FloodGuard()

    @property
    def streams(self) -> Collection[EngineStream]:
        return self._streams.values()

    # -- responses ---------------------------------------------------------------------------------

    def send_head(
        self, stream: EngineStream, head: ResponseHead, body: bytes, ends: bool, length: int | None
    ) -> None:
        state = stream.engine_state
        if state is CLOSED or state is HALF_CLOSED_LOCAL:
            return
        block = self._encode_head(head, length)
        size = len(block)
        flags = END_STREAM if ends and not body else 0
        if size > FRAME_SIZE or self._must_empty_table:
            self._frame_block(stream.stream_id, block, flags)
        else:
            if not (body or ends):
                self._heads[stream] = len(self._framed)
            self._framed += (_header(size << 8 | HEADERS, END_HEADERS | flags, stream.stream_id), block)
            self._framed_size += HEADER_SIZE + size
        if body:
            self.send_data(stream, body, ends)
            return
        if ends:
            self._local_end(stream)
        if not self._is_announced:
            self._announce()

    def send_data(self, stream: EngineStream, data: bytes, ends: bool) -> None:
        state = stream.engine_state
        if state is CLOSED or state is HALF_CLOSED_LOCAL:
            return
        if self._heads:
            self._heads.pop(stream, None)
        size = len(data)
        if self._framed_size > _MOST_FRAMED:
            self._owner.output_due()
        if stream.waiting is not None or (
            size
            and (
                size > FRAME_SIZE
                or size > stream.send_window
                or size > self._send_window
                or self._framed_size > _MOST_FRAMED
                or self._ready
            )
        ):
            self._wait(stream, data, ends)
            return
        if not (size or ends):
            return
        framed = self._framed
        stream.send_window -= size
        self._send_window -= size
        if (
            self._last_data is stream
            and len(framed) == self._last_end
            and self._last_size + size <= FRAME_SIZE
        ):
            # Pieces of one turn are one frame: its header is written anew.
            size += self._last_size
            framed[self._last_place] = _header(size << 8, ends, stream.stream_id)
            framed.append(data)
            self._framed_size += size - self._last_size
        else:
            self._last_place = len(framed)
            framed += (_header(size << 8, ends, stream.stream_id), data)  # DATA is 0, END_STREAM 1
            self._framed_size += HEADER_SIZE + size
        if ends:
            if state is HALF_CLOSED_REMOTE and not stream.is_finished:
                stream.engine_state = CLOSED  # `_local_end`, without a call for the common case
            else:
                self._local_end(stream)
        else:
            self._last_data = stream
            self._last_size = size
            self._last_end = len(framed)
        if not self._is_announced:
            self._announce()

    def send_trailers(self, stream: EngineStream, fields: Fields) -> None:
        state = stream.engine_state
        if state is CLOSED or state is HALF_CLOSED_LOCAL:
            return
        self._heads.pop(stream, None)
        block = self._encoder.trailers(fields)
        waiting: WaitingBody | None = stream.waiting
        if waiting is not None:
            if not waiting.is_last:
                waiting.trailers = block
                waiting.is_last = True
            return
        self._frame_block(stream.stream_id, block, END_STREAM)
        self._local_end(stream)
        self._announce()

    def send_interim(self, stream: EngineStream, status: int, fields: Fields) -> None:
        state = stream.engine_state
        if state is CLOSED or state is HALF_CLOSED_LOCAL:
            return
        self._frame_block(stream.stream_id, self._encoder.interim(status, fields), 0)
        self._announce()

    def take_back_head(self, stream: EngineStream) -> bool:
        place = self._heads.pop(stream, None)
        if place is None:
            return False
        self._framed_size -= HEADER_SIZE + len(self._framed[place + 1])
        self._framed[place] = self._framed[place + 1] = b""
        return True

    def reset(self, stream: EngineStream, code: ErrorCode) -> None:
        if stream.engine_state is CLOSED:
            return
        waiting: WaitingBody | None = stream.waiting
        if code is ErrorCode.NO_ERROR and waiting is not None and waiting.is_last:
            waiting.resets = True
        else:
            self._reset(stream.stream_id, code)
            self._close(stream)
            self._announce()

    def has_stalled(self, stream: EngineStream) -> bool:
        return stream.unsent > 0 and (stream.send_window <= 0 or self._send_window <= 0)

    # -- the output --------------------------------------------------------------------------------

    def data_to_send(self, limit: int) -> bytes:
        while self._ready and self._send_window > 0 and self._framed_size < limit:
            self._frame_piece()
        if not self._framed:
            self._is_announced = False
            return b""
        guard = self._guard
        guard.parts_sent += len(self._framed)
        data = self._take_framed()
        guard.bytes_sent += len(data)
        self._is_announced = bool(self._ready) and self._send_window > 0
        return data

    def _take_framed(self) -> bytes:
        """Take out all that is framed."""
        data = b"".join(self._framed)
        self._framed.clear()
        self._last_data = None
        self._framed_size = self._answers_size = 0
        if self._heads:
            self._heads.clear()
        if self._leaving:
            for stream_id in self._leaving:
                del self._streams[stream_id]
            self._leaving.clear()
        return data

    def _frame_piece(self) -> None:
        """Frame the next piece of what waits and may leave."""
        stream = self._scheduler.next()
        waiting: WaitingBody = stream.waiting
        size = min(FRAME_SIZE, self._send_window, stream.send_window, stream.unsent)
        rest = stream.unsent = stream.unsent - size
        stream.send_window -= size
        self._send_window -= size
        ends = not rest and waiting.is_last and waiting.trailers is None
        self._framed.append(_header(size << 8, ends, stream.stream_id))
        self._framed += waiting.take(size)
        self._framed_size += HEADER_SIZE + size
        if not rest:
            self._scheduler.remove(stream)
            stream.waiting = None
            if waiting.is_last:
                self._frame_end(stream, waiting)
        elif stream.send_window <= 0:
            self._scheduler.remove(stream)
        if waiting.has_paused and rest <= LOW_WATER:
            waiting.has_paused = False
            stream.resumed()

    def _frame_end(self, stream: EngineStream, waiting: WaitingBody) -> None:
        """Frame what comes behind a body that has left."""
        if waiting.trailers is not None:
            self._frame_block(stream.stream_id, waiting.trailers, END_STREAM)
        self._local_end(stream)
        if waiting.resets and stream.engine_state is not CLOSED:
            self._reset(stream.stream_id, ErrorCode.NO_ERROR)
            self._close(stream)

    def _frame_block(self, stream_id: int, block: bytes, flags: int) -> None:
        """Frame a field block, as one part."""
        if self._must_empty_table:
            self._must_empty_table = False
            block = _EMPTY_TABLE + block
        data = frames.headers(stream_id, block, flags)
        self._framed.append(data)
        self._framed_size += len(data)

    def _frame_control(self, frame: bytes) -> None:
        """Frame what carries no response."""
        self._framed.append(frame)
        self._framed_size += len(frame)
        self._guard.parts_sent -= 1
        self._guard.bytes_sent -= len(frame)

    def _announce(self) -> None:
        """Have the owner take what is framed. To be called last, as it may do so at once."""
        if not self._is_announced:
            self._is_announced = True
            self._owner.output_ready()

    # -- streams -----------------------------------------------------------------------------------

    def _wait(self, stream: EngineStream, data: bytes, ends: bool) -> None:
        """Let a piece of a body wait."""
        waiting: WaitingBody | None = stream.waiting
        if waiting is None:
            waiting = stream.waiting = WaitingBody()
        elif waiting.is_last:
            return  # nothing comes behind the end
        waiting.is_last = ends
        if data:
            waiting.append(data)
            stream.unsent += len(data)
            if stream.unsent > HIGH_WATER:
                waiting.has_paused = True
            self._schedule(stream)

    def _schedule(self, stream: EngineStream) -> None:
        """Have a stream send what waits, if its window is open."""
        if stream.unsent and stream.send_window > 0 and stream not in self._ready:
            self._scheduler.add(stream)
        if self._ready and self._send_window > 0:
            self._announce()

    def _local_end(self, stream: EngineStream) -> None:
        """END_STREAM was framed."""
        state = stream.engine_state = AFTER_LOCAL_END[stream.engine_state]
        if state is CLOSED and stream.is_finished:
            self._remove(stream)

    def _close(self, stream: EngineStream) -> None:
        """The stream ends before its time: nothing of it leaves any more."""
        stream.engine_state = CLOSED
        stream.waiting = None
        stream.unsent = 0
        self._heads.pop(stream, None)
        self._scheduler.remove(stream)
        if stream.is_finished:
            self._remove(stream)

    def _remove(self, stream: EngineStream) -> None:
        """Free the slot of a stream that is closed and finished, if its end leaves soon.

        A peer that does not read has as many streams as one that waits for its responses, even if those are but heads.
        """
        if self._framed_size > _MOST_FRAMED:
            self._leaving.append(stream.stream_id)
        else:
            del self._streams[stream.stream_id]

    def _reset(self, stream_id: int, code: ErrorCode) -> None:
        """Frame RST_STREAM, and ignore from now on what the peer has sent before it gets that."""
        self._frame_control(frames.rst_stream(stream_id, code))
        resets = self._reset_streams
        resets[stream_id] = None
        if len(resets) > _MOST_RESETS:
            del resets[next(iter(resets))]
