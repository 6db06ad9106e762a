"""The control server: commands by HTTP over a Unix socket, from root and the master's own user only."""

import json
import logging
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from asgi_master.control.api import (
    Command,
    Refusal,
    Reply,
    ShowHealth,
    ShowLive,
    ShowStacks,
    ShowStatus,
    View,
    read_request,
    refuse,
)
from asgi_master.control.commands import MasterControl, execute
from asgi_master.control.component import Component
from asgi_master.control.connection import Connection, Request, Response
from asgi_master.control.http_server import HttpServer, Limits
from asgi_master.control.live_feed import LiveFeed
from asgi_master.control.live_stream import LiveStream
from asgi_master.control.pending_replies import PendingReply
from asgi_master.control.reloads import Reloads
from asgi_master.supervision.notices import Notice
from asgi_master.telemetry.failure_log import FailureLog

log = logging.getLogger("asgi_master")

_CREDENTIALS = struct.Struct("iII")
_FAILED = Reply(500, {"error": "failed; the log says why"})


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
        self._master = master
        self._settle = settle
        self._uid = uid
        self._reloads = reloads if reloads is not None else Reloads()
        self._failures = FailureLog(clock)
        self._commands: deque[tuple[Connection, Command | View]] = deque()
        self._pending: dict[Connection, PendingReply] = {}
        self._clock = clock
        sockets = [] if sock is None else [sock]
        self._http = HttpServer(sockets, selector, self, limits=limits, clock=clock)
        self._live = LiveStream(live, self._http)

    def note(self, notice: Notice) -> None:
        self._reloads.note(notice, time.time())
        for pending in self._pending.values():
            pending.note(notice)

    def sweep(self) -> None:
        """Execute the commands that arrived, send the replies that are due, end connections that take too long."""
        while self._commands:
            self._execute(*self._commands.popleft())
            self._settle()
        for connection, pending in list(self._pending.items()):
            answer = self._poll(pending)
            if answer is not None:
                del self._pending[connection]
                self._answer(connection, answer)
        self._live.push()
        self._http.sweep()
        self._failures.sweep()

    def _execute(self, connection: Connection, command: Command | View) -> None:
        if not isinstance(command, ShowStatus | ShowHealth | ShowStacks | View):
            log.info("control: %s, asked by %s", command, connection.peer)
        try:
            if isinstance(command, View):
                self._show(connection, command)
                return
            result = execute(command, self._master, self._reloads)
        except Refusal as refusal:
            result = refuse(refusal)
        except Exception as error:  # noqa: BLE001 -- it is logged
            # A request must not end the service, whatever fails in its handling.
            self._failed(f"control: {command}", error)
            result = _FAILED
        if isinstance(result, Reply):
            self._answer(connection, result)
        elif connection.is_done:
            result.cancel()
        else:
            self._pending[connection] = result

    def _show(self, connection: Connection, view: View) -> None:
        if isinstance(view, ShowLive):
            self._live.answer(connection, span=view.span)
        else:
            self._live.open(connection)

    def _poll(self, pending: PendingReply) -> Reply | None:
        try:
            return pending.poll(self._clock())
        except Exception as error:  # noqa: BLE001 -- it is logged
            self._failed("control: an answer", error)
            return _FAILED

    def _failed(self, what: str, error: Exception) -> None:
        self._failures.failed(what, error, "the client gets a 500", logging.ERROR)

    def close(self) -> None:
        """Answer the clients that wait, and close every connection."""
        for connection in list(self._pending):
            self._answer(connection, refuse(Refusal(503, "the master has stopped")))
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
        """Queues the command; `sweep` executes it."""
        self._commands.append((connection, read_request(request.method, request.target, request.body)))

    def refuse(self, refusal: Refusal) -> Response:
        return _response(refuse(refusal))

    def closed(self, connection: Connection) -> None:
        pending = self._pending.pop(connection, None)
        if pending is not None:
            pending.cancel()

    def _answer(self, connection: Connection, answer: Reply) -> None:
        self._http.answer(connection, _response(answer))


def _response(answer: Reply) -> Response:
    body = json.dumps(answer.body, indent=2).encode() + b"\n"
    return Response(answer.status, body, "application/json", answer.headers)
