"""Would this start? A generation that is thrown away: what a deploy asks before it switches (`--check`).

It goes all the way that a start goes, from the settings to a worker that is ready, lifespan and `--health-path`
included, and then down again. Only what another master may be using is left alone: no address, pid file or control
socket is opened, and no service manager is notified.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from asgi_master.control.component import Component
from asgi_master.errors import ExitCode
from asgi_master.master.assembly import assemble, set_up_process
from asgi_master.master.early_zygote import EarlyZygote
from asgi_master.master.main import read_checked
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.upgrade_state import UpgradeState
from asgi_master.settings.model import Settings
from asgi_master.supervision.notices import MasterReady, Notice


def rehearse(read: Callable[[], Settings], early_zygote: EarlyZygote) -> ExitCode:
    """`OK` if it would start, `BOOT_FAILED` if not, and the log says why; `FAILURE` if it was stopped before.

    Raises `SettingsError`.
    """
    settings = _apart(read_checked(read))
    _hide_service_manager()
    with ExitStack() as held:
        state, running = UpgradeState(), RunningSettings(settings)
        process = set_up_process(held, state, running, early_zygote)
        # Another master may run the services.
        master, _ = assemble(
            held, state, running, process, lambda: settings, early_zygote, runs_services=False
        )
        audience = _Audience(master.stop)
        master.add(audience)
        status = master.run()
    if audience.saw_it_ready:
        return ExitCode.OK
    return ExitCode.BOOT_FAILED if status is ExitCode.BOOT_FAILED else ExitCode.FAILURE


class _Audience(Component):
    """Stops the master once it was ready."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self.saw_it_ready = False

    def note(self, notice: Notice) -> None:
        """Stop at the first generation that is ready."""
        if isinstance(notice, MasterReady):
            self.saw_it_ready = True
            self._stop()


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
    """The level of the check: success is one line at the end, and failures are logged at any level."""
    return {"info": "warning", "critical": "error"}.get(level, level)


def _hide_service_manager() -> None:
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
