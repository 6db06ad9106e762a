"""Carry out the supervisor's orders."""

import logging
import os

from asgi_master.errors import ExitCode, SettingsError
from asgi_master.ipc.messages import Boot
from asgi_master.master.children import Children
from asgi_master.master.listeners import Listeners
from asgi_master.settings.model import Settings
from asgi_master.settings.sources import working_directory
from asgi_master.settings.wire import to_wire
from asgi_master.supervision.actions import (
    Action,
    Announce,
    DrainWorker,
    DumpStacks,
    ExitMaster,
    KillWorker,
    KillZygote,
    RetireZygote,
    SpawnWorker,
    StartZygote,
)
from asgi_master.supervision.notices import MasterReady, Notice, ReloadCommitted, ReloadFailed
from asgi_master.telemetry import notices
from asgi_master.telemetry.identity import introduce

log = logging.getLogger("asgi_master")


class Executor:
    """Turns each action into what the operating system is asked for."""

    def __init__(self, children: Children, listeners: Listeners, settings: Settings) -> None:
        self._children = children
        self._listeners = listeners
        self._directory = os.fspath(working_directory(os.environ))
        self.settings = settings
        """What the next generation will run under."""
        self._proven = settings
        """What the last generation that took over runs under."""
        self.exit_code: ExitCode | None = None
        """Set once nothing is left to do."""

    def execute(self, action: Action) -> None:
        """Carry out one action; what it causes is told as events later."""
        match action:
            case StartZygote(generation):
                boot = Boot(generation, self._directory, to_wire(self.settings))
                listeners = self._listeners.of(self.settings.sockets)
                self._children.start_zygote(boot, tuple(listener.sock.fileno() for listener in listeners))
            case RetireZygote(generation):
                self._children.retire_zygote(generation)
            case KillZygote(generation):
                self._children.kill_zygote(generation)
            case SpawnWorker(worker, slot, generation):
                self._children.spawn_worker(worker, slot, generation)
            case DrainWorker(worker, timeout, hand_off):
                self._children.drain_worker(worker, timeout, hand_off=hand_off)
            case DumpStacks(worker):
                self._children.dump_stacks(worker)
            case KillWorker(worker):
                self._children.kill_worker(worker)
            case Announce(notice):
                self._announce(notice)
            case ExitMaster(code):
                self.exit_code = code

    def _announce(self, notice: Notice) -> None:
        level, line = notices.render(notice)
        log.log(level, "%s", line)
        match notice:
            case ReloadFailed():
                self.settings = self._proven
            case MasterReady() | ReloadCommitted():
                self._proven = self.settings
                self._speak_as_settings_ask()
        if isinstance(notice, ReloadFailed | MasterReady | ReloadCommitted):
            for url in self._listeners.keep_only(self._proven.sockets):
                log.info("no longer listening on %s", url)

    def _speak_as_settings_ask(self) -> None:
        try:
            introduce("master", self._proven)
        except SettingsError as error:
            log.error("the master's log stays as it was: %s", error)
