"""The pid file: who the running master is, for scripts that have no service manager."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self

from asgi_master.errors import AsgiMasterError
from asgi_master.master.carried import Carried


class PidFile:
    """A file with this process' id, locked as long as it runs: a number left behind by a dead master means nothing."""

    def __init__(self, path: Path, fd: int) -> None:
        """`fd` is the open file, locked and written."""
        self._path = path
        self._fd = fd

    @classmethod
    def write(cls, path: Path) -> Self:
        """Write it. Raises `AsgiMasterError` if another master holds it, or it cannot be written."""
        path = path.absolute()
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise AsgiMasterError(f"cannot write the pid file {path}: {error.strerror}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(fd, 32).decode(errors="replace").strip()
            os.close(fd)
            raise AsgiMasterError(
                f"the pid file {path} belongs to the running process {owner}: stop that or give another --pid-file"
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        return cls(path, fd)

    @classmethod
    def adopt(cls, carried: Carried) -> Self:
        """The one that the program before this one wrote: an upgrade keeps the pid, and the descriptor its lock."""
        return cls(Path(carried.values["path"]), carried.fds["file"])

    def carry(self) -> Carried:
        """For a live upgrade."""
        return Carried({"path": os.fspath(self._path)}, {"file": self._fd})

    def remove(self) -> None:
        """Remove it and let go of the lock."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._fd)
