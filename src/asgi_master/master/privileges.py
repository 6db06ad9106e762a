"""Checks of privileges: whether the requested user is available, and what is unsafe for root."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from asgi_master.control.socket_paths import AUTO, OFF
from asgi_master.directories import exposure
from asgi_master.settings.account import find_account
from asgi_master.settings.bind import UnixAddress, parse_bind
from asgi_master.settings.model import Settings

log = logging.getLogger("asgi_master")


def check_user(settings: Settings) -> list[str]:
    """A line if application code cannot run as the user that the settings name."""
    wanted = settings.privileges
    if not wanted.user:
        return []
    try:
        account = find_account(wanted.user, wanted.group)
    except ValueError as error:
        return [str(error)]
    if os.geteuid() == 0 or (os.geteuid(), os.getegid()) == (account.uid, account.gid):
        return []
    line = f"user: only root can run the application as another user, and this is uid {os.geteuid()}"
    return [f"{line}: start asgi-master as root, or leave user out"]


def warn_of_root(settings: Settings) -> None:
    """Warn if application code is going to run as root without a setting that says so."""
    if os.geteuid() == 0 and not settings.privileges.user and not settings.development.reload:
        log.warning("the application runs as root: say --user NAME, or --user root if that is meant")


def warn_of_exposure(what: str, path: Path) -> None:
    """Warn if this is root and another user could replace what is at the path."""
    if line := _exposure(what, path):
        log.warning("%s", line)


def exposures(settings: Settings, directory: Path) -> list[str]:
    """The warnings of `warn_of_exposure` for all paths of the settings; relative ones begin in the directory."""
    named = _named_places(settings)
    return [line for what, path in named if (line := _exposure(what, directory / path))]


def _named_places(settings: Settings) -> Iterator[tuple[str, str]]:
    for bind in (*settings.sockets.bind, settings.observation.admin_bind):
        if bind and isinstance(address := parse_bind(bind), UnixAddress):
            yield socket_of(bind), address.path
    if settings.process.pid_file:
        yield PID_FILE, settings.process.pid_file
    if settings.logging.access_log_path:
        yield ACCESS_LOG, settings.logging.access_log_path
    if settings.process.control_socket not in {"", AUTO, OFF}:
        yield CONTROL_SOCKET, settings.process.control_socket


def _exposure(what: str, path: Path, advice: str = ", such as one of its own below /run") -> str:
    why = exposure(path) if os.geteuid() == 0 else ""
    return f"{what} {why}: use a directory that only root can write to{advice}" if why else ""


def warn_of_log_files() -> None:
    """Warn if another user could replace a log file that a `log_config` has root open."""
    files = set()
    for logger in (logging.getLogger(), *logging.Logger.manager.loggerDict.values()):
        handlers = getattr(logger, "handlers", ())  # the rest are place holders
        files |= {handler.baseFilename for handler in handlers if isinstance(handler, logging.FileHandler)}
    for file in sorted(files):
        advice = ", and make the file there for the user of the application"
        if line := _exposure(f"the log file {file}", Path(file), advice):
            log.warning("%s", line)


def socket_of(bind: str) -> str:
    """The name of a bind's file in warnings."""
    return f"the socket of {bind}"


ACCESS_LOG = "the access log"
PID_FILE = "the pid file"
CONTROL_SOCKET = "the control socket"
