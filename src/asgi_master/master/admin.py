"""Where the admin server listens, and what can be done there."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from asgi_master.control.admin import Actions
from asgi_master.control.commands import MasterControl
from asgi_master.control.reloads import Reloads
from asgi_master.master.listeners import Listeners
from asgi_master.master.open_listener import Listener
from asgi_master.settings.model import Settings, SocketSettings

log = logging.getLogger("asgi_master")

_BACKLOG = 128


def open_admin(listeners: Listeners, settings: Settings) -> list[Listener]:
    """The listeners that `admin-bind` asks for, if it does. Raises `BindError`."""
    sockets = admin_sockets(settings)
    listeners.open(sockets)
    opened = listeners.of(sockets)
    for listener in opened:
        log.info("health and metrics on %s", listener.url)
    return opened


def admin_actions(
    settings: Settings,
    directory: Path,
    master: MasterControl,
    reloads: Reloads,
    settle: Callable[[], object],
) -> Actions | None:
    """What can be done at the admin address; `None` if it is read-only."""
    observation = settings.observation
    if not observation.admin_bind or not observation.admin_actions:
        return None
    from asgi_master.control.access import Access, read_token  # noqa: PLC0415 -- OpenSSL, and few have it

    path = directory / observation.admin_token_file
    return Actions(Access(lambda: read_token(path), time.monotonic), master, reloads, settle)


def admin_sockets(settings: Settings) -> SocketSettings:
    """What to listen on for the admin server; Unix sockets as those of the application."""
    bind = settings.observation.admin_bind
    return replace(settings.sockets, bind=(bind,) if bind else (), backlog=_BACKLOG)
