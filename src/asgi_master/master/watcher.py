"""The development watcher: a child that tells of changed files, one byte a batch (see `asgi_master.reloader`)."""

import os
import signal

from asgi_master.master.spawn import spawn_python
from asgi_master.settings.model import DevelopmentSettings

_CHANGES_FD = 3


class Watcher:
    """Watches the directories of `--reload-dir` until closed."""

    def __init__(self, settings: DevelopmentSettings) -> None:
        """Start it. Raises `OSError`."""
        self.fd, write = os.pipe()
        os.set_blocking(self.fd, False)
        include = [word for pattern in settings.reload_include for word in ("--include", pattern)]
        command = ["-P", "-m", "asgi_master.reloader", str(_CHANGES_FD), *include]
        try:
            self.pid = spawn_python([*command, *(settings.reload_dir or (".",))], {write: _CHANGES_FD})
        finally:
            os.close(write)

    def read(self) -> bool | None:
        """Whether something changed since the last call; `None` once the watcher is gone."""
        try:
            return True if os.read(self.fd, 4096) else None
        except BlockingIOError:
            return False

    def close(self) -> None:
        """End it; the master's reaper collects it."""
        os.close(self.fd)
        os.kill(self.pid, signal.SIGTERM)
