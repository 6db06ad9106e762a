"""The half of the engine that receives requests: field blocks, bodies, and the windows that bodies come through."""

import sys
from contextlib import suppress
from dataclasses import replace
from typing import Final

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2 import frames, settings
from asgi_master.http.h2.engine import EngineStream, H2Request, Owner
from asgi_master.http.h2.errors import (
    ConnectionError,  # noqa: A004 -- the term of RFC 9113 §5.4.1
    ErrorCode,
    StreamError,
)
from asgi_master.http.h2.frames import (
    CONTINUATION,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    HAS_PRIORITY,
    HEADER_SIZE,
    LARGEST_WINDOW,
    NUMBER,
    PADDED,
)
from asgi_master.http.h2.request_head import RequestDecoder
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.h2.sending import SendingEngine
from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.http.h2.streams import AFTER_REMOTE_END, CLOSED, HALF_CLOSED_LOCAL, HALF_CLOSED_REMOTE, OPEN
from asgi_master.http.limits import Http2Limits, HttpLimits

RST_STREAM_SIZE: Final = HEADER_SIZE + NUMBER.size
_MOST_ANSWERS: Final = 64 * 1024
"""Bytes that the peer has this side send, and does not read."""
_MOST_CONTINUATIONS: Final = 8
_MOST_SKIPPED: Final = 16
"""Ranges of stream identifiers that were left out, and are known."""
_PRIORITY_FIELDS: Final = 5
"""Bytes in HEADERS with the flag PRIORITY (RFC 9113 §6.2). They are not used."""

_REFUSED: Final = H2Request("", b"", b"", b"", [], "2")
"""Stands for a request that is not served."""


class ReceivingEngine(SendingEngine):
    """What `BuiltinEngine` is of requests."""

    __slots__ = (
        "_block",
        "_block_ends",
        "_block_frames",
        "_block_limit",
        "_block_size",
        "_block_stream",
        "_body_limit",
        "_buffer",
        "_connection_window",
        "_decode",
        "_decoder",
        "_due",
        "_early_priorities",
        "_expected",
        "_last_served",
        "_last_stream_id",
        "_most_streams",
        "_now",
        "_quota",
        "_receive_window",
        "_skipped",
        "_stream_limit",
        "_stream_window",
    )

    def __init__(
        self,
        owner: Owner,
        limits: HttpLimits,
        http2: Http2Limits,
        encoder: ResponseHeadEncoder,
        quota: StreamQuota,
    ) -> None:
        super().__init__(owner, encoder)
        self._decoder = RequestDecoder(limits)
        self._decode = self._decoder.decode
        self._body_limit = limits.body_size or sys.maxsize
        self._block_limit = max(limits.header_bytes, FRAME_SIZE) if limits.header_bytes else sys.maxsize
        self._quota = quota
        self._most_streams = http2.max_concurrent_streams or sys.maxsize
        self._stream_limit = self._most_streams  # as it was announced last
        # The peer takes its windows to be the default until it has our SETTINGS; that of the connection cannot shrink.
        self._stream_window = max(http2.stream_window or LARGEST_WINDOW, DEFAULT_WINDOW)
        self._connection_window = max(http2.connection_window or LARGEST_WINDOW, DEFAULT_WINDOW)
        self._receive_window = self._connection_window
        self._due = 0  # bytes that were taken, and that the peer was not told of
        self._now = 0.0
        self._buffer: bytes | bytearray = b""
        self._expected: int | None = frames.SETTINGS  # the type of the next frame, if only one may come
        self._last_stream_id = 0
        self._last_served = LARGEST_WINDOW  # streams above are not served, as GOAWAY says
        self._skipped: tuple[range, ...] = ()
        self._early_priorities: dict[int, tuple[int, bool]] = {}
        self._block: list[bytes] = []
        self._block_size = self._block_frames = 0
        self._block_stream = 0
        self._block_ends = False

    # -- field blocks ------------------------------------------------------------------------------

    def _on_headers(self, stream_id: int, flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.2."""
        if flags & (PADDED | HAS_PRIORITY):
            begin, end = self._strip(flags, begin, end)
        block = self._buffer[begin:end]
        if type(block) is not bytes:
            block = bytes(block)
        if flags & END_HEADERS:
            self._on_block(stream_id, block, flags & END_STREAM != 0)
            return
        self._expected = CONTINUATION
        self._block = [block]
        self._block_size = len(block)
        self._block_frames = 0
        self._block_stream = stream_id
        self._block_ends = flags & END_STREAM != 0

    def _on_continuation(self, stream_id: int, flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.10."""
        if self._expected != CONTINUATION or stream_id != self._block_stream:
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION continues nothing")
        self._block.append(bytes(self._buffer[begin:end]))
        self._block_size += end - begin
        self._block_frames += 1
        if self._block_frames > _MOST_CONTINUATIONS or self._block_size > self._block_limit:
            raise ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "a field block is too large")
        if flags & END_HEADERS:
            self._expected = None
            block = b"".join(self._block)
            self._block = []
            self._on_block(stream_id, block, self._block_ends)

    def _strip(self, flags: int, begin: int, end: int) -> tuple[int, int]:
        """Where the contents of a frame with padding, or of HEADERS with priority, begin and end."""
        padding = 0
        fields = 1 if flags & PADDED else 0
        if flags & HAS_PRIORITY:
            fields += _PRIORITY_FIELDS
        if begin + fields > end:
            raise ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a frame is shorter than its fields")
        if flags & PADDED:
            padding = self._buffer[begin]
        if begin + fields + padding > end:
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "the padding is longer than its frame")
        return begin + fields, end - padding

    def _on_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        """A field block is complete: the head of a request, or trailers."""
        if stream_id <= self._last_stream_id:
            self._on_further_block(stream_id, block, ends)
            return
        if not stream_id & 1:
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "a client opens streams with odd numbers")
        if stream_id - self._last_stream_id > 2:
            skipped = range(self._last_stream_id + 1 | 1, stream_id, 2)
            self._skipped = (*self._skipped[1 - _MOST_SKIPPED :], skipped)
        self._last_stream_id = stream_id
        if stream_id > self._last_served:
            self._drop_block(block)
            return
        refusal = None
        try:
            request = self._decode(block, ends)
        except ProtocolError as error:
            refusal = error
            request = _REFUSED
        streams, quota = self._streams, self._quota
        running = quota.running
        if (running >= quota.most or len(streams) >= self._most_streams) and self._is_refused(stream_id):
            return
        quota.running = running + 1
        stream = self._owner.new_stream()
        stream.stream_id = stream_id
        stream.request = request
        stream.send_window = self._initial_send_window
        stream.unsent = stream.unconsumed = 0
        stream.waiting = None
        stream.is_finished = False
        streams[stream_id] = stream
        if ends:
            stream.engine_state = HALF_CLOSED_REMOTE
        else:
            stream.engine_state = OPEN
            refusal = self._expect_body(stream, refusal)
        if self._early_priorities:
            self._use_early_priority(stream)
        if refusal is None:
            stream.request_received(request, ends)
        else:
            stream.refused(refusal)

    def _is_refused(self, stream_id: int) -> bool:
        """Refuse a stream beyond what the connection, or the worker, may have (RFC 9113 §5.1.2, §8.7)."""
        held, share = len(self._streams), self._quota.share
        if held >= self._most_streams:
            raise StreamError(ErrorCode.REFUSED_STREAM, "more streams than SETTINGS allow")
        if held < share:
            return False
        # It is not the peer's fault, so that it is none of the resets that a peer may cause.
        self._guard.resets += 1
        self._quota.refused += 1
        self._count_answer(RST_STREAM_SIZE)
        self._reset(stream_id, ErrorCode.REFUSED_STREAM)
        if share < self._stream_limit:
            self._announce_stream_limit(share)
        self._announce()
        return True

    def _announce_stream_limit(self, limit: int) -> None:
        self._stream_limit = limit
        self._frame_control(frames.settings(settings.encode({settings.MAX_CONCURRENT_STREAMS: limit})))

    def renew_stream_limit(self) -> None:
        if self._stream_limit != self._most_streams and self._quota.has_room:
            self._announce_stream_limit(min(self._most_streams, LARGEST_WINDOW))
            self._stream_limit = self._most_streams
            self._announce()

    def _count_answer(self, size: int) -> None:
        """So many bytes are framed since the peer asked for them."""
        self._answers_size += size
        if self._answers_size > _MOST_ANSWERS:
            raise ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "the peer does not read what it asks for")

    def _expect_body(self, stream: EngineStream, refusal: ProtocolError | None) -> ProtocolError | None:
        """Set what a body is measured by; refuse one that is announced to be too large."""
        request = stream.request
        length = request.body_length
        if length is not None and length > self._body_limit and refusal is None:
            refusal = _body_too_large()
        stream.receive_window = self._stream_window
        stream.due = 0
        stream.has_length = False
        if refusal is not None:
            stream.body_left = -1
        elif request.protocol is not None:
            stream.body_left = sys.maxsize
        elif length is None:
            stream.body_left = self._body_limit
        else:
            stream.body_left = length
            stream.has_length = True
        return refusal

    def _use_early_priority(self, stream: EngineStream) -> None:
        """Let a priority that came before its stream replace that of the head (RFC 9218 §7.1)."""
        priority = self._early_priorities.pop(stream.stream_id, None)
        if priority is not None:
            stream.request = replace(stream.request, urgency=priority[0], is_incremental=priority[1])

    def _on_further_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        """Trailers (RFC 9113 §8.1), or what comes too late."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.engine_state is CLOSED:
            self._check_late(stream_id)
            self._drop_block(block)
            return
        refusal = None
        try:
            self._decoder.decode_trailers(block)
        except ProtocolError as error:
            refusal = error
        if stream.engine_state is HALF_CLOSED_REMOTE:
            raise StreamError(ErrorCode.STREAM_CLOSED, "HEADERS after the end of the request")
        if not ends:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "HEADERS in the middle of a request")
        if stream.request.protocol is not None:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a tunnel")
        is_wanted = stream.body_left >= 0 and not stream.is_finished
        self._remote_end(stream)
        if not is_wanted:
            return
        if refusal is None:
            stream.data_received(b"", True)
        else:
            stream.refused(refusal)

    def _drop_block(self, block: bytes) -> None:
        """Decode a block for what it does to HPACK's table (RFC 9113 §4.3)."""
        self._guard.chore(self._now)
        with suppress(StreamError, ProtocolError):
            self._decoder.decode_trailers(block)

    def _check_late(self, stream_id: int) -> None:
        """Raise `ConnectionError`, unless a frame for a stream that is not there may be ignored (RFC 9113 §5.1)."""
        if stream_id > self._last_stream_id or not stream_id & 1:
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "a frame for a stream that was not opened")
        if stream_id in self._reset_streams or stream_id > self._last_served:
            return
        if any(stream_id in skipped for skipped in self._skipped):
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "a stream number is lower than the last")
        raise ConnectionError(ErrorCode.STREAM_CLOSED, "a frame for a stream that is closed")

    # -- bodies ------------------------------------------------------------------------------------

    def _on_data(self, stream_id: int, flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.1."""
        size = end - begin
        if size > self._receive_window:
            raise ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._receive_window -= size
        stream = self._streams.get(stream_id)
        try:
            if stream is None or not ((state := stream.engine_state) is OPEN or state is HALF_CLOSED_LOCAL):
                self._on_late_data(stream_id, stream, size)
                return
            if size > stream.receive_window:
                raise StreamError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
            stream.receive_window -= size
            if flags & PADDED:
                begin, end = self._strip(PADDED, begin, end)
            length = end - begin
            left = stream.body_left = stream.body_left - length
            if left < 0 and stream.has_length:
                raise StreamError(ErrorCode.PROTOCOL_ERROR, "more data than Content-Length says")
            ends = flags & END_STREAM != 0
            is_wanted = left >= 0 and not stream.is_finished
            if ends:
                self._remote_end(stream)
            elif not length:
                self._guard.chore(self._now)
        except StreamError:
            self._give_back_unread(size)
            raise
        if is_wanted and (length or ends):
            if length != size:
                self._give_back(stream, size - length)
            stream.unconsumed += length
            data = self._buffer[begin:end]
            stream.data_received(data if type(data) is bytes else bytes(data), ends)
            return
        self._give_back(stream, size)
        if left < 0 <= left + length:
            stream.refused(_body_too_large())

    def _on_late_data(self, stream_id: int, stream: EngineStream | None, size: int) -> None:
        if stream is not None and stream.engine_state is HALF_CLOSED_REMOTE:
            raise StreamError(ErrorCode.STREAM_CLOSED, "DATA after the end of the request")
        self._check_late(stream_id)
        if not size:
            self._guard.chore(self._now)
        self._give_back_unread(size)

    def _remote_end(self, stream: EngineStream) -> None:
        """END_STREAM arrived."""
        if stream.has_length and stream.body_left:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "less data than Content-Length says")
        state = stream.engine_state = AFTER_REMOTE_END[stream.engine_state]
        if state is CLOSED and stream.is_finished:
            self._remove(stream)

    # -- windows -----------------------------------------------------------------------------------

    def consumed(self, stream: EngineStream, size: int) -> None:
        unconsumed = stream.unconsumed
        size = min(size, unconsumed)
        stream.unconsumed = unconsumed - size
        self._give_back(stream, size)

    def finished(self, stream: EngineStream) -> None:
        stream.is_finished = True
        self._quota.running -= 1
        if stream.engine_state is CLOSED:
            self._remove(stream)
        if stream.unconsumed:
            self.consumed(stream, stream.unconsumed)

    def _give_back(self, stream: EngineStream, size: int) -> None:
        """Let the peer send so many bytes again, once that is worth a frame (RFC 9113 §6.9)."""
        state = stream.engine_state
        if state is OPEN or state is HALF_CLOSED_LOCAL:
            stream.due += size
            if stream.due * 2 >= self._stream_window:
                stream.receive_window += stream.due
                self._frame_control(frames.window_update(stream.stream_id, stream.due))
                stream.due = 0
                self._announce()
        self._give_back_unread(size)

    def _give_back_unread(self, size: int) -> None:
        """The same for the window of the connection, which is all that counts for a stream that is not read."""
        self._due += size
        if self._due * 2 >= self._connection_window:
            self._receive_window += self._due
            self._frame_control(frames.window_update(0, self._due))
            self._due = 0
            self._announce()


def _body_too_large() -> ProtocolError:
    return ProtocolError(413, "the request body is too large")
