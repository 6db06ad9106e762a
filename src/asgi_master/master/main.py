"""Be the master: from settings to an exit status."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from asgi_master import __version__
from asgi_master.control.socket_paths import (
    AUTO,
    ControlSocket,
    ControlSocketError,
    SocketInUseError,
    open_control_socket,
)
from asgi_master.errors import BindError, ExitCode, SettingsError, told_in_a_line
from asgi_master.ipc.prctl import become_subreaper
from asgi_master.master.admin import open_admin
from asgi_master.master.carried import Cargo, Carried
from asgi_master.master.certificates import Certificates
from asgi_master.master.handover import CONSENT, Errand, Handover, check_sections, receive, settings_in
from asgi_master.master.head_start import HeadStart
from asgi_master.master.kept_sockets import KeptSockets
from asgi_master.master.listeners import Listeners
from asgi_master.master.log_files import LogFiles
from asgi_master.master.loop import Master
from asgi_master.master.notifier import Notifier
from asgi_master.master.pid_file import PidFile
from asgi_master.master.place import enter
from asgi_master.master.privileges import (
    ACCESS_LOG,
    CONTROL_SOCKET,
    PID_FILE,
    warn_of_exposure,
    warn_of_log_files,
    warn_of_root,
)
from asgi_master.master.questions import check
from asgi_master.master.signals import SignalPipe
from asgi_master.master.strangers import name_holders
from asgi_master.settings.directory import working_directory
from asgi_master.settings.model import Settings
from asgi_master.telemetry.process_identity import configure_process_identity

log = logging.getLogger("asgi_master")


def run(read: Callable[[], Settings], head_start: HeadStart) -> ExitCode:
    """Bind, supervise, leave; returns the exit status.

    `read` reads the settings, now and again for each reload, and raises `SettingsError` if they are bad.
    Raises `AsgiMasterError` for what keeps the master from starting.

    A program that was started by another master's upgrade takes over from it, or says whether it could.
    """
    with ExitStack() as held:
        with told_in_a_line("cannot start"):
            handover = receive(os.environ)
            if handover is not None and handover.errand is Errand.CHECK:
                return _consent(handover, read)
            cargo = Cargo(handover.sections if handover is not None else None)
            master, listeners = _assemble(held, cargo, read, head_start)
        status = master.run()
        name_holders(listeners.urls)
        return status


def _assemble(
    held: ExitStack, cargo: Cargo, read: Callable[[], Settings], head_start: HeadStart
) -> tuple[Master, Listeners]:
    """A master of all its parts; `held` lets go of them, the last first. Raises `AsgiMasterError`, `OSError`."""
    settings = _settings(cargo, read)
    signals = SignalPipe(cargo)
    held.callback(signals.close)
    place = enter(settings, head_start.interpreter)
    _introduce(settings, cargo)
    pid_file = _pid_file(settings.process.pid_file, cargo)
    if pid_file is not None:
        held.callback(pid_file.remove)
    notifier = Notifier(os.environ)
    held.callback(notifier.close)
    held.enter_context(_telling(notifier))
    kept = KeptSockets(notifier, os.environ, os.getpid())
    # They are taken: whatever this process executes later (a live upgrade) must not take them again.
    os.environ.pop("LISTEN_PID", None)
    log_files = LogFiles(cargo, Path(place.directory))
    if not cargo.is_upgrade:
        log_files.open(settings)
    listeners = Listeners(kept, cargo)
    held.callback(listeners.close)
    if cargo.is_upgrade:
        log.info("upgraded to asgi-master %s (same process %d)", __version__, os.getpid())
    else:
        log.info("asgi-master %s starts %d worker(s)", __version__, settings.process.workers)
        warn_of_root(settings)
        warn_of_log_files()
        if settings.logging.access_log_path:
            warn_of_exposure(ACCESS_LOG, Path(place.directory, settings.logging.access_log_path))
    listeners.open(settings.sockets)
    kept.settle()
    admin = open_admin(cargo, settings)
    held.callback(admin.close)
    control = _open_control(settings.process.control_socket, cargo)
    if control is not None:
        held.callback(control.close)
    become_subreaper()
    certificates = Certificates(cargo, Path(place.directory))
    if not cargo.is_upgrade:
        certificates.load(settings)
    master = Master(
        settings,
        read,
        head_start.zygote,
        signals,
        listeners,
        control,
        notifier,
        cargo,
        place,
        admin,
        certificates,
        log_files,
    )
    held.callback(master.close)
    for name in cargo.close_leftovers():
        log.info("upgrade: the former program's %s is not known to this one", name)
    return master, listeners


@contextmanager
def _telling(notifier: Notifier) -> Iterator[None]:
    """Tell the service manager, too, what keeps the master from starting."""
    try:
        yield
    except BindError as error:
        notifier.tell({"STATUS": str(error)})
        raise


def _consent(handover: Handover, read: Callable[[], Settings]) -> ExitCode:
    """Say that this program can take over. Raises `AsgiMasterError` if it cannot."""
    check_settings(read())
    configure_process_identity("master", check_sections(handover.sections))
    print(f"{CONSENT}{__version__}")  # noqa: T201 -- to the master that asks
    return ExitCode.OK


def _settings(cargo: Cargo, read: Callable[[], Settings]) -> Settings:
    """What to run under. Raises `SettingsError`."""
    left = cargo.unpack("executor")
    if left is not None:
        # Those that serve. What the files say now is for the reload that follows, and that can be refused.
        return settings_in(left)
    settings = read()
    check_settings(settings)
    return settings


def _introduce(settings: Settings, cargo: Cargo) -> None:
    try:
        configure_process_identity("master", settings)
    except SettingsError as error:
        if not cargo.is_upgrade:
            raise
        # The file was good when the upgrade was checked. With workers that serve, this is not the time to leave.
        configure_process_identity(
            "master", replace(settings, logging=replace(settings.logging, log_config=""))
        )
        log.error("upgrade: %s", error)


def _pid_file(setting: str, cargo: Cargo) -> PidFile | None:
    carried = cargo.unpack("pid file")
    if carried is not None:
        pid_file = PidFile.adopt(carried)
    elif setting:
        pid_file = PidFile.write(Path(setting))
        warn_of_exposure(PID_FILE, Path(setting))
    else:
        return None
    cargo.pack("pid file", pid_file.carry)
    return pid_file


def _open_control(setting: str, cargo: Cargo) -> ControlSocket | None:
    """The control socket, if one can be had. Raises `BindError` if its path is taken."""
    control = _adopt_control(cargo) or _open_new_control(setting)
    if control is not None:
        known = {"path": os.fspath(control.path), "inode": list(control.inode)}
        socket = {"socket": control.sock.fileno()}
        cargo.pack("control socket", lambda: Carried(known, socket))
    return control


def _adopt_control(cargo: Cargo) -> ControlSocket | None:
    carried = cargo.unpack("control socket")
    if carried is None:
        return None
    return ControlSocket.adopt(carried.fds["socket"], carried.values["path"], carried.values["inode"])


def _open_new_control(setting: str) -> ControlSocket | None:
    try:
        control = open_control_socket(setting, os.environ)
    except SocketInUseError as error:
        # Whoever would steer this master by that path would steer another one.
        raise BindError(
            f"cannot open the control socket: {error}; stop that or give another --control-socket"
        ) from None
    except ControlSocketError as error:
        # Whoever named a path counts on it; where nobody did, a read-only host is nothing to worry about.
        log.log(logging.INFO if setting == AUTO else logging.WARNING, "no control socket: %s", error)
        return None
    if control is not None:
        log.info("control socket: %s", control.path)
        warn_of_exposure(CONTROL_SOCKET, control.path)
    return control


def check_settings(settings: Settings) -> None:
    """What the settings room cannot know: whether what they ask for is there. Raises `SettingsError`."""
    if errors := check(settings, working_directory(os.environ) / settings.application.chdir):
        raise SettingsError(errors)
