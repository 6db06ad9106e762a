"""Be the master: from settings to an exit status."""

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from asgi_master import __version__, codec
from asgi_master.errors import ExitCode, SettingsError, converting_os_errors
from asgi_master.master.assembly import assemble, set_up_process
from asgi_master.master.early_zygote import EarlyZygote
from asgi_master.master.leftover_processes import name_holders
from asgi_master.master.preconditions import check
from asgi_master.master.privileges import ACCESS_LOG, warn_of_exposure, warn_of_log_files, warn_of_root
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.upgrade_protocol import (
    READY_MARKER,
    UpgradeMode,
    UpgradeRequest,
    check_sections,
    receive,
    settings_in,
)
from asgi_master.master.upgrade_state import StateSection, UpgradeState
from asgi_master.settings.directory import working_directory
from asgi_master.settings.model import Settings
from asgi_master.telemetry.process_identity import configure_process_identity

log = logging.getLogger("asgi_master")


def run(read: Callable[[], Settings], early_zygote: EarlyZygote) -> ExitCode:
    """Bind, supervise, leave; returns the exit status.

    `read` reads the settings, now and again for each reload, and raises `SettingsError` if they are bad.
    Raises `AsgiMasterError` for what keeps the master from starting.

    A program that was started by another master's upgrade takes over from it, or reports whether it could.
    """
    with ExitStack() as held:
        with converting_os_errors("cannot start"):
            request = receive(os.environ)
            if request is not None and request.mode is UpgradeMode.CHECK:
                return _confirm(request, read)
            state = UpgradeState(request.sections if request is not None else None)
            settings = _settings(state, read)
            process = set_up_process(held, state, settings, early_zygote)
            if state.is_upgrade:
                log.info("upgraded to asgi-master %s (same process %d)", __version__, os.getpid())
            else:
                _greet(settings.current, process.start.directory)
            master, listeners = assemble(held, state, settings, process, read, early_zygote)
        status = master.run()
        name_holders(listeners.urls)
        return status


def _settings(state: UpgradeState, read: Callable[[], Settings]) -> RunningSettings:
    """The settings to run under. After an upgrade, those in use: the reload that follows reads the files."""
    return state.register(
        "executor",
        create=lambda: RunningSettings(read_checked(read)),
        restore=lambda section: RunningSettings(settings_in(section)),
        export=lambda settings: StateSection({"settings": codec.dump(settings.current)}),
    )


def _greet(settings: Settings, directory: str) -> None:
    log.info("asgi-master %s starts %d worker(s)", __version__, settings.process.workers)
    warn_of_root(settings)
    warn_of_log_files()
    if settings.logging.access_log_path:
        warn_of_exposure(ACCESS_LOG, Path(directory, settings.logging.access_log_path))


def _confirm(request: UpgradeRequest, read: Callable[[], Settings]) -> ExitCode:
    """Report that this program can take over. Raises `AsgiMasterError` if it cannot."""
    read_checked(read)
    configure_process_identity("master", check_sections(request.sections))
    print(f"{READY_MARKER}{__version__}")  # noqa: T201 -- read by the running master
    return ExitCode.OK


def read_checked(read: Callable[[], Settings]) -> Settings:
    """The settings, if what they ask for is there, which the settings room cannot know. Raises `SettingsError`."""
    settings = read()
    if errors := check(settings, working_directory(os.environ) / settings.application.chdir):
        raise SettingsError(errors)
    return settings
