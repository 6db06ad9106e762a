"""The master's loop: wait for a fact, have it judged, carry out the orders."""

import logging
import os
import random
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from asgi_master.control.places import ControlSocket
from asgi_master.control.server import ControlServer
from asgi_master.errors import BindError, ExitCode, SettingsError
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.master.children import Children
from asgi_master.master.executor import Executor
from asgi_master.master.listeners import Listeners
from asgi_master.master.policy import policy_of
from asgi_master.master.signals import SignalPipe
from asgi_master.master.steering import MasterSteering
from asgi_master.master.watcher import Watcher
from asgi_master.settings.diff import hold_until_restart
from asgi_master.settings.model import Settings
from asgi_master.supervision.actions import Announce
from asgi_master.supervision.events import (
    Event,
    ReloadRequested,
    ScaleRequested,
    StopRequested,
    TimePassed,
)
from asgi_master.supervision.notices import Notice
from asgi_master.supervision.supervisor import Supervisor

log = logging.getLogger("asgi_master")

_HEARTBEAT_PERIOD = 0.5
"""Seconds between two looks at the scoreboard."""


class Companion(Protocol):
    """Who lives in the master's loop and follows what happens: the control socket, for one."""

    def note(self, notice: Notice) -> None:
        """The supervisor announced something."""

    def sweep(self) -> None:
        """Do what is due. Called after each turn of the loop, every half second at the least."""

    def close(self) -> None:
        """The master ends."""


class Master:
    """The running master. Everything happens in `run`, in one thread."""

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        signals: SignalPipe,
        listeners: Listeners,
        control: ControlSocket | None,
    ) -> None:
        self._reread = reread
        self._signals = signals
        self._listeners = listeners
        self._selector = selectors.DefaultSelector()
        self._facts: deque[Event] = deque([TimePassed()])
        self._supervisor = Supervisor(policy_of(settings), time.monotonic(), random.random)
        self._scoreboard = Scoreboard.create()
        self._hand_off = HandOff.create()
        self._children = Children(self._selector, self._scoreboard, self._hand_off, self._facts.append)
        self._executor = Executor(self._children, listeners, settings)
        self._watcher = Watcher(settings) if settings.development.reload else None
        steering = MasterSteering(
            self._supervisor,
            self._children,
            self._executor,
            listeners,
            tell=self._facts.append,
            reload=lambda: self._reload("control"),
        )
        self._control = ControlServer(
            control.sock if control is not None else None, self._selector, steering, uid=os.geteuid()
        )
        self._companions: list[Companion] = [self._control]

    def run(self) -> ExitCode:
        """Supervise until nothing is left to supervise."""
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        if self._watcher is not None:
            self._selector.register(self._watcher.fd, selectors.EVENT_READ, self._on_changes)
        next_look = time.monotonic() + _HEARTBEAT_PERIOD
        self._judge()
        while self._executor.exit_code is None:
            now = time.monotonic()
            if now >= next_look:
                next_look = now + _HEARTBEAT_PERIOD
                self._facts.append(self._children.read_heartbeats())
            deadline = self._supervisor.next_deadline()
            wait = min(next_look, next_look if deadline is None else deadline) - now
            for key, _events in self._selector.select(max(0.0, wait)):
                key.data()
            self._facts.append(TimePassed())
            self._judge()
            while self._control.obey():
                self._judge()
            for companion in self._companions:
                companion.sweep()
        return self._executor.exit_code

    def close(self) -> None:
        """Let go of everything; children that still live see the end of file and leave."""
        for companion in self._companions:
            companion.close()
        self._children.close()
        if self._watcher is not None:
            self._watcher.close()
        self._hand_off.close()
        self._scoreboard.close()
        self._selector.close()

    def _judge(self) -> None:
        """Feed each fact to the supervisor and carry out what it orders before the next."""
        while self._facts:
            fact = self._facts.popleft()
            for action in self._supervisor.handle(fact, time.monotonic()):
                try:
                    self._executor.execute(action)
                except Exception:
                    # Whatever this is, dying of it would take the service down. Each order has a deadline behind it.
                    log.exception("%s failed", type(action).__name__)
                if isinstance(action, Announce):
                    for companion in self._companions:
                        companion.note(action.notice)

    def _on_signals(self) -> None:
        for signum in self._signals.read():
            match signum:
                case signal.SIGTERM | signal.SIGINT:
                    self._facts.append(StopRequested())
                case signal.SIGQUIT:
                    self._facts.append(StopRequested(quick=True))
                case signal.SIGHUP:
                    self._reload("SIGHUP")
                case signal.SIGTTIN:
                    self._facts.append(ScaleRequested(+1))
                case signal.SIGTTOU:
                    self._facts.append(ScaleRequested(-1))
                case signal.SIGCHLD:
                    self._children.reap()

    def _on_changes(self) -> None:
        assert self._watcher is not None
        changed = self._watcher.read()
        if changed:
            self._reload("files changed")
        elif changed is None:
            log.error("the watcher of --reload is gone: changes are no longer seen; SIGHUP reloads")
            self._selector.unregister(self._watcher.fd)
            self._watcher.close()
            self._watcher = None

    def _reload(self, why: str) -> list[str]:
        """Read the settings again and ask for a new generation under them.

        Bad settings change nothing: returns a line for each error.
        """
        running = self._executor.settings
        try:
            settings, waiting = hold_until_restart(running, self._reread())
            opened = self._listeners.open(settings.sockets)
        except (SettingsError, BindError) as error:
            errors = error.errors if isinstance(error, SettingsError) else [str(error)]
            for line in errors:
                log.error("%s: not reloading: %s", why, line)
            self._control.refused(errors)
            return errors
        for change in waiting:
            log.warning("%s: %s takes effect after a restart only", why, change.name)
        for listener in opened:
            log.info("listening on %s", listener.url)
        log.info("%s: reloading", why)
        self._executor.settings = settings
        self._facts.append(ReloadRequested(policy_of(settings)))
        return []
