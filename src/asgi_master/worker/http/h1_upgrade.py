"""The answer to a WebSocket's handshake by upgrade from HTTP/1.1."""

from http import HTTPStatus

from asgi_master.asgi.http_exchange import ResponseChunk
from asgi_master.http.h1.encoder import HeadEncoder, ResponseEncoder
from asgi_master.http.h1.request_head import H1Request
from asgi_master.http.h1.upgrade import read_key, switching_protocols
from asgi_master.http.message import BODYLESS, Fields
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.stream_transport import StreamTransport


class H1Upgrade:
    """A `HandshakeStream` on the transport of the request."""

    __slots__ = ("_context", "_key", "_request", "_transport")

    accepted_status: int = HTTPStatus.SWITCHING_PROTOCOLS

    def __init__(self, context: WorkerContext, transport: StreamTransport, request: H1Request) -> None:
        self._context = context
        self._transport = transport
        self._request = request
        self._key = b""

    def check(self) -> None:
        self._key = read_key(self._request)

    def accept(self, fields: Fields) -> None:
        defaults = self._context.server_fields.encoder(HeadEncoder).server_lines()
        self._transport.write(switching_protocols(self._key, fields, defaults))

    def send_chunk(self, part: ResponseChunk) -> None:
        head, body, _is_last, length = part
        if head is None:
            self._transport.write(body)
            return
        data = ResponseEncoder(self._context.server_fields).head(
            head,
            length=length,
            bodyless=head.status in BODYLESS,
            # The connection ends with the response, so that a body of unknown length needs no chunks.
            is_1_1=False,
            keep_alive=False,
        )
        self._transport.write(data + body)

    def ended(self) -> None:
        """The transport was the connection's."""
