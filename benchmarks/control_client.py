"""The control socket of asgi-master, asked without its package: the benchmarks run beside it, not in it."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

_PATIENCE = 120.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, target: str, body: object = None) -> dict[str, Any]:
    """The answer, whatever its status. Raises `OSError`."""
    connection = _Connection(path)
    try:
        data = b"" if body is None else json.dumps(body).encode()
        connection.request(method, target, data, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read() or b"{}")
    finally:
        connection.close()


def status(path: Path) -> dict[str, Any]:
    """What `asgi-masterctl status --json` shows."""
    return ask(path, "GET", "/status")
