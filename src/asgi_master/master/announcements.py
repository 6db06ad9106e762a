"""Writes what the supervisor announces to the log, and where the service listens."""

import logging
import os

from asgi_master.control.component import Component
from asgi_master.master.children import Children
from asgi_master.master.listeners import Listeners
from asgi_master.master.open_listener import Listener
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.watcher import ChangedFiles
from asgi_master.settings.model import Settings
from asgi_master.supervision.notices import (
    MasterReady,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    ReloadStarted,
    ReloadSuperseded,
    WorkerBecameReady,
)
from asgi_master.telemetry import notices

log = logging.getLogger("asgi_master")


class Announcements(Component):
    """One line for each notice. Addresses are logged once workers accept there."""

    def __init__(
        self, settings: RunningSettings, children: Children, listeners: Listeners, changed: ChangedFiles
    ) -> None:
        """`changed` are the files that a reload in development is for."""
        self._changed = changed
        self._settings = settings
        self._children = children
        self._listeners = listeners

    def note(self, notice: Notice) -> None:
        """Log it."""
        if isinstance(notice, MasterReady | ReloadCommitted):
            self._log_addresses(self._settings.current)
        level, line = notices.render(notice)
        if self._settings.current.development.reload:
            level, line = self._in_development(notice, level, line)
        elif isinstance(notice, ReloadCommitted) and (
            where := self._children.directory_of(notice.generation)
        ):
            line = f"{line}, from {where}"
        extra = self._children.tracebacks.of(notice)
        if isinstance(notice, MasterReady | ReloadCommitted) and (
            problem := self._children.problem_of(notice.generation)
        ):
            level, line = logging.ERROR, f"{line}: {problem}; requests get the error page"
            extra = self._children.tracebacks.of_reason(problem)
        log.log(level, "%s", line, extra=extra)

    def _in_development(self, notice: Notice, level: int, line: str) -> tuple[int, str]:
        """One line a reload, that names the files; what leads to it is for debugging."""
        match notice:
            case ReloadCommitted(generation, _, took):
                files = self._changed.take() or "nothing changed"
                what = "reload failed" if self._children.problem_of(generation) else "reloaded"
                return level, f"{what} in {took:.2f} s: {files} ({self._children.manner_of(generation)})"
            case ReloadStarted() | ReloadSuperseded() | WorkerBecameReady():
                return logging.DEBUG, line
            case ReloadFailed():
                return level, f"{line} (changed: {self._changed.take()})"
        return level, line

    def _log_addresses(self, settings: Settings) -> None:
        for listener in self._listeners.of(settings.sockets):
            if not listener.is_announced:
                listener.is_announced = True
                log.info("listening on %s", listener.url)
                if hint := _hint(listener, settings):
                    log.info("%s", hint)


def _hint(listener: Listener, settings: Settings) -> str:
    """Why a proxy of another user cannot connect to root's Unix socket, where no setting says who may."""
    sockets, rights = settings.sockets, settings.privileges
    is_chosen = sockets.uds_owner not in {"", f"{rights.user}:{rights.group}"}
    if listener.file is None or os.geteuid() != 0 or is_chosen or sockets.uds_mode & 0o002:
        return ""
    return (
        f"{listener.url}: only {rights.user or 'root'} and its group may connect (mode {sockets.uds_mode:03o}); "
        "a proxy that runs as another user needs --uds-owner :GROUP, with a group of its own, or --uds-mode 666"
    )
