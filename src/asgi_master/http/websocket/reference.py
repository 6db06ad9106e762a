"""The reference engine: wsproto reads and writes the frames, with sizes bounded by us."""

from collections.abc import Iterator

from wsproto import events as wsproto_events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from asgi_master.http.websocket.deflate import Compression, InflateError, InflateOverflowError
from asgi_master.http.websocket.frames import (
    FRAGMENT,
    UNLIMITED,
    Close,
    CloseCode,
    Event,
    Ping,
    Pong,
    WebSocketError,
)

_DEFLATED_AT_ONCE = 128
"""Bytes of a connection with compression that are read at a time: they become an eighth of a megabyte at most."""


class WsprotoEngine:
    """See `websocket.Engine`."""

    def __init__(self, *, message_size: int, compression: Compression | None) -> None:
        self._limit = message_size or UNLIMITED
        extensions: list[Extension] = []
        if compression is not None:
            extensions.append(_BoundedDeflate(compression, self))
        self._connection = Connection(ConnectionType.SERVER, extensions)
        self._events: Iterator[wsproto_events.Event] = iter(())
        self._text: list[str] = []
        self._data = bytearray()
        self._size = 0
        self._is_compressed = compression is not None
        self._unread = b""
        self._position = 0

    @property
    def held(self) -> int:
        """What wsproto has of it is little, or all of what arrived last."""
        return len(self._unread) - self._position + self._size

    @property
    def room(self) -> int:
        """How many bytes the message underway may still grow."""
        return self._limit - self._size

    def receive_data(self, data: bytes) -> None:
        self._unread = self._unread[self._position :] + data
        self._position = 0

    def next_event(self) -> Event | None:
        event = next(self._events, None)
        if event is None:
            start = self._position
            if start == len(self._unread):
                return None
            # wsproto inflates all that it has of a frame: give it no more than does not take long.
            piece = self._unread[start : start + _DEFLATED_AT_ONCE] if self._is_compressed else self._unread
            self._position += len(piece)
            self._connection.receive_data(piece)
            self._events = iter(self._connection.events())
            return FRAGMENT
        return self._read(event)

    def _read(self, event: wsproto_events.Event) -> Event:
        match event:
            case wsproto_events.TextMessage():
                self._grow(len(event.data.encode()))
                self._text.append(event.data)
                if event.message_finished:
                    text = "".join(self._text)
                    self._text.clear()
                    self._size = 0
                    return text
            case wsproto_events.BytesMessage():
                self._grow(len(event.data))
                self._data += event.data
                if event.message_finished:
                    data = bytes(self._data)
                    self._data.clear()
                    self._size = 0
                    return data
            case wsproto_events.Ping():
                return Ping(bytes(event.payload))
            case wsproto_events.Pong():
                return Pong(bytes(event.payload))
            case wsproto_events.CloseConnection():
                return self._read_close(event)
        return FRAGMENT

    def _read_close(self, event: wsproto_events.CloseConnection) -> Close:
        """Tell the peer's close frame from a failure: only the state of wsproto does."""
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            raise WebSocketError(CloseCode(event.code), event.reason or "")
        return Close(int(event.code), event.reason or "")

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise WebSocketError(CloseCode.TOO_BIG, "message too big")

    def text(self, text: str) -> bytes:
        return bytes(self._connection.send(wsproto_events.TextMessage(data=text)))

    def binary(self, data: bytes) -> bytes:
        return bytes(self._connection.send(wsproto_events.BytesMessage(data=data)))

    def ping(self, payload: bytes) -> bytes:
        return bytes(self._connection.send(wsproto_events.Ping(payload=payload)))

    def pong(self, payload: bytes) -> bytes:
        return bytes(self._connection.send(wsproto_events.Pong(payload=payload)))

    def close(self, code: int, reason: str) -> bytes:
        if code == CloseCode.NO_STATUS:
            return bytes(
                self._connection.send(wsproto_events.CloseConnection(code=CloseReason.NO_STATUS_RCVD))
            )
        return bytes(self._connection.send(wsproto_events.CloseConnection(code=code, reason=reason)))


class _BoundedDeflate(Extension):
    """permessage-deflate for wsproto, whose own would inflate whatever a peer sends."""

    name = "permessage-deflate"

    def __init__(self, compression: Compression, engine: WsprotoEngine) -> None:
        self._compression = compression
        self._engine = engine
        self._control = False
        self._compressed: bool | None = None
        """Of the message underway; `None` between messages."""

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:  # pragma: no cover -- abstract in wsproto, asked by clients
        return False

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 -- wsproto's signature
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,  # noqa: ARG002 -- wsproto's signature
    ) -> CloseReason | RsvBits:
        self._control = opcode.iscontrol()
        if rsv.rsv1 and (self._control or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if not self._control and self._compressed is None:
            self._compressed = rsv.rsv1
        return RsvBits(rsv1=True, rsv2=False, rsv3=False)

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 -- wsproto's signature
        data: bytes,
    ) -> bytes | CloseReason:
        if self._control or not self._compressed:
            return data
        return self._inflate(data, final=False)

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 -- wsproto's signature
        fin: bool,
    ) -> bytes | CloseReason | None:
        if self._control or not fin:
            return None
        compressed, self._compressed = self._compressed, None
        return self._inflate(b"", final=True) if compressed else None

    def _inflate(self, data: bytes, *, final: bool) -> bytes | CloseReason:
        inflated, more = b"", True
        self._compression.receive(data, final=final)
        try:
            while more:
                piece, more = self._compression.inflate(self._engine.room - len(inflated))
                inflated += piece
            return inflated
        except InflateOverflowError:
            return CloseReason.MESSAGE_TOO_BIG
        except InflateError:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 -- wsproto's signature
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,  # noqa: ARG002 -- wsproto's signature
    ) -> tuple[RsvBits, bytes]:
        deflated = None if opcode.iscontrol() else self._compression.deflate(data)
        return (rsv, data) if deflated is None else (RsvBits(rsv1=True, rsv2=False, rsv3=False), deflated)
