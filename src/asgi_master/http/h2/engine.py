"""The interface of an HTTP/2 engine: bytes on one side, requests and their streams on the other.

Rules of this room:
  - An engine reads frames, keeps streams and windows, and writes frames. It knows no transport, no loop and no clock:
    time is an argument.
  - `advance` handles one frame, so that who calls it decides how much of a turn one peer gets.
  - What is written waits in the engine until `data_to_send` takes it; a body waits for the peer's windows, and leaves
    in the order of its streams' priorities.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.message import Fields, Request, ResponseHead

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 §3.4)."""

HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = 16 * 1024
"""Unsent bytes of one stream above which who writes should pause, and down to which it may go on."""


@dataclass(slots=True)
class H2Request(Request):
    """A request of HTTP/2, with what its head says beside (RFC 9113 §8.3, RFC 8441 §4, RFC 9218 §4).

    `body_length` is what Content-Length says, `None` without it; that of one that ends with its head is 0.
    """

    scheme: bytes = b"http"
    protocol: bytes | None = None
    """`:protocol` of an extended CONNECT (RFC 8441 §4)."""
    urgency: int = 3
    is_incremental: bool = False
    accepts_trailers: bool = field(default=True, init=False)
    accepts_hints: bool = field(default=True, init=False)


class EngineStream(ABC):
    """One stream: the engine's state of it, and what the engine calls.

    The worker's stream inherits from it: a second object would cost each request its making (ADR 10). Calls come from
    within `advance`, and that of `resumed` from within `data_to_send` too. From within each of them the engine may be
    called: an application that begins at once has sent its response before `request_received` returns.
    """

    __slots__ = (
        "body_left",
        "due",
        "engine_state",
        "has_length",
        "is_finished",
        "receive_window",
        "request",
        "send_window",
        "stream_id",
        "unconsumed",
        "unsent",
        "waiting",
    )

    stream_id: int
    unsent: int
    """Bytes of the response's body that wait. Like all attributes here, it is the engine's to set."""
    engine_state: Any
    """The engine's own, as are those below. They are here since an object for them would cost each request its making;
    an engine need not use them."""
    request: H2Request
    is_finished: bool
    """Whether the application has returned."""
    send_window: int
    """Bytes of the response that the peer takes (RFC 9113 §5.2); negative after it has shrunk its windows."""
    waiting: Any
    """What of the response waits, `None` if nothing does."""
    unconsumed: int
    """Bytes of the body that were given to `data_received` and not `consumed`."""
    receive_window: int
    """Bytes of the body that the peer may send. Set, like the following, if the request does not end with its head."""
    due: int
    """Bytes of the body that were consumed, and that the peer was not told of."""
    body_left: int
    """Bytes of the body that may still come; negative once more came."""
    has_length: bool
    """Whether just so many must come (RFC 9113 §8.1.1)."""

    @abstractmethod
    def request_received(self, request: H2Request, ends: bool) -> None:
        """The head of the request; `ends` is whether it has no body and no trailers."""

    @abstractmethod
    def data_received(self, data: bytes, ends: bool) -> None:
        """A piece of the body, perhaps empty; `ends` is whether it is the last. Trailers are the end without a piece.

        Who took it says so by `Engine.consumed`.
        """

    @abstractmethod
    def refused(self, error: ProtocolError) -> None:
        """The request is well-formed, but is not served: a limit, or a method that is not implemented.

        It is answered with `error.status`. Comes in place of `request_received`, or after it in place of further data.
        """

    @abstractmethod
    def closed(self, code: ErrorCode) -> None:
        """The stream was reset by the peer, or by the engine since the peer broke a rule. No call follows.

        Not called for a stream that the worker resets or completes itself.
        """

    @abstractmethod
    def resumed(self) -> None:
        """`unsent` was above `HIGH_WATER` and is down to `LOW_WATER`."""


class Owner(Protocol):
    """Who has an engine: the worker's connection."""

    def new_stream(self) -> EngineStream:
        """Make a stream, which the peer opens."""

    def output_ready(self) -> None:
        """There is something for `data_to_send` to take, after there was nothing."""

    def output_due(self) -> None:
        """There is so much to take that it should not wait for more."""

    def probe_answered(self) -> None:
        """The peer answered `Engine.probe`: it has read all that was sent before."""


class Engine(ABC):
    """One connection of HTTP/2, the server's side."""

    __slots__ = ()

    peer_gives_up: bool
    """Whether the peer takes GOAWAY for the end of all its streams, as far as its settings tell."""
    peer_goaway: int | None
    """The code of the GOAWAY that the peer sent last, if it sent one (RFC 9113 §6.8)."""

    @property
    @abstractmethod
    def resets(self) -> int:
        """Streams that ended before their time, by the peer or since it broke a rule, refused ones included."""

    @abstractmethod
    def start(self) -> None:
        """Send the server's preface, SETTINGS (RFC 9113 §3.4). Called once, first."""

    # -- the peer's bytes --------------------------------------------------------------------------

    @abstractmethod
    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes arrived, at `now` in seconds on a monotonic clock; `advance` handles them. Begins with the preface."""

    @abstractmethod
    def advance(self) -> bool:
        """Handle the next frame; false if no complete one is there.

        Raises `ConnectionError` (of this room) for what ends the connection: GOAWAY is among the output then.
        """

    @property
    @abstractmethod
    def is_mid_frame(self) -> bool:
        """Whether the peer has begun something that it must complete in time: the preface, a frame, a header block."""

    # -- streams -----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def streams(self) -> Collection[EngineStream]:
        """Those that hold one of the slots which SETTINGS_MAX_CONCURRENT_STREAMS allows. A view: copy it to change it.

        One holds its slot until it is closed on both sides, with all of its response sent, *and* `finished` was called:
        a peer that resets its requests may not run more applications than one that waits for them.
        """

    @abstractmethod
    def renew_stream_limit(self) -> None:
        """Allow the peer as many streams again as the connection may have, if fewer were announced in SETTINGS.

        They are when a stream is refused since the worker runs too many; to be called now and then.
        """

    @abstractmethod
    def finished(self, stream: EngineStream) -> None:
        """The application of the stream has returned. Called once for each stream that was made."""

    @abstractmethod
    def consumed(self, stream: EngineStream, size: int) -> None:
        """So many bytes of the body were taken, or dropped: the peer may send as many again (RFC 9113 §5.2)."""

    # -- responses ---------------------------------------------------------------------------------

    @abstractmethod
    def send_head(
        self, stream: EngineStream, head: ResponseHead, body: bytes, ends: bool, length: int | None
    ) -> None:
        """Send the head of the response, and the first piece of its body; `ends` is whether that is all.

        `length` is that of the whole body, if it is known and the head does not say it.
        """

    @abstractmethod
    def send_data(self, stream: EngineStream, data: bytes, ends: bool) -> None:
        """Send a further piece of the body."""

    @abstractmethod
    def send_trailers(self, stream: EngineStream, fields: Fields) -> None:
        """End the response with trailer fields (RFC 9110 §6.5)."""

    @abstractmethod
    def send_interim(self, stream: EngineStream, status: int, fields: Fields) -> None:
        """Send an interim response: 100 or 103 (RFC 9110 §15.2)."""

    @abstractmethod
    def take_back_head(self, stream: EngineStream) -> bool:
        """Drop the head of a response that was written last and without a body; false if it has left."""

    @abstractmethod
    def reset(self, stream: EngineStream, code: ErrorCode) -> None:
        """Send RST_STREAM, unless the stream is closed. What of it was not taken by `data_to_send` is dropped.

        With `NO_ERROR`, behind a complete response, it is sent after all of that and drops nothing (RFC 9113 §8.1).
        """

    @abstractmethod
    def has_stalled(self, stream: EngineStream) -> bool:
        """Whether the stream has something to send and the peer's windows let none of it through."""

    @property
    @abstractmethod
    def backlog(self) -> int:
        """Bytes that no window holds back: `data_to_send` returns them next. Heads are among them, and answers to PING.

        An engine bounds neither their number nor how many are framed for a peer that does not read; who feeds it does.
        """

    @abstractmethod
    def data_to_send(self, limit: int) -> bytes:
        """What is to be sent next, in whole frames: about `limit` bytes at most. Empty if nothing may leave now."""

    # -- the end -----------------------------------------------------------------------------------

    @abstractmethod
    def probe(self) -> None:
        """Send PING (RFC 9113 §6.7); its answer is a call of `Owner.probe_answered`."""

    @abstractmethod
    def shut_down(self) -> None:
        """Begin a graceful end: GOAWAY with the last possible stream, and PING (RFC 9113 §6.8).

        Once that PING is answered, or `finish_shutdown` is called, GOAWAY names the last stream; later ones are not
        served, and a client may send them again elsewhere.
        """

    @abstractmethod
    def finish_shutdown(self, last: int | None = None) -> None:
        """Send the second GOAWAY now, if it was not sent; it names the stream that the peer opened last.

        Or `last`: then streams above it are closed, without a frame. Nothing of them may have been sent.
        """

    @property
    @abstractmethod
    def is_shut_down(self) -> bool:
        """Whether the second GOAWAY was sent or is in the output: when no stream is open, the connection may close."""

    @abstractmethod
    def connection_lost(self) -> None:
        """The transport is closed: `closed` is called of each stream that is open. Further calls only free."""

    @abstractmethod
    def go_away(self, code: ErrorCode, reason: str = "") -> None:
        """Send GOAWAY for an end that is not graceful, behind what is framed already.

        What arrives is not handled any more, and the streams are closed; none of them is called for that.
        """
