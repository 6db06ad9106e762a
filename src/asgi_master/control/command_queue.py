"""Executes the commands that arrive at a server: one after the other, with replies now or later."""

import json
import logging
import time
from collections import deque
from collections.abc import Callable

from asgi_master.control.api import Command, Refusal, Reply, ShowHealth, ShowStacks, ShowStatus, refuse
from asgi_master.control.commands import MasterControl, execute
from asgi_master.control.connection import Connection, Response
from asgi_master.control.http_server import HttpServer
from asgi_master.control.pending_replies import PendingReply
from asgi_master.control.reloads import Reloads
from asgi_master.supervision.notices import Notice
from asgi_master.telemetry.failure_log import FailureLog

log = logging.getLogger("asgi_master")

_FAILED = Reply(500, {"error": "failed; the log says why"})
_QUESTIONS = ShowStatus | ShowHealth | ShowStacks
"""What changes nothing, and is not logged."""


class CommandQueue:
    """The commands of the clients of one server, and the replies that they wait for."""

    def __init__(
        self,
        name: str,
        http: HttpServer,
        master: MasterControl,
        reloads: Reloads,
        settle: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` is the server's in the log. `settle` handles the consequences of a command."""
        self._name = name
        self._http = http
        self._master = master
        self._reloads = reloads
        self._settle = settle
        self._clock = clock
        self._failures = FailureLog(clock)
        self._commands: deque[tuple[Connection, Command]] = deque()
        self._pending: dict[Connection, PendingReply] = {}

    def add(self, connection: Connection, command: Command) -> None:
        """Have a command executed by the next `sweep`."""
        self._commands.append((connection, command))

    def note(self, notice: Notice) -> None:
        """Handle a notice of the supervisor."""
        for pending in self._pending.values():
            pending.note(notice)

    def sweep(self) -> None:
        """Execute the commands that arrived, send the replies that are due."""
        while self._commands:
            self._execute(*self._commands.popleft())
            # So that the next command sees the consequences.
            self._settle()
        for connection, pending in list(self._pending.items()):
            answer = self._poll(pending)
            if answer is not None:
                del self._pending[connection]
                self._answer(connection, answer)
        self._failures.sweep()

    def closed(self, connection: Connection) -> None:
        """A client has gone."""
        pending = self._pending.pop(connection, None)
        if pending is not None:
            pending.cancel()

    def close(self) -> None:
        """Answer the clients that wait."""
        for connection in list(self._pending):
            self._answer(connection, refuse(Refusal(503, "the master has stopped")))

    def _execute(self, connection: Connection, command: Command) -> None:
        if not isinstance(command, _QUESTIONS):
            log.info("%s: %s, asked by %s", self._name, command, connection.peer)
        try:
            result = execute(command, self._master, self._reloads)
        except Refusal as refusal:
            result = refuse(refusal)
        except Exception as error:  # noqa: BLE001 -- it is logged
            # A request must not end the service, whatever fails in its handling.
            self._failed(f"{self._name}: {command}", error)
            result = _FAILED
        if isinstance(result, Reply):
            self._answer(connection, result)
        elif connection.is_done:
            result.cancel()
        else:
            self._pending[connection] = result

    def _poll(self, pending: PendingReply) -> Reply | None:
        try:
            return pending.poll(self._clock())
        except Exception as error:  # noqa: BLE001 -- it is logged
            self._failed(f"{self._name}: an answer", error)
            return _FAILED

    def _failed(self, what: str, error: Exception) -> None:
        self._failures.failed(what, error, "the client gets a 500", logging.ERROR)

    def _answer(self, connection: Connection, answer: Reply) -> None:
        self._http.answer(connection, as_response(answer))


def as_response(answer: Reply) -> Response:
    """The reply as JSON."""
    body = json.dumps(answer.body, indent=2).encode() + b"\n"
    return Response(answer.status, body, "application/json", answer.headers)
