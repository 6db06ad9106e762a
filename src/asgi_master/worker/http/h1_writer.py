"""The writing half of an HTTP/1.1 connection: responses to bytes, and waiting for a peer that reads slowly."""

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h1.encoder import ResponseEncoder, interim
from asgi_master.http.message import PLAIN_TEXT, Fields, ResponseHead
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.flow_control import WriteFlow
from asgi_master.worker.transport.stream_transport import StreamTransport

_HOLD_LIMIT = 64 * 1024
"""Bytes that wait for the end of the turn at most."""
_HOLD_MOST = 128
"""Pieces that wait so: many tiny ones take as long."""
_JOIN_FROM = 4
"""Pieces from which on they are joined whatever their size: to copy 16 KiB takes less than a system call for them."""
_REST_AFTER = 256 * 1024
"""Bytes of large pieces after which the loop may turn: for the kernel, a tenth of a millisecond."""


class H1Writer(WriteFlow):
    """Writes the responses of one connection to its transport."""

    __slots__ = (
        "_batch",
        "_context",
        "_pending",
        "_rests_at",
        "_transport",
        "_unheld",
        "_written",
        "encoder",
        "passed_on",
    )

    def __init__(self, context: WorkerContext, transport: StreamTransport) -> None:
        super().__init__(context.loop)
        self._context = context
        self._transport = transport
        self._batch = context.write_batch
        self._pending: list[bytes] = []
        self._written = 0
        self._unheld = 0
        self._rests_at = 0  # bytes that will have been written when the loop may turn
        self.encoder = ResponseEncoder(context.server_fields)
        self.passed_on = 0
        """Bytes that were given to the transport."""

    def write_first(
        self,
        head: ResponseHead,
        body: bytes,
        is_last: bool,
        length: int | None,
        bodyless: bool,
        is_1_1: bool,
        keep_alive: bool,
    ) -> None:
        """Write the first part of a response (see `ResponseChunk`), encoded as `ResponseEncoder.head` says.

        `keep_alive` is whether both sides would go on; `encoder.keep_alive` says afterwards whether the connection may.
        """
        encoder = self.encoder
        data = encoder.head(head, length, bodyless, is_1_1, keep_alive)
        if body:
            if not is_last:
                body = encoder.body(body, more=True)
            if len(body) > _HOLD_LIMIT:
                self._write(data)
                data = body
            else:
                data += body
        self._write(data)

    def take_back_head(self) -> bool:
        """Forget a head that was written last and without a body; false if it is not here any more."""
        if not self._pending:
            return False
        self._written -= len(self._pending.pop())
        return True

    def write_next(self, body: bytes, is_last: bool) -> None:
        """Write a further part."""
        data = self.encoder.body(body, more=not is_last)
        if data:
            self._write(data)
        elif not is_last:
            self.waits = True  # who writes nothing may do so for ever

    def write_interim(self, status: int, fields: Fields = ()) -> None:
        """Write an interim response (RFC 9110 §15.2)."""
        self._context.stats.responses[1] += 1
        self._write(interim(status, fields))

    def write_trailers(self, fields: Fields) -> None:
        """End the response with trailer fields."""
        self._write(self.encoder.trailers(fields))

    def begin_file(self, size: int) -> None:
        """So many bytes of a file follow, which the transport sends by itself: all that came before leaves."""
        if data := self.encoder.file_begins(size):
            self._write(data)
        self.flush()

    def file_sent(self, sent: int) -> None:
        """The transport has sent so many of them."""
        self._written += sent
        self.passed_on += sent

    def end_file(self) -> None:
        """The file was sent."""
        if data := self.encoder.file_ends():
            self._write(data)

    def write_refusal(self, error: ProtocolError) -> None:
        """Answer a request of which no more is known than that it is wrong. It is the last response."""
        body = error.reason.encode()
        head = ResponseHead(error.status, [PLAIN_TEXT])
        self._context.stats.responses[head.status_class] += 1
        self.write_first(head, body, True, len(body), bodyless=False, is_1_1=True, keep_alive=False)

    def _write(self, data: bytes) -> None:
        pending = self._pending
        if not pending and len(data) >= _HOLD_LIMIT:
            self._write_large(data)
            return
        pending.append(data)
        self._written += len(data)
        if self._written - self.passed_on > _HOLD_LIMIT:
            self.flush()
            self.waits = True
        elif len(pending) == 1:
            if self._batch.add(self):
                self._unheld += 1  # nothing is held back now, so that this is all there is to count
                self.waits = self.is_paused or self._unheld % _HOLD_MOST == 0
        elif len(pending) > _HOLD_MOST:
            self.flush()
            self.waits = True

    def _write_large(self, data: bytes) -> None:
        """Write what nothing is gained by holding; nothing is held before it."""
        self._written += len(data)
        self.passed_on = self._written
        if self._transport.is_closing():
            self.pause()
            return
        self._transport.write(data)
        if self._written >= self._rests_at:
            self._rests_at = self._written + _REST_AFTER
            self.waits = True

    def flush(self) -> None:
        """Give what was written in this turn to the transport."""
        pending = self._pending
        if not pending:
            return
        size = self._written - self.passed_on
        self.passed_on = self._written
        self._pending = []
        if self._transport.is_closing():
            # An application that goes on sending waits until `connection_lost`, and gets its error then.
            self.pause()
        elif size <= _HOLD_LIMIT or len(pending) >= _JOIN_FROM:
            self._transport.write(b"".join(pending))
        else:
            for data in pending:
                self._transport.write(data)
