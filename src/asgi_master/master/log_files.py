"""The files of the access log: opened by the master, and passed to the workers, which may lack the permission.

Each generation has the one that its settings name. It is opened again by its name when that was asked for (`logrotate`
renames the file, then signals); what stands there now goes to all workers of the generations that write to it.
"""

import errno
import logging
import os
import time
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from asgi_master.control.component import Component
from asgi_master.directories import Directory, check_appendable, inode_of
from asgi_master.errors import SettingsError
from asgi_master.ipc import descriptors
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.upgrade_state import StateSection
from asgi_master.records import mutable_record
from asgi_master.settings.model import LoggingSettings, Settings
from asgi_master.telemetry import access_logger

if TYPE_CHECKING:
    from asgi_master.master.children import Children

log = logging.getLogger("asgi_master")

_MODE = 0o640
"""Of one that is made; lessened by the umask. What clients did is not for everybody to read."""
_CONFLICT = "access-log-file: log-config names the logger asgi_master.access, which then has the access log"
_RETRY_PERIOD = 1.0
"""Seconds between two attempts to send the file to workers that could not be sent it."""


@mutable_record
class _Opened:
    path: str
    """As the settings name it."""
    fd: int
    owed: set[int] = field(default_factory=set)
    """Workers that could not be given it yet."""


class LogFiles(Component):
    """All that are written to. The children that write to one get it anew when it was reopened."""

    def __init__(
        self,
        children: "Children",
        settings: RunningSettings,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Relative paths begin at `directory`; `clock` is in seconds."""
        self._children = children
        self._settings = settings
        self._directory = directory
        self._clock = clock
        self._opened: dict[str, _Opened] = {}
        self._next_try = 0.0

    def open(self, settings: Settings) -> None:
        """Open what these settings name, unless that was done. Raises `SettingsError`."""
        path = settings.logging.access_log_path
        if not path or path in self._opened:
            return
        if errors := conflicts(settings):
            raise SettingsError(errors)
        try:
            self._opened[path] = _Opened(path, _open(self._directory / path))
        except OSError as error:
            raise SettingsError([_complaint(path, error)]) from None

    def descriptor(self, settings: LoggingSettings) -> tuple[int, ...]:
        """The file for workers with these settings, if they name one that is open."""
        opened = self._opened.get(settings.access_log_path)
        return () if opened is None else (opened.fd,)

    def reopen(self) -> None:
        """See what stands at each path now, and write there. Where that cannot be had, the file before stays."""
        for opened in self._opened.values():
            try:
                fd = _open(self._directory / opened.path)
            except OSError as error:
                log.error("%s; the access log stays in the file before", _complaint(opened.path, error))
                continue
            if inode_of(fd) == inode_of(opened.fd):
                descriptors.close(fd)
                continue
            before, opened.fd = opened.fd, fd
            descriptors.close(before)
            self._give(opened, None)
            log.info("access log: %s reopened", opened.path)

    def sweep(self) -> None:
        """Retry what could not be sent, and close files that are no longer used."""
        now = self._clock()
        if now < self._next_try:
            return
        self._next_try = now + _RETRY_PERIOD
        for opened in self._opened.values():
            if opened.owed:
                self._give(opened, opened.owed)
        current = self._settings.current
        if len(self._opened) > bool(current.logging.access_log_path):
            in_use = (*self._children.settings_by_generation().values(), current)
            for path in self._opened.keys() - {settings.logging.access_log_path for settings in in_use}:
                descriptors.close(self._opened.pop(path).fd)

    def close(self) -> None:
        """Let go of the files."""
        for opened in self._opened.values():
            descriptors.close(opened.fd)
        self._opened.clear()

    def export_state(self) -> StateSection:
        """The open files, by their paths."""
        return StateSection(
            {"paths": {str(opened.fd): opened.path for opened in self._opened.values()}},
            {str(opened.fd): opened.fd for opened in self._opened.values()},
        )

    def import_state(self, section: StateSection) -> Self:
        """Go on writing to the same files."""
        for fd, path in section.values["paths"].items():
            self._opened[path] = _Opened(path, section.fds[fd])
        return self

    # ---

    def _give(self, opened: _Opened, workers: set[int] | None) -> None:
        """Give it to these workers, or all, as far as they write there."""
        generations = {
            generation
            for generation, settings in self._children.settings_by_generation().items()
            if settings.logging.access_log_path == opened.path
        }
        opened.owed = self._children.give_access_log(generations, workers, opened.fd)


def check(settings: Settings, directory: Path) -> list[str]:
    """Why the file that the settings name could not be opened; nothing is made."""
    name = settings.logging.access_log_path
    if not name:
        return []
    path = directory / name
    try:
        with Directory(path.parent) as parent:
            entry = parent.entry(path.name)
            if entry is None:
                if not os.access(path.parent, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            else:
                with entry:
                    check_appendable(entry.status)
                    if not os.access(entry.path, os.W_OK):
                        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        return [_complaint(name, error)]
    return conflicts(settings)


def conflicts(settings: Settings) -> list[str]:
    """A line if `log-config` has a logger for the access log already; call it once the log is set up."""
    if settings.logging.access_log_path and settings.logging.log_config and access_logger.is_configured():
        return [_CONFLICT]
    return []


def _open(path: Path) -> int:
    """Raises `OSError`."""
    with Directory(path.parent) as directory:
        return directory.append_to(path.name, _MODE)


def _complaint(path: str, error: OSError) -> str:
    return f"access-log-file: {path} cannot be opened: {error.strerror or error}"
