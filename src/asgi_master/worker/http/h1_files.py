"""Files that the kernel sends, in the midst of a response of HTTP/1.1 on a plain socket (`sendfile`)."""

from typing import Final

from asgi_master.worker.http.files import BodyFile
from asgi_master.worker.http.h1_writer import H1Writer
from asgi_master.worker.http.running_request import RunningRequest
from asgi_master.worker.transport.stream_transport import StreamTransport
from asgi_master.worker.transport.turns import TakesTurns

_WINDOW: Final = 512 * 1024
"""Bytes that one call is asked to send, and that are fetched from a disk before it."""


class H1FileSender:
    """A `FileSender` of one connection."""

    __slots__ = ("_connection", "_transport", "_writer")

    def __init__(self, connection: TakesTurns, writer: H1Writer, transport: StreamTransport) -> None:
        self._connection = connection
        self._writer = writer
        self._transport = transport

    async def send(self, current: RunningRequest, file: BodyFile, size: int) -> None:
        """See `FileSender.send`."""
        writer, transport = self._writer, self._transport
        writer.begin_file(size)
        while size:
            if writer.is_paused:
                await current.wait_for_room()
            window = min(size, _WINDOW)
            await file.fetch(window)
            current.check_connected()
            sent = transport.send_file(file.fd, file.offset, window)
            if sent is None:
                writer.pause()
                continue
            file.advance(sent)
            size -= sent
            writer.file_sent(sent)
            current.body_bytes += sent
            await self._connection.rest()
        writer.end_file()
