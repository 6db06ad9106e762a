"""The control server: commands by HTTP over a Unix socket, from root and the master's own user only."""

import logging
import selectors
import socket
import struct
import time
from collections.abc import Callable

from asgi_master.control.api import Refusal, ShowLive, WatchLive, read_request, refuse
from asgi_master.control.command_queue import CommandQueue, as_response
from asgi_master.control.commands import MasterControl
from asgi_master.control.component import Component
from asgi_master.control.connection import Connection, Request, Response
from asgi_master.control.http_server import HttpServer, Limits
from asgi_master.control.live_feed import LiveFeed
from asgi_master.control.live_stream import LiveStream
from asgi_master.control.reloads import Reloads
from asgi_master.supervision.notices import Notice

log = logging.getLogger("asgi_master")

_CREDENTIALS = struct.Struct("iII")


class ControlServer(Component):
    """Answers on `sock` (`None`: only follows the notices) until closed."""

    name = "control"

    def __init__(
        self,
        sock: socket.socket | None,
        selector: selectors.BaseSelector,
        master: MasterControl,
        live: LiveFeed,
        reloads: Reloads | None = None,
        *,
        settle: Callable[[], object],
        uid: int,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`settle` handles the consequences of a command, so that the next one sees them."""
        self._uid = uid
        self._reloads = reloads if reloads is not None else Reloads()
        sockets = [] if sock is None else [sock]
        self._http = HttpServer(sockets, selector, self, limits=limits, clock=clock)
        self._commands = CommandQueue(self.name, self._http, master, self._reloads, settle, clock)
        self._live = LiveStream(live, self._http)

    def note(self, notice: Notice) -> None:
        self._reloads.note(notice, time.time())
        self._commands.note(notice)

    def sweep(self) -> None:
        """Execute the commands that arrived, send the replies that are due, end connections that take too long."""
        self._commands.sweep()
        self._live.push()
        self._http.sweep()

    def close(self) -> None:
        """Answer the clients that wait, and close every connection."""
        self._commands.close()
        self._http.close()

    # Implements `Service`.

    def admit(self, sock: socket.socket) -> str:
        """Admits root and the master's user."""
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(credentials)
        peer = f"pid {pid} of uid {uid}"
        if uid not in {0, self._uid}:
            log.warning("control: refused %s", peer)
            raise Refusal(403, "only root and the master's own user may control it")
        return peer

    def handle(self, connection: Connection, request: Request) -> None:
        """Queues a command, which `sweep` executes; shows the live status at once."""
        match read_request(request.method, request.target, request.body):
            case ShowLive(span):
                self._live.answer(connection, span=span)
            case WatchLive():
                self._live.open(connection)
            case command:
                self._commands.add(connection, command)

    def refuse(self, refusal: Refusal) -> Response:
        return as_response(refuse(refusal))

    def closed(self, connection: Connection) -> None:
        self._commands.closed(connection)
