"""Many connections that mostly wait, as one program: `python crowd.py PORT PATH COUNT SOURCE`.

It opens COUNT connections from the loopback address SOURCE, asks for PATH on each, and then obeys the words on its
standard input, answering each with a line of JSON that counts:

- `count`: nothing; just the counts.
- `ask`: ask once more on each open connection, and wait for the answers.
- `reopen`: connect and ask again for each connection that was lost.

It runs with the benchmark's environment, whose uvloop it uses. The end of its input ends it.
"""

import asyncio
import contextlib
import json
import sys
import time

import uvloop

_AT_ONCE = 100
_PATIENCE = 40.0
_END_OF_EVENT = b"\n\n"
_LAST_CHUNK = b"0\r\n\r\n"


class Member(asyncio.Protocol):
    """One connection. Answers and events are small, so each comes in one piece."""

    __slots__ = ("crowd", "is_ended", "is_waiting", "last_event", "transport")

    def __init__(self, crowd: "Crowd") -> None:
        self.crowd = crowd
        self.is_waiting = False
        """For an answer that `Crowd.ask` wants."""
        self.is_ended = False
        """Whether the stream came to its proper end."""
        self.last_event = 0.0
        """When the last one came; 0 before the first."""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.crowd.members.add(self)
        self.ask()

    def ask(self) -> None:
        self.is_waiting = True
        self.crowd.waiting += 1
        self.transport.write(self.crowd.request)

    def data_received(self, data: bytes) -> None:
        crowd = self.crowd
        if _END_OF_EVENT in data:
            now = time.monotonic()
            if self.last_event:
                crowd.longest_gap = max(crowd.longest_gap, now - self.last_event)
            self.last_event = now
        if data.endswith(_LAST_CHUNK):
            self.is_ended = True
        if self.is_waiting:
            self._waited()
            if data.startswith(b"HTTP/1.1 200"):
                crowd.answers += 1
            else:
                crowd.refused += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.members.discard(self)
        if self.is_ended:
            self.crowd.ended += 1
        else:
            self.crowd.lost += 1
        if self.is_waiting:
            self._waited()

    def _waited(self) -> None:
        self.is_waiting = False
        self.crowd.waiting -= 1
        if self.crowd.waiting == 0:
            self.crowd.all_answered.set()


class Crowd:
    """All of them."""

    def __init__(self, port: int, path: str, count: int, source: str) -> None:
        self._port = port
        self._count = count
        self._source = source
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        self.members: set[Member] = set()
        self.waiting = 0
        self.all_answered = asyncio.Event()
        self.answers = 0
        """With status 200."""
        self.refused = 0
        """Answers with another status."""
        self.lost = 0
        """Connections that broke, or were closed while nothing was in flight."""
        self.ended = 0
        """Connections closed after their stream came to its proper end."""
        self.longest_gap = 0.0
        """Seconds between two events of one stream, since the last `tell`."""
        self.failed = 0
        """Connections that could not be made."""

    async def open(self) -> None:
        """Connect those that are missing."""
        gate = asyncio.Semaphore(_AT_ONCE)
        loop = asyncio.get_running_loop()

        async def one() -> None:
            async with gate:
                try:
                    await loop.create_connection(
                        lambda: Member(self), "127.0.0.1", self._port, local_addr=(self._source, 0)
                    )
                except OSError:
                    self.failed += 1

        await asyncio.gather(*(one() for _ in range(self._count - len(self.members))))
        await self._answered()

    async def ask(self) -> None:
        """One more request on each."""
        self.all_answered.clear()
        for member in list(self.members):
            member.ask()
        await self._answered()

    async def _answered(self) -> None:
        """Until all have their answers, or patience ends; the counts tell."""
        if self.waiting:
            self.all_answered.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.all_answered.wait(), _PATIENCE)

    def tell(self) -> None:
        """Print the counts."""
        names = ("answers", "refused", "lost", "ended", "failed", "waiting", "longest_gap")
        print(
            json.dumps({"open": len(self.members), **{name: getattr(self, name) for name in names}}),
            flush=True,
        )
        self.longest_gap = 0.0


async def main(port: str, path: str, count: str, source: str) -> None:
    crowd = Crowd(int(port), path, int(count), source)
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    await crowd.open()
    crowd.tell()
    while word := (await words.readline()).strip():
        if word == b"ask":
            await crowd.ask()
        elif word == b"reopen":
            await crowd.open()
        crowd.tell()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
