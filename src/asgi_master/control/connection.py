"""One control connection: bytes to a request, an answer to bytes, with h11 in between. Nothing here blocks."""

import contextlib
import json
import socket
from dataclasses import dataclass
from http import HTTPStatus

import h11

from asgi_master.control.api import Refusal

_CHUNK = 16384
_HEAD_BYTES = 16384


@dataclass(frozen=True, slots=True)
class Peer:
    """Who connected, as the kernel says."""

    pid: int
    uid: int

    def __str__(self) -> str:
        return f"pid {self.pid} of uid {self.uid}"


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request."""

    method: str
    target: str
    body: bytes


class Connection:
    """Reads one request, writes one answer, and is then done."""

    def __init__(self, sock: socket.socket, peer: Peer, limit: int) -> None:
        self.sock = sock
        self.peer = peer
        self.deadline: float | None = None
        """When the client has taken too long; `None` while it waits for us."""
        self.is_done = False
        """Whether there is nothing left to do but to close."""
        self.is_answered = False
        self._limit = limit
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._received = 0
        self._head: h11.Request | None = None
        self._body = b""
        self._outgoing = b""

    def turn(self) -> Request | None:
        """Read or write what is possible now; returns the request once it is whole. Raises `Refusal`."""
        if self.is_answered:
            self.flush()
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
            raise Refusal(413, f"a control request has {self._limit} bytes at most")
        if self._http.their_state is h11.DONE:
            # It waits for its answer; the end of its side means that it does not any more.
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
                    self._body += bytes(data)
                case h11.EndOfMessage():
                    assert self._head is not None
                    method, target = (
                        part.decode("ascii", "replace") for part in (self._head.method, self._head.target)
                    )
                    return Request(method, target, self._body)
                case h11.ConnectionClosed():
                    self.is_done = True
                    return None
                case _:
                    if self._http.they_are_waiting_for_100_continue:
                        self._send(h11.InformationalResponse(status_code=100, headers=[]))
                        self.flush()
                    return None

    def answer(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        """The answer; it leaves as far as the client reads."""
        head = self._head
        self.is_answered = True
        self._send(h11.Response(status_code=status, reason=_phrase(status), headers=_headers(body, headers)))
        if head is None or head.method != b"HEAD":
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())

    def flush(self) -> None:
        """Write what can be written now."""
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[self.sock.send(self._outgoing) :]
        except BlockingIOError:
            return
        except OSError:
            self.is_done = True
            return
        self.is_done = self.is_done or self.is_answered

    def _send(self, event: h11.Event) -> None:
        self._outgoing += self._http.send(event) or b""


def encode_refusal(status: int, message: str) -> bytes:
    """A whole answer to whoever is not even read."""
    body = json.dumps({"error": message}).encode() + b"\n"
    http = h11.Connection(h11.SERVER)
    head = h11.Response(status_code=status, reason=_phrase(status), headers=_headers(body, []))
    return b"".join(filter(None, (http.send(event) for event in (head, h11.Data(data=body)))))


def _headers(body: bytes, more: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
        *more,
    ]


def _phrase(status: int) -> bytes:
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase.encode()
    return b""
