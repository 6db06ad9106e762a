"""Paths of control sockets: one for each master, in a directory that only its user can change.

The file is named `<pid>.sock`. Masters in different containers may share a directory and a pid: if another process
listens at the name, the next one uses `<pid>-2.sock`, and so on.
"""

import contextlib
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from asgi_master.directories import Directory, Inode, OccupiedError, remove
from asgi_master.records import mutable_record

AUTO = "auto"
OFF = "off"

_SYSTEM = Path("/run/asgi-master")
_NAME = re.compile(r"(\d{1,10})(-\d{1,2})?\.sock")
_TRIES = 9
_BACKLOG = 128


class ControlSocketError(Exception):
    """There is no control socket; the message is one line."""


class SocketInUseError(ControlSocketError):
    """The given path is in use."""


@mutable_record
class ControlSocket:
    """A listening socket and its file, which is removed on close."""

    sock: socket.socket
    path: Path
    inode: Inode

    @classmethod
    def adopt(cls, fd: int, path: str, inode: Sequence[int]) -> Self:
        """The socket that the previous program opened in this process."""
        device, number = inode
        return cls(socket.socket(fileno=fd), Path(path), (device, number))

    def close(self) -> None:
        """Stop listening; remove the file unless another one has replaced it."""
        # Removed while the socket still listens: no other master can then take it for stale and replace the file, which
        # would be removed here.
        with contextlib.suppress(OSError):
            remove(self.path, self.inode)
        self.sock.close()


def open_control_socket(setting: str, environ: Mapping[str, str]) -> ControlSocket | None:
    """Open the socket that the setting names; `None` if it is off. Raises `ControlSocketError`, `SocketInUseError`."""
    if setting in {OFF, ""}:
        return None
    if setting != AUTO:
        return _open_given(Path(setting).absolute())
    why = "no directory here can be written to"
    for path in directories_for_masters(environ, os.geteuid()):
        try:
            with _prepared(path) as directory, directory.lock():
                remove_stale(directory)
                return _open_in(directory)
        except OSError as error:
            why = f"{path}: {error.strerror or error}"
        except ControlSocketError as error:
            why = str(error)
    raise ControlSocketError(why)


def directories_for_masters(environ: Mapping[str, str], uid: int) -> list[Path]:
    """Directories for the socket of a master of this user, in order of preference: the first writable one is used."""
    given = _runtime_directory(environ)
    if given is not None:
        # The service manager created it for this instance; there is no fallback if it is not writable.
        return [given]
    return [*([_SYSTEM] if uid == 0 else []), *_of_user(environ, uid)]


def directories_for_clients(environ: Mapping[str, str], uid: int) -> list[Path]:
    """Directories that may hold sockets of masters that this user may control."""
    given = _runtime_directory(environ)
    found = [*([given] if given is not None else []), _SYSTEM, *_of_user(environ, uid)]
    return list(dict.fromkeys([*found, Path(f"/run/user/{uid}/asgi-master")]))


def sockets_in(directory: Path) -> Iterator[tuple[Path, int]]:
    """The control sockets in a directory, and the pids in their names."""
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return
    for path in entries:
        pid = pid_in_name(path)
        if pid is not None and _is_socket(path):
            yield path, pid


def pid_in_name(path: Path) -> int | None:
    """The pid in the name of a control socket; `None` for other names."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def remove_stale(directory: Directory) -> None:
    """Remove sockets left by dead masters: the pid does not exist, and no process listens."""
    for path, pid in sockets_in(directory.path):
        if pid == os.getpid() or not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                directory.remove_stale_socket(path.name)


def _runtime_directory(environ: Mapping[str, str]) -> Path | None:
    first = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


def _of_user(environ: Mapping[str, str], uid: int) -> list[Path]:
    runtime, temporary = environ.get("XDG_RUNTIME_DIR", ""), environ.get("TMPDIR", "")
    found = [Path(runtime) / "asgi-master"] if runtime.startswith("/") else []
    # Not `tempfile`: its imports would stay in the master's memory.
    return [*found, Path(temporary if temporary.startswith("/") else "/tmp") / f"asgi-master-{uid}"]  # noqa: S108


def _prepared(path: Path) -> Directory:
    """Open the directory, created if necessary; only its owner may add files.

    Raises `OSError`, `ControlSocketError`.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o755 if path == _SYSTEM else 0o700)
    try:
        directory = Directory(path, follow=False)
    except NotADirectoryError:
        raise ControlSocketError(f"{path} is not a directory") from None
    found = directory.status
    if found.st_uid not in {0, os.geteuid()}:
        why = f"{path} belongs to another user"
    elif found.st_mode & stat.S_IWOTH:
        why = f"every user can write to {path}"
    else:
        return directory
    directory.close()
    raise ControlSocketError(why)


def _open_in(directory: Directory) -> ControlSocket:
    for number in range(1, _TRIES + 1):
        name = f"{os.getpid()}.sock" if number == 1 else f"{os.getpid()}-{number}.sock"
        with contextlib.suppress(OccupiedError):
            return _listen(directory, name)
    raise ControlSocketError(f"{directory.path} is full of sockets of this process id")


def _open_given(path: Path) -> ControlSocket:
    try:
        with Directory(path.parent) as directory, directory.lock():
            directory.remove_stale_socket(path.name)
            return _listen(directory, path.name)
    except OccupiedError as error:
        raise SocketInUseError(f"{path} is in use: {error.strerror}") from None
    except OSError as error:
        raise ControlSocketError(f"{path}: {error.strerror or error}") from None


def _listen(directory: Directory, name: str) -> ControlSocket:
    """Listen there, for this user alone. Raises `OccupiedError` if the name is taken, `OSError`."""
    path = directory.path / name
    sock, inode = directory.listen(name, os.fspath(path), _BACKLOG)
    return ControlSocket(sock, path, inode)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
