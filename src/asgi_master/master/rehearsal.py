"""Would this start? A generation that is thrown away: what a deploy asks before it switches (`--check`).

It goes all the way that a start goes, from the settings to a worker that is ready, lifespan and `--health-path`
included, and then down again. Only what another master may be using is left alone: no address, pid file or control
socket is opened, and no service manager is told.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from asgi_master.errors import ExitCode
from asgi_master.ipc.prctl import become_subreaper
from asgi_master.master.carried import Cargo
from asgi_master.master.certificates import Certificates
from asgi_master.master.head_start import HeadStart
from asgi_master.master.kept_sockets import KeptSockets
from asgi_master.master.listeners import Listeners
from asgi_master.master.log_files import LogFiles
from asgi_master.master.loop import Master
from asgi_master.master.main import check_settings
from asgi_master.master.notifier import Notifier
from asgi_master.master.place import enter
from asgi_master.master.signals import SignalPipe
from asgi_master.settings.model import Settings
from asgi_master.supervision.notices import MasterReady, Notice
from asgi_master.telemetry.process_identity import configure_process_identity


def rehearse(read: Callable[[], Settings], head_start: HeadStart) -> ExitCode:
    """`OK` if it would start, `BOOT_FAILED` if not, and the log says why; `FAILURE` if it was stopped before.

    Raises `SettingsError`.
    """
    settings = read()
    check_settings(settings)
    settings = _apart(settings)
    _tell_nobody()
    cargo = Cargo(None)
    signals = SignalPipe(cargo)
    place = enter(settings, head_start.interpreter)
    notifier = Notifier({})
    listeners = Listeners(KeptSockets(notifier, {}, os.getpid()), cargo)
    admin = Listeners()
    try:
        configure_process_identity("master", settings)
        become_subreaper()
        certificates = Certificates(cargo, Path(place.directory))
        master = Master(
            settings,
            lambda: settings,
            head_start.zygote,
            signals,
            listeners,
            None,
            notifier,
            cargo,
            place,
            admin,
            certificates,
            LogFiles(cargo, Path(place.directory)),
        )
        audience = _Audience(master.stop)
        master.accompany(audience)
        try:
            status = master.run()
        finally:
            master.close()
        if audience.saw_it_ready:
            return ExitCode.OK
        return ExitCode.BOOT_FAILED if status is ExitCode.BOOT_FAILED else ExitCode.FAILURE
    finally:
        listeners.close()
        notifier.close()
        signals.close()


class _Audience:
    """Leaves once it was ready. A companion of the master's loop."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self.saw_it_ready = False

    def note(self, notice: Notice) -> None:
        """See `Companion`."""
        if isinstance(notice, MasterReady):
            self.saw_it_ready = True
            self._stop()

    def sweep(self) -> None:
        """See `Companion`."""

    def close(self) -> None:
        """See `Companion`."""


def _apart(settings: Settings) -> Settings:
    """The same, without what a running master has for itself, and with one worker."""
    return replace(
        settings,
        process=replace(
            settings.process,
            workers=1,
            spares=0,
            pid_file="",
            control_socket="off",
            shutdown_delay=0.0,
        ),
        sockets=replace(settings.sockets, bind=()),
        observation=replace(settings.observation, admin_bind=""),
        development=replace(settings.development, reload=False),
        logging=replace(
            settings.logging,
            log_level=_quiet(settings.logging.log_level),
            access_log=False,
            access_log_file="",
        ),
    )


def _quiet(level: str) -> str:
    """What goes well is told in one line at the end, and what does not is always told."""
    return {"info": "warning", "critical": "error"}.get(level, level)


def _tell_nobody() -> None:
    """The service manager that runs us, as its `ExecStartPre=` or from a deploy, must not take us for the service."""
    for name in (
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
    ):
        os.environ.pop(name, None)
