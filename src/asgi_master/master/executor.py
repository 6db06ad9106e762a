"""Carry out the supervisor's orders."""

from asgi_master.errors import ExitCode
from asgi_master.ipc.messages import Boot
from asgi_master.master.children import Children
from asgi_master.master.listeners import Listeners
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.worker_resources import WorkerResources
from asgi_master.supervision.actions import (
    Action,
    AdmitWorker,
    Announce,
    CloseListeners,
    DrainWorker,
    DumpStacks,
    ExitMaster,
    KillWorker,
    KillZygote,
    RetireZygote,
    SpawnService,
    SpawnWorker,
    StartZygote,
    StopService,
)


class Executor:
    """Turns each action into what the operating system is asked for. Announcements are the loop's to distribute."""

    def __init__(
        self,
        children: Children,
        listeners: Listeners,
        resources: WorkerResources,
        settings: RunningSettings,
        directory: str,
    ) -> None:
        """`directory` is where generations begin, by its name."""
        self._children = children
        self._listeners = listeners
        self._resources = resources
        self._settings = settings
        self._directory = directory
        self.exit_code: ExitCode | None = None
        """Set once nothing is left to do."""

    def execute(self, action: Action) -> None:
        """Carry out one action; its effects are reported as events later."""
        match action:
            case StartZygote(generation):
                boot = Boot(generation, self._directory, self._settings.current)
                self._children.start_zygote(boot)
            case RetireZygote(generation):
                self._children.retire_zygote(generation)
            case KillZygote(generation):
                self._children.kill_zygote(generation)
            case SpawnWorker(worker, slot, generation, role):
                lent = self._resources.lent_to(self._children.settings_of(generation), slot)
                self._children.spawn_worker(worker, slot, generation, lent, role)
            case SpawnService(worker, service, generation):
                self._children.spawn_service(worker, service, generation)
            case StopService(worker, timeout):
                self._children.stop_service(worker, timeout)
            case AdmitWorker(worker):
                self._children.admit_worker(worker)
            case DrainWorker(worker, timeout, hand_off, sessions):
                self._children.drain_worker(worker, timeout, hand_off=hand_off, sessions=sessions)
            case DumpStacks(worker):
                self._children.dump_stacks(worker)
            case KillWorker(worker):
                self._children.kill_worker(worker)
            case Announce():
                pass
            case CloseListeners():
                self._listeners.refuse_connections()
            case ExitMaster(code):
                self.exit_code = code
