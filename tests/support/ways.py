"""The ways to a worker's serving part: TCP, a Unix socket, TLS."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asgi_master.settings.model import TlsSettings
from asgi_master.tls.bundle import read_bundle
from asgi_master.worker.transport.tls import TlsServer
from certificates import Authority, put
from http_client import Client
from serving import Server, serve

AUTHORITY = Authority()
WAYS = ("tcp", "unix", "tls")

Connect = Callable[..., Client]


@contextlib.contextmanager
def serving(
    way: str, app: Callable[..., Any], directory: Path, **options: Any
) -> Iterator[tuple[Server, Connect]]:
    """A server on one of `WAYS`, and what makes a client of it."""
    if way != "tls":
        options["path"] = str(directory / "socket") if way == "unix" else None
        with serve(app, **options) as server:
            yield server, server.client
        return
    AUTHORITY.write(directory, "site", "localhost")
    settings = TlsSettings(certfile=("site.pem",), keyfile=("site.key",))
    fd = read_bundle(settings, directory).to_memory()
    tls = TlsServer(settings, fd, ("h2", "http/1.1"))
    os.close(fd)
    with serve(app, tls=tls, **options) as server:

        def connect(**of_socket: Any) -> Client:
            return Client(server.connect_tls(AUTHORITY.client(), **of_socket))

        yield server, connect


def curl_arguments(way: str, server: Server, directory: Path) -> list[str]:
    """What curl needs to ask this server for `/`: the last of it is the URL."""
    if way == "unix":
        return ["--unix-socket", str(directory / "socket"), "http://localhost/"]
    if way == "tcp":
        return [f"http://127.0.0.1:{server.port}/"]
    put(directory / "ca.pem", AUTHORITY.pem)
    resolved = f"localhost:{server.port}:127.0.0.1"
    return ["--cacert", str(directory / "ca.pem"), "--resolve", resolved, f"https://localhost:{server.port}/"]
