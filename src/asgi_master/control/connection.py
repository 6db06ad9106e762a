"""One HTTP/1.1 connection over h11: bytes to a request, a response to bytes. Nothing here blocks."""

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import field
from http import HTTPStatus

import h11

from asgi_master.control.api import Refusal
from asgi_master.records import record

_CHUNK = 16384
_HEAD_BYTES = 16384


@record
class Request:
    """A complete request."""

    method: str
    target: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case; of several of one name, the last."""


@record
class Response:
    """A complete response, or the head and the begin of one that goes on as a stream."""

    status: int
    body: bytes
    content_type: str
    headers: list[tuple[str, str]] = field(default_factory=list)


class Chunk:
    """A part of a stream, which is framed once for all connections."""

    __slots__ = ("framed", "plain")

    def __init__(self, data: bytes) -> None:
        """`data` is not empty."""
        self.plain = data
        self.framed = b"%x\r\n%b\r\n" % (len(data), data)
        """As a chunk of HTTP/1.1 (RFC 9112 §7.1)."""


class Connection:
    """Reads one request and writes one response."""

    def __init__(self, sock: socket.socket, peer: str, limit: int) -> None:
        self.sock = sock
        self.peer = peer
        """Description of the peer, for the log."""
        self.deadline: float | None = None
        """Time at which the client has taken too long; `None` while the response is awaited."""
        self.is_done = False
        """Whether the connection can be closed."""
        self.is_answered = False
        self.is_stream = False
        """Whether the response goes on until one side closes the connection."""
        self._is_chunked = False
        self._limit = limit
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._received = 0
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._outgoing = bytearray()

    def turn(self) -> Request | None:
        """Read or write what is possible now; returns the request once it is complete. Raises `Refusal`."""
        if self.is_answered:
            self.flush()
            if self.is_stream:
                self._discard()
            return None
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            self.is_done = True
            return None
        self._received += len(data)
        if self._received > self._limit:
            raise Refusal(413, f"a request has {self._limit} bytes at most")
        if self._http.their_state is h11.DONE:
            # The client waits for the response; end of file means that it no longer does.
            self.is_done = not data
            return None
        try:
            self._http.receive_data(data)
            return self._next_request()
        except h11.RemoteProtocolError as error:
            if not data:
                self.is_done = True
                return None
            raise Refusal(error.error_status_hint, str(error)) from None

    def _next_request(self) -> Request | None:
        while True:
            match self._http.next_event():
                case h11.Request() as head:
                    self._head = head
                case h11.Data(data=data):
                    self._body += data
                case h11.EndOfMessage():
                    assert self._head is not None
                    method, target = (
                        part.decode("ascii", "replace") for part in (self._head.method, self._head.target)
                    )
                    headers = {
                        name.decode("ascii", "replace"): value.decode("latin-1")
                        for name, value in self._head.headers
                    }
                    return Request(method, target, bytes(self._body), headers)
                case h11.ConnectionClosed():
                    self.is_done = True
                    return None
                case _:
                    if self._http.they_are_waiting_for_100_continue:
                        self._send(h11.InformationalResponse(status_code=100, headers=[]))
                        self.flush()
                    return None

    def answer(self, response: Response) -> None:
        """Queue the response; it is sent as the client reads."""
        head = self._head
        self.is_answered = True
        self._send(_head_of(response))
        if head is None or head.method != b"HEAD":
            self._send(h11.Data(data=response.body))
        self._send(h11.EndOfMessage())

    def begin_stream(self, response: Response) -> None:
        """Queue the head of a response that `push` continues; its body is the first part of the stream."""
        self.is_answered = True
        self._send(_head_of(response, is_stream=True))
        head = self._head
        self.is_stream = head is not None and head.method != b"HEAD"
        # A client of HTTP/1.0 gets the stream unframed, to the end of the connection.
        self._is_chunked = (self._http.their_http_version or b"") >= b"1.1"
        if self.is_stream:
            self.push(Chunk(response.body))

    def push(self, chunk: Chunk) -> None:
        """Queue a part of the stream."""
        self._outgoing += chunk.framed if self._is_chunked else chunk.plain

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that the client has not taken yet."""
        return len(self._outgoing)

    def _discard(self) -> None:
        """Note that the client of a stream left. It has nothing more to send: whatever comes ends the connection."""
        try:
            self.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.is_done = True

    def flush(self) -> None:
        """Write as much as possible now."""
        try:
            while self._outgoing:
                del self._outgoing[: self.sock.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:
            self.is_done = True
            return
        self.is_done = self.is_done or (self.is_answered and not self.is_stream)

    def _send(self, event: h11.Event) -> None:
        self._outgoing += self._http.send(event) or b""


def encode(response: Response) -> bytes:
    """A complete response for a client whose request is not read."""
    http = h11.Connection(h11.SERVER)
    events = (_head_of(response), h11.Data(data=response.body))
    return b"".join(filter(None, (http.send(event) for event in events)))


def _head_of(response: Response, *, is_stream: bool = False) -> h11.Response:
    headers = [
        ("content-type", response.content_type),
        *([] if is_stream else [("content-length", str(len(response.body)))]),
        ("cache-control", "no-store"),
        ("connection", "close"),
        *response.headers,
    ]
    return h11.Response(status_code=response.status, reason=_phrase(response.status), headers=headers)


def _phrase(status: int) -> bytes:
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase.encode()
    return b""
