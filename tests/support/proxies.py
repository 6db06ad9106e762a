"""Real nginx and haproxy as unprivileged child processes, with the configurations that are shipped."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet import PATIENCE, REPOSITORY, wait_until
from ports import reserved_port

DEPLOY = REPOSITORY / "deploy"
_NGINX_SERVER = "server 127.0.0.1:8000;"
_HAPROXY_SERVER = "server app 127.0.0.1:8000 check port 8001 inter 2s fall 3 rise 1"
_PASSTHROUGH_SERVER = "server app 127.0.0.1:8000 send-proxy-v2 check inter 2s fall 3 rise 1"
_NGINX_MAIN = """\
daemon off; worker_processes 1; pid {place}/nginx.pid; error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    include {place}/asgi-master.conf;
}}
"""

_NGINX_GRPC = """\
upstream app {{ server {server}; keepalive 32; keepalive_timeout 60s; }}
server {{
    {listen}
    client_max_body_size 32m;
    location / {{
        grpc_pass grpc://app;
        grpc_set_header Host $http_host;
        grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        grpc_set_header X-Forwarded-Proto $scheme;
    }}
}}
"""


def render(name: str, replacements: dict[str, str]) -> str:
    """A shipped configuration with other addresses."""
    text = (DEPLOY / name).read_text()
    for old, new in replacements.items():
        lines = [line for line in text.splitlines() if old in line and not line.lstrip().startswith("#")]
        assert len(lines) == 1, f"{name} does not say {old!r} once"
        text = text.replace(lines[0], lines[0].replace(old, new))
    return text


@dataclass
class Proxies:
    """Starts proxies, and ends them after the test."""

    place: Path
    """Where they may write, and find the Unix sockets of the application."""
    into: list[str] = field(default_factory=list)
    """What runs a command in the network namespace of the proxies; as we are, if empty."""
    _running: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)
    _ports: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def port(self) -> int:
        """A port to listen on that stays free for the proxy, or for the application, until the end."""
        return self._ports.enter_context(reserved_port())

    def nginx(self, listen: list[str], server: str) -> None:
        """`listen`: its addresses; `server`: the application as nginx names it."""
        listening = {
            "listen 80;": f"listen {listen[0]};",
            "listen [::]:80;": "".join(f"listen {a};" for a in listen[1:]),
        }
        text = render("nginx/asgi-master.conf", {**listening, _NGINX_SERVER: f"server {server};"})
        (self.place / "asgi-master.conf").write_text(text)
        (self.place / "nginx.conf").write_text(_NGINX_MAIN.format(place=self.place))
        self._start("nginx", "-e", "stderr", "-p", f"{self.place}/", "-c", f"{self.place}/nginx.conf")

    def haproxy(self, listen: list[str], server: str) -> None:
        """`server`: the application, and how it is checked, as haproxy names it."""
        self._haproxy("haproxy/haproxy.cfg", listen, {_HAPROXY_SERVER: f"server app {server}"})

    def nginx_by_slot(self, listen: list[str], _server: str = "") -> None:
        """The slots' Unix sockets, in `place`."""
        text = (DEPLOY / "nginx/sticky.conf").read_text().replace("/run/app/", f"{self.place}/")
        text = text.replace("listen 80;", f"listen {listen[0]};")
        (self.place / "asgi-master.conf").write_text(text)
        (self.place / "nginx.conf").write_text(_NGINX_MAIN.format(place=self.place))
        self._start("nginx", "-e", "stderr", "-p", f"{self.place}/", "-c", f"{self.place}/nginx.conf")

    def haproxy_by_slot(self, listen: list[str], _server: str = "") -> None:
        """The slots' Unix sockets, in `place`."""
        text = (DEPLOY / "haproxy/sticky.cfg").read_text().replace("/run/app/", f"{self.place}/")
        (self.place / "haproxy.cfg").write_text(text.replace("bind :80", f"bind {listen[0]}"))
        self._start("haproxy", "-db", "-f", f"{self.place}/haproxy.cfg")

    def nginx_grpc(self, listen: list[str], server: str) -> None:
        """nginx as a client of HTTP/2 without TLS, which it is by `grpc_pass`; as docs/howto/http2.md has it."""
        (self.place / "asgi-master.conf").write_text(
            _NGINX_GRPC.format(listen="".join(f"listen {address};" for address in listen), server=server)
        )
        (self.place / "nginx.conf").write_text(_NGINX_MAIN.format(place=self.place))
        self._start("nginx", "-e", "stderr", "-p", f"{self.place}/", "-c", f"{self.place}/nginx.conf")

    def passthrough(self, listen: list[str], server: str) -> None:
        """Likewise, with the version of the PROXY protocol that is sent."""
        self._haproxy("haproxy/passthrough.cfg", listen, {_PASSTHROUGH_SERVER: f"server app {server}"})

    def _haproxy(self, name: str, listen: list[str], replacements: dict[str, str]) -> None:
        binds = {"bind :80": "\n".join(f"bind {address}" for address in listen)}
        (self.place / "haproxy.cfg").write_text(render(name, {**binds, **replacements}))
        self._start("haproxy", "-db", "-f", f"{self.place}/haproxy.cfg")

    @property
    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for _process, path in self._running)

    def _start(self, program: str, *arguments: str) -> None:
        path = self.place / f"{program}.log"
        nobody = pwd.getpwnam("nobody")
        unprivileged: dict[str, Any] = (
            {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        command = [find(program), *arguments]
        if self.into:
            # To enter a namespace takes privileges, which are dropped there.
            command = [
                *self.into,
                "setpriv",
                "--reuid",
                "nobody",
                "--regid",
                _group(),
                "--clear-groups",
                *command,
            ]
            unprivileged = {}
        with path.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.place, **unprivileged
            )
        self._running.append((process, path))

    def wait_listening(self, port: int) -> None:
        def listening() -> bool:
            with (
                contextlib.suppress(ConnectionRefusedError),
                socket.create_connection(("127.0.0.1", port), 1),
            ):
                return True
            assert all(process.poll() is None for process, _ in self._running), self.log
            return False

        wait_until(listening, "the proxy listens")

    def close(self) -> None:
        for process, _path in self._running:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE)
        self._ports.close()
        print(self.log[-2000:])  # pytest shows it for tests that fail


def find(program: str) -> str:
    """The program's path; the test is skipped where it is not installed."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def _group() -> str:
    return str(pwd.getpwnam("nobody").pw_gid)


def run(*command: str) -> str:
    """What a short command prints; nothing if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else ""


class TwoHosts:
    """Two network namespaces and a wire between them. Nothing of it is in the network of this machine."""

    FRONT, CLIENT = "10.77.1.1", "10.77.1.2"
    FRONT_6, CLIENT_6 = "fd77:1::1", "fd77:1::2"

    def __init__(self) -> None:
        """Raises `OSError` where this is not allowed."""
        self._holders = [self._hold(), self._hold()]
        self.on_front, self.on_client = (
            ["nsenter", f"--net=/proc/{holder.pid}/ns/net"] for holder in self._holders
        )
        self._configure(
            self.on_front,
            "link",
            "add",
            "wire",
            "type",
            "veth",
            "peer",
            "name",
            "wire",
            "netns",
            str(self._holders[1].pid),
        )
        for enter, address, address_6 in (
            (self.on_front, self.FRONT, self.FRONT_6),
            (self.on_client, self.CLIENT, self.CLIENT_6),
        ):
            self._configure(enter, "address", "add", f"{address}/24", "dev", "wire")
            self._configure(enter, "address", "add", f"{address_6}/64", "dev", "wire", "nodad")
            self._configure(enter, "link", "set", "wire", "up")
            self._configure(enter, "link", "set", "lo", "up")

    @staticmethod
    def _hold() -> subprocess.Popen[bytes]:
        """A process that keeps a namespace of its own until it is closed."""
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; read _"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() == b"":
            holder.wait(PATIENCE)
            raise OSError(holder.stderr.read().decode().strip())
        return holder

    @staticmethod
    def _configure(enter: list[str], *arguments: str) -> None:
        done = subprocess.run(
            [*enter, find("ip"), *arguments], capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode != 0:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    def close(self) -> None:
        for holder in self._holders:
            holder.communicate(timeout=PATIENCE)
