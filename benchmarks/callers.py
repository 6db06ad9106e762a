"""HTTP/1.1 clients for the benchmarks of fleets, as one program: `python callers.py JSON` prints what they saw as JSON.

It runs with the benchmark's environment, whose uvloop it uses. Kinds of load (`kind` in the JSON):

- `requests`: so many requests, each connection sending its next as soon as it has its answer.
- `mixed`: callers that pause between requests, half of them on one connection each, half on a new one each time; a
  share of the requests asks for `/block`.
- `arrivals`: so many new connections a second, whoever is still busy; each makes one of the given numbers of requests.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field

import uvloop

_PATIENCE = 30.0
"""Seconds that any one answer may take."""
_SOURCES = 8
"""Loopback addresses to connect from in turn, so that ports in TIME_WAIT do not run out."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    __slots__ = ("_buffer", "_expected", "_waiting", "transport")

    def __init__(self) -> None:
        self._buffer = b""
        self._expected = -1
        self._waiting: asyncio.Future[bytes] | None = None

    def connection_made(self, transport) -> None:
        self.transport = transport

    async def ask(self, port: int, path: str) -> bytes:
        """Send a request; returns the body of its answer. Raises `OSError` for any other answer than 200."""
        self._buffer, self._expected = b"", -1
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        return await self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._expected < 0:
            head, end, _ = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._expected = len(head) + 4 + _content_length(head)
        if len(self._buffer) >= self._expected and self._waiting is not None and not self._waiting.done():
            if self._buffer.startswith(b"HTTP/1.1 200"):
                self._waiting.set_result(self._buffer.partition(b"\r\n\r\n")[2])
            else:
                self._waiting.set_exception(OSError(self._buffer[:40].decode("latin-1")))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(OSError("the server closed the connection"))


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise OSError("an answer without Content-Length")


@dataclass(slots=True)
class Seen:
    """What the callers saw."""

    answers: int = 0
    failures: int = 0
    first_failure: str = ""
    workers: dict[str, int] = field(default_factory=dict)
    """Answers by the process that gave them, where it says so."""
    connections: dict[str, int] = field(default_factory=dict)
    """Connections by the process that served them."""
    kept: list[float] = field(default_factory=list)
    """Seconds that answers took, on connections that are kept."""
    fresh: list[float] = field(default_factory=list)
    """Seconds from connecting to the answer, on new connections."""
    seconds: float = 0.0

    def failed(self, error: BaseException) -> None:
        self.failures += 1
        self.first_failure = self.first_failure or str(error) or type(error).__name__


class Load:
    """One run."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen = Seen()
        self._opened = 0

    async def connect(self) -> Connection:
        self._opened += 1
        source = f"127.0.0.{2 + self._opened % _SOURCES}"
        _transport, connection = await asyncio.get_running_loop().create_connection(
            Connection, "127.0.0.1", self.port, local_addr=(source, 0)
        )
        return connection

    async def ask(self, connection: Connection, path: str) -> str:
        body = await asyncio.wait_for(connection.ask(self.port, path), _PATIENCE)
        self.seen.answers += 1
        return body.decode("latin-1")

    async def requests(self, count: int, connections: int, path: str) -> None:
        """See the module."""
        left = count

        async def caller() -> None:
            nonlocal left
            connection = await self.connect()
            while left > 0:
                left -= 1
                await self.ask(connection, path)
            connection.transport.close()

        await asyncio.gather(*(self._counted(caller()) for _ in range(connections)))

    async def mixed(self, callers: int, seconds: float, pause: float, block_share: float) -> None:
        """See the module."""
        end = time.monotonic() + seconds

        async def caller(number: int) -> None:
            choose = random.Random(number)
            keeps = number % 2 == 0
            connection = await self.connect() if keeps else None
            while time.monotonic() < end:
                await asyncio.sleep(choose.uniform(0.5, 1.5) * pause)
                blocks = choose.random() < block_share
                begin = time.perf_counter()
                asked = connection or await self.connect()
                await self.ask(asked, "/block" if blocks else "/")
                if not blocks:
                    (self.seen.kept if keeps else self.seen.fresh).append(time.perf_counter() - begin)
                if not keeps:
                    asked.transport.close()
            if connection is not None:
                connection.transport.close()

        await asyncio.gather(*(self._counted(caller(number)) for number in range(callers)))

    async def arrivals(self, rate: float, seconds: float, requests: list[int], pause: float) -> None:
        """See the module."""
        choose = random.Random(1)

        async def visitor(count: int) -> None:
            connection = await self.connect()
            for number in range(count):
                if number:
                    await asyncio.sleep(pause)
                worker = await self.ask(connection, "/")
                self.seen.workers[worker] = self.seen.workers.get(worker, 0) + 1
                if number == 0:
                    self.seen.connections[worker] = self.seen.connections.get(worker, 0) + 1
            connection.transport.close()

        begin, tasks = time.monotonic(), set()
        for number in range(int(rate * seconds)):
            if (ahead := begin + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            task = asyncio.ensure_future(self._counted(visitor(choose.choice(requests))))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _counted(self, work) -> None:
        try:
            await work
        except (OSError, TimeoutError) as error:
            self.seen.failed(error)


async def main(options: dict) -> None:
    kind, port = options.pop("kind"), options.pop("port")
    load = Load(port)
    begin = time.monotonic()
    await getattr(load, kind)(**options)
    load.seen.seconds = time.monotonic() - begin
    print(json.dumps({name: getattr(load.seen, name) for name in Seen.__slots__}))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(sys.argv[1])))
