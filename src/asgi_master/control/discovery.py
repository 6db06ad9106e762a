"""Finds control sockets of running masters in /proc.

A socket in one of the usual directories is recognised by its name. One at a custom path is recognised as a socket that
a master listens on, that only its user may connect to, and that no worker or zygote shares.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from asgi_master.control.socket_paths import directories_for_clients, pid_in_name, sockets_in
from asgi_master.records import record

_LISTENS = 0x10000  # __SO_ACCEPTCON, of the kernel's Flags column
_LISTENING_SOCKETS = Path("/proc/net/unix")
_PROCESSES = Path("/proc")
_OURS = (b"asgi-master", b"asgi_master")
_MASTER_TITLE = b"asgi-master: master "
_SOCKET_LINK = "socket:["


@record
class Listening:
    """A line of /proc/net/unix: a listening socket in the file system."""

    path: Path
    inode: int
    """Inode of the socket, not of its file."""


def named_sockets(environ: Mapping[str, str], uid: int) -> Iterator[tuple[Path, int]]:
    """The sockets with the name of a control socket, and the pid in the name."""
    for directory in directories_for_clients(environ, uid):
        yield from sockets_in(directory)
    # Sockets in directories that a service manager created.
    for listening in _listening():
        pid = pid_in_name(listening.path)
        if pid is not None and _is_ours(_command(pid)):
            yield listening.path, pid


def unnamed_sockets(uid: int, *, known: set[int]) -> Iterator[tuple[Path, int]]:
    """Sockets with other names that can be control sockets, with the pids of their masters, except `known`."""
    commands = {pid: command for pid in _processes(uid) if _is_ours(command := _command(pid))}
    masters = [pid for pid in commands if commands[pid].startswith(_MASTER_TITLE) and pid not in known]
    if not masters:
        return
    held = {pid: _sockets_of(pid) for pid in commands}
    listening = {one.inode: one.path for one in _listening()}
    for pid in masters:
        shared = set[int]().union(*(sockets for other, sockets in held.items() if other != pid))
        for inode in (held[pid] - shared) & listening.keys():
            if _is_private(listening[inode]):
                yield listening[inode], pid


def _listening() -> list[Listening]:
    try:
        lines = _LISTENING_SOCKETS.read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return []
    return [found for line in lines if (found := read_line(line)) is not None]


def read_line(line: str) -> Listening | None:
    """Parse a line of /proc/net/unix; `None` unless it is a listening socket with a path."""
    words = line.split(maxsplit=7)
    if len(words) < 8 or not words[7].startswith("/") or not int(words[3], 16) & _LISTENS:
        return None
    return Listening(Path(words[7]), int(words[6]))


def _processes(uid: int) -> Iterator[int]:
    """The processes of this user; for root, all."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(_PROCESSES):
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    if uid in {0, entry.stat().st_uid}:
                        yield int(entry.name)


def _command(pid: int) -> bytes:
    try:
        return (_PROCESSES / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _is_ours(command: bytes) -> bool:
    return any(word in command for word in _OURS)


def _sockets_of(pid: int) -> set[int]:
    """The inodes of a process's sockets, as far as this user may read them."""
    inodes = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(_PROCESSES / str(pid) / "fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(entry.path)  # noqa: PTH115 -- no path, and there are many
                if target.startswith(_SOCKET_LINK):
                    inodes.add(int(target[len(_SOCKET_LINK) : -1]))
    return inodes


def _is_private(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
