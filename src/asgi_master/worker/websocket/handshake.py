"""The opening handshake of one WebSocket: its request, the scope made of it, and the one answer it gets."""

from http import HTTPStatus
from time import monotonic
from typing import Protocol

from asgi_master.asgi.http_exchange import ResponseChunk
from asgi_master.asgi.scope import HttpScopes
from asgi_master.asgi.types import Scope
from asgi_master.asgi.websocket_session import Accept
from asgi_master.http.message import PLAIN_TEXT, Fields, Request, ResponseHead
from asgi_master.http.websocket.deflate import Compression
from asgi_master.http.websocket.frames import Engine
from asgi_master.http.websocket.handshake import Handshake, accept_fields, read_handshake, upgrade_required
from asgi_master.worker.transport.context import WorkerContext


class HandshakeStream(Protocol):
    """Where the answer goes: an upgrade from HTTP/1.1, or a stream of HTTP/2."""

    accepted_status: int
    """Of the answer that opens the WebSocket."""

    def check(self) -> None:
        """Check what this version of HTTP asks of a handshake. Raises `ProtocolError`."""

    def accept(self, fields: Fields) -> None:
        """Write the answer that opens the WebSocket."""

    def send_chunk(self, part: ResponseChunk) -> None:
        """Write a part of another answer, after which the stream ends."""

    def ended(self) -> None:
        """The application has returned, and the transport is closed."""


class OpeningHandshake:
    """From the request to the answer: has it written, counts it and records it in the access log."""

    __slots__ = (
        "_body_bytes",
        "_context",
        "_handshake",
        "_is_accepted",
        "_response_fields",
        "_scopes",
        "_started_at",
        "_status",
        "_stream",
        "scope",
    )

    def __init__(self, context: WorkerContext, stream: HandshakeStream, scopes: HttpScopes) -> None:
        self._context = context
        self._stream = stream
        self._scopes = scopes
        self._started_at = monotonic()
        self._handshake: Handshake | None = None
        self._status = 0
        self._is_accepted = False
        self._body_bytes = 0
        self._response_fields: Fields = ()
        self.scope: Scope = {}
        context.stats.requests += 1

    @property
    def answered(self) -> bool:
        """Whether the peer got at least the beginning of an answer."""
        return self._status != 0

    @property
    def answered_well(self) -> bool:
        """Whether that was no 5xx."""
        return 0 < self._status < 500

    def read(self, request: Request) -> None:
        """Make the scope and check the request. Raises `ProtocolError`."""
        context = self._context
        self.scope = self._scopes.websocket_scope(request, context.state.copy())
        self._stream.check()
        self._handshake = read_handshake(request, per_message_deflate=context.websocket.per_message_deflate)
        self.scope["subprotocols"] = list(self._handshake.subprotocols)

    def accept(self, order: Accept) -> Engine:
        """Open the connection. Raises `ValueError` for what cannot be answered; then nothing was."""
        assert self._handshake is not None
        fields = accept_fields(self._handshake, subprotocol=order.subprotocol, headers=order.headers)
        self._begin(self._stream.accepted_status)
        self._is_accepted = True
        self._stream.accept(fields)
        self._response_fields = fields
        self._record()
        context = self._context
        deflate = self._handshake.deflate
        return context.engines.websocket(
            message_size=context.websocket.message_size,
            compression=None if deflate is None else Compression(deflate),
        )

    def refuse(self, status: int, reason: str) -> None:
        """Answer with an error. The caller ends the connection."""
        headers = [PLAIN_TEXT]
        if status == HTTPStatus.UPGRADE_REQUIRED:
            headers += upgrade_required()
        body = reason.encode()
        self.deny((ResponseHead(status, headers), body, True, len(body)))

    def deny(self, part: ResponseChunk) -> None:
        """Write a part of a response instead. The caller ends the connection after the last."""
        head, body, is_last, _length = part
        if head is not None:
            self._begin(head.status)
            self._response_fields = head.fields
        self._stream.send_chunk(part)
        self._body_bytes += len(body)
        if is_last:
            self._record()

    def _begin(self, status: int) -> None:
        self._status = status
        self._context.stats.responses[min(status // 100, 5)] += 1

    def ended(self) -> None:
        """The application has returned, and the transport is closed."""
        self._stream.ended()

    def lost(self) -> None:
        """The connection is gone: count the session, if there was one."""
        if self._is_accepted:
            self._context.stats.websocket_ended(monotonic() - self._started_at)

    def _record(self) -> None:
        context = self._context
        if context.access_log is not None:
            duration = monotonic() - self._started_at
            context.access_log.of_connection().record(
                self.scope, self.scope, self._status, self._body_bytes, duration, self._response_fields
            )
