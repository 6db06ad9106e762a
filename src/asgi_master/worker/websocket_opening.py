"""The opening of one WebSocket: its request, the scope made of it, and the one answer it gets."""

import asyncio
from http import HTTPStatus
from time import monotonic

from asgi_master.asgi.http_exchange import Part
from asgi_master.asgi.scope import HttpScopes
from asgi_master.asgi.websocket_session import Accept
from asgi_master.http.request import Request
from asgi_master.http.response import ResponseEncoder, ResponseHead
from asgi_master.http.websocket import Engine
from asgi_master.http.websocket_deflate import Compression
from asgi_master.http.websocket_handshake import Handshake, accept_head, read_handshake, upgrade_required
from asgi_master.worker.context import Scope, WorkerContext


class Opening:
    """From the upgrade request to the answer. Writes the answer, counts it and tells the access log."""

    __slots__ = (
        "_body_bytes",
        "_context",
        "_handshake",
        "_response_fields",
        "_scopes",
        "_started_at",
        "_status",
        "_transport",
        "scope",
    )

    def __init__(self, context: WorkerContext, transport: asyncio.Transport, scopes: HttpScopes) -> None:
        self._context = context
        self._transport = transport
        self._scopes = scopes
        self._started_at = monotonic()
        self._handshake: Handshake | None = None
        self._status = 0
        self._body_bytes = 0
        self._response_fields = b""
        self.scope: Scope = {}

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
        self._handshake = read_handshake(request, per_message_deflate=context.websocket.per_message_deflate)
        self.scope["subprotocols"] = list(self._handshake.subprotocols)

    def accept(self, order: Accept) -> Engine:
        """Open the connection. Raises `ValueError` for what cannot be answered; then nothing was."""
        assert self._handshake is not None
        head = accept_head(
            self._handshake,
            subprotocol=order.subprotocol,
            headers=order.headers,
            defaults=self._context.server_fields.lines(),
        )
        self._begin(HTTPStatus.SWITCHING_PROTOCOLS)
        self._transport.write(head)
        self._response_fields = head
        self._record()
        context = self._context
        deflate = self._handshake.deflate
        return context.engines.websocket(
            message_size=context.websocket.message_size,
            compression=None if deflate is None else Compression(deflate),
        )

    def refuse(self, status: int, reason: str) -> None:
        """Answer with an error. The caller ends the connection."""
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if status == HTTPStatus.UPGRADE_REQUIRED:
            headers += upgrade_required()
        body = reason.encode()
        self.deny((ResponseHead(status, headers), body, True, len(body)))

    def deny(self, part: Part) -> None:
        """Write a part of a response instead. The caller ends the connection after the last."""
        head, body, is_last, length = part
        data = body
        if head is not None:
            data = self._encode_head(head, length) + body
            self._begin(head.status)
            self._response_fields = head.block
        self._transport.write(data)
        self._body_bytes += len(body)
        if is_last:
            self._record()

    def _encode_head(self, head: ResponseHead, length: int | None) -> bytes:
        return ResponseEncoder(self._context.server_fields).head(
            head,
            length=length,
            bodyless=head.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED),
            # The connection ends with the response, so that a body of unknown length needs no chunks.
            is_1_1=False,
            keep_alive=False,
        )

    def _begin(self, status: int) -> None:
        self._status = status
        stats = self._context.stats
        stats.requests += 1
        stats.responses[min(status // 100, 5)] += 1

    def lost(self) -> None:
        """The connection is gone: count the session, if there was one."""
        if self._status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._context.stats.websocket_ended(monotonic() - self._started_at)

    def _record(self) -> None:
        context = self._context
        if context.access_log is not None:
            duration = monotonic() - self._started_at
            context.access_log.of_connection().record(
                self.scope, self.scope, self._status, self._body_bytes, duration, self._response_fields
            )
