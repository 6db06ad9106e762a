"""An engine of HTTP/2 in memory: its owner and streams write down what they are told, and a peer sends frames.

Frames that are sent are made here, of raw numbers, so that they can be wrong; those that come back are read by
`hyperframe` and `hpack`.

peer = Peer()
peer.send(PREFACE, frame(SETTINGS), peer.headers(1, GET, END_STREAM | END_HEADERS))
assert peer.streams[1].request.method == "GET"
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import hpack
import pytest
from hyperframe.frame import Frame

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.builtin import BuiltinEngine
from asgi_master.http.h2.engine import PREFACE, Engine, EngineStream, H2Request, Owner
from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.http.limits import Http2Limits, HttpLimits
from asgi_master.http.message import ResponseHead
from asgi_master.http.server_fields import ServerFields

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
PRIORITY_UPDATE = 16
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32

Fields = list[tuple[bytes, bytes]]
GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"host"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]

HEAD = ResponseHead(200, [(b"content-type", b"text/plain")])


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", size: int | None = None) -> bytes:
    """A frame; `size` lies about its length."""
    size = len(payload) if size is None else size
    return struct.pack(">IBI", size << 8 | kind, flags, stream) + payload


def number(value: int) -> bytes:
    return struct.pack(">I", value)


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join([struct.pack(">HI", *value) for value in values]))


class RecordedStream(EngineStream):
    """A stream that writes down its calls, and consumes nothing by itself."""

    def __init__(self, peer: "Peer") -> None:
        self.peer = peer
        self.calls: list[tuple[str, Any]] = []
        self.body = b""
        self.has_ended = False

    @property
    def outcome(self) -> tuple[str, Any]:
        """The last call."""
        return self.calls[-1]

    def request_received(self, request: H2Request, ends: bool) -> None:
        self._note("request", request)
        self.has_ended = ends
        self.peer.on_request(self)

    def data_received(self, data: bytes, ends: bool) -> None:
        assert not self.has_ended
        assert data or ends
        assert type(data) is bytes
        self._note("data", data)
        self.body += data
        self.has_ended = ends
        self.peer.on_data(self, data)

    def refused(self, error: ProtocolError) -> None:
        self._note("refused", error.status)

    def closed(self, code: ErrorCode) -> None:
        self._note("closed", code)

    def resumed(self) -> None:
        self.peer.on_resumed(self)

    def _note(self, name: str, value: Any) -> None:
        assert not self.calls or self.calls[-1][0] != "closed", "a call after the stream was closed"
        self.calls.append((name, value))


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Output:
    """What an engine sent."""

    frames: list[Any]

    def of(self, kind: str, stream: int | None = None) -> list[Any]:
        """Its frames of one type, named as in the RFC; those of one stream."""
        return [
            found
            for found in self.frames
            if type(found).__name__.lower() == kind.lower().replace("_", "") + "frame"
            and stream in (None, found.stream_id)
        ]

    def body(self, stream: int) -> bytes:
        """What is in the DATA of a stream."""
        return b"".join([found.data for found in self.of("DATA", stream)])


class Peer(Owner):
    """An engine's owner and its client at once."""

    def __init__(
        self,
        limits: HttpLimits | None = None,
        http2: Http2Limits | None = None,
        *,
        engine: Callable[..., Engine] = BuiltinEngine,
        quota: StreamQuota | None = None,
        opens: bool = True,
    ) -> None:
        """`opens` is whether both sides have exchanged their prefaces."""
        encoder = ServerFields(server_header=False, date_header=False).encoder(ResponseHeadEncoder)
        self.quota = quota or StreamQuota(0)
        self.engine = engine(self, limits or HttpLimits(), http2 or Http2Limits(), encoder, self.quota)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.streams: dict[int, RecordedStream] = {}
        self.announced = 0
        self.probes_answered = 0
        self.now = 1000.0
        self.on_request: Callable[[RecordedStream], object] = _nothing
        self.on_data: Callable[[RecordedStream, bytes], object] = _nothing
        self.on_resumed: Callable[[RecordedStream], object] = _nothing
        self._unnamed: list[RecordedStream] = []
        if opens:
            self.engine.start()
            self.send(PREFACE, settings(), frame(SETTINGS, ACK))
            self.take()

    def new_stream(self) -> EngineStream:
        stream = RecordedStream(self)
        self._unnamed.append(stream)
        return stream

    def output_due(self) -> None:
        """Who is asked to hurry need not."""

    def output_ready(self) -> None:
        self.announced += 1

    def probe_answered(self) -> None:
        self.probes_answered += 1

    def send(self, *pieces: bytes) -> None:
        """Have the engine handle these bytes, each a piece by itself. Raises what it raises."""
        try:
            for piece in pieces:
                self.engine.receive_data(piece, self.now)
                while self.engine.advance():
                    pass
        finally:
            self.streams.update({stream.stream_id: stream for stream in self._unnamed})
            self._unnamed.clear()

    def fails(self, *pieces: bytes) -> ErrorCode:
        """Have it handle bytes that end the connection; returns the code, which GOAWAY says too."""
        with pytest.raises(ConnectionError) as raised:
            self.send(*pieces)
        code = raised.value.code
        last = self.take().frames[-1]
        assert (type(last).__name__, last.error_code) == ("GoAwayFrame", code)
        assert not self.engine.advance()
        return code

    def reset_code(self, stream: int) -> int | None:
        """The code of RST_STREAM in what is sent now."""
        found = self.take().of("RST_STREAM", stream)
        return found[-1].error_code if found else None

    def take(self, limit: int = 65536) -> Output:
        """All that is sent now."""
        data = b""
        while piece := self.engine.data_to_send(limit):
            data += piece
        return Output(list(_frames(data)))

    def headers(self, stream: int, fields: Fields = GET, flags: int = END_STREAM | END_HEADERS) -> bytes:
        return frame(HEADERS, flags, stream, self.block(fields))

    def block(self, fields: Fields) -> bytes:
        return self.encoder.encode(fields)

    def open(self, stream: int, fields: Fields = GET, *, ends: bool = True) -> RecordedStream:
        """Send the head of a request."""
        self.send(self.headers(stream, fields, END_HEADERS | END_STREAM * ends))
        return self.streams[stream]

    def head(self, found: Any) -> Fields:
        """The fields of HEADERS."""
        return [(bytes(name), bytes(value)) for name, value in self.decoder.decode(found.data, raw=True)]


def _frames(data: bytes) -> Iterable[Frame]:
    while data:
        found, size = Frame.parse_frame_header(memoryview(data)[:9])
        assert len(data) >= 9 + size, "half a frame"
        found.parse_body(memoryview(data)[9 : 9 + size])
        data = data[9 + size :]
        yield found
