"""How long a save takes in development, until the first answer of the new code; and what clients see until then.

    python benchmarks/save.py [--saves 15] [--modules 31]

Prints a table. The servers run at the same time and are saved for in turn; the others are stopped meanwhile, so that
they take no time from it. Needs fastapi, sqlalchemy, pandas, uvicorn and watchfiles.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PATIENCE = 60.0
"""Seconds for a start, or a save."""
_PAUSE = 0.002
_AFTER = 30
"""Requests after the first answer of the new code: none may be answered by the old."""

_MAIN = """\
from fastapi import FastAPI
import pandas, sqlalchemy.orm
import own
from own.version import VERSION
app = FastAPI()
@app.get("/")
async def home() -> str:
    return VERSION
"""


@dataclass
class Measured:
    """A server, and what was seen of it."""

    name: str
    command: list[str]
    port: int
    process: "subprocess.Popen[bytes] | None" = None
    took: list[float] = field(default_factory=list)
    old: int = 0
    refused: int = 0
    old_after_new: int = 0
    memory: float = 0.0

    def family(self) -> list[psutil.Process]:
        """Its processes."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def signal(self, signum: signal.Signals) -> None:
        """Send it to each of its processes."""
        for process in self.family():
            process.send_signal(signum)


def _answer(port: int) -> str:
    """The version that answers; raises `OSError` if nothing does."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    if not received:
        raise ConnectionResetError
    return received.rpartition(b"\r\n\r\n")[2].decode().strip('"')


def _start(server: Measured, directory: Path) -> None:
    with (directory / f"{server.name}.log").open("wb") as log:
        server.process = subprocess.Popen(server.command, cwd=directory, stdout=log, stderr=log)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            _answer(server.port)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"{server.name} does not answer")


def _save(server: Measured, file: Path, version: str) -> None:
    began = time.perf_counter()
    file.write_text(f'VERSION = "{version}"\n')
    while time.perf_counter() - began < _PATIENCE:
        try:
            if _answer(server.port) == version:
                break
            server.old += 1
        except OSError:
            server.refused += 1
        time.sleep(_PAUSE)
    server.took.append(time.perf_counter() - began)
    server.old_after_new += sum(_answer(server.port) != version for _ in range(_AFTER))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--saves", type=int, default=15)
    parser.add_argument("--modules", type=int, default=31)
    options = parser.parse_args()
    run = [sys.executable, "-m"]
    servers = [
        Measured(
            "asgi-master", [*run, "asgi_master", "--reload", "--bind", "127.0.0.1:8741", "main:app"], 8741
        ),
        Measured(
            "uvicorn", [*run, "uvicorn", "--reload", "--no-access-log", "--port", "8742", "main:app"], 8742
        ),
    ]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        own = directory / "own"
        own.mkdir()
        names = [f"part{number}" for number in range(options.modules - 2)]
        (own / "__init__.py").write_text("".join(f"from own import {part}\n" for part in names))
        for part in names:
            (own / f"{part}.py").write_text("import pandas\n\n\ndef work(x):\n    return x\n" * 5)
        (directory / "main.py").write_text(_MAIN)
        (own / "version.py").write_text('VERSION = "0"\n')
        try:
            for server in servers:
                _start(server, directory)
            time.sleep(10)  # the warm base imports
            for number in range(options.saves):
                for server in servers:
                    others = [other for other in servers if other is not server]
                    for other in others:
                        other.signal(signal.SIGSTOP)
                    _save(server, own / "version.py", f"{server.name} {number}")
                    for other in others:
                        other.signal(signal.SIGCONT)
                    time.sleep(4)  # the others reload, too
            for server in servers:
                server.memory = sum(process.memory_full_info().pss for process in server.family()) / 1e6
        finally:
            for server in servers:
                if server.process is not None:
                    server.process.terminate()
                    server.process.wait(_PATIENCE)
    _print(servers)


def _print(servers: list[Measured]) -> None:
    reference = statistics.median(servers[-1].took)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| server | median s | ratio | least | most | old answers | refused | old after new | PSS MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for server in servers:
        median = statistics.median(server.took)
        print(
            f"| {server.name} | {median:.3f} | {median / reference:.2f} | {min(server.took):.3f} "
            f"| {max(server.took):.3f} | {server.old} | {server.refused} | {server.old_after_new} "
            f"| {server.memory:.0f} |"
        )


if __name__ == "__main__":
    main()
