"""The development watcher: a child that tells of changed files, one byte a batch (see `asgi_master.reloader`)."""

import os

from asgi_master.master.interpreter import Interpreter
from asgi_master.master.spawn import spawn_python
from asgi_master.settings.model import Settings

_CHANGES_FD = 3


class Watcher:
    """Watches the directories of `--reload-dir`, or else that of the application, until closed or this process ends."""

    def __init__(self, settings: Settings) -> None:
        """Start it. Raises `OSError`."""
        self.fd, write = os.pipe()
        os.set_blocking(self.fd, False)
        development = settings.development
        directories = development.reload_dir or (settings.application.app_dir,)
        include = [word for pattern in development.reload_include for word in ("--include", pattern)]
        try:
            command = Interpreter().command("asgi_master.reloader", str(_CHANGES_FD), *include, *directories)
            spawn_python(command, {write: _CHANGES_FD}, apart=True)
        finally:
            os.close(write)

    def read(self) -> bool | None:
        """Whether something changed since the last call; `None` once the watcher is gone."""
        try:
            return True if os.read(self.fd, 4096) else None
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Stop listening: it ends when nobody reads, or with this process."""
        os.close(self.fd)
