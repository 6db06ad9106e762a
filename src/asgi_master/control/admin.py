"""The admin server: health, metrics and the live status over HTTP at an address of its own, answered by the master.

It listens on a network, so it is read-only, unless there is a token for actions.
"""

import contextlib
import logging
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlsplit

from asgi_master.control import metrics
from asgi_master.control.api import Command, Refusal, Span, View, read_request, read_span, refuse
from asgi_master.control.command_queue import CommandQueue, as_response
from asgi_master.control.commands import MasterControl
from asgi_master.control.component import Component
from asgi_master.control.connection import Connection, Request, Response
from asgi_master.control.health import HealthResult, HealthState, check_live, check_ready, check_started
from asgi_master.control.http_server import HttpServer, Limits
from asgi_master.control.live_feed import LiveFeed
from asgi_master.control.live_stream import LiveStream
from asgi_master.control.reloads import Reloads
from asgi_master.records import record
from asgi_master.supervision.notices import Notice

if TYPE_CHECKING:
    from asgi_master.control.access import Access

log = logging.getLogger("asgi_master")

_METHODS = ("GET", "HEAD", "OPTIONS")
_TEXT = "text/plain; charset=utf-8"
_LIMITS = Limits(connections=64, evicts_oldest=True, request_bytes=16 * 1024)
ACTIONS = ("/reload", "/rollback", "/drain", "/scale", "/stacks")
_PATHS = ("/livez", "/readyz", "/startupz", "/metrics", "/status.json", "/events", "/")


class MasterView(Protocol):
    """Read access to the master, for the admin server. No method blocks."""

    def health_state(self) -> HealthState:
        """The input of the health checks."""

    def snapshot(self) -> metrics.Snapshot:
        """The input of the metrics."""


@record
class Question:
    """A request: one of the paths, and the names in its query."""

    path: str
    parameters: Mapping[str, str]


def read_question(method: str, target: str) -> Question:
    """Parse a request. Raises `Refusal`."""
    try:
        parts = urlsplit(target)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10))
    except ValueError:
        raise Refusal(400, "the request's target is not a path") from None
    path = parts.path.removesuffix("/") or "/"
    if path not in _PATHS and not (path == "*" and method == "OPTIONS"):
        raise Refusal(404, f"not found; available: {', '.join(_PATHS)}")
    if method not in _METHODS:
        raise Refusal(405, f"{path} is for GET", allow=", ".join(_METHODS))
    return Question(path if method != "OPTIONS" else "*", parameters)


def respond(question: Question, master: MasterView, live: LiveFeed, *, has_actions: bool = False) -> Response:
    """The response to a question, other than for a stream."""
    verbose = "verbose" in question.parameters
    match question.path:
        case "/livez":
            return _health(check_live(), verbose=verbose)
        case "/readyz":
            return _health(check_ready(master.health_state()), verbose=verbose)
        case "/startupz":
            return _health(check_started(master.health_state()), verbose=verbose)
        case "/metrics":
            return Response(200, metrics.render(master.snapshot()).encode(), metrics.CONTENT_TYPE)
        case "/status.json":
            return live.status(span=read_span(question.parameters.get("history", Span.NONE)))
        case "/":
            from asgi_master.control.status_page import status_page  # noqa: PLC0415 -- hashes, and the page

            return status_page(has_actions=has_actions)
        case _:
            # `OPTIONS / HTTP/1.0` is haproxy's health check by default.
            return Response(
                200, f"there are {', '.join(_PATHS)}\n".encode(), _TEXT, [("allow", ", ".join(_METHODS))]
            )


def _health(result: HealthResult, *, verbose: bool) -> Response:
    return Response(200 if result.passes else 503, result.text(verbose=verbose).encode(), _TEXT)


class Actions:
    """What the holder of the token may do."""

    def __init__(
        self, access: "Access", master: MasterControl, reloads: Reloads, settle: Callable[[], object]
    ) -> None:
        """`reloads` is the one that the control server keeps. `settle` handles the consequences of a command."""
        self.access = access
        self.master = master
        self.reloads = reloads
        self.settle = settle

    def read(self, request: Request) -> Command | None:
        """The command of a request, `None` if its path is none of a command. Raises `Refusal`."""
        if request.target.partition("?")[0] not in ACTIONS:
            return None
        if request.method != "POST":
            raise Refusal(405, "actions are for POST", allow="POST")
        self.access.check(request)
        command = read_request(request.method, request.target, request.body)
        assert not isinstance(command, View)
        return command


class AdminServer(Component):
    """Answers on `sockets` until closed."""

    name = "admin"

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        master: MasterView,
        live: LiveFeed,
        actions: Actions | None = None,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `actions` it is read-only."""
        self._master = master
        self._feed = live
        self._actions = actions
        limits = limits if limits is not None else _LIMITS
        self._http = HttpServer(sockets, selector, self, limits=limits, clock=clock)
        self._live = LiveStream(live, self._http)
        self._commands = None
        if actions is not None:
            self._commands = CommandQueue(
                self.name, self._http, actions.master, actions.reloads, actions.settle, clock
            )

    def note(self, notice: Notice) -> None:
        if self._commands is not None:
            self._commands.note(notice)

    def sweep(self) -> None:
        """Execute actions, push the newest second, end connections that take too long."""
        if self._commands is not None:
            self._commands.sweep()
        self._live.push()
        self._http.sweep()

    def close(self) -> None:
        """Close every connection."""
        if self._commands is not None:
            self._commands.close()
        self._http.close()

    # Implements `Service`.

    def admit(self, sock: socket.socket) -> str:
        """Admits every client."""
        with contextlib.suppress(OSError):
            peer = sock.getpeername()
            if isinstance(peer, tuple):
                return f"{peer[0]} port {peer[1]}"
        return "a client of the admin address"

    def handle(self, connection: Connection, request: Request) -> None:
        if self._actions is not None and self._commands is not None:
            try:
                command = self._actions.read(request)
            except Refusal as refusal:
                # As JSON, like the replies to those that are accepted.
                if refusal.status in {401, 403, 429}:
                    log.warning("admin: refused %s: %s", connection.peer, refusal)
                self._http.answer(connection, as_response(refuse(refusal)))
                return
            if command is not None:
                self._commands.add(connection, command)
                return
        question = read_question(request.method, request.target)
        if question.path == "/events":
            self._live.open(connection)
        else:
            has_actions = self._actions is not None
            self._http.answer(
                connection, respond(question, self._master, self._feed, has_actions=has_actions)
            )

    def refuse(self, refusal: Refusal) -> Response:
        headers = [("allow", refusal.allow)] if refusal.allow else []
        return Response(refusal.status, f"{refusal}\n".encode(), _TEXT, headers)

    def closed(self, connection: Connection) -> None:
        if self._commands is not None:
            self._commands.closed(connection)
