"""The pid file of the running master, for scripts without a service manager.

It is locked as long as the master runs, so a number that a dead one left behind means nothing. The lock is a write lock
of the open file (`F_OFD_SETLK`): a process that may only read the file cannot take one, and read locks are ignored.
"""

import contextlib
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Self

from asgi_master.directories import Directory, Entry, inode_of, remove
from asgi_master.errors import AsgiMasterError
from asgi_master.master.upgrade_state import StateSection

_MODE = 0o644
_FLOCK = struct.Struct("hhqqi4x")
"""`struct flock` of fcntl(2): type, whence, start, length (0: all of it), pid."""


class PidFile:
    """A file with this process' id."""

    def __init__(self, path: Path, fd: int) -> None:
        """`fd` is the open file, locked and written."""
        self._path = path
        self._fd = fd

    @classmethod
    def write(cls, path: Path) -> Self:
        """Write it. Raises `AsgiMasterError` if another master holds it, or it cannot be written."""
        path = path.absolute()
        try:
            with Directory(path.parent) as directory, directory.lock():
                _look(path, directory.entry(path.name))
                content = f"{os.getpid()}\n".encode()
                return cls(path, directory.write(path.name, content, mode=_MODE, prepare=_lock))
        except OSError as error:
            raise AsgiMasterError(f"cannot write the pid file {path}: {error.strerror or error}") from None

    @classmethod
    def import_state(cls, section: StateSection) -> Self:
        """The one that the program before this one wrote: an upgrade keeps the pid, and the descriptor its lock."""
        with contextlib.suppress(OSError):
            # A former version had another kind of lock.
            _lock(section.fds["file"])
        return cls(Path(section.values["path"]), section.fds["file"])

    def export_state(self) -> StateSection:
        """Its path, and the descriptor that holds the lock."""
        return StateSection({"path": os.fspath(self._path)}, {"file": self._fd})

    def remove(self) -> None:
        """Remove it, unless another instance has put its own there meanwhile, and let go of the lock."""
        with contextlib.suppress(OSError):
            remove(self._path, inode_of(self._fd))
        os.close(self._fd)


def check_kind(path: Path, entry: Entry) -> None:
    """Raises `AsgiMasterError` if what stands at this path is nothing that a pid file may replace."""
    found = entry.status
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
        raise AsgiMasterError(
            f"cannot write the pid file {path}: what stands there is no file of our own with this one name; "
            "move it away or give another --pid-file"
        )


def _look(path: Path, entry: Entry | None) -> None:
    """See whether what stands there may be replaced. Raises `AsgiMasterError`, `OSError`."""
    if entry is None:
        return
    with entry:
        check_kind(path, entry)
        fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _is_locked(fd):
                owner = os.read(fd, 32).decode(errors="replace").strip()
                raise AsgiMasterError(
                    f"the pid file {path} belongs to the running process {owner}: "
                    "stop that or give another --pid-file"
                )
        finally:
            os.close(fd)


def _lock(fd: int) -> None:
    """Raises `OSError`."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


def _is_locked(fd: int) -> bool:
    """Whether a process has a write lock: only that would conflict with a read lock. Raises `OSError`."""
    asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    kind: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK
