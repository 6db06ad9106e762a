"""The reference engine: frames, HPACK, windows and the states of streams are those of the `h2` library.

What of `Engine` the library does not have is here: slots that a running application holds, bodies that wait, a graceful
end. What it lacks beside the engine of production:
  - priorities: streams take turns, whatever `priority` and PRIORITY_UPDATE say;
  - bounds on floods, but for CONTINUATION (64 frames);
  - errors of a stream that are no errors of the connection: a body of another length than Content-Length says, one
    that exceeds the stream's window, trailers without an end, and a window that is opened by 0. The library ends the
    connection (RFC 9113 §5.4.2 allows that);
  - the length of a body that ends with trailers, which need not be what Content-Length says;
  - speed: a request takes about seven times as long.
"""

import sys
from typing import Final, NoReturn

import h2.events
import h2.exceptions
import h2.settings
from h2.settings import SettingCodes

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2 import frames, settings
from asgi_master.http.h2.engine import PREFACE, EngineStream, H2Request, Owner
from asgi_master.http.h2.errors import (
    ConnectionError,  # noqa: A004 -- the term of RFC 9113 §5.4.1
    ErrorCode,
    StreamError,
)
from asgi_master.http.h2.frames import (
    DEFAULT_WINDOW,
    END_HEADERS,
    FRAME_SIZE,
    HEADER,
    HEADER_SIZE,
    LARGEST_WINDOW,
    NUMBER,
)
from asgi_master.http.h2.reference_head import check_trailers, request_of
from asgi_master.http.h2.reference_sender import ReferenceSender, Sending
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.http.limits import Http2Limits, HttpLimits
from asgi_master.http.message import Field

_FAREWELL: Final = b"shutdown"
"""The PING behind the first GOAWAY."""
_PROBE: Final = b"received"
"""The PING that asks whether the peer has read what was sent."""
_GOAWAY_SIZE: Final = 8
_CODES: Final = frozenset(ErrorCode)


class ReferenceEngine(ReferenceSender):
    """See `Engine`."""

    def __init__(
        self,
        owner: Owner,
        limits: HttpLimits,
        http2: Http2Limits,
        encoder: ResponseHeadEncoder,
        quota: StreamQuota,
    ) -> None:
        super().__init__(owner, encoder, quota)
        self._limits = limits
        self._http2 = http2
        self._body_limit = limits.body_size or sys.maxsize
        self._most_streams = http2.max_concurrent_streams or sys.maxsize
        self._stream_limit = self._most_streams  # as it was announced last
        self._connection.decoder.max_header_list_size = 2 * limits.header_bytes or sys.maxsize
        self._buffer = b""
        self._expected: int | None = frames.SETTINGS  # the type of the next frame, if only one may come
        self._is_opening = True
        self._is_probing = False  # whether a PING of `probe` is not answered
        self._is_shutting_down = False
        self._last_served = LARGEST_WINDOW
        self._resets = 0
        self.peer_gives_up = False
        self.peer_goaway: int | None = None

    def start(self) -> None:
        self._quota.connections += 1
        connection, own = self._connection, settings.own_settings(self._limits, self._http2)
        # One stream too many is an error of the connection to the library: it is not to count them.
        known = {SettingCodes.MAX_CONCURRENT_STREAMS: LARGEST_WINDOW, SettingCodes.ENABLE_PUSH: 0}
        connection.local_settings = h2.settings.Settings(client=False, initial_values=known)
        connection.initiate_connection()
        connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: own[settings.INITIAL_WINDOW_SIZE]})
        connection.clear_outbound_data_buffer()
        self._out += frames.settings(settings.encode(own))
        increment = max(self._http2.connection_window or LARGEST_WINDOW, DEFAULT_WINDOW) - DEFAULT_WINDOW
        if increment:
            connection.increment_flow_control_window(increment)
        self._announce()

    @property
    def resets(self) -> int:
        return self._resets

    # -- the peer's bytes --------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:  # noqa: ARG002 -- nothing here has a rate
        if not self._is_over:
            self._buffer += data

    @property
    def is_mid_frame(self) -> bool:
        return bool(self._buffer) or (self._expected is not None and not self._is_opening)

    def advance(self) -> bool:
        try:
            frame = self._next_frame()
            if not frame:
                return False
            if not self._take_goaway(frame):
                self._handle_frame(frame)
        except h2.exceptions.ProtocolError as error:
            self._connection.clear_outbound_data_buffer()
            code = ErrorCode(error.error_code)
            self.go_away(code, str(error))
            raise ConnectionError(code, str(error)) from error
        except ConnectionError as error:
            self.go_away(error.code, error.reason)
            raise
        self._announce()
        return True

    def _next_frame(self) -> bytes:
        """Take the next frame, or the preface, out of the buffer; nothing if it is not complete."""
        buffer = self._buffer
        if self._is_opening:
            if not PREFACE.startswith(buffer[: len(PREFACE)]):
                raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "the preface of HTTP/2 did not come")
            size = len(PREFACE)
        elif len(buffer) < HEADER_SIZE:
            return b""
        else:
            size = self._check_header(*HEADER.unpack_from(buffer))
        if len(buffer) < size:
            return b""
        self._is_opening = False
        self._buffer = buffer[size:]
        return buffer[:size]

    def _check_header(self, first: int, flags: int, _stream_id: int) -> int:
        """The size of the frame with this header."""
        length, kind = first >> 8, first & 0xFF
        if length > FRAME_SIZE:
            raise ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a frame is larger than SETTINGS allow")
        if self._expected is not None and (
            kind != self._expected or (kind == frames.SETTINGS and flags & frames.ACK)
        ):
            raise ConnectionError(ErrorCode.PROTOCOL_ERROR, "another frame than the one that must come next")
        return HEADER_SIZE + length

    def _take_goaway(self, frame: bytes) -> bool:
        """Handle a GOAWAY of the peer: the library takes it for the end of all streams (RFC 9113 §6.8)."""
        first, _, stream_id = HEADER.unpack_from(frame)
        if frame == PREFACE or first & 0xFF != frames.GOAWAY or stream_id or first >> 8 < _GOAWAY_SIZE:
            return False
        (self.peer_goaway,) = NUMBER.unpack_from(frame, HEADER_SIZE + NUMBER.size)
        return True

    def _handle_frame(self, frame: bytes) -> None:
        events = self._connection.receive_data(frame)
        if frame != PREFACE:
            first, flags, _ = HEADER.unpack_from(frame)
            continues = first & 0xFF in (frames.HEADERS, frames.CONTINUATION) and not flags & END_HEADERS
            self._expected = frames.CONTINUATION if continues else None
        for event in events:
            try:
                self._handle(event)
            except StreamError as error:
                self._fail(event.stream_id, error.code)  # type: ignore[attr-defined]

    def _fail(self, stream_id: int, code: ErrorCode) -> None:
        """RFC 9113 §5.4.2."""
        self._resets += 1
        self._send_reset(stream_id, code)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._close(stream)
            stream.closed(code)

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._on_request(event.stream_id, list(event.headers), event.stream_ended is not None)
            case h2.events.DataReceived():
                self._on_data(event)
            case h2.events.TrailersReceived():
                self._on_trailers(event)
            case h2.events.StreamReset():
                self._on_reset(event)
            case h2.events.RemoteSettingsChanged():
                announced = [(code, changed.new_value) for code, changed in event.changed_settings.items()]
                self.peer_gives_up = self.peer_gives_up or settings.gives_up_at_goaway(announced)
            case h2.events.PingAckReceived():
                if self._is_shutting_down and event.ping_data == _FAREWELL:
                    self.finish_shutdown()
                elif self._is_probing and event.ping_data == _PROBE:
                    self._is_probing = False
                    self._owner.probe_answered()
            case _:
                pass  # the library answers, and opens windows

    def _on_request(self, stream_id: int, fields: list[Field], ends: bool) -> None:
        if stream_id > self._last_served:
            return
        refusal: ProtocolError | None = None
        try:
            request = request_of([(bytes(name), bytes(value)) for name, value in fields], ends, self._limits)
        except ProtocolError as error:
            refusal = error
            request = H2Request("", b"", b"", b"", [], "2")
        if len(self._streams) >= self._most_streams:
            raise StreamError(ErrorCode.REFUSED_STREAM, "more streams than SETTINGS allow")
        if self._quota.running >= self._quota.most and len(self._streams) >= self._quota.share:
            self._refuse(self._quota.share)
        self._quota.running += 1
        if (request.body_length or 0) > self._body_limit:
            refusal = refusal or _body_too_large()
        stream = self._streams[stream_id] = self._owner.new_stream()
        stream.stream_id = stream_id
        stream.request = request
        stream.unsent = stream.unconsumed = 0
        stream.is_finished = False
        stream.body_left = sys.maxsize if request.protocol is not None else self._body_limit
        stream.engine_state = Sending(ends)
        if refusal is None:
            stream.request_received(request, ends)
        else:
            stream.body_left = -1
            stream.refused(refusal)

    def _refuse(self, share: int) -> NoReturn:
        """Refuse a stream beyond what the worker may have (RFC 9113 §8.7)."""
        self._quota.refused += 1
        if share < self._stream_limit:
            self._announce_stream_limit(share)
        raise StreamError(ErrorCode.REFUSED_STREAM, "the worker runs too many streams")

    def _announce_stream_limit(self, limit: int) -> None:
        self._stream_limit = limit
        self._out += frames.settings(settings.encode({settings.MAX_CONCURRENT_STREAMS: limit}))

    def renew_stream_limit(self) -> None:
        if self._stream_limit != self._most_streams and self._quota.has_room:
            self._announce_stream_limit(min(self._most_streams, LARGEST_WINDOW))
            self._stream_limit = self._most_streams
            self._announce()

    def _on_data(self, event: h2.events.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:  # one that is not served any more
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            return
        data, ends = bytes(event.data), event.stream_ended is not None
        state: Sending = stream.engine_state
        was_wanted = stream.body_left >= 0 and not (stream.is_finished or state.is_closed)
        stream.body_left -= len(data)
        is_wanted = was_wanted and stream.body_left >= 0
        stream.unconsumed += len(data)
        self._acknowledge(stream, event.flow_controlled_length - len(data))
        if not is_wanted:
            self.consumed(stream, len(data))
        if ends:
            state.is_read = True
            self._forget_if_over(stream)
        if is_wanted and (data or ends):
            stream.data_received(data, ends)
        elif was_wanted and not is_wanted:
            stream.refused(_body_too_large())

    def _on_trailers(self, event: h2.events.TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        refusal: ProtocolError | None = None
        try:
            check_trailers([(bytes(name), bytes(value)) for name, value in event.headers], self._limits)
        except ProtocolError as error:
            refusal = error
        if stream.request.protocol is not None:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a tunnel")
        is_wanted = stream.body_left >= 0 and not stream.is_finished
        stream.engine_state.is_read = True
        self._forget_if_over(stream)
        if is_wanted and refusal is None:
            stream.data_received(b"", True)
        elif is_wanted and refusal is not None:
            stream.refused(refusal)

    def _on_reset(self, event: h2.events.StreamReset) -> None:
        """The peer has reset a stream, or the library has since the peer broke a rule."""
        stream = self._streams.get(event.stream_id)
        self._resets += 1
        if stream is not None and not stream.engine_state.is_closed:
            self._close(stream)
            stream.closed(
                ErrorCode(event.error_code) if event.error_code in _CODES else ErrorCode.INTERNAL_ERROR
            )

    # -- the end -----------------------------------------------------------------------------------

    def probe(self) -> None:
        if not self._is_over:
            self._is_probing = True
            self._connection.ping(_PROBE)
            self._announce()

    def shut_down(self) -> None:
        if not (self._is_shutting_down or self._is_over):
            self._is_shutting_down = True
            self._out += frames.goaway(LARGEST_WINDOW, ErrorCode.NO_ERROR)
            self._connection.ping(_FAREWELL)
            self._announce()

    def finish_shutdown(self, last: int | None = None) -> None:
        if self.is_shut_down:
            return
        last = self._last_served = self._connection.highest_inbound_stream_id if last is None else last
        self._out += frames.goaway(last, ErrorCode.NO_ERROR)
        for stream in [stream for stream in self._streams.values() if stream.stream_id > last]:
            self._close(stream)
            stream.closed(ErrorCode.REFUSED_STREAM)
        self._announce()

    @property
    def is_shut_down(self) -> bool:
        return self._is_over or self._last_served != LARGEST_WINDOW

    def go_away(self, code: ErrorCode, reason: str = "") -> None:
        if not self._is_over:
            last = min(self._connection.highest_inbound_stream_id, self._last_served)
            self._end()
            self._out += frames.goaway(last, code, reason)
            self._announce()

    def connection_lost(self) -> None:
        self._quota.connections -= 1
        for stream in self._end():
            stream.closed(ErrorCode.CANCEL)

    def _end(self) -> list[EngineStream]:
        """Handle and send nothing more; returns the streams that this closed."""
        self._is_over = True
        self._buffer = b""
        self._is_opening = False
        self._expected = None
        closed = [stream for stream in self._streams.values() if not stream.engine_state.is_over]
        for stream in closed:
            self._close(stream)
        return closed


def _body_too_large() -> ProtocolError:
    return ProtocolError(413, "the request body is too large")
