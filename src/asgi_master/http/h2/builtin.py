"""The engine of production: frames, streams and windows of one HTTP/2 connection (RFC 9113).

A frame is read out of the receive buffer in one pass, and handled by the function that stands for its type in a table.
What is wrong is raised where it is seen, as `StreamError` or `ConnectionError`, and answered in `advance`.

The engine is one object, since a request passes through all of it. Its halves are `sending` and `receiving`; this file
has what is of the whole connection.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NoReturn

from asgi_master.http.h2 import frames, settings
from asgi_master.http.h2.engine import PREFACE, EngineStream, Owner
from asgi_master.http.h2.errors import (
    ConnectionError,  # noqa: A004 -- the term of RFC 9113 §5.4.1
    ErrorCode,
    StreamError,
)
from asgi_master.http.h2.frames import (
    ACK,
    DEFAULT_WINDOW,
    FRAME_SIZE,
    HEADER,
    HEADER_SIZE,
    LARGEST_WINDOW,
    NUMBER,
    STREAM_ID,
)
from asgi_master.http.h2.hpack import TABLE_SIZE
from asgi_master.http.h2.priority import read_priority
from asgi_master.http.h2.receiving import RST_STREAM_SIZE, ReceivingEngine
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.http.h2.streams import CLOSED, HALF_CLOSED_LOCAL, OPEN
from asgi_master.http.limits import Http2Limits, HttpLimits

_read_header = HEADER.unpack_from

_LARGEST_HEADER: Final = FRAME_SIZE << 8 | 0xFF
"""The first number of a frame's header, if that announces as much as a frame may hold."""
_PING_SIZE: Final = 8
_PRIORITY_SIZE: Final = 5
_GOAWAY_SIZE: Final = 8
_CODES: Final = frozenset(ErrorCode)

_SETTINGS_A_CHORE: Final = 16
"""Settings in one frame that count as one chore: a frame has room for 2730."""
_MOST_EARLY_PRIORITIES: Final = 128
"""Of streams that are not opened yet."""
_FAREWELL: Final = b"shutdown"
"""The PING behind the first GOAWAY."""
_PROBE: Final = b"received"
"""The PING that asks whether the peer has read what was sent."""


_HANDLER_NAMES: Final = {
    frames.DATA: "_on_data",
    frames.HEADERS: "_on_headers",
    frames.PRIORITY: "_on_priority",
    frames.RST_STREAM: "_on_rst_stream",
    frames.SETTINGS: "_on_settings",
    frames.PUSH_PROMISE: "_on_push_promise",
    frames.PING: "_on_ping",
    frames.GOAWAY: "_on_goaway",
    frames.WINDOW_UPDATE: "_on_window_update",
    frames.CONTINUATION: "_on_continuation",
    frames.PRIORITY_UPDATE: "_on_priority_update",
}


class BuiltinEngine(ReceivingEngine):
    """See `Engine`."""

    __slots__ = (
        "_is_opening",
        "_is_over",
        "_is_probing",
        "_is_shutting_down",
        "_position",
        "_settings",
        "peer_gives_up",
        "peer_goaway",
    )

    def __init__(
        self,
        owner: Owner,
        limits: HttpLimits,
        http2: Http2Limits,
        encoder: ResponseHeadEncoder,
        quota: StreamQuota,
    ) -> None:
        super().__init__(owner, limits, http2, encoder, quota)
        self._settings = settings.own_settings(limits, http2)
        self._position = 0
        self._is_opening = True  # whether the preface is still to come
        self._is_probing = False  # whether a PING of `probe` is not answered
        self._is_shutting_down = False
        self._is_over = False
        self.peer_gives_up = False
        self.peer_goaway: int | None = None

    def start(self) -> None:
        self._quota.connections += 1
        self._frame_control(frames.settings(settings.encode(self._settings)))
        if self._connection_window > DEFAULT_WINDOW:
            self._frame_control(frames.window_update(0, self._connection_window - DEFAULT_WINDOW))
        self._announce()

    @property
    def resets(self) -> int:
        return self._guard.resets

    # -- the peer's bytes --------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        self._now = now
        if self._is_over:
            return
        buffer, position = self._buffer, self._position
        if position == len(buffer):
            self._buffer = data
        # What is small beside what waits here must not have that copied each time: it comes a byte at a time, perhaps.
        elif type(buffer) is bytearray:
            del buffer[:position]
            buffer += data
        elif len(data) < len(buffer) - position:
            self._buffer = bytearray(buffer[position:])
            self._buffer += data
        else:
            self._buffer = buffer[position:] + data
        self._position = 0

    @property
    def backlog(self) -> int:
        return self._framed_size

    @property
    def is_mid_frame(self) -> bool:
        return self._position != len(self._buffer) or (self._expected is not None and not self._is_opening)

    def advance(self) -> bool:
        buffer, start = self._buffer, self._position
        begin = start + HEADER_SIZE
        if begin > len(buffer):
            return self._is_opening and self._read_preface()
        size_and_kind, flags, stream_id = _read_header(buffer, start)
        end = begin + (size_and_kind >> 8)
        if self._expected is not None or size_and_kind > _LARGEST_HEADER:
            if self._is_opening:
                return self._read_preface()
            self._check_frame(size_and_kind)
        if end > len(buffer):
            return False
        self._position = end
        try:
            _HANDLERS[size_and_kind & 0xFF](self, stream_id & STREAM_ID, flags, begin, end)
        except StreamError as error:
            self._fail_stream(stream_id & STREAM_ID, error)
        except ConnectionError as error:
            self._fail(error)
        return True

    def _read_preface(self) -> bool:
        """RFC 9113 §3.4."""
        beginning = self._buffer[: len(PREFACE)]
        if not PREFACE.startswith(beginning):
            self._fail(ConnectionError(ErrorCode.PROTOCOL_ERROR, "the preface of HTTP/2 did not come"))
        if len(beginning) < len(PREFACE):
            return False
        self._position = len(PREFACE)
        self._is_opening = False
        return True

    def _check_frame(self, size_and_kind: int) -> None:
        """Judge a frame by its header, whether or not the rest is here."""
        if size_and_kind > _LARGEST_HEADER:
            self._fail(ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a frame is larger than SETTINGS allow"))
        if self._expected is not None and size_and_kind & 0xFF != self._expected:
            self._fail(
                ConnectionError(ErrorCode.PROTOCOL_ERROR, "another frame than the one that must come next")
            )

    def _fail(self, error: ConnectionError) -> NoReturn:
        """RFC 9113 §5.4.1."""
        self.go_away(error.code, error.reason)
        raise error

    def _fail_stream(self, stream_id: int, error: StreamError) -> None:
        """RFC 9113 §5.4.2."""
        try:
            self._guard.reset(self._now)
            self._count_answer(RST_STREAM_SIZE)
        except ConnectionError as too_many:
            self._fail(too_many)
        self._reset(stream_id, error.code)
        stream = self._streams.get(stream_id)
        if stream is not None and stream.engine_state is not CLOSED:
            self._close(stream)
            stream.closed(error.code)
        self._announce()

    # -- frames of the connection ------------------------------------------------------------------

    def _on_settings(self, stream_id: int, flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.5."""
        self._check_connection_frame(stream_id)
        if flags & ACK:
            if begin != end:
                raise ConnectionError(
                    ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with contents"
                )
            if self._expected is not None:
                raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "the acknowledgement of SETTINGS comes first")
            self._on_settings_ack()
            return
        values = settings.decode(self._buffer[begin:end])
        for _ in range(len(values) // _SETTINGS_A_CHORE):
            self._guard.chore(self._now)
        window = self._initial_send_window
        for identifier, value in values:
            if identifier == settings.INITIAL_WINDOW_SIZE:
                window = value
            elif identifier == settings.HEADER_TABLE_SIZE and value < TABLE_SIZE:
                self._must_empty_table = (
                    True  # it is not used; but the peer waits to see it shrink (RFC 7541 §4.2)
                )
            elif identifier == settings.NO_RFC7540_PRIORITIES and value:
                self._scheduler.is_aware = True
        if self._expected is not None:
            self.peer_gives_up = settings.gives_up_at_goaway(values)
        if window != self._initial_send_window:
            # Once a frame, however often it is in there: each change passes over all streams.
            self._resize_send_windows(window)
        self._expected = None
        self._answer(frames.SETTINGS_ACK)

    def _on_settings_ack(self) -> None:
        """The peer has our windows now; streams that it opened before had the default if ours is smaller."""
        excess = self._stream_window - self._settings[settings.INITIAL_WINDOW_SIZE]
        if not excess:
            return
        self._stream_window -= excess
        for stream in list(self._streams.values()):
            if stream.engine_state is OPEN or stream.engine_state is HALF_CLOSED_LOCAL:
                stream.receive_window -= excess
                self._give_back(stream, 0)  # what is due may be worth a frame now

    def _resize_send_windows(self, initial: int) -> None:
        """RFC 9113 §6.9.2: windows of open streams change by the difference, and may become negative."""
        change = initial - self._initial_send_window
        self._initial_send_window = initial
        for stream in list(self._streams.values()):
            stream.send_window += change
            if stream.send_window > LARGEST_WINDOW:
                raise ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
            if stream.send_window <= 0:
                self._scheduler.remove(stream)
            else:
                self._schedule(stream)

    def _on_ping(self, stream_id: int, flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.7."""
        self._check_connection_frame(stream_id)
        if end - begin != _PING_SIZE:
            raise ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PING has 8 bytes")
        payload = bytes(self._buffer[begin:end])
        if not flags & ACK:
            self._answer(frames.ping(payload, ACK))
        elif self._is_shutting_down and payload == _FAREWELL:
            self.finish_shutdown()
        elif self._is_probing and payload == _PROBE:
            self._is_probing = False
            self._owner.probe_answered()

    def _on_goaway(self, stream_id: int, _flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.8: it names the pushed streams, of which there are none. Those of the client go on."""
        self._check_connection_frame(stream_id)
        if end - begin < _GOAWAY_SIZE:
            raise ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has 8 bytes or more")
        (self.peer_goaway,) = NUMBER.unpack_from(self._buffer, begin + NUMBER.size)

    def _on_push_promise(self, _stream_id: int, _flags: int, _begin: int, _end: int) -> None:
        raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "a client does not push")

    def _on_unknown(self, _stream_id: int, _flags: int, _begin: int, _end: int) -> None:
        """RFC 9113 §4.1, §5.5."""
        self._guard.chore(self._now)

    def _on_priority_update(self, stream_id: int, _flags: int, begin: int, end: int) -> None:
        """RFC 9218 §7.1."""
        self._check_connection_frame(stream_id)
        if end - begin < NUMBER.size:
            raise ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY_UPDATE names no stream")
        target = NUMBER.unpack_from(self._buffer, begin)[0] & STREAM_ID
        if not target & 1:
            raise ConnectionError(
                ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE of a stream that no client opens"
            )
        priority = read_priority(bytes(self._buffer[begin + NUMBER.size : end]))
        self._scheduler.is_aware = True
        if target > self._last_stream_id:
            early = self._early_priorities
            if target in early or len(early) < _MOST_EARLY_PRIORITIES:
                early[target] = priority
            return
        stream = self._streams.get(target)
        if stream is not None:
            self._scheduler.remove(stream)
            stream.request = replace(stream.request, urgency=priority[0], is_incremental=priority[1])
            self._schedule(stream)

    def _check_connection_frame(self, stream_id: int) -> None:
        if stream_id:
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "a frame of the connection names a stream")
        self._guard.chore(self._now)

    def _answer(self, frame: bytes) -> None:
        self._count_answer(len(frame))
        self._frame_control(frame)
        self._announce()

    # -- frames of streams -------------------------------------------------------------------------

    def _on_priority(self, stream_id: int, _flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.3: it is checked, and not used. RFC 9218 replaces it."""
        if not stream_id:
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "PRIORITY names no stream")
        if end - begin != _PRIORITY_SIZE:
            # A stream that is idle cannot be reset (RFC 9113 §6.4).
            kind = StreamError if stream_id in self._streams else ConnectionError
            raise kind(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has 5 bytes")
        self._guard.chore(self._now)

    def _on_rst_stream(self, stream_id: int, _flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.4."""
        if end - begin != NUMBER.size:
            raise ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        stream = self._find(stream_id)
        if stream is None:
            self._guard.chore(self._now)
            return
        self._guard.reset(self._now)
        self._close(stream)
        (code,) = NUMBER.unpack_from(self._buffer, begin)
        stream.closed(ErrorCode(code) if code in _CODES else ErrorCode.INTERNAL_ERROR)

    def _on_window_update(self, stream_id: int, _flags: int, begin: int, end: int) -> None:
        """RFC 9113 §6.9."""
        if end - begin != NUMBER.size:
            raise ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        self._guard.chore(self._now)
        increment = NUMBER.unpack_from(self._buffer, begin)[0] & STREAM_ID
        if not stream_id:
            self._send_window += increment
            if not increment:
                raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            if self._send_window > LARGEST_WINDOW:
                raise ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
            if self._ready and self._send_window > 0:
                self._announce()
            return
        stream = self._find(stream_id)
        if stream is None:
            return
        stream.send_window += increment
        if not increment:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        if stream.send_window > LARGEST_WINDOW:
            raise StreamError(ErrorCode.FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
        self._schedule(stream)

    def _find(self, stream_id: int) -> EngineStream | None:
        """The stream, unless it is closed (RFC 9113 §5.1). Raises `ConnectionError` for one that is idle."""
        if stream_id > self._last_stream_id or not stream_id & 1:
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "a frame for a stream that was not opened")
        stream = self._streams.get(stream_id)
        return None if stream is None or stream.engine_state is CLOSED else stream

    # -- the end -----------------------------------------------------------------------------------

    def probe(self) -> None:
        if not self._is_over:
            self._is_probing = True
            self._frame_control(frames.ping(_PROBE))
            self._announce()

    def shut_down(self) -> None:
        if not (self._is_shutting_down or self._is_over):
            self._is_shutting_down = True
            self._frame_control(frames.goaway(LARGEST_WINDOW, ErrorCode.NO_ERROR))
            self._frame_control(frames.ping(_FAREWELL))
            self._announce()

    def finish_shutdown(self, last: int | None = None) -> None:
        if self.is_shut_down:
            return
        last = self._last_served = self._last_stream_id if last is None else last
        self._frame_control(frames.goaway(last, ErrorCode.NO_ERROR))
        for stream in [stream for stream in self._streams.values() if stream.stream_id > last]:
            self._close(stream)
            stream.closed(ErrorCode.REFUSED_STREAM)
        self._announce()

    @property
    def is_shut_down(self) -> bool:
        return self._is_over or self._last_served != LARGEST_WINDOW

    def go_away(self, code: ErrorCode, reason: str = "") -> None:
        if self._is_over:
            return
        self._end()
        last = min(self._last_stream_id, self._last_served)
        self._frame_control(frames.goaway(last, code, reason))
        self._announce()

    def connection_lost(self) -> None:
        self._quota.connections -= 1
        streams = self._end()
        self._take_framed()
        for stream in streams:
            stream.closed(ErrorCode.CANCEL)

    def _end(self) -> list[EngineStream]:
        """Handle and send nothing more; returns the streams that this closed."""
        self._is_over = True
        self._buffer = b""
        self._position = 0
        self._is_opening = False
        self._connection_window = sys.maxsize  # then nothing of it is ever given back
        streams = [stream for stream in self._streams.values() if stream.engine_state is not CLOSED]
        for stream in streams:
            self._close(stream)
        return streams


_HANDLERS: Final[tuple[Callable[[BuiltinEngine, int, int, int, int], None], ...]] = tuple(
    [getattr(BuiltinEngine, _HANDLER_NAMES.get(kind, "_on_unknown")) for kind in range(256)]
)
"""By the type of the frame. They take the stream, the flags, and where in the buffer the payload begins and ends."""
