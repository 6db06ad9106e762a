"""The servers: how each is installed, started on one core, and how much CPU its processes have used."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent

_BOOT_LIMIT = 30.0
_STOP_LIMIT = 10.0
_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """One server: one worker, uvloop where it has the choice, its access log off unless a row wants it."""

    name: str
    """Also of its package on PyPI."""
    packages: tuple[str, ...]
    module: str
    """Run as `python -m MODULE`."""
    arguments: tuple[str, ...]
    """`{port}` is replaced; the application comes last."""
    quiet: tuple[str, ...] = ()
    access_log: tuple[str, ...] | None = None
    """What turns the access log on; `None` if it has none."""


SERVERS = (
    Server(
        "asgi-master",
        (str(REPOSITORY),),
        "asgi_master",
        ("--workers", "1", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "app:app"),
        access_log=("--access-log",),
    ),
    Server(
        "uvicorn",
        ("uvicorn[standard]", "websockets", "uvloop", "httptools"),
        "uvicorn",
        ("--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools", "app:app"),
        quiet=("--no-access-log", "--log-level", "warning"),
        access_log=("--access-log", "--log-level", "info"),
    ),
    Server(
        "gunicorn",
        ("gunicorn[fast]", "uvloop"),
        "gunicorn",
        ("-k", "asgi", "--asgi-loop", "uvloop", "--workers", "1", "--bind", "127.0.0.1:{port}", "app:app"),
        quiet=("--log-level", "warning"),
        access_log=("--access-logfile", "-"),
    ),
    Server(
        "granian",
        ("granian[uvloop]",),
        "granian",
        (
            "--interface",
            "asgi",
            "--workers",
            "1",
            "--loop",
            "uvloop",
            "--host",
            "127.0.0.1",
            "--port",
            "{port}",
            "app:app",
        ),
        quiet=("--log-level", "warning"),
        access_log=("--access-log",),
    ),
    Server(
        "hypercorn",
        ("hypercorn", "uvloop"),
        "hypercorn",
        ("--worker-class", "uvloop", "--workers", "1", "--bind", "127.0.0.1:{port}", "app:app"),
        quiet=("--log-level", "warning"),
        access_log=("--access-logfile", "-"),
    ),
    Server(
        "h2corn",
        ("h2corn", "uvloop"),
        "h2corn",
        ("--bind", "127.0.0.1:{port}", "--workers", "1", "app:app"),
        quiet=("--no-access-log",),
        access_log=("--access-log",),
    ),
)
BASELINE = "uvicorn"


class Environment:
    """A throw-away virtual environment with the servers in it; kept in the cache for the next run."""

    def __init__(self, directory: Path, python: str) -> None:
        self.directory = directory
        self.python = directory / "bin" / "python"
        if not self.python.exists():
            subprocess.run([python, "-m", "venv", str(directory)], check=True)

    def install(self, server: Server) -> str | None:
        """Install a server; returns why not, in one line, if that fails."""
        command = [
            str(self.python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--upgrade",
        ]
        done = subprocess.run([*command, *server.packages], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return None
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        return f"does not install: {lines[-1].removeprefix('ERROR: ')}"

    def version(self, package: str) -> str:
        ask = f"from importlib.metadata import version; print(version({package!r}))"
        done = subprocess.run([str(self.python), "-c", ask], capture_output=True, text=True, check=False)
        return done.stdout.strip() or "-"


class Running:
    """A server that runs, all its processes pinned to one core."""

    def __init__(self, server: Server, environment: Environment, core: int, *, access_log: bool) -> None:
        self.server = server
        self.port = _free_port()
        extra = server.access_log if access_log and server.access_log else server.quiet
        arguments = [argument.format(port=self.port) for argument in server.arguments]
        # The options first, the application last.
        command = [str(environment.python), "-m", server.module, *arguments[:-1], *extra, arguments[-1]]
        self._process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command],
            cwd=HERE,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(HERE)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if access_log else None,  # else it may tell why it does not start
            start_new_session=True,
        )

    def wait_ready(self) -> str | None:
        """Until it answers; returns why not, in one line."""
        deadline = time.monotonic() + _BOOT_LIMIT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return f"does not start: exit status {self._process.returncode}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                probe.settimeout(5)
                if probe.recv(64).startswith(b"HTTP/1.1 200"):
                    return None
            time.sleep(0.05)
        return f"does not answer within {_BOOT_LIMIT:g} s"

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return sum(_cpu_seconds(pid) for pid in _tree(self._process.pid))

    def stop(self) -> None:
        processes = _tree(self._process.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _tree(root: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(entry)[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _cpu_seconds(pid: int) -> float:
    try:
        fields = _stat(Path(f"/proc/{pid}"))
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK


def _stat(process: Path) -> list[str]:
    """The fields after the program's name, which may hold anything."""
    return (process / "stat").read_text().rpartition(")")[2].split()
