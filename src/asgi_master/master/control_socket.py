"""The control socket of this master: opened where the setting says, or taken over at an upgrade."""

import logging
import os

from asgi_master.control.socket_paths import (
    AUTO,
    ControlSocket,
    ControlSocketError,
    SocketInUseError,
    open_control_socket,
)
from asgi_master.errors import BindError
from asgi_master.master.privileges import CONTROL_SOCKET, warn_of_exposure
from asgi_master.master.upgrade_state import StateSection

log = logging.getLogger("asgi_master")


def open_control(setting: str) -> ControlSocket | None:
    """The control socket, if one can be had. Raises `BindError` if its path is taken."""
    try:
        control = open_control_socket(setting, os.environ)
    except SocketInUseError as error:
        # A client that uses this path would steer another master.
        raise BindError(
            f"cannot open the control socket: {error}; stop that or give another --control-socket"
        ) from None
    except ControlSocketError as error:
        # A path that was set is relied on; without one, a read-only host is no reason for a warning.
        log.log(logging.INFO if setting == AUTO else logging.WARNING, "no control socket: %s", error)
        return None
    if control is not None:
        log.info("control socket: %s", control.path)
        warn_of_exposure(CONTROL_SOCKET, control.path)
    return control


def export_control(control: ControlSocket | None) -> StateSection | None:
    """For a live upgrade."""
    if control is None:
        return None
    known = {"path": os.fspath(control.path), "inode": list(control.inode)}
    return StateSection(known, {"socket": control.sock.fileno()})


def import_control(section: StateSection) -> ControlSocket:
    """The one that the program before this one opened."""
    return ControlSocket.adopt(section.fds["socket"], section.values["path"], section.values["inode"])
