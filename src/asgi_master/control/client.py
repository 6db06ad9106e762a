"""Finds the masters on this host, and sends them requests. Blocking, with a timeout: for the command line."""

import contextlib
import json
import os
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from asgi_master.control.discovery import named_sockets, unnamed_sockets
from asgi_master.directories import inode_of
from asgi_master.errors import AsgiMasterError
from asgi_master.records import record

_CREDENTIALS = struct.Struct("iII")
_TIMEVAL = struct.Struct("ll")
_PROBE_TIMEOUT = 2.0
_MAX_BYTES = 8 * 1024 * 1024
_MAX_LINE = 8 * 1024
_MAX_FIELDS = 100
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})( .*)?\r\n")


class NoAnswerError(AsgiMasterError):
    """No process answers at the socket, or the answer is not HTTP."""


class TookTooLongError(AsgiMasterError):
    """No reply in time; the command may still be executed."""


@record
class Reply:
    """A master's reply."""

    status: int
    body: dict[str, Any]
    pid: int
    """The master's, as the kernel reports it."""

    @property
    def is_done(self) -> bool:
        """Whether the command was executed."""
        return self.status < 400

    @property
    def error(self) -> str:
        """The reason if not, one line."""
        return str(self.body.get("error", f"HTTP status {self.status}"))


@record
class Found:
    """A control socket on which a process listens."""

    path: Path
    pid: int
    status: dict[str, Any] | None
    """`None` if it did not reply in time, or refused the request."""

    @property
    def name(self) -> str:
        """The name of the master; empty if unknown."""
        return str(self.status.get("name", "")) if self.status is not None else ""


def ask(
    path: Path,
    method: str,
    target: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout: float | None,
    expected_pid: int | None = None,
) -> Reply:
    """Send a request to one master; if a pid is `expected_pid`, only to the process with this pid.

    Raises `NoAnswerError`, `TookTooLongError`. `timeout` is in seconds; `None` waits without limit.
    """
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            _connect(sock, path, timeout)
            pid, _uid, _gid = _CREDENTIALS.unpack(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if expected_pid is not None and pid != expected_pid:
                raise NoAnswerError(f"{path}: process {pid} listens there, not {expected_pid}")
            # A client that is not admitted gets the response before it has sent anything.
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(head.encode() + content)
            with sock.makefile("rb") as reader:
                status, received = _response(reader)
            answer = json.loads(received)
    except TimeoutError:
        raise TookTooLongError(f"{path}: no answer within {timeout:g} s") from None
    except OSError as error:
        raise NoAnswerError(f"{path}: {error.strerror or error}") from None
    except ValueError:
        raise NoAnswerError(f"{path}: invalid response") from None
    return Reply(status, answer if isinstance(answer, dict) else {}, pid)


def _connect(sock: socket.socket, path: Path, timeout: float | None) -> None:
    """Connect, and set the timeout for the connection. Raises `OSError`."""
    if timeout is not None:
        # Python's own timeout does not wait for room in a full accept queue.
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(timeout), int(timeout % 1 * 1e6))
        )
    try:
        sock.connect(os.fspath(path))
    except BlockingIOError:
        raise TimeoutError from None
    sock.settimeout(timeout)


def _response(reader: BinaryIO) -> tuple[int, bytes]:
    """The status and content of the response. Raises `ValueError`, `OSError`.

    `http.client` would read it too; to import that, with `email` and `ssl`, takes longer than the request.
    """
    status = _STATUS_LINE.fullmatch(reader.readline(_MAX_LINE))
    if status is None:
        raise ValueError("no HTTP")
    length = -1
    for _ in range(_MAX_FIELDS):
        name, _, value = reader.readline(_MAX_LINE).partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name == b"\r\n":
            break
    if not 0 <= length <= _MAX_BYTES:
        raise ValueError("no usable length")
    content = reader.read(length)
    if len(content) < length:
        raise ValueError("incomplete")
    return int(status[1]), content


def find(environ: Mapping[str, str], uid: int) -> list[Found]:
    """The masters that answer, or at least listen, and that this user may control."""
    found = {}
    for path, pid in named_sockets(environ, uid):
        one = _probe(path, pid)
        if one is not None:
            found[inode_of(path)] = one
    for path, pid in unnamed_sockets(uid, known={one.pid for one in found.values()}):
        one = _probe(path, pid)
        # It may be another private socket of a master: its status decides.
        if one is not None and (one.status or {}).get("pid") == pid:
            found[inode_of(path)] = one
    return sorted(found.values(), key=lambda one: one.pid)


def _probe(path: Path, pid: int) -> Found | None:
    try:
        reply = ask(path, "GET", "/status", timeout=_PROBE_TIMEOUT)
    except TookTooLongError:
        return Found(path, pid, None)
    except NoAnswerError:
        return None
    return Found(path, reply.pid, reply.body if reply.is_done else None)
