"""A reload in the master: read the settings again, open what they name, have a generation started, follow its rollout.

Settings that are wrong change nothing.
"""

import logging
from collections.abc import Callable

from asgi_master import faults
from asgi_master.control.component import Component
from asgi_master.errors import AsgiMasterError, BindError, SettingsError
from asgi_master.master.children import Children
from asgi_master.master.policy import policy_of
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.systemd import ServiceManager
from asgi_master.master.worker_resources import WorkerResources
from asgi_master.settings.diff import hold_until_restart
from asgi_master.settings.model import Settings
from asgi_master.supervision.events import Event, ReloadRefused, ReloadRequested
from asgi_master.supervision.notices import (
    MasterReady,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    RollbackStarted,
)
from asgi_master.supervision.supervisor import Supervisor
from asgi_master.telemetry.process_identity import configure_process_identity

log = logging.getLogger("asgi_master")


class Reload(Component):
    """Begins reloads, and keeps `RunningSettings` at what the rollouts come to."""

    def __init__(
        self,
        reread: Callable[[], Settings],
        settings: RunningSettings,
        resources: WorkerResources,
        children: Children,
        supervisor: Supervisor,
        service_manager: ServiceManager,
        report: Callable[[Event], None],
    ) -> None:
        """`reread` reads the settings again and raises `SettingsError`; `report` takes events for the supervisor."""
        self._reread = reread
        self._settings = settings
        self._resources = resources
        self._children = children
        self._supervisor = supervisor
        self._service_manager = service_manager
        self._report = report

    def request(self, why: str) -> list[str]:
        """Have a new generation started under the settings as they are now; returns a line for each error."""
        if self._supervisor.phase.is_ending:
            log.warning("%s: not reloading: the master is stopping", why)
            return ["the master is stopping"]
        try:
            settings, waiting = hold_until_restart(self._settings.current, self._reread())
            self._resources.open(settings)
        except Exception as error:
            # Whatever the files, the directory and the network are like now, it is no reason to leave.
            if not isinstance(error, AsgiMasterError | OSError | MemoryError):
                log.exception("%s: the settings could not be taken", why)
            errors = error.errors if isinstance(error, SettingsError) else [str(error) or repr(error)]
            self._report(ReloadRefused(why, tuple(errors)))
            return errors
        for change in waiting:
            log.warning("%s: %s takes effect after a restart only", why, change.name)
        log.log(logging.DEBUG if settings.development.reload else logging.INFO, "%s: reloading", why)
        self._settings.propose(settings)
        self._service_manager.begin_reload()
        self._report(ReloadRequested(policy_of(settings)))
        return []

    def note(self, notice: Notice) -> None:
        """Follow the rollout."""
        match notice:
            case RollbackStarted(generation):
                if (settings := self._children.settings_of(generation)) is not None:
                    self._settings.propose(settings)
                    self._open_again(settings)
            case ReloadFailed():
                self._settings.revert()
            case MasterReady() | ReloadCommitted():
                faults.fault_point("before_commit", generation=notice.generation)
                self._settings.commit()
                self._configure_process()

    def _open_again(self, settings: Settings) -> None:
        """Open the binds that the reload to be undone took away."""
        try:
            self._resources.open_binds(settings)
        except BindError as error:
            log.error("%s; the rollback goes on without what the reload took away", error)

    def _configure_process(self) -> None:
        """Log and title of the master itself follow a commit."""
        try:
            configure_process_identity("master", self._settings.committed)
        except SettingsError as error:
            log.error("the master's log stays as it was: %s", error)
