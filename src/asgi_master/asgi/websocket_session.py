"""The messages of a WebSocket, in both directions: the `websocket` part of ASGI as a table.

    CONNECTING ── accept ──────────────── OPEN ── close ── CLOSED
        ├──────── close ───────────────── CLOSED  (403)
        └──────── http.response.start ─── DENYING ── http.response.body (last) ── CLOSED

From every state the peer, or the server, may end the connection: DISCONNECTED.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from asgi_master.asgi.errors import ClientDisconnectedError
from asgi_master.asgi.http_exchange import HttpExchange, ResponseChunk
from asgi_master.asgi.types import Message
from asgi_master.http.message import Headers
from asgi_master.http.websocket.frames import CloseCode, may_be_sent
from asgi_master.records import record


class State(StrEnum):
    """Where the application stands."""

    CONNECTING = "connecting"
    """It has not answered the handshake."""
    DENYING = "denying"
    """It answers the handshake with an HTTP response of its own."""
    OPEN = "open"
    CLOSED = "closed"
    """It said its last word."""
    DISCONNECTED = "disconnected"
    """The peer is gone or the server closed; the application had no say."""


@record
class Accept:
    """Open the connection."""

    subprotocol: str | None
    headers: Headers


@record
class Refuse:
    """Answer the handshake with 403."""


@record
class StartDenial:
    """Answer the handshake with an HTTP response, once its body begins; `exchange` judges it."""

    exchange: HttpExchange


@record
class ContinueDenial:
    """Write this part of that response."""

    chunk: ResponseChunk

    @property
    def is_last(self) -> bool:
        """Whether that response is complete with it."""
        return self.chunk[2]


@record
class Send:
    """Send a message: text if it is a string."""

    data: str | bytes


@record
class CloseWith:
    """Close the open connection."""

    code: int
    reason: str


Order = Accept | Refuse | StartDenial | ContinueDenial | Send | CloseWith


class WebSocketSession:
    """The state of one WebSocket as its application sees it."""

    __slots__ = ("_denial", "disconnect", "state")

    def __init__(self) -> None:
        self.state = State.CONNECTING
        self._denial: HttpExchange | None = None
        self.disconnect: Message | None = None
        """What `receive` returns once nothing else waits; `None` as long as the peer is there."""

    def interpret(self, message: Message) -> Order:
        """The order that a message gives. The state changes only with `advance`, once the order is carried out.

        Raises `ClientDisconnectedError` after a disconnect, and for what an open WebSocket takes once the application
        closed it: of several tasks, one may not know. `RuntimeError` for a message that may not come now, `KeyError`,
        `TypeError` and `ValueError` for one that is not well-formed.
        """
        if self.disconnect is not None:
            raise ClientDisconnectedError("the WebSocket is disconnected")
        kind = message["type"]
        if self.state is State.CLOSED and (State.OPEN, kind) in _READERS:
            raise ClientDisconnectedError(_EXPECTED[State.CLOSED])
        if self._denial is not None and kind == "websocket.http.response.body":
            part = self._denial.interpret({**message, "type": "http.response.body"})
            assert isinstance(part, tuple)
            return ContinueDenial(part)
        reader = _READERS.get((self.state, kind))
        if reader is None:
            raise RuntimeError(f"ASGI message {kind!r} cannot be sent: {_EXPECTED[self.state]}")
        return reader(message)

    def advance(self, order: Order) -> None:
        """Record that an order was carried out."""
        match order:
            case Accept():
                self.state = State.OPEN
            case StartDenial():
                self.state = State.DENYING
                self._denial = order.exchange
            case Refuse() | CloseWith():
                self.state = State.CLOSED
            case ContinueDenial():
                if order.is_last:
                    self.state = State.CLOSED

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more, by either side's decision."""
        return self.disconnect is not None or self.state is State.CLOSED

    def disconnected(self, code: int, reason: str = "") -> None:
        """Record that the connection ended; only the first cause counts."""
        if self.disconnect is None:
            # An application gets no `CloseCode`: it may ask for the type, and prints it.
            self.disconnect = {"type": "websocket.disconnect", "code": int(code), "reason": reason}
            if self.state is not State.CLOSED:
                self.state = State.DISCONNECTED


def data_of(message: Message) -> str | bytes:
    """The payload of a `websocket.send`; `None` counts as missing. Raises `ValueError` and `TypeError`."""
    text, data = message.get("text"), message.get("bytes")
    if text is None:
        if data is None:
            raise ValueError("websocket.send holds neither text nor bytes")
        if type(data) is bytes:
            return data
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        raise TypeError(f"bytes of websocket.send is of type {type(data).__name__}")
    if data is not None:
        raise ValueError("websocket.send holds both text and bytes")
    if not isinstance(text, str):
        raise TypeError(f"text of websocket.send is of type {type(text).__name__}")
    return text


def _read_send(message: Message) -> Send:
    return Send(data_of(message))


def _read_accept(message: Message) -> Accept:
    subprotocol = message.get("subprotocol")
    if subprotocol is not None and not isinstance(subprotocol, str):
        raise TypeError(f"subprotocol of websocket.accept is of type {type(subprotocol).__name__}")
    return Accept(subprotocol, _read_headers(message.get("headers", ())))


def _read_close(message: Message) -> CloseWith:
    code = message.get("code")
    code = int(CloseCode.NORMAL) if code is None else int(code)
    if code != CloseCode.NO_STATUS and not may_be_sent(code):
        raise ValueError(f"{code} is no close code that an application may send")
    reason = message.get("reason") or ""
    if not isinstance(reason, str):
        raise TypeError(f"reason of websocket.close is of type {type(reason).__name__}")
    reason.encode()  # raises here, before anything changed, if it cannot be sent
    return CloseWith(code, reason)


def _read_refusal(_message: Message) -> Refuse:
    return Refuse()


def _read_denial_start(message: Message) -> StartDenial:
    exchange = HttpExchange("GET", has_body=False)
    start = {
        "type": "http.response.start",
        "status": message["status"],
        "headers": message.get("headers", ()),
    }
    exchange.interpret(start)
    return StartDenial(exchange)


def _read_headers(headers: Iterable[Iterable[bytes]]) -> Headers:
    return [(bytes(name), bytes(value)) for name, value in headers]


_READERS: Final[dict[tuple[State, str], Callable[[Message], Order]]] = {
    (State.CONNECTING, "websocket.accept"): _read_accept,
    (State.CONNECTING, "websocket.close"): _read_refusal,
    (State.CONNECTING, "websocket.http.response.start"): _read_denial_start,
    (State.OPEN, "websocket.send"): _read_send,
    (State.OPEN, "websocket.close"): _read_close,
}

_EXPECTED: Final = {
    State.CONNECTING: "the answer is websocket.accept, websocket.close or websocket.http.response.start",
    State.DENYING: "the denial response goes on with websocket.http.response.body",
    State.OPEN: "an open WebSocket takes websocket.send and websocket.close",
    State.CLOSED: "the application closed this WebSocket",
}
