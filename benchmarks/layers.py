"""Where the time of one small request goes: each layer alone, in this process, without a kernel in between.

Run by hand: `python benchmarks/layers.py`. Each figure is the best of several runs, in microseconds a request, and its
ratio to a calibration loop of plain Python, which is what may be compared between machines.
"""

import argparse
import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from typing import Any

import uvloop

from asgi_master.asgi.http_exchange import HttpExchange
from asgi_master.asgi.scope import HttpScopes
from asgi_master.http.engines import engines_of
from asgi_master.http.h1.encoder import ResponseEncoder
from asgi_master.http.h1.parser import END_OF_MESSAGE, NEED_DATA
from asgi_master.http.limits import HttpLimits, WebSocketLimits
from asgi_master.http.message import Request
from asgi_master.http.server_fields import ServerFields
from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.socket_transport import SocketTransport

TINY = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
BROWSER = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"\r\nsec-ch-ua-mobile: ?0\r\n'
    b'sec-ch-ua-platform: "Linux"\r\nUpgrade-Insecure-Requests: 1\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/130.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
    b"Cookie: session=0123456789abcdef\r\n\r\n"
)
PAGE = b"GET /page HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
POST = b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024
_HEADS = 4000


def heads() -> Iterator[bytes]:
    """Requests of a browser's size, of which each repeats only after `_HEADS` others."""
    numbers = random.Random(1)

    def digits(size: int) -> str:
        return f"{numbers.getrandbits(4 * size):0{size}x}"

    return itertools.cycle(
        [
            (
                f"GET /items/{digits(8)}?page={digits(2)}&q={digits(6)} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"
                "Connection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
                f"(KHTML, like Gecko) Chrome/130.0.{digits(4)}.{digits(2)} Safari/537.36\r\n"
                "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
                "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
                "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
                f"X-Request-Id: {digits(32)}\r\nReferer: http://127.0.0.1:8000/{digits(8)}\r\n"
                f"Cookie: session={digits(32)}; csrftoken={digits(16)}\r\n\r\n"
            ).encode()
            for _ in range(_HEADS)
        ]
    )


_LIMITS = HttpLimits()
_DATE = "Mon, 23 Nov 2026 10:00:00 GMT"
_CONNECTIONS = 16
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
}
_BODY = {"type": "http.response.body", "body": b"ok"}
_PAGE_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
_PAGE_BODY = {"type": "http.response.body", "body": b"0123456789" * 1024}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The smallest application there is; a POST is read whole."""
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    is_page = scope["path"] == "/page"
    await send(_PAGE_START if is_page else _START)
    await send(_PAGE_BODY if is_page else _BODY)


class NullTransport(SocketTransport):
    """A peer that reads at once and never answers."""

    def __init__(self) -> None:
        self.endpoints = Endpoints(("127.0.0.1", 5), ("127.0.0.1", 8000), is_tls=False)
        self.tls = None
        self.context = copy_context()
        self.written = 0

    def write(self, data: Any) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


def best(step: Callable[[], object], count: int, rounds: int) -> float:
    """Microseconds of one `step`, the best of some rounds of `count`."""
    least = float("inf")
    for _ in range(rounds):
        before = time.perf_counter_ns()
        for _ in range(count):
            step()
        least = min(least, time.perf_counter_ns() - before)
    return least / count / 1000


async def best_turn(turn: Callable[[], Awaitable[object]], count: int, rounds: int) -> float:
    """The same of a turn of the loop."""
    least = float("inf")
    for _ in range(rounds):
        before = time.perf_counter_ns()
        for _ in range(count):
            await turn()
        least = min(least, time.perf_counter_ns() - before)
    return least / count / 1000


def calibration() -> None:
    """Some plain Python: attributes, calls, small objects."""
    dict([(number, str(number)) for number in range(20)])  # noqa: C404 -- objects to make and drop are the point


def parsing(requests: Iterator[bytes]) -> Callable[[], object]:
    """Bytes to a request."""
    parser = engines_of("auto").parser(_LIMITS)

    def step() -> None:
        parser.receive_data(next(requests))
        while (event := parser.next_event()) is not END_OF_MESSAGE:
            assert event is not NEED_DATA
        parser.start_next_cycle()

    return step


def scoping() -> Callable[[], object]:
    """A request to a scope."""
    scopes = HttpScopes(client=("127.0.0.1", 5), server=("127.0.0.1", 8000), scheme="http", root_path="")
    request = Request("GET", b"/", b"/", b"", [(b"host", b"127.0.0.1:8000")], "1.1")
    state: dict[str, Any] = {}
    return lambda: scopes.scope(request, state.copy())


def exchanging() -> Callable[[], object]:
    """The application's messages to what is to be sent."""

    def step() -> None:
        exchange = HttpExchange("GET", has_body=False)
        exchange.interpret(_START)
        exchange.interpret(_BODY)

    return step


def encoding() -> Callable[[], object]:
    """What is to be sent to bytes."""
    server_fields = ServerFields()
    server_fields.set_date(_DATE)
    encoder = ResponseEncoder(server_fields)
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(_START)
    part = exchange.interpret(_BODY)
    assert part is not None
    head = part[0]
    assert head is not None
    return lambda: encoder.head(head, 2, False, True, True)


def connected(
    loop: asyncio.AbstractEventLoop, count: int = _CONNECTIONS
) -> tuple[WorkerContext, list[tuple[H1Connection, NullTransport]]]:
    """A worker's context and some connections of it, each with its transport."""
    context = WorkerContext(app, loop, {}, _LIMITS, WebSocketLimits(), engines_of("auto"))
    context.server_fields.set_date(_DATE)
    connections = []
    for _ in range(count):
        connection, transport = H1Connection(context), NullTransport()
        connection.connection_made(transport)
        connections.append((connection, transport))
    return context, connections


def serving(requests: Iterator[bytes], loop: asyncio.AbstractEventLoop) -> Callable[[], Awaitable[object]]:
    """All of it: a turn of the loop in which each of some connections reads a request and writes its response."""
    _context, connections = connected(loop)

    async def turn() -> None:
        for connection, _ in connections:
            connection.data_received(next(requests))
        # Where tasks do not start at once they run in the next turn, and what they wrote is sent after it.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    return turn


async def measure(count: int, rounds: int) -> None:
    """Print the table."""
    loop = asyncio.get_running_loop()
    unit = best(calibration, count, rounds)

    def tell(name: str, took: float) -> None:
        print(f"{name:32} {took:8.2f}  {took / unit:.2f}")

    tell("calibration", unit)
    layers = {
        "parse, tiny": parsing(itertools.repeat(TINY)),
        "parse, browser": parsing(itertools.repeat(BROWSER)),
        "parse, no two alike": parsing(heads()),
        "parse, POST of 1 KB": parsing(itertools.repeat(POST)),
        "scope": scoping(),
        "exchange": exchanging(),
        "encode": encoding(),
    }
    for name, step in layers.items():
        tell(name, best(step, count, rounds))
    requests = {"tiny": TINY, "browser": BROWSER, "10 KB body": PAGE, "POST of 1 KB": POST}
    served = {name: itertools.repeat(request) for name, request in requests.items()}
    for name, traffic in (served | {"no two alike": heads()}).items():
        turn = serving(traffic, loop)
        tell(f"connection, {name}", await best_turn(turn, count // _CONNECTIONS, rounds) / _CONNECTIONS)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=30)
    given = options.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(given.count, given.rounds))
