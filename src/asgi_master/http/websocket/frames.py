"""What WebSocket frames mean (RFC 6455): the interface and the events of every engine.

An engine takes bytes with `receive_data` and returns one event for each call of `next_event`, so that its caller
decides how much of the received data becomes messages. `fast` is the engine of production; `reference` is what it is
tested against.
"""

from enum import IntEnum
from typing import Final, Protocol

from asgi_master.records import record

UNLIMITED: Final = 2**62
"""Stands for a limit of 0."""


class CloseCode(IntEnum):
    """The close codes this server uses itself (RFC 6455 §7.4.1 and the IANA registry)."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    """Never sent: the peer's close frame was empty."""
    ABNORMAL = 1006
    """Never sent: the connection ended without a close frame."""
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


class WebSocketError(Exception):
    """The peer broke the protocol or a limit. The connection fails with `code` (RFC 6455 §7.1.7)."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@record
class Ping:
    """The peer asks for a pong with this payload."""

    payload: bytes


@record
class Pong:
    """The peer answers a ping, or says that it lives."""

    payload: bytes


@record
class Close:
    """The peer's close frame. `code` is 1005 if it held none. No event follows."""

    code: int
    reason: str


@record
class Fragment:
    """A fragment that does not end its message: no event yet, and more may be buffered."""


FRAGMENT: Final = Fragment()

Event = str | bytes | Ping | Pong | Close | Fragment
"""A whole text message, a whole binary message, a control frame, or a part of a message."""


class Engine(Protocol):
    """The server's side of the frames of one connection. It keeps no close handshake: the session does."""

    def receive_data(self, data: bytes) -> None:
        """Take what the peer sent. Costs nothing until `next_event` asks."""

    @property
    def held(self) -> int:
        """Bytes that wait for `next_event`, or for the rest of their message."""

    def next_event(self) -> Event | None:
        """The next event; `None` if more bytes are needed. `WebSocketError` is the end of it.

        A call reads one frame, or a part of one, so that who asks decides how many in a row.
        """

    def text(self, text: str) -> bytes:
        """The frame of a text message."""

    def binary(self, data: bytes) -> bytes:
        """The frame of a binary message."""

    def ping(self, payload: bytes) -> bytes:
        """A ping frame; at most 125 bytes of payload."""

    def pong(self, payload: bytes) -> bytes:
        """A pong frame; at most 125 bytes of payload."""

    def close(self, code: int, reason: str) -> bytes:
        """A close frame; without a code if it is 1005. The reason is cut to what fits."""


def may_be_sent(code: int) -> bool:
    """Whether an endpoint may put this code into a close frame (RFC 6455 §7.4; 1012 to 1014 by IANA)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))
