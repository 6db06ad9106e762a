"""Carry out the supervisor's orders."""

import logging
import os

from asgi_master import faults
from asgi_master.errors import BindError, ExitCode, SettingsError
from asgi_master.ipc.messages import Boot
from asgi_master.master.certificates import Certificates
from asgi_master.master.child import Places
from asgi_master.master.children import Children
from asgi_master.master.listeners import Listeners
from asgi_master.master.listening import Listener
from asgi_master.master.log_files import LogFiles
from asgi_master.master.removed_binds import RemovedBinds
from asgi_master.settings.model import Settings
from asgi_master.settings.wire import from_wire, to_wire
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
    SpawnWorker,
    StartZygote,
)
from asgi_master.supervision.notices import (
    MasterReady,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    RollbackStarted,
)
from asgi_master.telemetry import notices
from asgi_master.telemetry.process_identity import configure_process_identity

log = logging.getLogger("asgi_master")


class Executor:
    """Turns each action into what the operating system is asked for."""

    def __init__(
        self,
        children: Children,
        listeners: Listeners,
        removed_binds: RemovedBinds,
        certificates: Certificates,
        log_files: LogFiles,
        settings: Settings,
        directory: str,
        *,
        is_upgrade: bool = False,
    ) -> None:
        """`directory` is where generations begin, by its name.

        `is_upgrade`: the program before this one has said already where we listen.
        """
        self._children = children
        self._certificates = certificates
        self._log_files = log_files
        self._listeners = listeners
        self._removed_binds = removed_binds
        self._directory = directory
        self.settings = settings
        """What the next generation will run under."""
        self._proven = settings
        """What the last generation that took over runs under."""
        self._told = {listener.url for listener in listeners.of(settings.sockets)} if is_upgrade else set()
        """Where the log says that we listen."""
        self.exit_code: ExitCode | None = None
        """Set once nothing is left to do."""

    def execute(self, action: Action) -> None:
        """Carry out one action; what it causes is told as events later."""
        match action:
            case StartZygote(generation):
                boot = Boot(generation, self._directory, to_wire(self.settings))
                self._children.start_zygote(boot)
            case RetireZygote(generation):
                self._children.retire_zygote(generation)
            case KillZygote(generation):
                self._children.kill_zygote(generation)
            case SpawnWorker(worker, slot, generation, role):
                places = self.places_of(generation)
                self._children.spawn_worker(worker, slot, generation, places, role)
            case AdmitWorker(worker):
                self._children.admit_worker(worker)
            case DrainWorker(worker, timeout, hand_off):
                self._children.drain_worker(worker, timeout, hand_off=hand_off)
            case DumpStacks(worker):
                self._children.dump_stacks(worker)
            case KillWorker(worker):
                self._children.kill_worker(worker)
            case Announce(notice):
                self._announce(notice)
            case CloseListeners():
                self._listeners.turn_away()
            case ExitMaster(code):
                self.exit_code = code

    def _announce(self, notice: Notice) -> None:
        if isinstance(notice, MasterReady | ReloadCommitted):
            self._tell_where()
        level, line = notices.render(notice)
        if isinstance(notice, ReloadCommitted) and (where := self._children.directory_of(notice.generation)):
            line = f"{line}, from {where}"
        log.log(level, "%s", line, extra=self._children.tracebacks.of(notice))
        match notice:
            case RollbackStarted(generation):
                boot = self._children.boot_of(generation)
                if boot is not None:
                    self.settings = from_wire(boot.settings)
                    self._open_again()
            case ReloadFailed():
                self.settings = self._proven
            case MasterReady() | ReloadCommitted():
                faults.fault_point("before_commit", generation=notice.generation)
                self._proven = self.settings
                self._speak_as_settings_ask()
        if isinstance(notice, ReloadFailed | MasterReady | ReloadCommitted):
            for listener in self._listeners.keep_only(self._proven.sockets):
                url = listener.url
                self._removed_binds.add(listener, was_told=url in self._told)
                self._told.discard(url)

    def _tell_where(self) -> None:
        """Say where we listen, now that somebody answers there."""
        for listener in self._listeners.of(self.settings.sockets):
            if listener.url not in self._told:
                self._told.add(listener.url)
                log.info("listening on %s", listener.url)
                if hint := self._hint_of(listener):
                    log.info("%s", hint)

    def _hint_of(self, listener: Listener) -> str:
        """What a proxy of another user meets at a Unix socket of root's, where nobody said who may connect."""
        sockets, rights = self.settings.sockets, self.settings.privileges
        is_chosen = sockets.uds_owner not in {"", f"{rights.user}:{rights.group}"}
        if listener.file is None or os.geteuid() != 0 or is_chosen or sockets.uds_mode & 0o002:
            return ""
        return (
            f"{listener.url}: only {rights.user or 'root'} and its group may connect (mode {sockets.uds_mode:03o}); "
            "a proxy that runs as another user needs --uds-owner :GROUP, with a group of its own, or --uds-mode 666"
        )

    def places_of(self, generation: int) -> Places:
        """Where a worker of this generation accepts."""
        boot = self._children.boot_of(generation)
        if boot is None:
            return Places()
        settings = from_wire(boot.settings)
        listeners = self._listeners.of(settings.sockets)
        secure = tuple(place for place, listener in enumerate(listeners) if listener.is_tls)
        return Places(
            tuple(listener.sock.fileno() for listener in listeners),
            secure,
            (self._certificates.descriptor(settings.tls),) if secure else (),
            self._log_files.descriptor(settings.logging),
        )

    def _open_again(self) -> None:
        """Open the binds that the reload to be undone took away."""
        try:
            self._listeners.open(self.settings.sockets)
        except BindError as error:
            log.error("%s; the rollback goes on without what the reload took away", error)

    def _speak_as_settings_ask(self) -> None:
        try:
            configure_process_identity("master", self._proven)
        except SettingsError as error:
            log.error("the master's log stays as it was: %s", error)
