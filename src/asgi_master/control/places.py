"""Where control sockets stand: a path of its own for each master, in a directory that only its user can change.

The file is named `<pid>.sock`. Masters in containers that share such a directory may share a pid: whoever finds the
name taken by somebody who listens takes `<pid>-2.sock`, and so on.
"""

import contextlib
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

AUTO = "auto"
OFF = "off"

_SYSTEM = Path("/run/asgi-master")
_NAME = re.compile(r"(\d{1,10})(-\d{1,2})?\.sock")
_TRIES = 9
_BACKLOG = 128
_CONNECT_TIMEOUT = 1.0


class NoPlaceError(Exception):
    """There is no control socket; why not, in one line."""


@dataclass(slots=True)
class ControlSocket:
    """A listening socket, and the file that is ours to remove."""

    sock: socket.socket
    path: Path
    inode: tuple[int, int]

    @classmethod
    def adopt(cls, fd: int, path: str, inode: Sequence[int]) -> Self:
        """The one that the program before this one opened, in the same process."""
        device, number = inode
        return cls(socket.socket(fileno=fd), Path(path), (device, number))

    def close(self) -> None:
        """Stop listening; remove the file if it is still the one we made."""
        self.sock.close()
        if inode_of(self.path) == self.inode:
            with contextlib.suppress(OSError):
                self.path.unlink()


def open_control_socket(setting: str, environ: Mapping[str, str]) -> ControlSocket | None:
    """The socket that the setting asks for; `None` if it says off. Raises `NoPlaceError`."""
    if setting in {OFF, ""}:
        return None
    if setting != AUTO:
        return _open_given(Path(setting).absolute())
    why = "no directory here can be written to"
    for directory in directories_for_masters(environ, os.geteuid()):
        try:
            _prepare(directory)
            remove_stale(directory)
            return _open_in(directory)
        except OSError as error:
            why = f"{directory}: {error.strerror or error}"
        except NoPlaceError as error:
            why = str(error)
    raise NoPlaceError(why)


def directories_for_masters(environ: Mapping[str, str], uid: int) -> list[Path]:
    """Where a master of this user puts its socket: the first that can be written."""
    given = _runtime_directory(environ)
    if given is not None:
        # The service manager made it for this instance; if that cannot be written, nothing else was meant.
        return [given]
    return [*([_SYSTEM] if uid == 0 else []), *_of_user(environ, uid)]


def directories_for_clients(environ: Mapping[str, str], uid: int) -> list[Path]:
    """Where masters that this user may steer can be."""
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
    """The pid that a control socket's file name tells; `None` if it is not such a name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def remove_stale(directory: Path) -> None:
    """Remove what masters left behind that could not do so themselves: their pid is dead, and nobody listens."""
    for path, pid in sockets_in(directory):
        if pid != os.getpid() and Path(f"/proc/{pid}").exists():
            continue
        inode = inode_of(path)
        if not listens(path) and inode_of(path) == inode:
            with contextlib.suppress(OSError):
                path.unlink()


def listens(path: Path) -> bool:
    """Whether somebody listens on a socket file. What does not answer clearly counts as somebody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # No permission, or a queue that is full.
            return True
    return True


def _runtime_directory(environ: Mapping[str, str]) -> Path | None:
    first = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


def _of_user(environ: Mapping[str, str], uid: int) -> list[Path]:
    runtime, temporary = environ.get("XDG_RUNTIME_DIR", ""), environ.get("TMPDIR", "")
    found = [Path(runtime) / "asgi-master"] if runtime.startswith("/") else []
    # Not `tempfile`: it brings much along that a master keeps for good.
    return [*found, Path(temporary if temporary.startswith("/") else "/tmp") / f"asgi-master-{uid}"]  # noqa: S108


def _prepare(directory: Path) -> None:
    """Make the directory, or make sure that nobody else can put sockets there. Raises `OSError`, `NoPlaceError`."""
    mode = 0o755 if directory == _SYSTEM else 0o700
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NoPlaceError(f"{directory} is not a directory")
    if found.st_uid not in {0, os.geteuid()}:
        raise NoPlaceError(f"{directory} belongs to another user")
    if found.st_mode & stat.S_IWOTH:
        raise NoPlaceError(f"everybody can write to {directory}")


def _open_in(directory: Path) -> ControlSocket:
    for number in range(1, _TRIES + 1):
        path = directory / (f"{os.getpid()}.sock" if number == 1 else f"{os.getpid()}-{number}.sock")
        with contextlib.suppress(FileExistsError):
            return _bind(path)
    raise NoPlaceError(f"{directory} is full of sockets of this process id")


def _open_given(path: Path) -> ControlSocket:
    try:
        if _is_socket(path) and not listens(path):
            path.unlink(missing_ok=True)
        return _bind(path)
    except FileExistsError:
        raise NoPlaceError(f"{path} is in use") from None
    except OSError as error:
        raise NoPlaceError(f"{path}: {error.strerror or error}") from None


def _bind(path: Path) -> ControlSocket:
    """Listen there, for this user alone. Raises `OSError`, `FileExistsError` if the name is taken."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        sock.bind(os.fspath(path))
    except OSError as error:
        sock.close()
        if inode_of(path) != _NO_INODE:
            raise FileExistsError(str(path)) from error
        raise
    finally:
        os.umask(umask)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return ControlSocket(sock, path, inode_of(path))


_NO_INODE = (-1, -1)


def inode_of(path: Path) -> tuple[int, int]:
    """What tells two files apart, whatever their names."""
    try:
        found = path.lstat()
    except OSError:
        return _NO_INODE
    return found.st_dev, found.st_ino


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
