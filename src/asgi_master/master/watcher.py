"""The development watcher: a child that reports changed files, one line a batch (see `asgi_master.reloader`)."""

import json
import logging
import os
import selectors

from asgi_master.control.component import Component
from asgi_master.master.interpreter import Interpreter
from asgi_master.master.reload import Reload
from asgi_master.master.spawn import spawn_python
from asgi_master.settings.model import Settings
from asgi_master.supervision.supervisor import Supervisor
from asgi_master.telemetry.text import one_line

log = logging.getLogger("asgi_master")

_CHANGES_FD = 3
_SHOWN = 5
"""Names in a line of the log."""


def patterns(settings: Settings) -> list[str]:
    """The names of the files whose changes matter."""
    names = ["*.py", "asgi-master.toml", "pyproject.toml"]
    env_file = settings.application.env_file
    return [*names, *([os.path.basename(env_file)] if env_file else []), *settings.development.reload_include]  # noqa: PTH119


class ChangedFiles:
    """The files that changed since the code that serves was read."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, lines: bytes) -> None:
        """Take what the watcher wrote; a line that is cut off names nothing."""
        for line in lines.splitlines():
            try:
                paths = json.loads(line)
            except ValueError:
                continue
            self._names.update(dict.fromkeys(os.path.basename(path) for path in paths))  # noqa: PTH119 -- a name

    def names(self) -> list[str]:
        """Their names."""
        return list(self._names)

    def take(self) -> str:
        """Their names, for the log; then it is empty."""
        names = list(self._names)
        self._names.clear()
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return one_line(", ".join(names[:_SHOWN])) + more


class Watcher(Component):
    """Watches the directories of `--reload-dir`, or else that of the application, until closed or this process ends."""

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        selector: selectors.BaseSelector,
        reload: Reload,
        changed: ChangedFiles,
    ) -> None:
        """Start it, and reload at each batch of changes. Raises `OSError`."""
        self._supervisor = supervisor
        self._selector = selector
        self._reload = reload
        self._changed = changed
        self._fd, write = os.pipe()
        os.set_blocking(self._fd, False)
        development = settings.development
        directories = development.reload_dir or (settings.application.app_dir,)
        include = [word for pattern in patterns(settings) for word in ("--include", pattern)]
        include += [word for pattern in development.reload_exclude for word in ("--exclude", pattern)]
        try:
            command = Interpreter().command("asgi_master.reloader", str(_CHANGES_FD), *include, *directories)
            spawn_python(command, {write: _CHANGES_FD}, apart=True)
        finally:
            os.close(write)
        selector.register(self._fd, selectors.EVENT_READ, self._read)

    def close(self) -> None:
        """Close the pipe: the watcher exits when that is closed, or with this process."""
        if self._fd >= 0:
            self._selector.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        try:
            lines = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        if lines:
            self._changed.add(lines)
            self._reload.request("files changed")
            return
        if not self._supervisor.phase.is_ending:
            log.error("the watcher of --reload is gone: changes are no longer seen; SIGHUP reloads")
        self.close()
