"""Be the master: from settings to an exit status."""

import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path

from asgi_master import __version__
from asgi_master.control.places import AUTO, ControlSocket, NoPlaceError, open_control_socket
from asgi_master.errors import ExitCode, SettingsError
from asgi_master.ipc.prctl import become_subreaper
from asgi_master.master.listeners import Listeners
from asgi_master.master.loop import Master
from asgi_master.master.pid_file import PidFile
from asgi_master.master.signals import SignalPipe
from asgi_master.settings.model import Settings
from asgi_master.telemetry.access_log import check_format
from asgi_master.telemetry.identity import introduce
from asgi_master.telemetry.streams import open_missing

log = logging.getLogger("asgi_master")


def run(settings: Settings, reread: Callable[[], Settings]) -> ExitCode:
    """Bind, supervise, leave; returns the exit status.

    `reread` reads the settings again for a reload and raises `SettingsError` if they are bad.
    Raises `AsgiMasterError` for what keeps the master from starting.
    """
    open_missing()
    signals = SignalPipe()
    _check(settings)
    introduce("master", settings)
    pid_file = PidFile(Path(settings.process.pid_file)) if settings.process.pid_file else None
    listeners = Listeners()
    control: ControlSocket | None = None
    try:
        log.info("asgi-master %s starts %d worker(s)", __version__, settings.process.workers)
        for listener in listeners.open(settings.sockets):
            log.info("listening on %s", listener.url)
        control = _open_control(settings.process.control_socket)
        become_subreaper()
        master = Master(settings, reread, signals, listeners, control)
        try:
            return master.run()
        finally:
            master.close()
    finally:
        if control is not None:
            control.close()
        listeners.close()
        if pid_file is not None:
            pid_file.remove()
        signals.close()


def _open_control(setting: str) -> ControlSocket | None:
    """The control socket; going without one is never an error."""
    try:
        control = open_control_socket(setting, os.environ)
    except NoPlaceError as error:
        # Whoever named a path counts on it; where nobody did, a read-only host is nothing to worry about.
        log.log(logging.INFO if setting == AUTO else logging.WARNING, "no control socket: %s", error)
        return None
    if control is not None:
        log.info("control socket: %s", control.path)
    return control


def _check(settings: Settings) -> None:
    """What the settings room cannot know: whether what they ask for is there."""
    errors = []
    if settings.development.reload and importlib.util.find_spec("watchfiles") is None:
        errors.append('reload: watchfiles is not installed; `pip install "asgi-master[reload]"` brings it')
    try:
        check_format(settings.logging.access_log_format)
    except ValueError as error:
        errors.append(f"access-log-format: {error}")
    if errors:
        raise SettingsError(errors)
