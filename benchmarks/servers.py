"""The servers: how each is started on some cores, and what its processes use."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import processes
from environment import HERE, REPOSITORY, Environment

_BOOT_LIMIT = 30.0
_STOP_LIMIT = 10.0
_PROBE_LIMIT = 5.0
_PROBE_PERIOD = 0.002
_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


class Listener(StrEnum):
    """What a server listens on."""

    TCP = "tcp"
    TLS = "tls"
    UNIX = "unix"


class StartError(Exception):
    """The server does not start; one line."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server: uvloop where it has the choice, its access log off unless a workload wants it."""

    name: str
    packages: tuple[str, ...]
    """To install, as pip takes them; the first is the server's own, and what `version_of` names."""
    module: str
    """Run as `python -m MODULE`."""
    arguments: tuple[str, ...]
    """`{workers}` is replaced; the address and the application follow."""
    tcp: tuple[str, ...]
    """To listen on `{port}`."""
    unix: tuple[str, ...] = ()
    """To listen on the Unix socket `{path}`."""
    tls: tuple[str, ...] = ()
    """To listen on `{port}` with TLS, by `{certfile}` and `{keyfile}`."""
    quiet: tuple[str, ...] = ()
    access_log: tuple[str, ...] | None = None
    """What turns the access log on; `None` if it has none."""
    http2: bool = False
    """Whether it speaks HTTP/2, in the clear and by ALPN, on the port of HTTP/1.1."""
    workloads: frozenset[str] | None = None
    """The only ones that it can answer, by name; `None` if it serves applications, and so all of them."""

    @property
    def package(self) -> str:
        """The server's own package."""
        return self.module.replace("_", "-")

    def address(self, listener: Listener) -> tuple[str, ...]:
        """The arguments for it. Raises `StartError` if the server has no such listener."""
        match listener:
            case Listener.TCP:
                return self.tcp
            case Listener.UNIX if self.unix:
                return self.unix
            case Listener.TLS if self.tls:
                return self.tls
        raise StartError(f"has no {listener} listener")


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


ASGI_MASTER = Server(
    "asgi-master",
    (str(REPOSITORY),),
    "asgi_master",
    _words("--workers {workers} --log-level warning"),
    tcp=_words("--bind 127.0.0.1:{port}"),
    unix=_words("--bind unix:{path}"),
    tls=_words("--bind https://127.0.0.1:{port} --certfile {certfile} --keyfile {keyfile}"),
    access_log=("--access-log",),
    http2=True,
)
UVICORN = Server(
    "uvicorn",
    ("uvicorn[standard]", "websockets", "uvloop", "httptools"),
    "uvicorn",
    _words("--workers {workers} --loop uvloop --http httptools"),
    tcp=_words("--host 127.0.0.1 --port {port}"),
    unix=_words("--uds {path}"),
    tls=_words("--host 127.0.0.1 --port {port} --ssl-certfile {certfile} --ssl-keyfile {keyfile}"),
    quiet=("--no-access-log", "--log-level", "warning"),
    access_log=("--access-log", "--log-level", "info"),
)
GUNICORN = Server(
    "gunicorn",
    ("gunicorn[fast]", "uvloop"),
    "gunicorn",
    _words("-k asgi --asgi-loop uvloop --workers {workers}"),
    tcp=_words("--bind 127.0.0.1:{port}"),
    unix=_words("--bind unix:{path}"),
    tls=_words("--bind 127.0.0.1:{port} --certfile {certfile} --keyfile {keyfile}"),
    quiet=("--log-level", "warning"),
    access_log=("--access-logfile", "-"),
)
GUNICORN_PRELOAD = Server(
    "gunicorn --preload",
    ("gunicorn", "uvicorn-worker", "uvicorn[standard]"),
    "gunicorn",
    _words("--preload -k uvicorn_worker.UvicornWorker --workers {workers}"),
    tcp=_words("--bind 127.0.0.1:{port}"),
    quiet=("--log-level", "warning"),
)
"""Preloading, with uvicorn's worker class."""
GRANIAN = Server(
    "granian",
    ("granian[uvloop]",),
    "granian",
    _words("--interface asgi --workers {workers} --loop uvloop"),
    tcp=_words("--host 127.0.0.1 --port {port}"),
    unix=_words("--uds {path}"),
    tls=_words("--host 127.0.0.1 --port {port} --ssl-certificate {certfile} --ssl-keyfile {keyfile}"),
    quiet=("--log-level", "warning"),
    access_log=("--access-log",),
    http2=True,
)
HYPERCORN = Server(
    "hypercorn",
    ("hypercorn", "uvloop"),
    "hypercorn",
    _words("--worker-class uvloop --workers {workers}"),
    tcp=_words("--bind 127.0.0.1:{port}"),
    unix=_words("--bind unix:{path}"),
    tls=_words("--bind 127.0.0.1:{port} --certfile {certfile} --keyfile {keyfile}"),
    quiet=("--log-level", "warning"),
    access_log=("--access-logfile", "-"),
    http2=True,
)
H2CORN = Server(
    "h2corn",
    ("h2corn", "uvloop"),
    "h2corn",
    _words("--workers {workers}"),
    tcp=_words("--bind 127.0.0.1:{port}"),
    unix=_words("--bind unix:{path}"),
    tls=_words("--bind 127.0.0.1:{port} --certfile {certfile} --keyfile {keyfile}"),
    quiet=("--no-access-log",),
    access_log=("--access-log",),
    http2=True,
)
FIXED_REPLY = Server(
    "fixed reply",
    ("uvloop",),
    "fixed_reply",
    (),
    tcp=("{port}",),
    workloads=frozenset({"tiny", "browser", "varied"}),
)
"""Not a server: what loop and kernel alone cost."""
SERVERS = (ASGI_MASTER, UVICORN, GUNICORN, GRANIAN, HYPERCORN, H2CORN, FIXED_REPLY)
QUICK = (ASGI_MASTER, UVICORN, GRANIAN, H2CORN)
"""For a short run."""
BASELINE = UVICORN.name


class Running:
    """A server that runs, all its processes on the given cores."""

    def __init__(
        self,
        server: Server,
        environment: Environment,
        cores: Sequence[int],
        *,
        workers: int = 1,
        app: str = "app:app",
        listener: Listener = Listener.TCP,
        scratch: Path | None = None,
        access_log: bool = False,
        options: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`options` are further ones of the server; `variables` further ones of its environment.

        The Unix socket and the certificate, of those listeners, are in `scratch`. Raises `StartError`.
        """
        self.server = server
        self.listener = listener
        self.port = _free_port()
        self._path = "" if scratch is None else f"{scratch}/{self.port}.sock"
        extra = server.access_log if access_log and server.access_log else server.quiet
        values = {"port": self.port, "workers": workers, "path": self._path}
        if listener is Listener.TLS:
            values |= _certificate(scratch)
        arguments = [word.format_map(values) for word in (*server.arguments, *server.address(listener))]
        command = [str(environment.python), "-m", server.module, *arguments, *extra, *options, app]
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            ["taskset", "--cpu-list", ",".join(str(core) for core in cores), *command],
            cwd=HERE,
            env=environment.variables() | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if access_log else None,  # else it may tell why it does not start
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def wait_ready(self, limit: float = _BOOT_LIMIT) -> float:
        """Until it answers; returns the seconds from its start. Raises `StartError`."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise StartError(f"does not start: exit status {self._process.returncode}")
            with contextlib.suppress(OSError), self._connect() as probe:
                probe.sendall(_REQUEST)
                if probe.recv(64).startswith(b"HTTP/1.1 200"):
                    return time.monotonic() - self.started_at
            time.sleep(_PROBE_PERIOD)
        raise StartError(f"does not answer within {limit:g} s")

    @property
    def address(self) -> str:
        """HOST:PORT, or the path of the Unix socket."""
        return self._path if self.listener is Listener.UNIX else f"127.0.0.1:{self.port}"

    def _connect(self) -> socket.socket:
        if self.listener is Listener.UNIX:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(_PROBE_LIMIT)
            sock.connect(self._path)
            return sock
        sock = socket.create_connection(("127.0.0.1", self.port), _PROBE_LIMIT)
        if self.listener is Listener.TCP:
            return sock
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(sock)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return processes.cpu_seconds(processes.tree(self._process.pid))

    def memory(self) -> int:
        """The PSS of all its processes, in bytes."""
        return processes.proportional_bytes(processes.tree(self._process.pid))

    def signal(self, signum: signal.Signals) -> None:
        """Signal its first process."""
        self._process.send_signal(signum)

    def stop(self, limit: float = _STOP_LIMIT) -> float | None:
        """Terminate it; returns the seconds it took, or `None` if it had to be killed after `limit`."""
        members = processes.tree(self._process.pid)
        begin = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired:
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            return None
        return time.monotonic() - begin


def install(environment: Environment, servers: Sequence[Server], *further: str) -> dict[str, str]:
    """Install servers and further packages; returns why some did not install, by server."""
    failed = {}
    for server in servers:
        print(f"installing {server.name}", flush=True)
        if (why := environment.install([*server.packages, *further])) is not None:
            failed[server.name] = why
    return failed


def versions(environment: Environment, servers: Sequence[Server], *further: str) -> dict[str, str]:
    """Of the servers' and further packages, by package."""
    names = (server.package for server in servers if server is not FIXED_REPLY)
    return {package: environment.version(package) for package in dict.fromkeys([*names, "uvloop", *further])}


def _certificate(scratch: Path) -> dict[str, str]:
    """The files of a certificate and its key: elliptic, as public authorities issue them by default."""
    files = {"certfile": f"{scratch}/server.pem", "keyfile": f"{scratch}/server.key"}
    if not Path(files["keyfile"]).exists():
        command = ["openssl", *_words("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes")]
        command += ["-days", "90", "-subj", "/CN=localhost"]
        command += ["-out", files["certfile"], "-keyout", files["keyfile"]]
        subprocess.run(command, check=True, capture_output=True)
    return files


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
