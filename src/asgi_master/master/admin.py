"""Where the admin server listens."""

import logging
from dataclasses import replace

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


def admin_sockets(settings: Settings) -> SocketSettings:
    """What to listen on for the admin server; Unix sockets as those of the application."""
    bind = settings.observation.admin_bind
    return replace(settings.sockets, bind=(bind,) if bind else (), backlog=_BACKLOG)
