"""Where the admin server listens."""

import logging
from dataclasses import replace

from asgi_master.master.carried import Cargo
from asgi_master.master.listeners import Listeners
from asgi_master.settings.model import Settings, SocketSettings

log = logging.getLogger("asgi_master")

_BACKLOG = 128


def open_admin(cargo: Cargo, settings: Settings) -> Listeners:
    """The listeners that `admin-bind` asks for, if it does. Raises `BindError`."""
    listeners = Listeners(cargo=cargo, section="admin listeners")
    sockets = admin_sockets(settings)
    listeners.open(sockets)
    for listener in listeners.of(sockets):
        log.info("health and metrics on %s", listener.url)
    return listeners


def admin_sockets(settings: Settings) -> SocketSettings:
    """What to listen on for the admin server; Unix sockets as those of the application."""
    bind = settings.observation.admin_bind
    return replace(settings.sockets, bind=(bind,) if bind else (), backlog=_BACKLOG)
