"""The loads: wrk for HTTP, and an own echo client for WebSockets, each on its own core and bounded in time.

Run as a program it is the WebSocket client: `python load.py PORT BYTES CONNECTIONS SECONDS` prints how many
messages came back.
"""

import base64
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 32
_SLACK = 20.0
"""Seconds a load may take longer than asked before it counts as stuck."""

_BROWSER = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.8,de;q=0.5,fr;q=0.3",
    "Cache-Control": "no-cache",
    "Cookie": "session=1f0c4c0e6f6b4dd2a7b5c1de9d0b7f1e; theme=dark; consent=analytics:0,ads:0; csrftoken=8Jx0QmPz4rTn",
    "DNT": "1",
    "Referer": "https://www.example.org/articles/2026/11/a-rather-long-address?utm_source=newsletter&utm_medium=email",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
}
"""With Host, the fourteen fields of a page request by a browser."""

_POST = """wrk.method = "POST"
wrk.body = string.rep("x", 1024)
wrk.headers["Content-Type"] = "application/octet-stream"
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One load. `websocket_bytes` makes it a WebSocket echo, else it is wrk's."""

    name: str
    title: str
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    script: str = ""
    websocket_bytes: int = 0
    access_log: bool = False


ROWS = (
    Row("tiny", "tiny response"),
    Row("browser", "browser-size headers (14 fields)", headers=tuple(_BROWSER.items())),
    Row("page", "10 KB body", "/page"),
    Row("post", "1 KB POST", "/post", script=_POST),
    Row("stream", "20-chunk stream", "/stream"),
    Row("connect", "new connection per request", headers=(("Connection", "close"),)),
    Row("ws64", "WebSocket echo, 64 B", websocket_bytes=64),
    Row("ws16k", "WebSocket echo, 16 KB", websocket_bytes=16 * 1024),
    Row("log", "tiny response, access log on", access_log=True),
)


class LoadError(Exception):
    """The load did not run, or the server answered wrongly; one line."""


def missing_tools() -> list[str]:
    """What the loads need and this host lacks, with the way to get it."""
    wanted = {"wrk": "apt-get install wrk", "taskset": "apt-get install util-linux"}
    return [
        f"{tool} is not installed; get it with: {how}"
        for tool, how in wanted.items()
        if shutil.which(tool) is None
    ]


def run(row: Row, port: int, seconds: float, core: int, scratch: Path) -> int:
    """Put the load on the server; returns how many requests or messages were answered."""
    if row.websocket_bytes:
        arguments = [str(port), str(row.websocket_bytes), str(CONNECTIONS), str(seconds)]
        return int(_pinned([sys.executable, __file__, *arguments], seconds, core))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
    for name, value in row.headers:
        command += ["-H", f"{name}: {value}"]
    if row.script:
        script = scratch / f"{row.name}.lua"
        script.write_text(row.script)
        command += ["-s", str(script)]
    output = _pinned([*command, f"http://127.0.0.1:{port}{row.path}"], seconds, core)
    if wrong := re.search(r"Non-2xx or 3xx responses: (\d+)", output):
        raise LoadError(f"{wrong[1]} responses were not 2xx")
    return int(re.search(r"(\d+) requests in", output)[1])


def _pinned(command: list[str], seconds: float, core: int) -> str:
    command = ["taskset", "--cpu-list", str(core), *command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _SLACK, check=False)
    except subprocess.TimeoutExpired:
        raise LoadError("the load got stuck") from None
    if done.returncode != 0:
        raise LoadError((done.stderr.strip().splitlines() or ["the load failed"])[-1])
    return done.stdout


class _Echo:
    """One WebSocket connection that sends a message each time the last one is back."""

    def __init__(self, port: int, size: int) -> None:
        self._frame = _client_frame(size)
        self._echo_size = size + (2 if size < 126 else 4)
        self._missing = 0
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answered = 0
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096) or b"\r\n\r\n"
        if not answer.startswith(b"HTTP/1.1 101"):
            raise LoadError(f"no WebSocket: {answer.splitlines()[:1]}")

    def send(self) -> None:
        self._missing = self._echo_size
        self.socket.sendall(self._frame)

    def on_readable(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise LoadError("the server closed a WebSocket")
        self._missing -= len(data)
        if self._missing < 0:
            raise LoadError("the echo is longer than the message")
        if self._missing == 0:
            self.answered += 1
            self.send()


def _client_frame(size: int) -> bytes:
    payload, mask = os.urandom(size), os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return b"\x82" + length + mask + masked


def _websocket_client(port: int, size: int, connections: int, seconds: float) -> int:
    echoes = [_Echo(port, size) for _ in range(connections)]
    poll = select.epoll()
    by_fd = {echo.socket.fileno(): echo for echo in echoes}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    deadline = time.monotonic() + seconds
    for echo in echoes:
        echo.send()
    while time.monotonic() < deadline:
        for fd, _event in poll.poll(1):
            by_fd[fd].on_readable()
    return sum(echo.answered for echo in echoes)


if __name__ == "__main__":
    try:
        print(_websocket_client(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
    except (LoadError, OSError) as error:
        sys.exit(str(error))
