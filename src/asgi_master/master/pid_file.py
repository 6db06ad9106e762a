"""The pid file: who the running master is, for scripts that have no service manager."""

import contextlib
import fcntl
import os
from pathlib import Path

from asgi_master.errors import AsgiMasterError


class PidFile:
    """A file with this process' id, locked as long as it runs: a number left behind by a dead master means nothing."""

    def __init__(self, path: Path) -> None:
        """Write it. Raises `AsgiMasterError` if another master holds it, or it cannot be written."""
        self._path = path.absolute()
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise AsgiMasterError(f"cannot write the pid file {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(self._fd, 32).decode(errors="replace").strip()
            os.close(self._fd)
            raise AsgiMasterError(
                f"the pid file {path} belongs to the running process {owner}: stop that or give another --pid-file"
            ) from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def remove(self) -> None:
        """Remove it and let go of the lock."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._fd)
