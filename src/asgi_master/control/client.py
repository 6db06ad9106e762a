"""Find the masters that run here, and ask them. Blocking, with a timeout: for the command line."""

import contextlib
import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asgi_master.control.places import directories_for_clients, inode_of, pid_in_name, sockets_in
from asgi_master.errors import AsgiMasterError

_CREDENTIALS = struct.Struct("iII")
_TIMEVAL = struct.Struct("ll")
_LOOK_TIMEOUT = 2.0
_MOST_BYTES = 8 * 1024 * 1024
_LISTENS = 0x10000  # __SO_ACCEPTCON, of the kernel's Flags column
_LISTENING_SOCKETS = Path("/proc/net/unix")


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
    path: Path, method: str, target: str, body: Mapping[str, Any] | None = None, *, timeout: float | None
) -> Reply:
    """Ask one master. Raises `NoAnswerError`, `TookTooLongError`. `timeout` is in seconds; `None` is for ever."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            _connect(sock, path, timeout)
            pid, _uid, _gid = _CREDENTIALS.unpack(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            # Whoever is turned away is answered before it has said anything.
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(head.encode() + content)
            response = http.client.HTTPResponse(sock, method=method)
            response.begin()
            answer = json.loads(response.read(_MOST_BYTES))
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
    for path, pid in _candidates(environ, uid):
        try:
            reply = ask(path, "GET", "/status", timeout=_LOOK_TIMEOUT)
        except TookTooLongError:
            found[inode_of(path)] = Found(path, pid, None)
        except NoAnswerError:
            continue
        else:
            found[inode_of(path)] = Found(path, reply.pid, reply.body if reply.is_done else None)
    return sorted(found.values(), key=lambda one: one.pid)


def _candidates(environ: Mapping[str, str], uid: int) -> Iterator[tuple[Path, int]]:
    for directory in directories_for_clients(environ, uid):
        yield from sockets_in(directory)
    # Those that a service manager put into a directory of their own.
    with contextlib.suppress(OSError):
        for line in _LISTENING_SOCKETS.read_text(errors="surrogateescape").splitlines()[1:]:
            path = _listening_path(line)
            pid = pid_in_name(path) if path is not None else None
            if path is not None and pid is not None and _is_master(pid):
                yield path, pid


def _listening_path(line: str) -> Path | None:
    """The path of a line of /proc/net/unix, if it is one of a listening socket."""
    words = line.split(maxsplit=7)
    if len(words) < 8 or not words[7].startswith("/") or not int(words[3], 16) & _LISTENS:
        return None
    return Path(words[7])


def _is_master(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"asgi-master" in command or b"asgi_master" in command
