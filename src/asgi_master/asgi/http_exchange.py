"""One HTTP request and its response as the application sees them: the `http` part of ASGI as a table.

    AWAITING ── http.response.start ── HELD ── http.response.body ──┬── (more) ── STREAMING ── body (more) ──┐
                                                                    │                │  └────────────────────┘
                                                                    └── (last) ── COMPLETE ── (last) ────────

With the extensions, a file takes the place of a piece of the body: the response is in SENDING_FILE meanwhile, and then
where that piece would have led. If the start announces trailers, IN_TRAILERS comes before COMPLETE. An early hint
changes nothing.

The head of the response is held until its first body message, so that a small response is one write. Independent of the
version of HTTP.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from asgi_master.asgi.errors import ClientDisconnectedError
from asgi_master.asgi.http_extensions import (
    EARLY_HINT,
    PATHSEND,
    TRAILERS,
    ZEROCOPYSEND,
    EarlyHint,
    FileBody,
    Trailers,
    early_hint,
    path_send,
    zero_copy_send,
)
from asgi_master.asgi.types import Message
from asgi_master.http.additional_fields import trailers
from asgi_master.http.message import BODYLESS, Fields, ResponseHead


class State(StrEnum):
    """Where the response stands."""

    AWAITING = "awaiting"
    HELD = "held"
    STREAMING = "streaming"
    SENDING_FILE = "sending_file"
    IN_TRAILERS = "in_trailers"
    COMPLETE = "complete"


_AWAITING, _HELD, _STREAMING, _SENDING_FILE, _IN_TRAILERS, _COMPLETE = State

_SMALL_PIECE = 512
"""Bytes below which pieces of a request's body are put together: an object for each may cost more than it holds."""

_EXPECTED = {
    State.AWAITING: "the response begins with http.response.start",
    State.HELD: "after http.response.start comes http.response.body",
    State.STREAMING: "the response goes on with http.response.body",
    State.SENDING_FILE: "a file is being sent",
    State.IN_TRAILERS: "after the body come http.response.trailers",
    State.COMPLETE: "the response is complete",
}


ResponseChunk = tuple[ResponseHead | None, bytes, bool, int | None]
"""What is to be sent now: the head (in the first part of a response), a piece of the body, whether it is the last part,
and the length of the whole body if it is known. A bare tuple, since every response makes one."""


class HttpExchange:
    """The state of one request's messages, in both directions."""

    __slots__ = (
        "_head",
        "_inbox",
        "_is_head",
        "_more_body",
        "_remaining",
        "_stopped",
        "_told_disconnect",
        "_told_end",
        "_trailers",
        "body_bytes",
        "body_ended",
        "bodyless",
        "disconnected",
        "head",
        "inbox_size",
        "is_stream",
        "state",
    )

    def __init__(self, method: str, has_body: bool) -> None:
        self.state = _AWAITING
        self.disconnected = False
        """Whether the peer is gone, so that nothing can be sent."""
        self.bodyless = self._is_head = method == "HEAD"
        """Whether the response has no body by its nature; known for certain from its first part on."""
        self.body_ended = not has_body
        """Whether the peer sent all of the request."""
        self.inbox_size = 0
        """Bytes of body that the application has not taken."""
        self.head: ResponseHead | None = None
        """The head of the response, once it was sent."""
        self.body_bytes = 0
        """Bytes of the response's body that were sent."""
        self.is_stream = False
        """Whether the response comes in pieces, so that its duration is the application's or the client's choice."""
        self._inbox: (
            list[bytes | bytearray] | tuple[()]
        ) = ()  # a list from the first piece on: most requests have none
        self._told_end = False
        self._stopped = False
        self._told_disconnect = False
        self._head: ResponseHead | None = None
        self._remaining: int | None = None
        self._trailers: Fields | None = None

    @property
    def accepts_trailers(self) -> bool:
        """Whether trailer fields reach the peer. Where they do not, they are dropped (RFC 9110 §6.5.1)."""
        return True

    @property
    def status(self) -> int:
        """The status of the response, once its head was sent; 0 before."""
        return 0 if self.head is None else self.head.status

    @property
    def is_complete(self) -> bool:
        """Whether the response is complete."""
        return self.state is _COMPLETE

    @property
    def peer_is_gone(self) -> bool:
        """Whether the application knows that the client does not wait for the response.

        A peer that only stopped sending may wait: what an application does that never asked has another reason.
        """
        return self.disconnected or self._told_disconnect

    @property
    def peer_has_ended(self) -> bool:
        """Whether the peer sends no more. It may have left, or wait for its response."""
        return self._stopped

    # -- what the peer does ------------------------------------------------------------------------

    def body_received(self, data: bytes) -> None:
        """A piece of the request's body arrived."""
        if self.state is not _COMPLETE:
            inbox = self._inbox
            if not inbox:
                self._inbox = [data]
            elif len(data) >= _SMALL_PIECE:
                inbox.append(data)
            elif type(last := inbox[-1]) is bytearray:
                last += data
            else:
                inbox.append(bytearray(data))
            self.inbox_size += len(data)

    def complete_body_received(self, data: bytes) -> None:
        """The body came along with the head."""
        self._inbox = [data]
        self.inbox_size = len(data)
        self.body_ended = True

    def end_received(self) -> None:
        """The request is complete."""
        self.body_ended = True

    def peer_half_closed(self) -> None:
        """The peer has ended its side. `receive` returns a disconnect, but a response goes on: it may still read."""
        self._stopped = True

    def peer_disconnected(self) -> None:
        """The connection is gone."""
        self.disconnected = self._stopped = True

    # -- what the application does -----------------------------------------------------------------

    def next_message(self) -> Message | None:
        """What `receive` returns; `None` means that it has to wait."""
        if self.state is _COMPLETE:
            return self._disconnect()
        inbox = self._inbox
        ended = self.body_ended
        if inbox or (ended and not self._told_end):
            self._inbox = ()
            self.inbox_size = 0
            self._told_end = ended
            body = inbox[0] if len(inbox) == 1 else b"".join(inbox)
            return {"type": "http.request", "body": body, "more_body": not ended}
        if self._stopped:
            return self._disconnect()
        return None

    def _disconnect(self) -> Message:
        self._told_disconnect = True
        return {"type": "http.disconnect"}

    def interpret(self, message: Message) -> ResponseChunk | EarlyHint | Trailers | FileBody | None:
        """What a message that the application sends puts on the wire; `None` is nothing yet.

        A `FileBody` has changed nothing: open it, then call `begin_file`.

        Raises `ClientDisconnectedError` if the peer is gone, `RuntimeError` for a message that may not come now,
        `KeyError`, `TypeError` and `ValueError` for one that is not well-formed. After
        `http.disconnect`, a message that may not come raises the former too: some applications answer once more. A
        5xx to a peer that is gone is dropped.
        """
        kind = message["type"]
        state = self.state
        if self.disconnected:
            if self._is_answer_of_failure(message):
                return None  # dropped
            raise ClientDisconnectedError("the client disconnected")
        if kind == "http.response.body":
            if state is _HELD or state is _STREAMING:
                return self._interpret_body(message)
        elif kind == "http.response.start" and state is _AWAITING:
            head = self._head = ResponseHead.of(message["status"], message.get("headers", ()))
            if self.bodyless or head.status in BODYLESS:
                self.bodyless = True  # HEAD and 304 carry the length of a body that does not come
            else:
                self._remaining = head.content_length
            if "trailers" in message:
                self._announce_trailers(head, bool(message["trailers"]))
            self.state = _HELD
            return None
        elif kind == TRAILERS and state is _IN_TRAILERS:
            return self._interpret_trailers(message)
        elif (read := _EXTENSIONS.get((state, kind))) is not None:
            return read(message)
        if self._told_disconnect:
            raise ClientDisconnectedError("the client disconnected, or has its response")
        raise RuntimeError(f"ASGI message {kind!r} cannot be sent: {_EXPECTED[state]}")

    def _is_answer_of_failure(self, message: Message) -> bool:
        """Whether this is the start or the whole body of a 5xx.

        Frameworks answer so when the application has raised something, and raise that again afterwards. If the answer
        raised a disconnect, that would be all that the log hears of.
        """
        kind = message["type"]
        if kind == "http.response.start" and self.state is _AWAITING:
            head = ResponseHead.of(message["status"], message.get("headers", ()))
            if head.status < 500:
                return False
            self._head = head
            self.state = _HELD
            return True
        held, self._head = self._head, None
        is_all = kind == "http.response.body" and not message.get("more_body")
        return is_all and held is not None and held.status >= 500

    def server_response(self, head: ResponseHead, body: bytes) -> ResponseChunk:
        """The server's own answer, in the place of what the application said, none of which was sent."""
        self._head = None
        self.head = head
        self.bodyless = self._is_head
        self._complete()
        sent = b"" if self.bodyless else body
        self.body_bytes = len(sent)
        return head, sent, True, len(body)

    def head_taken_back(self) -> None:
        """The head has not left, nor has anything behind it: the response may begin anew."""
        self.head = self._trailers = None
        self.is_stream = False

    def _complete(self) -> None:
        self.state = _COMPLETE
        self._inbox = ()
        self.inbox_size = 0

    def _interpret_body(self, message: Message) -> ResponseChunk:
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = _as_bytes(body)
        length = len(body)
        is_last = not message.get("more_body")
        remaining = self._remaining
        if remaining is not None and not (is_last and length == remaining):
            self._remaining = _rest(remaining, length, is_last)
        head = self._head
        if head is not None:
            self._head = None
            self.head = head
        if self.bodyless:
            body = b""
            if head is not None and head.status in BODYLESS:
                length = 0
        else:
            self.body_bytes += length
        if not is_last:
            self.state = _STREAMING
            if head is not None and head.content_length is None:
                self.is_stream = True
            return head, body, False, None
        if self._trailers is not None:
            self.state = _IN_TRAILERS
            return head, body, False, None
        if self._inbox:
            self._complete()
        self.state = _COMPLETE
        return head, body, True, length

    # -- extensions --------------------------------------------------------------------------------

    def begin_file(self, body: FileBody, available: int) -> tuple[ResponseChunk | None, int]:
        """What is to be sent before a file that has `available` bytes to give, and how many of these then follow.

        Until `end_file`, no message may be sent. Raises `ValueError` or `RuntimeError`, and nothing has changed, if
        these bytes are not what `body` or the response's Content-Length says.
        """
        length = self._length_of(body, available)
        head = self._head
        self._head = None
        self._more_body = body.more_body
        self.state = _SENDING_FILE
        first: ResponseChunk | None = None
        if head is not None:
            self.head = head
            is_all = not body.more_body and self._trailers is None
            self.is_stream = not is_all and head.content_length is None
            first = head, b"", False, length if is_all and head.status not in BODYLESS else None
        return first, 0 if self.bodyless else length

    def _length_of(self, body: FileBody, available: int) -> int:
        length, remaining = body.count, self._remaining
        if length is None:
            length = available if remaining is None else min(available, remaining)
        elif length > available:
            raise ValueError(f"the file has {available} bytes there, not {length}")
        if remaining is not None:
            self._remaining = _rest(remaining, length, not body.more_body)
        return length

    def end_file(self, data: bytes = b"") -> ResponseChunk:
        """The last piece of the file, or its end if all of it was sent."""
        self.body_bytes += len(data)
        if self._more_body:
            self.state = _STREAMING
        elif self._trailers is not None:
            self.state = _IN_TRAILERS
        else:
            self._complete()
        return None, data, self.state is _COMPLETE, None

    def _announce_trailers(self, head: ResponseHead, announced: bool) -> None:
        if not announced:
            return
        self._trailers = ()
        if self.accepts_trailers and not self.bodyless:
            # HTTP/1.1 has trailers only behind a body whose length was not announced (RFC 9112 §7.1.2).
            self._head = head.without_length()

    def _interpret_trailers(self, message: Message) -> ResponseChunk | Trailers | None:
        assert self._trailers is not None
        fields = self._trailers + trailers(message.get("headers", ()))
        if message.get("more_trailers"):
            self._trailers = fields
            return None
        self._complete()
        if fields and self.accepts_trailers and not self.bodyless:
            return Trailers(fields)
        return None, b"", True, None


def _late_hint(message: Message) -> None:
    """The head has left: what would come before it comes no more."""
    early_hint(message)


_EXTENSIONS: Final[dict[tuple[State, str], Callable[[Message], EarlyHint | FileBody | None]]] = {
    (State.AWAITING, EARLY_HINT): early_hint,
    (State.HELD, EARLY_HINT): early_hint,
    (State.STREAMING, EARLY_HINT): _late_hint,
    (State.HELD, PATHSEND): path_send,
    (State.HELD, ZEROCOPYSEND): zero_copy_send,
    (State.STREAMING, ZEROCOPYSEND): zero_copy_send,
}
"""What they may send beside the messages of the core specification, and who reads it."""


def _rest(remaining: int, length: int, is_last: bool) -> int:
    """What the content-length leaves after a part of this length. Holds the application to it."""
    rest = remaining - length
    if rest < 0:
        raise RuntimeError("the response body is longer than its content-length")
    if is_last and rest:
        raise RuntimeError("the response body is shorter than its content-length")
    return rest


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"body of http.response.body is of type {type(body).__name__}")
