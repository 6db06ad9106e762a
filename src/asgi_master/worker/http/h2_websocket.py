"""A WebSocket on a stream of HTTP/2 (RFC 8441): the stream as its transport, and the answer to its handshake."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from asgi_master.asgi.http_exchange import ResponseChunk
from asgi_master.asgi.scope import HttpScopes
from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.engine import HIGH_WATER, Engine, EngineStream, H2Request
from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.message import BODYLESS, Fields, ResponseHead
from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.stream_transport import NO_PROTOCOL, StreamProtocol, StreamTransport
from asgi_master.worker.websocket.connection import WebSocketConnection

_WEBSOCKET: Final = b"websocket"
"""`:protocol` of a WebSocket (RFC 8441 §5)."""


class StreamTunnel(StreamTransport):
    """A stream of bytes in both directions on a stream of HTTP/2 (RFC 9113 §8.5)."""

    __slots__ = (
        "_engine",
        "_is_closing",
        "_is_read_paused",
        "_is_write_paused",
        "_kept",
        "_loop",
        "_peer_ended",
        "_protocol",
        "_stream",
        "context",
        "endpoints",
        "tls",
    )

    is_shared = True

    def __init__(
        self, stream: EngineStream, engine: Engine, below: StreamTransport, loop: asyncio.AbstractEventLoop
    ) -> None:
        """`below` is the transport of the connection."""
        self._stream = stream
        self._engine = engine
        self._loop = loop
        self.context = below.context
        self.endpoints = below.endpoints
        self.tls = below.tls
        self._protocol: StreamProtocol = NO_PROTOCOL
        self._kept = bytearray()  # what arrived while reading is paused, in pieces of a byte perhaps
        self._peer_ended = False
        self._is_read_paused = False
        self._is_write_paused = False  # whether the protocol was asked to pause
        self._is_closing = False

    def set_protocol(self, protocol: StreamProtocol) -> None:
        self._protocol = protocol

    # -- called by the stream ----------------------------------------------------------------------

    def data_received(self, data: bytes, ends: bool) -> None:
        """A piece of the tunnel's contents."""
        self._peer_ended = self._peer_ended or ends
        if self._kept or self._is_read_paused:
            self._kept += data
            data = b""
        if not self._is_read_paused:
            self._deliver(data)

    def resumed(self) -> None:
        """What waits is less."""
        if self._is_write_paused:
            self._is_write_paused = False
            self._protocol.resume_writing()

    def closed(self) -> None:
        """The stream was reset, or the connection is lost."""
        self._is_closing = True
        self._kept.clear()
        protocol, self._protocol = self._protocol, NO_PROTOCOL
        protocol.connection_lost()

    # -- reading -----------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._is_read_paused = True

    def resume_reading(self) -> None:
        if self._is_read_paused:
            self._is_read_paused = False
            if self._kept or self._peer_ended:
                self._loop.call_soon(self._deliver, context=self.context)

    def _deliver(self, data: bytes = b"") -> None:
        """Give the protocol what has come, `data` if nothing was kept; the peer may send as much again."""
        if self._kept and not self._is_read_paused:
            data = bytes(self._kept)
            self._kept.clear()
        if data:
            self._engine.consumed(self._stream, len(data))
            if not self._is_closing:
                self._protocol.data_received(data)
        if self._peer_ended and not (self._kept or self._is_closing) and not self._protocol.eof_received():
            self.close()

    def has_unread_bytes(self) -> bool:
        return bool(self._kept)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._is_closing:
            return
        stream = self._stream
        self._engine.send_data(stream, data, False)
        if stream.unsent > HIGH_WATER and not self._is_write_paused:
            self._is_write_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._stream.unsent

    def write_eof(self) -> None:
        """Whoever ends its side here reads no more, and no bytes that are unread can harm those that were sent."""
        self.close()

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """The engine sends what waits, as the peer's windows allow; the protocol need not wait for that."""
        if not self._is_closing:
            self._is_closing = True
            self._engine.send_data(self._stream, b"", True)
            if not self._peer_ended:
                self._engine.reset(self._stream, ErrorCode.NO_ERROR)
            self._loop.call_soon(self.closed, context=self.context)

    def abort(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._engine.reset(self._stream, ErrorCode.CANCEL)
            self._loop.call_soon(self.closed, context=self.context)

    def is_closing(self) -> bool:
        return self._is_closing

    def move(self, transfer: TransferConnection, state: ConnectionState) -> bool:  # noqa: ARG002
        return False


class ExtendedConnect:
    """A `HandshakeStream`: the answer to an extended CONNECT."""

    __slots__ = ("_engine", "_request", "_stream", "ended")

    accepted_status: int = HTTPStatus.OK

    def __init__(
        self, stream: EngineStream, engine: Engine, request: H2Request, ended: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._engine = engine
        self._request = request
        self.ended = ended

    def check(self) -> None:
        """RFC 8441 §5: `:protocol` takes the place of the Upgrade field."""
        if self._request.protocol != _WEBSOCKET:
            raise ProtocolError(501, "this protocol is not spoken here")

    def accept(self, fields: Fields) -> None:
        self._engine.send_head(self._stream, ResponseHead(HTTPStatus.OK, fields), b"", False, None)

    def send_chunk(self, part: ResponseChunk) -> None:
        head, body, _is_last, length = part
        if head is None:
            self._engine.send_data(self._stream, body, False)
        else:
            if head.status in BODYLESS and not length:
                length = None
            self._engine.send_head(self._stream, head, body, False, length)


def tunnel_websocket(
    context: WorkerContext,
    stream: EngineStream,
    engine: Engine,
    below: StreamTransport,
    request: H2Request,
    scopes: HttpScopes,
    ended: Callable[[], None],
) -> tuple[StreamTunnel, WebSocketConnection]:
    """The two ends of what an extended CONNECT opens; the WebSocket is to be started, and `ended` is called last."""
    tunnel = StreamTunnel(stream, engine, below, context.loop)
    connect = ExtendedConnect(stream, engine, request, ended)
    websocket = WebSocketConnection(context, tunnel, request, b"", scopes, connect)
    tunnel.set_protocol(websocket)
    return tunnel, websocket
