"""A fleet that does all that a fleet can do, and that must be well again after trouble."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import connect as connect_websocket

from asgi_master.control.client import Reply, ask
from asgi_master.errors import AsgiMasterError
from certificates import Authority
from fleet import Fleet, wait_until
from syscall_faults import cpu_seconds

WORKERS = 2
WELL_WITHIN = 120.0
"""Seconds until everything is right again; the fleet's own deadlines are shorter."""
QUICK = 2.0
"""Seconds that one answer may take while there is trouble."""
AUTHORITY = Authority()


class Drilled:
    """It serves on TCP, TLS and a Unix socket, answers questions, notifies a service manager and watches certificates."""

    def __init__(self, fleet: Fleet, traced: Sequence[str] = ()) -> None:
        """Start it; `traced` is the beginning of its command line."""
        self.fleet = fleet
        self.directory = fleet.directory
        AUTHORITY.write(self.directory, "site")
        self._trust = AUTHORITY.client()
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(str(self.directory / "notify"))
        threading.Thread(target=self._listen, daemon=True).start()
        fleet.expect_log("")
        fleet.serve(
            "probe:app",
            *("--bind", "https://127.0.0.1:0", "--bind", f"unix:{self.directory}/app.sock"),
            *("--certfile", "site.pem", "--keyfile", "site.key", "--admin-bind", "127.0.0.1:0"),
            *("--control-socket", "control.sock", "--watch-time", "0.1", "--access-log"),
            *("--boot-timeout", "60", "--backoff-cap", "1", "--max-worker-memory", "4000000000"),
            *("--drain-timeout", "4", "--shutdown-timeout", "1", "--hang-timeout", "8"),
            workers=WORKERS,
            program=(*traced, sys.executable, "-m", "asgi_master"),
            env={
                "NOTIFY_SOCKET": str(self.directory / "notify"),
                "WATCHDOG_USEC": "2000000",
                "ASGI_MASTER_ROLLBACK_WINDOW": "1",
            },
        )
        self.admin = fleet.wait_line(r"health and metrics on (\S+)")[1]

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while self._told.recv(65536):
                pass

    def control(self, method: str, target: str, body: Any = None, timeout: float = QUICK) -> Reply:
        return ask(self.directory / "control.sock", method, target, body, timeout=timeout)

    # -- what is asked of it ----------------------------------------------------------------------------------

    def stir(self, victim: int | None = None) -> None:
        """Ask for everything at once; whatever fails, fails."""
        if victim is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        for signum in (signal.SIGHUP, signal.SIGTTIN):
            self.fleet.send(signum)
        self._all_at_once(
            lambda: self.control("GET", "/status"),
            lambda: self.control("POST", "/stacks"),
            lambda: self._get(f"{self.admin}/metrics"),
            lambda: self._get(f"{self.admin}/readyz"),
            lambda: self.control("POST", "/scale?wait", {"workers": WORKERS}),
            *self.requests(),
        )
        AUTHORITY.write(self.directory, "site")

    def busy(self, seconds: float) -> None:
        """Requests of every kind, again and again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._all_at_once(*self.requests())

    def zygote(self) -> int:
        """The pid of the zygote that workers come from, once there is one alone."""
        return wait_until(lambda: len(found := self.fleet.zygotes()) == 1 and found[0].pid, "one zygote")

    def requests(self) -> list[Callable[[], object]]:
        plain, secure = self.fleet.urls[:2]
        return [
            lambda: self._get(f"{plain}/who"),
            lambda: self._get(f"{plain}/stream"),
            lambda: self._get(f"{secure}/who"),
            lambda: self._get("http://unix/who", uds=str(self.directory / "app.sock")),
            lambda: self._websocket(plain.replace("http", "ws", 1)),
        ]

    def _all_at_once(self, *questions: Callable[[], object]) -> None:
        def quietly(question: Callable[[], object]) -> None:
            with contextlib.suppress(Exception):
                question()

        with ThreadPoolExecutor(len(questions)) as pool:
            list(pool.map(quietly, questions))

    def _get(self, url: str, uds: str | None = None) -> bytes:
        parts = urlsplit(url)
        if uds is not None:
            connection: HTTPConnection = _UnixConnection(uds)
        elif parts.scheme == "https":
            connection = HTTPSConnection(parts.netloc, timeout=QUICK, context=self._trust)
        else:
            connection = HTTPConnection(parts.netloc, timeout=QUICK)
        with contextlib.closing(connection):
            return _answer(connection, parts.path)

    def _websocket(self, url: str) -> None:
        with connect_websocket(f"{url}/", proxy=None, open_timeout=QUICK, close_timeout=QUICK) as websocket:
            websocket.send("hi")
            assert websocket.recv(QUICK) == "hi"

    # -- what it must be like afterwards ----------------------------------------------------------------------

    def status(self) -> dict[str, Any] | None:
        try:
            reply = self.control("GET", "/status")
        except AsgiMasterError:
            return None
        return reply.body if reply.status == 200 else None

    def ready(self) -> list[dict[str, Any]]:
        status = self.status() or {"phase": "", "workers": []}
        workers: list[dict[str, Any]] = [worker for worker in status["workers"] if worker["state"] == "ready"]
        if status["phase"] != "steady":
            return []
        return workers if [worker["slot"] for worker in workers] == list(range(WORKERS)) else []

    def recovered(self) -> None:
        """Right again, without anybody's help but the number of workers that is wanted."""

        def scaled() -> bool:
            with contextlib.suppress(AsgiMasterError):
                return self.control("POST", "/scale", {"workers": WORKERS}).status == 202
            return False

        wait_until(scaled, "the control socket answers", WELL_WITHIN)
        wait_until(self.ready, "the right number of workers is ready", WELL_WITHIN)
        wait_until(self.all_serve, "every ready worker answers", WELL_WITHIN)
        self.judge_log()

    def all_serve(self) -> bool:
        """Whether each worker that counts as ready answers: of many connections at once each gets some."""
        wanted = {worker["pid"] for worker in self.ready()}
        with contextlib.ExitStack() as stack:
            found = set()
            for _ in range(8 * WORKERS):
                connection = HTTPConnection(urlsplit(self.fleet.url).netloc, timeout=QUICK)
                stack.callback(connection.close)
                try:
                    found.add(json.loads(_answer(connection, "/who"))["pid"])
                except (OSError, HTTPException):
                    return False
            return bool(wanted) and found == wanted

    def judge_log(self) -> None:
        text = re.sub(r"\d+", "N", "\n".join(self.fleet.lines))
        tracebacks = Counter(
            entry.partition("Traceback")[2] for entry in text.split("\nN-N-N ") if "Traceback" in entry
        )
        twice = [trace for trace, count in tracebacks.items() if count > 1]
        assert not twice, "said more than once:\n" + twice[0]

    def calm(self, pids: list[int]) -> None:
        """No process spins."""
        before = {pid: cpu_seconds(pid) for pid in pids}
        began = time.monotonic()
        wait(0.3)
        took = time.monotonic() - began
        for pid, seconds in before.items():
            share = (cpu_seconds(pid) - seconds) / took
            assert share < 0.5, f"process {pid} uses {share:.0%} of a CPU"

    def still_reloads(self) -> None:
        reply = self.control("POST", "/reload?wait", timeout=WELL_WITHIN)
        assert reply.status == 200, reply.body
        wait_until(self.ready, "ready after a reload", WELL_WITHIN)
        for question in self.requests():
            question()
        self._get(f"{self.admin}/metrics")
        self._get(f"{self.admin}/readyz")


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(QUICK)
        self.sock.connect(self._path)


def _answer(connection: HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, (path, response.status)
    return body


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)
