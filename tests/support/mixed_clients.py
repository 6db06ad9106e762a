"""Clients of every kind at once, each asking again and again and counting what went wrong.

Nothing may fail while workers come and go: no refused, reset or closed connection with a request on it, no wrong
answer. A WebSocket that is closed with 1012 was told, and its client comes back.
"""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, update_wrapper
from typing import Self

import h2.connection
import h2.events
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from h2_client import survive_goaway

_PATIENCE = 15.0
_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_PIPELINED = 8
_STREAMS = 6
_SERVICE_RESTART = 1012


Kind = Callable[["MixedClients"], Awaitable[None]]
"""Asks once or more on one connection, counts `answers`, and raises for what went wrong."""


class MixedClients:
    """Clients of each kind, on one port, until `stop`; those of TLS on another."""

    def __init__(
        self,
        port: int,
        *,
        secure: tuple[int, Callable[[], ssl.SSLContext]] | None = None,
        http2: bool = True,
        silence: float = 2.0,
        pause: float = 0.0,
        more: Sequence[tuple[Kind, int]] = (),
    ) -> None:
        """`secure`: the port on which TLS is spoken, and what makes contexts for its clients; without it there are none.

        `http2`: whether some speak HTTP/2, by prior knowledge.

        `silence`: seconds that the silent ones wait, longer than a worker takes to leave.

        `pause`: seconds between two requests of the busy ones, for drills that want the machine for something else.

        `more`: further kinds, and how many there are of each.
        """
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._port = port
        self._silence = silence
        self._pause = pause
        self._stopped = False
        self._kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._keep_alive, 4),
            (self._pipelined, 2),
            (self._slow_body, 3),
            (self._silent, 6),
            (self._one_shot, 2),
            (self._websocket, 3),
        ]
        if http2:
            self._kinds += [(self._streams, 2), (self._silent_http2, 2)]
        if secure is not None:
            secure_port, make_context = secure
            self._secure = secure_port, make_context()
            self._secure_http2 = secure_port, make_context()
            self._secure_http2[1].set_alpn_protocols(["h2"])
            self._kinds += [
                (self._keep_alive_secure, 2),
                (self._one_shot_secure, 2),
                (self._streams_secure, 2),
            ]

        self._kinds += [(update_wrapper(partial(kind, self), kind), count) for kind, count in more]

    @property
    def is_stopped(self) -> bool:
        """Whether no more is to be asked."""
        return self._stopped

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(count for _kind, count in self._kinds)

    async def run_while(self, work: Awaitable[None]) -> None:
        """Ask until `work` is done and every client had its last answer."""
        clients = [
            asyncio.create_task(self._again(kind)) for kind, count in self._kinds for _ in range(count)
        ]
        try:
            await work
        finally:
            self._stopped = True
            async with asyncio.timeout(2 * _PATIENCE):
                await asyncio.gather(*clients)

    async def _again(self, kind: Callable[[], Awaitable[None]]) -> None:
        while not self._stopped:
            try:
                await kind()
            except (
                OSError,
                EOFError,
                TimeoutError,
                AssertionError,
                ConnectionClosed,
                InvalidHandshake,
            ) as error:
                self.failures.append(f"{kind.__name__}: {error!r}")
                return

    async def _keep_alive(self) -> None:
        await self._ask_again_on(_Connection(self._port), "keep-alive")

    async def _keep_alive_secure(self) -> None:
        await self._ask_again_on(_Connection(*self._secure), "keep-alive over TLS")

    async def _ask_again_on(self, connection: "_Connection", kind: str) -> None:
        async with connection:
            while not self._stopped and not connection.must_close:
                await connection.send(_GET)
                await connection.answer()
                self.answers[kind] += 1
                await asyncio.sleep(self._pause)

    async def _pipelined(self) -> None:
        async with _Connection(self._port) as connection:
            while not self._stopped and not connection.must_close:
                await connection.send(_GET * _PIPELINED)
                for _ in range(_PIPELINED):
                    await connection.answer()
                    self.answers["pipelined"] += 1
                    if connection.must_close:
                        break  # RFC 9112 §9.3.2: the rest may be asked again
                await asyncio.sleep(self._pause)

    async def _slow_body(self) -> None:
        async with _Connection(self._port) as connection:
            while not self._stopped and not connection.must_close:
                await connection.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
                for _ in range(10):
                    await asyncio.sleep(0.03)  # that is how slow it is
                    await connection.send(b"x")
                assert json.loads(await connection.answer())["bytes"] == 10
                self.answers["slow body"] += 1

    async def _silent(self) -> None:
        async with _Connection(self._port) as connection:
            for _ in range(2):
                if not connection.must_close:
                    await asyncio.sleep(self._silence)
                    await connection.send(_GET)
                    await connection.answer()
                    self.answers["silent, then late"] += 1

    async def _one_shot(self) -> None:
        await self._ask_once_on(_Connection(self._port), "one-shot")

    async def _one_shot_secure(self) -> None:
        await self._ask_once_on(_Connection(*self._secure), "one-shot over TLS")

    async def _ask_once_on(self, connection: "_Connection", kind: str) -> None:
        async with connection:
            await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await connection.answer()
            assert await connection.is_at_end(), "the connection did not end"
            self.answers[kind] += 1
            await asyncio.sleep(self._pause)

    async def _websocket(self) -> None:
        async with connect(f"ws://127.0.0.1:{self._port}/", proxy=None) as websocket:
            try:
                while not self._stopped:
                    await websocket.send("hi")
                    async with asyncio.timeout(_PATIENCE):
                        assert await websocket.recv() == "hi"
                    self.answers["WebSocket"] += 1
                    await asyncio.sleep(0.005)  # leave the machine to the others
            except ConnectionClosed as closed:
                if closed.rcvd is None or closed.rcvd.code != _SERVICE_RESTART:
                    raise
                self.answers["WebSocket told 1012"] += 1

    async def _streams(self) -> None:
        await self._ask_side_by_side_on(_Http2Connection(self._port), "HTTP/2")

    async def _streams_secure(self) -> None:
        await self._ask_side_by_side_on(_Http2Connection(*self._secure_http2), "HTTP/2 over TLS")

    async def _ask_side_by_side_on(self, connection: "_Http2Connection", kind: str) -> None:
        async with connection:
            while not self._stopped and not connection.must_close:
                streams = [await connection.ask("GET", "/") for _ in range(_STREAMS)]
                streams.append(await connection.ask("POST", "/upload", b"x" * 1000))
                for stream in streams:
                    if await connection.answer(stream):
                        self.answers[kind] += 1
                await asyncio.sleep(self._pause)

    async def _silent_http2(self) -> None:
        async with _Http2Connection(self._port) as connection:
            for _ in range(2):
                await asyncio.sleep(self._silence)
                await connection.look()
                if connection.must_close:
                    return
                if await connection.answer(await connection.ask("GET", "/")):
                    self.answers["HTTP/2, silent, then late"] += 1


class _Connection:
    """A connection that reads responses, over TLS if there is a context for it."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self.must_close = False

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname="localhost" if self._tls else None
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> bytes:
        """The body of the next response, which is a 200 with a length."""
        async with asyncio.timeout(_PATIENCE):
            status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            assert status == b"http/1.1 200 ok", status
            fields = dict(line.split(b": ", 1) for line in lines if line)
            self.must_close = fields.get(b"connection") == b"close"
            return await self._reader.readexactly(int(fields[b"content-length"]))

    async def is_at_end(self) -> bool:
        async with asyncio.timeout(_PATIENCE):
            return await self._reader.read() == b""


class _Http2Connection:
    """A connection with many requests at once. Those that GOAWAY leaves out may be asked again elsewhere."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._h2 = h2.connection.H2Connection()
        survive_goaway(self._h2)
        self._statuses: dict[int, bytes] = {}
        self._ended: set[int] = set()
        self._last: int | None = None
        self.must_close = False

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname="localhost" if self._tls else None
        )
        if self._tls is not None:
            assert self._writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self._h2.initiate_connection()
        await self._send()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> int:
        """Send a request; returns its stream."""
        stream = self._h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)]
        self._h2.send_headers(stream, head, end_stream=not body)
        if body:
            self._h2.send_data(stream, body, end_stream=True)
        await self._send()
        return stream

    async def answer(self, stream: int) -> bool:
        """Whether the stream was answered; false if GOAWAY left it out."""
        async with asyncio.timeout(_PATIENCE):
            while stream not in self._ended:
                if self._last is not None and stream > self._last:
                    return False
                await self._read()
        assert self._statuses[stream] == b"200", self._statuses[stream]
        return True

    async def look(self) -> None:
        """Take in what has come meanwhile."""
        try:
            async with asyncio.timeout(0.01):
                while not self.must_close:
                    await self._read()
        except (TimeoutError, EOFError):
            pass

    async def _read(self) -> None:
        data = await self._reader.read(65536)
        if not data:
            self.must_close = True
            raise asyncio.IncompleteReadError(b"", None)
        for event in self._h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self._statuses[event.stream_id] = dict(event.headers)[b":status"]
                case h2.events.DataReceived():
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self._ended.add(event.stream_id)
                case h2.events.StreamReset():
                    raise AssertionError(f"stream {event.stream_id} was reset with {event.error_code!r}")
                case h2.events.ConnectionTerminated():
                    assert event.error_code == 0, event.additional_data
                    self.must_close = True
                    self._last = event.last_stream_id
                case _:
                    pass
        await self._send()

    async def _send(self) -> None:
        self._writer.write(self._h2.data_to_send())
        await self._writer.drain()
