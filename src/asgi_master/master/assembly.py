"""Builds the master of its parts: for a start, for an upgrade, and for a rehearsal.

Rules of this file:
  - What survives an upgrade is registered here, with `UpgradeState.register`. Names of sections and keys are read by
    other versions.
  - Each part is closed in the reverse order of being built, whatever fails.
"""

import logging
import os
import random
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from asgi_master import codec
from asgi_master.control.admin import AdminServer
from asgi_master.control.commands import show_status
from asgi_master.control.component import Component
from asgi_master.control.live_feed import LiveFeed
from asgi_master.control.reloads import Reloads
from asgi_master.control.server import ControlServer
from asgi_master.errors import BindError, SettingsError
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.prctl import become_subreaper
from asgi_master.ipc.scoreboard import Scoreboard, layout
from asgi_master.master.admin import open_admin
from asgi_master.master.admin_actions import admin_actions
from asgi_master.master.announcements import Announcements
from asgi_master.master.certificates import Certificates
from asgi_master.master.children import Children
from asgi_master.master.closing_listeners import ClosingListeners
from asgi_master.master.control_socket import export_control, import_control, open_control
from asgi_master.master.dispatcher import Dispatcher
from asgi_master.master.early_zygote import EarlyZygote
from asgi_master.master.executor import Executor
from asgi_master.master.fd_store import FdStore
from asgi_master.master.fleet_control import FleetControl
from asgi_master.master.fleet_view import FleetView
from asgi_master.master.guard import Guard
from asgi_master.master.listeners import Listeners
from asgi_master.master.live_view import FleetPast, LiveView
from asgi_master.master.log_files import LogFiles
from asgi_master.master.loop import Master
from asgi_master.master.pid_file import PidFile
from asgi_master.master.places import Places
from asgi_master.master.policy import policy_of
from asgi_master.master.privileges import PID_FILE, warn_of_exposure
from asgi_master.master.reload import Reload
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.sd_notify import Notifier
from asgi_master.master.selecting import PatientSelector
from asgi_master.master.shared_sockets import SharedSockets
from asgi_master.master.signal_actions import SignalActions, master_actions
from asgi_master.master.signals import SignalPipe
from asgi_master.master.start_context import StartContext, enter_directory
from asgi_master.master.systemd import ServiceManager
from asgi_master.master.totals import Totals
from asgi_master.master.upgrade import Upgrade
from asgi_master.master.upgrade_state import StateSection, UpgradeState
from asgi_master.master.warm_zygotes import WarmZygotes, ZygoteSource
from asgi_master.master.watcher import ChangedFiles, Watcher
from asgi_master.master.worker_resources import WorkerResources
from asgi_master.settings.model import Settings
from asgi_master.supervision import snapshot
from asgi_master.supervision.events import Event, TimePassed
from asgi_master.supervision.supervisor import Supervisor
from asgi_master.telemetry.process_identity import configure_process_identity

log = logging.getLogger("asgi_master")


class Process(NamedTuple):
    """What is set up before anything is opened."""

    signals: SignalPipe
    start: StartContext


def set_up_process(
    held: ExitStack, state: UpgradeState, settings: RunningSettings, early_zygote: EarlyZygote
) -> Process:
    """Receive signals, enter the directory, set up the log. Raises `SettingsError`, `OSError`."""
    signals = state.register(
        "signals", create=SignalPipe, restore=SignalPipe.import_state, export=SignalPipe.export_state
    )
    held.callback(signals.close)
    start = enter_directory(settings.current, early_zygote.interpreter)
    try:
        configure_process_identity("master", settings.current)
    except SettingsError as error:
        if not state.is_upgrade:
            raise
        # The file was good when the upgrade was checked, and workers serve: go on without it.
        logging_settings = replace(settings.current.logging, log_config="")
        configure_process_identity("master", replace(settings.current, logging=logging_settings))
        log.error("upgrade: %s", error)
    return Process(signals, start)


def assemble(
    held: ExitStack,
    state: UpgradeState,
    settings: RunningSettings,
    process: Process,
    reread: Callable[[], Settings],
    early_zygote: EarlyZygote,
    *,
    runs_services: bool = True,
) -> tuple[Master, Listeners]:
    """The master and its listeners, open; `held` closes all of it. Raises `AsgiMasterError`, `OSError`.

    `reread` reads the settings for a reload and raises `SettingsError`; `early_zygote` starts zygotes.
    Without `runs_services`, services are imported but never started.
    """
    started, directory = settings.current, Path(process.start.directory)
    _write_pid_file(held, state, started)
    notifier = Notifier(os.environ)
    held.callback(notifier.close)
    held.enter_context(_reporting_to(notifier))

    guarded = Guard()
    selector = PatientSelector()
    held.callback(guarded, selector.close)
    events: deque[Event] = deque([TimePassed()])
    become_subreaper()
    scoreboard = _scoreboard(state)
    held.callback(guarded, scoreboard.close)
    hand_off = _hand_off(state)
    held.callback(guarded, hand_off.leave_to_exit)
    zygotes = ZygoteSource(early_zygote.zygote)
    children = Children(selector, scoreboard, hand_off, zygotes.new_zygote, events.append, guarded)
    held.callback(guarded, children.close)
    state.register(
        "children", create=lambda: children, restore=children.import_state, export=Children.export_state
    )

    fd_store = FdStore(notifier, os.environ, os.getpid())
    # They are taken: whatever this process executes later (a live upgrade) must not take them again.
    os.environ.pop("LISTEN_PID", None)
    listeners = _listeners(held, state, "listeners", Listeners(fd_store))
    certificates = Certificates(children, settings, directory)
    state.register(
        "certificates",
        create=lambda: certificates,
        restore=certificates.import_state,
        export=Certificates.export_state,
    )
    log_files = LogFiles(children, settings, directory)
    state.register(
        "log files", create=lambda: log_files, restore=log_files.import_state, export=LogFiles.export_state
    )
    resources = WorkerResources(listeners, certificates, log_files)
    if state.is_upgrade:
        # What the workers have is restored. The files may be others by now: the reload that follows reads them.
        resources.open_binds(started)
    else:
        resources.open(started)
    fd_store.discard_unused()
    admin = open_admin(_listeners(held, state, "admin listeners", Listeners()), started)
    control = state.register(
        "control socket",
        create=lambda: open_control(started.process.control_socket),
        restore=import_control,
        export=export_control,
    )
    if control is not None:
        held.callback(control.close)

    supervisor = _supervisor(state, started, runs_services=runs_services)
    places = Places(children, lambda: supervisor.fleet)
    state.register("places", create=lambda: places, restore=places.import_state, export=Places.export_state)
    executor = Executor(children, listeners, resources, settings, process.start.directory)
    dispatcher = Dispatcher(events, supervisor, executor, guarded)
    signal_actions = SignalActions(process.signals, guarded)
    selector.register(process.signals, selectors.EVENT_READ, signal_actions.run)

    def settle() -> None:
        signal_actions.run()
        dispatcher.dispatch()

    service_manager = ServiceManager(notifier, supervisor, children.rows, os.environ)
    reload = Reload(reread, settings, resources, children, supervisor, service_manager, events.append)
    closing_listeners = ClosingListeners(settings, listeners, hand_off)
    shared_sockets = SharedSockets(children, settings, listeners, resources, hand_off)
    totals = _totals(state)
    fleet_view = FleetView(
        supervisor,
        children,
        settings,
        listeners,
        scoreboard,
        totals,
        shared_sockets.silent,
        is_asked=bool(admin),
    )
    fleet_control = FleetControl(
        supervisor,
        children,
        settings,
        listeners,
        report=events.append,
        reload=lambda: reload.request("control"),
        started_at=totals.started_at,
        totals=scoreboard.totals,
        service_restarts=lambda: totals.service_restarts,
        health_state=fleet_view.health_state,
    )
    reloads = _reloads(state)
    live_view = LiveView(
        supervisor,
        children,
        settings,
        listeners,
        scoreboard,
        fleet_view,
        lambda: show_status(fleet_control.status(), reloads),
        state.register(
            "history", create=FleetPast, restore=FleetPast.import_state, export=FleetPast.export_state
        ),
    )
    live_feed = LiveFeed(live_view)
    upgrade = Upgrade(
        state,
        process.start,
        settings,
        supervisor,
        children,
        closing_listeners,
        selector,
        process.signals,
        settle,
    )
    signal_actions.actions = master_actions(events.append, children, log_files, reload, upgrade)
    changed = ChangedFiles()
    children.changed = changed.names

    def development() -> list[Component]:
        return [
            Watcher(started, supervisor, selector, reload, changed),
            WarmZygotes(
                zygotes, early_zygote.warm_base, children, settings, selector, process.start.directory
            ),
        ]

    # Notices are logged before they have effects, and settings are committed before binds are closed for them.
    components: list[Component] = [
        Announcements(settings, children, listeners, changed),
        reload,
        closing_listeners,
        fleet_view,
        live_view,
        ControlServer(
            control.sock if control is not None else None,
            selector,
            fleet_control,
            live_feed,
            reloads,
            settle=dispatcher.dispatch,
            uid=os.geteuid(),
        ),
        service_manager,
        shared_sockets,
        places,
        AdminServer(
            [listener.sock for listener in admin],
            selector,
            fleet_view,
            live_feed,
            admin_actions(started, directory, fleet_control, reloads, dispatcher.dispatch),
        ),
        certificates,
        log_files,
        *(development() if started.development.reload else []),
        # In its sweep it may replace this program.
        upgrade,
    ]
    for component in components:
        held.callback(guarded, component.close)
    dispatcher.components += components
    for name in state.close_unknown():
        log.info("upgrade: the former program's %s is not known to this one", name)
    master = Master(dispatcher, children, selector, signal_actions.run, guarded)
    if state.is_upgrade:
        # Go on where the program before this one was, and have the workers follow it.
        guarded(children.reap)
        guarded(dispatcher.dispatch)
        guarded(reload.request, "upgrade")
    return master, listeners


@contextmanager
def _reporting_to(notifier: Notifier) -> Iterator[None]:
    """Report to the service manager, too, what keeps the master from starting."""
    try:
        yield
    except BindError as error:
        notifier.send({"STATUS": str(error)})
        raise


def _write_pid_file(held: ExitStack, state: UpgradeState, settings: Settings) -> None:
    def write() -> PidFile | None:
        if not settings.process.pid_file:
            return None
        pid_file = PidFile.write(path := Path(settings.process.pid_file))
        warn_of_exposure(PID_FILE, path)
        return pid_file

    pid_file = state.register(
        "pid file",
        create=write,
        restore=PidFile.import_state,
        export=lambda pid_file: pid_file.export_state() if pid_file is not None else None,
    )
    if pid_file is not None:
        held.callback(pid_file.remove)


def _listeners(held: ExitStack, state: UpgradeState, section: str, listeners: Listeners) -> Listeners:
    held.callback(listeners.close)
    return state.register(
        section, create=lambda: listeners, restore=listeners.import_state, export=Listeners.export_state
    )


def _scoreboard(state: UpgradeState) -> Scoreboard:
    return state.register(
        "scoreboard",
        create=Scoreboard.create,
        restore=lambda left: Scoreboard.restore(
            left.fds["board"], left.fds["roster"], left.values["gone"], left.values["layout"]
        ),
        export=lambda board: StateSection(
            {"layout": layout(), "gone": board.counts_of_gone}, {"board": board.fd, "roster": board.roster_fd}
        ),
    )


def _hand_off(state: UpgradeState) -> HandOff:
    return state.register(
        "hand-off",
        create=HandOff.create,
        restore=lambda left: HandOff.of_fds(left.fds["put"], left.fds["take"]),
        export=lambda queue: StateSection(fds=dict(zip(("put", "take"), queue.fds, strict=True))),
    )


def _supervisor(state: UpgradeState, settings: Settings, *, runs_services: bool) -> Supervisor:
    policy = policy_of(settings)
    if not runs_services:
        policy = replace(policy, services=())
    return state.register(
        "supervisor",
        create=lambda: Supervisor(policy, time.monotonic(), random.random),
        restore=lambda left: snapshot.load(left.values, random.random),
        export=lambda supervisor: StateSection(snapshot.dump(supervisor)),
    )


def _totals(state: UpgradeState) -> Totals:
    return state.register(
        "totals",
        create=lambda: Totals(time.monotonic(), time.time()),
        restore=lambda left: Totals.load(left.values, time.monotonic(), time.time()),
        export=lambda totals: StateSection(codec.dump(totals)),
    )


def _reloads(state: UpgradeState) -> Reloads:
    return state.register(
        "reloads",
        create=Reloads,
        restore=lambda left: Reloads.load(left.values),
        export=lambda reloads: StateSection(reloads.dump()),
    )
