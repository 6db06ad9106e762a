"""The transports by themselves, on real sockets: what they send, when they pause, and how they end."""

import asyncio
import contextvars
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from asgi_master.worker.transport.connection_state import NEW
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.poller import Poller
from asgi_master.worker.transport.socket_transport import HIGH_WATER, LOW_WATER, SocketTransport
from asgi_master.worker.transport.stream_transport import StreamProtocol, StreamTransport
from http_apps import respond
from http_client import Client, request
from serving import LOOPS, TIMEOUT, serve

RESET = struct.pack("ii", 1, 0)
NOTED: contextvars.ContextVar[str] = contextvars.ContextVar("noted", default="")

pytestmark = pytest.mark.parametrize("loop", LOOPS)


class Recorder(StreamProtocol):
    """Notes what it is called with."""

    def __init__(self, *, stays: bool = False) -> None:
        self.calls: list[Any] = []
        self._stays = stays

    def connection_made(self, transport: StreamTransport) -> None:
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.calls.append(data)

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self._stays

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self) -> None:
        self.calls.append("lost")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of a TCP connection: the peer's, which blocks, and ours."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), TIMEOUT)
        ours, _ = listener.accept()
    ours.setblocking(False)
    with peer, ours:
        yield peer, ours


def run(loop: str, main: Callable[[Callable[..., SocketTransport]], Awaitable[None]]) -> None:
    """Run it in a loop; it gets what starts a transport."""

    async def run_it() -> None:
        event_loop = asyncio.get_running_loop()
        poller = Poller(event_loop)

        def start(sock: socket.socket, protocol: StreamProtocol) -> SocketTransport:
            transport = SocketTransport(event_loop, poller, sock, Endpoints(None, None, is_tls=False))
            transport.context.run(transport.start, protocol)
            return transport

        try:
            async with asyncio.timeout(TIMEOUT):
                await main(start)
        finally:
            poller.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run_it())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 -- any condition
        await asyncio.sleep(0.001)


def test_what_has_arrived_is_read_when_it_starts(
    loop: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    peer, ours = ends

    async def main(start: Callable[..., SocketTransport]) -> None:
        peer.sendall(b"early")
        protocol = Recorder()
        start(ours, protocol)
        assert protocol.calls == ["made", b"early"]
        peer.sendall(b"later")
        await until(lambda: b"later" in protocol.calls)
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: protocol.calls[-2:] == ["eof", "lost"])
        assert peer.recv(1) == b""

    run(loop, main)


@pytest.mark.parametrize("ends_by", ["close", "abort", "error", "eof"])
def test_what_ends_with_its_first_bytes_ends_without_a_turn_of_the_loop(
    loop: str, ends_by: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    peer, ours = ends

    class Ends(Recorder):
        transport: StreamTransport

        def connection_made(self, transport: StreamTransport) -> None:
            super().connection_made(transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"answer")
            if ends_by == "error":
                raise ZeroDivisionError
            getattr(self.transport, ends_by)()

    async def main(start: Callable[..., SocketTransport]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        if ends_by == "eof":
            peer.shutdown(socket.SHUT_WR)
        else:
            peer.sendall(b"early")
        protocol = Ends()
        transport = start(ours, protocol)
        expected = ["made", "eof" if ends_by == "eof" else b"early", "lost"]
        assert protocol.calls == expected
        assert ours.fileno() == -1
        transport.abort()
        await asyncio.sleep(0)
        assert protocol.calls == expected, "it ended twice"

    run(loop, main)


def test_all_that_is_written_comes_in_order_and_flow_is_told(
    loop: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    peer, ours = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    pieces = [os.urandom(size) for size in (1, 100_000, 10, 1_000_000, 3)] * 3

    async def main(start: Callable[..., SocketTransport]) -> None:
        protocol = Recorder()
        transport = start(ours, protocol)
        for piece in pieces:
            transport.write(piece)
        assert transport.get_write_buffer_size() > HIGH_WATER
        assert protocol.calls == ["made", "pause"]
        transport.close()
        assert transport.is_closing()
        transport.write(b"too late")
        expected = b"".join(pieces)
        received = await asyncio.to_thread(_read_to_the_end, peer)
        assert received == expected
        await until(lambda: protocol.calls[-1] == "lost")

    run(loop, main)


def _read_to_the_end(sock: socket.socket) -> bytes:
    received = bytearray()
    while data := sock.recv(65536):
        received += data
    return bytes(received)


def test_it_goes_on_once_little_is_unsent(loop: str, ends: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = ends

    async def main(start: Callable[..., SocketTransport]) -> None:
        protocol = Recorder()
        transport = start(ours, protocol)
        while "pause" not in protocol.calls:
            transport.write(bytes(65536))
        peer.setblocking(False)
        while "resume" not in protocol.calls:
            assert transport.get_write_buffer_size() > LOW_WATER
            await asyncio.sleep(0)
            try:
                peer.recv(65536)
            except BlockingIOError:
                continue
        assert transport.get_write_buffer_size() <= LOW_WATER

    run(loop, main)


def test_our_end_comes_after_what_was_written_and_reading_goes_on(
    loop: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    peer, ours = ends

    async def main(start: Callable[..., SocketTransport]) -> None:
        protocol = Recorder()
        transport = start(ours, protocol)
        body = bytes(10_000_000)
        transport.write(body)
        transport.write_eof()
        assert await asyncio.to_thread(_read_to_the_end, peer) == body
        peer.sendall(b"still heard")
        await until(lambda: b"still heard" in protocol.calls)

    run(loop, main)


@pytest.mark.parametrize("sent", [b"", b"x"])
def test_a_reset_is_noticed_whatever_came_before_it(loop: str, sent: bytes) -> None:
    """libuv reports an error of a socket once, and then watches it no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def main(start: Callable[..., SocketTransport]) -> None:
            protocols = []
            for _ in range(100):
                peer = socket.create_connection(listener.getsockname())
                ours, _ = listener.accept()
                ours.setblocking(False)
                protocols.append(Recorder())
                start(ours, protocols[-1])
                peer.sendall(sent)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                peer.close()
            await until(lambda: all(protocol.calls[-1] == "lost" for protocol in protocols))

        run(loop, main)


@pytest.mark.parametrize("state", ["paused", "half closed"])
def test_a_reset_is_noticed_while_nothing_is_read(
    loop: str, ends: tuple[socket.socket, socket.socket], state: str
) -> None:
    peer, ours = ends

    async def main(start: Callable[..., SocketTransport]) -> None:
        protocol = Recorder(stays=True)
        transport = start(ours, protocol)
        if state == "paused":
            transport.pause_reading()
            peer.sendall(b"unread")
        else:
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: protocol.calls == ["made", "eof"])
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        await until(lambda: protocol.calls[-1] == "lost")
        assert b"unread" not in protocol.calls

    run(loop, main)


def test_what_is_paused_is_left_in_the_kernel(loop: str, ends: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = ends

    async def main(start: Callable[..., SocketTransport]) -> None:
        protocol = Recorder()
        transport = start(ours, protocol)
        transport.pause_reading()
        peer.sendall(b"unread")
        await until(transport.has_unread_bytes)
        for _ in range(10):
            await asyncio.sleep(0)
        assert protocol.calls == ["made"]
        transport.resume_reading()
        await until(lambda: protocol.calls == ["made", b"unread"])

    run(loop, main)


def test_one_that_moves_is_as_it_was(loop: str, ends: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = ends
    taken: list[socket.socket] = []

    def refuse(_sock: socket.socket, _state: object) -> bool:
        return False

    def take(sock: socket.socket, _state: object) -> bool:
        taken.append(sock.dup())
        return True

    async def main(start: Callable[..., SocketTransport]) -> None:
        protocol = Recorder()
        transport = start(ours, protocol)
        assert not transport.move(refuse, NEW)
        peer.sendall(b"first")
        await until(lambda: protocol.calls == ["made", b"first"])
        peer.sendall(b"second")
        assert transport.move(take, NEW)
        with taken[0] as sock:
            sock.settimeout(TIMEOUT)
            assert sock.recv(100) == b"second"
            sock.sendall(b"answer")
            assert peer.recv(100) == b"answer"
        assert protocol.calls == ["made", b"first"]

    run(loop, main)


def test_calls_come_in_the_context_of_the_connection(
    loop: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    peer, ours = ends
    seen = []

    class Asking(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            seen.append(NOTED.get())

        def resume_writing(self) -> None:
            super().resume_writing()
            seen.append(NOTED.get())

    async def main(start: Callable[..., SocketTransport]) -> None:
        NOTED.set("the connection's")
        protocol = Asking()
        transport = start(ours, protocol)
        NOTED.set("an application's")
        transport.pause_reading()
        transport.resume_reading()
        while "pause" not in protocol.calls:
            transport.write(bytes(65536))
        peer.sendall(b"x")
        reading = asyncio.to_thread(_read_to_the_end, peer)
        transport.write_eof()
        await reading
        await until(lambda: len(seen) == 2)
        assert seen == ["the connection's"] * 2

    run(loop, main)


def test_a_protocol_that_fails_ends_its_connection_alone(
    loop: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    peer, ours = ends
    errors: list[Any] = []

    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise IndexError("on purpose")

    async def main(start: Callable[..., SocketTransport]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, found: errors.append(found))
        protocol = Failing()
        peer.sendall(b"x")
        start(ours, protocol)
        await until(lambda: protocol.calls == ["made", "lost"])
        (error,) = errors
        assert isinstance(error["exception"], IndexError)

    run(loop, main)


def test_an_application_that_closed_the_socket_leaves_no_connection_behind(
    loop: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    _peer, ours = ends

    async def main(start: Callable[..., SocketTransport]) -> None:
        protocol = Recorder()
        transport = start(ours, protocol)
        os.close(ours.fileno())
        transport.abort()
        await until(lambda: protocol.calls == ["made", "lost"])

    run(loop, main)


def test_a_stream_hears_of_a_client_that_reset_after_its_end(loop: str) -> None:
    """It closed its half first, as some do, and then left for good: the application, which only listens, is told."""
    gone = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await receive()
        gone.append((await receive())["type"])

    with serve(app, loop=loop) as server:
        sock = server.connect()
        sock.sendall(request("GET", "/"))
        assert b"begun" in sock.recv(1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
        server.wait_until(lambda: gone == ["http.disconnect"])
        server.wait_until(lambda: not server.context.connections)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="applications begin in the next turn there")
def test_a_short_connection_never_meets_the_poller(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, body=b"short")

    peer, ours = socket.socketpair()
    with peer, serve(app, loop=loop) as server:
        peer.settimeout(TIMEOUT)
        peer.sendall(request("GET", "/", "connection: close"))
        server.take(ours)
        client = Client(peer)
        assert client.response().body == b"short"
        assert client.is_closed()
        assert server.context.poller._epoll is None
