"""The master's loop: wait for a fact, have it judged, carry out the orders."""

import logging
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from asgi_master.control.admin import AdminServer
from asgi_master.control.server import ControlServer
from asgi_master.control.socket_paths import ControlSocket
from asgi_master.errors import AsgiMasterError, ExitCode, SettingsError
from asgi_master.ipc.channel import Channel
from asgi_master.master import parts
from asgi_master.master.admin import admin_sockets
from asgi_master.master.carried import Cargo, Carried
from asgi_master.master.certificates import Certificates
from asgi_master.master.children import Children
from asgi_master.master.executor import Executor
from asgi_master.master.listeners import Listeners
from asgi_master.master.log_files import LogFiles
from asgi_master.master.notifier import Notifier
from asgi_master.master.observer import MasterObserver
from asgi_master.master.outlive import Outlive
from asgi_master.master.place import Place
from asgi_master.master.policy import policy_of
from asgi_master.master.removed_binds import RemovedBinds
from asgi_master.master.selecting import PatientSelector
from asgi_master.master.shared_sockets import SharedSockets
from asgi_master.master.signals import SignalPipe
from asgi_master.master.steering import MasterSteering
from asgi_master.master.systemd import ServiceManager
from asgi_master.master.upgrade import Upgrade
from asgi_master.master.watcher import Watcher
from asgi_master.settings.diff import hold_until_restart
from asgi_master.settings.model import Settings
from asgi_master.settings.wire import to_wire
from asgi_master.supervision.actions import Action, Announce
from asgi_master.supervision.events import (
    Event,
    ReloadRefused,
    ReloadRequested,
    ScaleRequested,
    StopRequested,
    TimePassed,
    WorkerExited,
    WorkerFailed,
    ZygoteExited,
    ZygoteFailed,
)
from asgi_master.supervision.notices import Notice
from asgi_master.supervision.states import Phase
from asgi_master.telemetry.failure_log import FailureLog

log = logging.getLogger("asgi_master")

_HEARTBEAT_PERIOD = 0.5
"""Seconds between two looks at the scoreboard."""
_SHORTEST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25
"""Seconds between two turns of the loop while something fails in each of them."""

_GOES_ON = "the master goes on"
_FAILED_TO_START = "the master failed to start it"


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
        new_zygote: Callable[[], tuple[int, Channel]],
        signals: SignalPipe,
        listeners: Listeners,
        control: ControlSocket | None,
        notifier: Notifier,
        cargo: Cargo,
        place: Place,
        admin: Listeners,
        certificates: Certificates,
        log_files: LogFiles,
    ) -> None:
        """`cargo` holds what a master before this one left in this process, if there was one."""
        self._reread = reread
        self._signals = signals
        self._listeners = listeners
        self._selector = PatientSelector()
        self._failures = FailureLog()
        self._facts: deque[Event] = deque([TimePassed()])
        self._supervisor = parts.supervisor(cargo, settings)
        self._scoreboard = parts.scoreboard(cargo)
        self._hand_off = parts.hand_off(cargo)
        self._outlive = Outlive(self._failures)
        self._children = Children(
            self._selector, self._scoreboard, self._hand_off, new_zygote, self._facts.append, self._outlive
        )
        removed_binds = RemovedBinds(self._hand_off)
        self._certificates = certificates
        self._log_files = log_files
        self._executor = Executor(
            self._children,
            listeners,
            removed_binds,
            certificates,
            log_files,
            settings,
            place.directory,
            is_upgrade=cargo.is_upgrade,
        )
        certificates.attach(self._children, lambda: self._executor.settings.tls)
        log_files.attach(self._children, lambda: self._executor.settings.logging)
        self._watcher = Watcher(settings) if settings.development.reload else None
        self._totals = parts.totals(cargo)
        steering = MasterSteering(
            self._supervisor,
            self._children,
            self._executor,
            listeners,
            tell=self._facts.append,
            reload=lambda: self._reload("control"),
            started_at=self._totals.started_at,
            totals=self._scoreboard.totals,
            health_state=lambda: self._observer.health_state(),  # noqa: PLW0108 -- that one comes later
        )
        self._control = ControlServer(
            control.sock if control is not None else None,
            self._selector,
            steering,
            parts.reloads(cargo),
            uid=os.geteuid(),
        )
        self._service_manager = ServiceManager(notifier, self._supervisor, self._children.rows, os.environ)
        sockets = [listener.sock for listener in admin.of(admin_sockets(settings))]
        shared_sockets = SharedSockets(self._children, self._executor, listeners, self._hand_off)
        self._observer = observer = MasterObserver(
            self._supervisor,
            self._children,
            self._executor,
            listeners,
            self._scoreboard,
            self._totals,
            shared_sockets.silent,
            is_asked=bool(sockets),
        )
        self._upgrade = Upgrade(
            self._selector,
            self._children,
            cargo,
            command=place.command,
            directory=place.started_in,
            phase=lambda: self._supervisor.phase,
            is_calm=lambda: self._supervisor.phase is Phase.STEADY and removed_binds.is_done,
            settle=self._settle,
            boot_timeout=lambda: self._executor.settings.process.boot_timeout,
        )
        # The last of them may end this program for the next.
        self._companions: list[Companion] = [
            self._control,
            self._service_manager,
            shared_sockets,
            observer,
            AdminServer(sockets, self._selector, observer),
            removed_binds,
            certificates,
            log_files,
            self._upgrade,
        ]
        self._is_upgraded = cargo.is_upgrade
        self._next_look = time.monotonic() + _HEARTBEAT_PERIOD
        self._pack(cargo)

    def run(self) -> ExitCode:
        """Supervise until nothing is left to supervise. Raises `OSError` only before anything was begun."""
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        if self._watcher is not None:
            self._selector.register(self._watcher.fd, selectors.EVENT_READ, self._on_changes)
        if self._is_upgraded:
            self._outlive(self._take_over)
        self._outlive(self._judge)
        self._outlive(self._children.reap)  # a zygote that died before there was a handler for that
        failed_turns = 0
        while self._executor.exit_code is None:
            failures = self._failures.count
            self._outlive(self._turn)
            failed_turns = failed_turns + 1 if self._failures.count > failures else 0
            if failed_turns:
                # What failed is tried again at the next turn, which may be at once.
                time.sleep(min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(failed_turns, 10)))
        return self._executor.exit_code

    def accompany(self, companion: Companion) -> None:
        """Have one more follow what happens."""
        self._companions.insert(0, companion)

    def stop(self) -> None:
        """As `SIGTERM` does."""
        self._facts.append(StopRequested())

    def close(self) -> None:
        """Let go of everything; children that still live see the end of file and leave."""
        for companion in self._companions:
            self._outlive(companion.close)
        self._outlive(self._children.close)
        if self._watcher is not None:
            self._outlive(self._watcher.close)
        self._outlive(self._hand_off.leave_to_exit)
        for part in (self._scoreboard, self._selector):
            self._outlive(part.close)

    def _turn(self) -> None:
        """Wait for facts, for half a second at most, and do what follows from them."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _HEARTBEAT_PERIOD
            self._look()
        deadline = self._supervisor.next_deadline()
        wait = (self._next_look if deadline is None else min(self._next_look, deadline)) - now
        for key, _events in self._ready(max(0.0, wait)):
            self._outlive(key.data)
        self._facts.append(TimePassed())
        self._judge()
        self._outlive(self._obey)
        for companion in self._companions:
            self._outlive(companion.sweep)
        self._failures.sweep()

    def _look(self) -> None:
        """Look at what tells nobody when it changes, and at what was told and not heard because something failed."""
        self._outlive(self._children.oom_kills.look)
        self._outlive(self._children.press)
        self._on_signals()
        self._outlive(self._children.reap)
        self._facts.extend(self._missing())
        self._facts.append(self._children.read_heartbeats())

    def _missing(self) -> Iterator[Event]:
        """The end of each process that the supervisor knows and that is not there: to start it, or to tell, failed."""
        fleet = self._supervisor.fleet
        if self._facts:
            # They may tell of just that.
            return
        for worker in fleet.workers.keys() - self._children.rows().keys():
            yield WorkerFailed(worker, _FAILED_TO_START)
            yield WorkerExited(worker, ExitCode.FAILURE)
        for generation in fleet.zygotes.keys() - {boot.generation for boot in self._children.boots()}:
            yield ZygoteFailed(generation, _FAILED_TO_START)
            yield ZygoteExited(generation, ExitCode.FAILURE)

    def _ready(self, wait: float) -> list[tuple[selectors.SelectorKey, int]]:
        try:
            return self._selector.select(wait)
        except OSError as error:
            self._failures.failed("waiting for events", error, _GOES_ON, logging.ERROR)
            return []

    def _pack(self, cargo: Cargo) -> None:
        """Say what a program that replaces this one will need, and adopt what the one before left."""
        cargo.pack("executor", lambda: Carried({"settings": to_wire(self._executor.settings)}))
        cargo.pack("children", self._children.carry)
        if (children := cargo.unpack("children")) is not None:
            self._children.adopt(children)

    def _take_over(self) -> None:
        """Go on where the program before this one was, and have the workers follow it."""
        self._children.reap()
        self._judge()
        self._reload("upgrade")

    def _settle(self) -> None:
        """Take note of the signals that came, and judge."""
        self._on_signals()
        self._judge()

    def _judge(self) -> None:
        """Feed each fact to the supervisor and carry out what it orders before the next. Raises `MemoryError`."""
        while self._facts:
            fact = self._facts.popleft()
            try:
                actions = self._supervisor.handle(fact, time.monotonic())
            except MemoryError:
                # It is judged again at the next turn.
                self._facts.appendleft(fact)
                raise
            for action in actions:
                self._carry_out(action)

    def _obey(self) -> None:
        while self._control.process_next():
            self._judge()

    def _carry_out(self, action: Action) -> None:
        self._outlive(self._executor.execute, action)
        if isinstance(action, Announce):
            for companion in self._companions:
                self._outlive(companion.note, action.notice)

    def _on_signals(self) -> None:
        self._outlive(self._signals.wake)
        # Who is told to stop need not replace whoever died of the same signal.
        for signum in sorted(self._signals.take(), key=lambda signum: signum == signal.SIGCHLD):
            self._outlive(self._on_signal, signum)

    def _on_signal(self, signum: signal.Signals) -> None:
        match signum:
            case signal.SIGTERM | signal.SIGINT:
                self._facts.append(StopRequested())
            case signal.SIGQUIT:
                self._facts.append(StopRequested(quick=True))
            case signal.SIGHUP:
                # Whatever becomes of the reload: who renamed a file counts on this.
                self._log_files.reopen()
                self._reload("SIGHUP")
            case signal.SIGUSR1:
                self._log_files.reopen()
            case signal.SIGTTIN:
                self._facts.append(ScaleRequested(+1))
            case signal.SIGTTOU:
                self._facts.append(ScaleRequested(-1))
            case signal.SIGUSR2:
                self._upgrade.request()
            case signal.SIGCHLD:
                self._children.reap()

    def _on_changes(self) -> None:
        assert self._watcher is not None
        changed = self._watcher.read()
        if changed:
            self._reload("files changed")
        elif changed is None:
            if not self._supervisor.phase.is_ending:
                log.error("the watcher of --reload is gone: changes are no longer seen; SIGHUP reloads")
            self._selector.unregister(self._watcher.fd)
            self._watcher.close()
            self._watcher = None

    def _reload(self, why: str) -> list[str]:
        """Read the settings again and ask for a new generation under them.

        Bad settings change nothing: returns a line for each error.
        """
        if self._supervisor.phase.is_ending:
            log.warning("%s: not reloading: the master is stopping", why)
            return ["the master is stopping"]
        running = self._executor.settings
        try:
            settings, waiting = hold_until_restart(running, self._reread())
            self._certificates.load(settings)
            self._log_files.open(settings)
            self._listeners.open(settings.sockets)
        except Exception as error:
            # Whatever the files, the directory and the network are like now, it is no reason to leave.
            if not isinstance(error, AsgiMasterError | OSError | MemoryError):
                log.exception("%s: the settings could not be taken", why)
            errors = error.errors if isinstance(error, SettingsError) else [str(error) or repr(error)]
            self._facts.append(ReloadRefused(why, tuple(errors)))
            return errors
        for change in waiting:
            log.warning("%s: %s takes effect after a restart only", why, change.name)
        log.info("%s: reloading", why)
        self._executor.settings = settings
        self._service_manager.begin_reload()
        self._facts.append(ReloadRequested(policy_of(settings)))
        return []
