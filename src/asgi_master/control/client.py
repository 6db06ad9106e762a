"""Find the masters that run here, and ask them. Blocking, with a timeout: for the command line."""

import contextlib
import http.client
import json
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asgi_master.control.discovery import named_sockets, unnamed_sockets
from asgi_master.directories import inode_of
from asgi_master.errors import AsgiMasterError

_CREDENTIALS = struct.Struct("iII")
_TIMEVAL = struct.Struct("ll")
_LOOK_TIMEOUT = 2.0
_MAX_BYTES = 8 * 1024 * 1024


class NoAnswerError(AsgiMasterError):
    """Nobody answers there, or not in our language."""


class TookTooLongError(AsgiMasterError):
    """No answer in time; what was asked for may still happen."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a master answered."""

    status: int
    body: dict[str, Any]
    pid: int
    """The master's, as the kernel says."""

    @property
    def is_done(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 400

    @property
    def error(self) -> str:
        """Why not, one line."""
        return str(self.body.get("error", f"HTTP status {self.status}"))


@dataclass(frozen=True, slots=True)
class Found:
    """A control socket that somebody listens on."""

    path: Path
    pid: int
    status: dict[str, Any] | None
    """`None` if it did not answer in time, or refused to."""

    @property
    def name(self) -> str:
        """What the master goes by; empty if it did not say."""
        return str(self.status.get("name", "")) if self.status is not None else ""


def ask(
    path: Path,
    method: str,
    target: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout: float | None,
    meant: int | None = None,
) -> Reply:
    """Ask one master, and no other than the one that is `meant` (a pid), if that is said.

    Raises `NoAnswerError`, `TookTooLongError`. `timeout` is in seconds; `None` is for ever.
    """
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            _connect(sock, path, timeout)
            pid, _uid, _gid = _CREDENTIALS.unpack(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if meant is not None and pid != meant:
                raise NoAnswerError(f"{path}: process {pid} listens there, not {meant}")
            # Whoever is turned away is answered before it has said anything.
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(head.encode() + content)
            response = http.client.HTTPResponse(sock, method=method)
            response.begin()
            answer = json.loads(response.read(_MAX_BYTES))
    except TimeoutError:
        raise TookTooLongError(f"{path}: no answer within {timeout:g} s") from None
    except OSError as error:
        raise NoAnswerError(f"{path}: {error.strerror or error}") from None
    except (http.client.HTTPException, ValueError):
        raise NoAnswerError(f"{path}: no answer that makes sense") from None
    return Reply(response.status, answer if isinstance(answer, dict) else {}, pid)


def _connect(sock: socket.socket, path: Path, timeout: float | None) -> None:
    """Connect, and set the timeout for what follows. Raises `OSError`."""
    if timeout is not None:
        # Python's own timeout would not wait for room in a full queue.
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(timeout), int(timeout % 1 * 1e6))
        )
    try:
        sock.connect(os.fspath(path))
    except BlockingIOError:
        raise TimeoutError from None
    sock.settimeout(timeout)


def find(environ: Mapping[str, str], uid: int) -> list[Found]:
    """The masters that answer, or at least listen, and that this user may ask."""
    found = {}
    for path, pid in named_sockets(environ, uid):
        one = _look(path, pid)
        if one is not None:
            found[inode_of(path)] = one
    for path, pid in unnamed_sockets(uid, known={one.pid for one in found.values()}):
        one = _look(path, pid)
        # It may be another private socket of a master: the status tells.
        if one is not None and (one.status or {}).get("pid") == pid:
            found[inode_of(path)] = one
    return sorted(found.values(), key=lambda one: one.pid)


def _look(path: Path, pid: int) -> Found | None:
    try:
        reply = ask(path, "GET", "/status", timeout=_LOOK_TIMEOUT)
    except TookTooLongError:
        return Found(path, pid, None)
    except NoAnswerError:
        return None
    return Found(path, reply.pid, reply.body if reply.is_done else None)
