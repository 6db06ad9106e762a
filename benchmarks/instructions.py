"""Count the instructions of a request or a connection, all but the kernel's: the same on a busy machine (ADR 26).

    python benchmarks/instructions.py [WORKLOAD,...] [--profile]

Needs valgrind, on x86-64. A workload warms up first; then valgrind is switched on, for some rounds. With `--profile`,
the C functions that took the most are listed.
"""

import argparse
import asyncio
import ctypes
import itertools
import mmap
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import http2_client
import uvloop
from layers import BROWSER, PAGE, POST, TINY, NullTransport, connected, heads

from asgi_master.http.limits import Http2Limits
from asgi_master.worker.accept.listener import Listener
from asgi_master.worker.accept.opening import open_connection
from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.http.h2_connection import H2Connection
from asgi_master.worker.transport import write_batch
from asgi_master.worker.transport.context import WorkerContext

_CONNECTIONS = 16
_STREAMS = 32
_WARM_UP = 30
_ROUNDS = 30
_TURNS = 20
_ANSWER = 65536
_LISTED = 45

# What valgrind takes for a client request (valgrind.h): four rotations of a register that leave it as it was.
_CLIENT_REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
_START, _STOP = 0x43540004, 0x43540005
"""Of callgrind.h: start and stop instrumentation."""

Round = Callable[[], Awaitable[object]]
Workload = Callable[[asyncio.AbstractEventLoop], tuple[Round, int]]
"""Makes what one round does; the number is of requests or connections in it."""


def served(
    loop: asyncio.AbstractEventLoop, count: int
) -> tuple[WorkerContext, list[tuple[H1Connection, NullTransport]]]:
    """As `layers.connected`, with a clock that stands still: valgrind is slow, and what is slow takes other ways."""
    context, connections = connected(loop, count)
    write_batch.monotonic = context.turns.clock = itertools.repeat(1000.0).__next__
    return context, connections


def repeated(traffic: Iterator[bytes]) -> Workload:
    """Requests on kept connections."""

    def prepare(loop: asyncio.AbstractEventLoop) -> tuple[Round, int]:
        _context, connections = served(loop, _CONNECTIONS)

        async def turn() -> None:
            for connection, _transport in connections:
                connection.data_received(next(traffic))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        return turn, _CONNECTIONS

    return prepare


def multiplexed(path: str = "", body: bytes = b"") -> Workload:
    """Requests of HTTP/2, 32 at once; without a path, each has a path and a cookie of its own."""

    def prepare(loop: asyncio.AbstractEventLoop) -> tuple[Round, int]:
        context, _ = served(loop, 0)
        context.http2 = Http2Limits()
        connection, transport = H2Connection(context), NullTransport()
        connection.connection_made(transport)
        connection.data_received(http2_client.opening())
        rounds = _WARM_UP + _ROUNDS
        frames = http2_client.requests(1, rounds * _STREAMS, path=path, body=body)
        turns = iter([b"".join(turn) for turn in zip(*[iter(frames)] * _STREAMS, strict=True)])

        async def turn() -> None:
            connection.data_received(next(turns))
            for _ in range(_TURNS):
                await asyncio.sleep(0)
                if not connection.engine.streams:
                    break

        return turn, _STREAMS

    return prepare


def connecting(request: bytes) -> Workload:
    """New connections with one request each. Their clients are in the same process, and counted."""

    def prepare(loop: asyncio.AbstractEventLoop) -> tuple[Round, int]:
        context, _ = served(loop, 0)
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener = Listener(listening)
        address = listening.getsockname()
        family, kind = int(socket.AF_INET), int(socket.SOCK_STREAM)

        async def turn() -> None:
            clients = [socket.SocketType(family, kind, 0) for _ in range(_CONNECTIONS)]
            for client in clients:
                client.connect(address)
                client.send(request)
            for _ in clients:
                open_connection(context, *listener.accept())
            for _ in range(_TURNS):
                await asyncio.sleep(0)
                if not context.connections:
                    break
            for client in clients:
                assert client.recv(_ANSWER)
                client.close()

        return turn, _CONNECTIONS

    return prepare


WORKLOADS: dict[str, Workload] = {
    "tiny": repeated(itertools.repeat(TINY)),
    "browser": repeated(itertools.repeat(BROWSER)),
    "page": repeated(itertools.repeat(PAGE)),
    "post": repeated(itertools.repeat(POST)),
    "varied": repeated(heads()),
    "h2": multiplexed("/"),
    "h2-page": multiplexed("/page"),
    "h2-post": multiplexed("/upload", b"x" * 1024),
    "h2-varied": multiplexed(),
    "connection": connecting(TINY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")),
}


def client_request() -> Callable[[int], None]:
    """A function that makes a client request of valgrind; it does nothing outside of it."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_CLIENT_REQUEST)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_char_p)(address)

    def make(request: int) -> None:
        _kept = code
        call(struct.pack("6Q", request, 0, 0, 0, 0, 0))

    return make


async def run(name: str) -> int:
    """A workload, in the process that is counted; returns how many of it were."""
    turn, each = WORKLOADS[name](asyncio.get_running_loop())
    request = client_request()
    for _ in range(_WARM_UP):
        await turn()
    request(_START)
    for _ in range(_ROUNDS):
        await turn()
    request(_STOP)
    return each * _ROUNDS


def count(name: str, out: Path) -> float:
    """Instructions of one."""
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    command += [sys.executable, __file__, name, "--inside"]
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1]) / int(done.stdout)


def functions(out: Path) -> list[tuple[float, str]]:
    """The share of each C function, the most first."""
    command = ["callgrind_annotate", "--threshold=99.9", str(out)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shares: dict[str, float] = {}
    for share, function in re.findall(r"^ *[\d,]+ \( ?([\d.]+)%\) +\S*?:(\S+)", text, re.MULTILINE):
        shares[function] = shares.get(function, 0.0) + float(share)
    return sorted(((share, function) for function, share in shares.items()), reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="?", default=",".join(WORKLOADS))
    parser.add_argument("--profile", action="store_true", help="list C functions")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(runner.run(run(given.workloads)))
        return
    for name in given.workloads.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch, "out")
            each = count(name, out)
            print(f"{name:12}{each:10,.0f}", flush=True)
            for share, function in functions(out)[:_LISTED] if given.profile else ():
                print(f"    {each * share / 100:10,.0f}  {function}")


if __name__ == "__main__":
    main()
