"""The floor: a uvloop protocol that reads nothing and always answers the same.

    python -m fixed_reply PORT

What a request costs here, the loop and the kernel cost; the rest of a server's price is its own.
"""

import asyncio
import signal
import sys

import uvloop

_END = b"\r\n\r\n"
_REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 13\r\n\r\nHello, World!"
)


class FixedReply(asyncio.Protocol):
    """One answer for each end of a head; a request's end is taken to come in one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_REPLY * data.count(_END))


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(FixedReply, "127.0.0.1", port)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
