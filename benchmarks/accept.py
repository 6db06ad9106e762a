"""How connections are accepted: while a worker is blocked, how evenly, and at what price. Run by hand:

    python benchmarks/accept.py [--rounds N] [--seconds S]

It needs asgi-master (and, to compare with, uvicorn) in the environment of the interpreter that runs it, and psutil.
One server at a time but for the last part, which runs two in turns. See docs/adr/0003-accept-by-load.md.
"""

import argparse
import contextlib
import http.client
import importlib.util
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil

HERE = Path(__file__).parent
WORKERS = 4
BLOCKED_FOR = 2.0
AT_ONCE = 50
SPREAD_OVER = 64
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
_LIMIT = 20.0

# Imported by every process that has its directory on the path: this one accepts whatever comes.
WITHOUT_GATE = """
import sys
if "asgi_master.worker" in " ".join(sys.orig_argv):
    from asgi_master.worker import accept
    accept._SLACK = 1 << 30
"""


async def app(scope, receive, send):
    """The application: says who it is; `/block` holds the event loop of its worker."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/block":
        time.sleep(BLOCKED_FOR)  # noqa: ASYNC251 -- that is what is measured
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


COMMANDS = {
    "asgi-master": ("asgi_master", "--bind", "127.0.0.1:{port}", "--log-level", "error", "--stall-warn", "0"),
    "uvicorn": (
        "uvicorn",
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        "--no-access-log",
        "--log-level",
        "error",
    ),
}


class Server:
    """A server with `WORKERS` workers, until the end of the `with` block."""

    def __init__(self, name: str, path: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        module, *arguments = [word.format(port=self.port) for word in COMMANDS[name]]
        python_path = os.pathsep.join(filter(None, (path, str(HERE), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                module,
                "--workers",
                str(WORKERS),
                *arguments,
                f"{Path(__file__).stem}:app",
            ],
            env={**os.environ, "PYTHONPATH": python_path},
            stdin=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _LIMIT
        seen: set[bytes] = set()
        while len(seen) < WORKERS and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                # Many at once, or the first worker to be ready takes them all.
                seen |= set(at_once(self.port, WORKERS * 4)[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        root = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
        return sum(one.user + one.system for one in times)


def ask(port: int) -> tuple[float, bytes]:
    """One request on a connection of its own: seconds until the answer is complete, and the worker that gave it."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), _LIMIT) as sock:
        sock.sendall(REQUEST)
        received = b""
        while piece := sock.recv(4096):
            received += piece
    return time.perf_counter() - began, received.rpartition(b"\r\n")[2]


def one_after_another(port: int, seconds: float) -> list[float]:
    """How long each took."""
    deadline = time.perf_counter() + seconds
    took = []
    while time.perf_counter() < deadline:
        took.append(ask(port)[0])
    return took


def at_once(port: int, count: int) -> tuple[list[float], list[bytes]]:
    """The same of so many connections that begin together and stay open until all are answered."""
    connections = []
    took, who = [], []
    began = time.perf_counter()
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT)
        connection.request("GET", "/")
        connections.append(connection)
    for connection in connections:
        who.append(connection.getresponse().read())
        took.append(time.perf_counter() - began)
    for connection in connections:
        connection.close()
    return took, who


@contextlib.contextmanager
def blocked(port: int) -> Iterator[None]:
    """One worker blocked, from now for `BLOCKED_FOR` seconds."""

    def block() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT)
        connection.request("GET", "/block")
        connection.getresponse().read()
        connection.close()

    thread = threading.Thread(target=block)
    thread.start()
    time.sleep(0.05)  # until it was accepted and began
    yield
    thread.join()


def told(took: list[float]) -> str:
    ordered = sorted(took)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    late = sum(one > 0.020 for one in took)
    return (
        f"median {statistics.median(ordered) * 1e3:6.2f} ms, p99 {p99 * 1e3:7.2f} ms, "
        f"worst {ordered[-1] * 1e3:8.2f} ms, {late} of {len(took)} above 20 ms"
    )


def measure_blocked(name: str, rounds: int) -> None:
    print(f"\n{name}, {WORKERS} workers: time until a new connection is answered")
    with Server(name) as server:
        free: list[float] = []
        held: list[float] = []
        free_burst: list[float] = []
        held_burst: list[float] = []
        for _ in range(rounds):
            free += one_after_another(server.port, 1.0)
            with blocked(server.port):
                held += one_after_another(server.port, BLOCKED_FOR * 0.75)
            free_burst += at_once(server.port, AT_ONCE)[0]
            with blocked(server.port):
                held_burst += at_once(server.port, AT_ONCE)[0]
        print(f"  one by one, all workers free:    {told(free)}")
        print(f"  one by one, one worker blocked:  {told(held)}")
        print(f"  {AT_ONCE} at once, all workers free:    {told(free_burst)}")
        print(f"  {AT_ONCE} at once, one worker blocked:  {told(held_burst)}")


def measure_spread(name: str, rounds: int) -> None:
    """Keep-alive connections opened at once, and who serves them."""
    ratios = []
    for _ in range(rounds):
        with Server(name) as server:
            connections = [
                http.client.HTTPConnection("127.0.0.1", server.port, timeout=_LIMIT)
                for _ in range(SPREAD_OVER)
            ]
            counts: Counter[bytes] = Counter()
            for connection in connections:
                connection.connect()
            for connection in connections:
                connection.request("GET", "/")
                counts[connection.getresponse().read()] += 1
            for connection in connections:
                connection.close()
            ratios.append(max(counts.values()) / (SPREAD_OVER / WORKERS))
    listed = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(f"{name}: {SPREAD_OVER} connections over {WORKERS} workers, fullest over mean: {listed}")


def measure_gate(rounds: int, seconds: float) -> None:
    """A new connection for each request, with the gate and without, in turns."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "sitecustomize.py").write_text(WITHOUT_GATE)
        with Server("asgi-master") as gated, Server("asgi-master", directory) as free:
            costs: dict[str, list[float]] = {"on": [], "off": []}
            rates: dict[str, list[float]] = {"on": [], "off": []}
            for _ in range(rounds):
                for which, server in (("on", gated), ("off", free)):
                    before = server.cpu_seconds()
                    answers = hammer(server.port, seconds)
                    costs[which].append((server.cpu_seconds() - before) / answers)
                    rates[which].append(answers / seconds)
    print("\na new connection for each request, 16 clients:")
    for which in ("on", "off"):
        cost, rate = statistics.median(costs[which]), statistics.median(rates[which])
        print(
            f"  gate {which:3}: {cost * 1e6:6.1f} us CPU a request, {rate:7.0f} requests/s (medians of {rounds})"
        )
    cpu = statistics.median(on / off for on, off in zip(costs["on"], costs["off"], strict=True))
    rate = statistics.median(on / off for on, off in zip(rates["on"], rates["off"], strict=True))
    print(f"  on / off: CPU {cpu:.3f}, rate {rate:.3f}")


def hammer(port: int, seconds: float, clients: int = 16) -> int:
    """How many requests were answered."""
    answers = [0] * clients

    def client(number: int) -> None:
        answers[number] = len(one_after_another(port, seconds))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn of the last part")
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs")
    names = [name for name, command in COMMANDS.items() if importlib.util.find_spec(command[0])]
    for name in names:
        measure_blocked(name, arguments.rounds)
    print()
    for name in names:
        measure_spread(name, arguments.rounds)
    measure_gate(arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
