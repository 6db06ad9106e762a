"""The admin server: health and metrics by HTTP on a port of its own, answered by the master itself.

It listens on a network, so nothing can be steered here: whatever is asked, the answer is a text.
"""

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from asgi_master.control import metrics
from asgi_master.control.api import Refusal
from asgi_master.control.component import Component
from asgi_master.control.connection import Connection, Request, Response
from asgi_master.control.health import HealthResult, HealthState, check_live, check_ready, check_started
from asgi_master.control.http_server import HttpServer, Limits

_METHODS = ("GET", "HEAD", "OPTIONS")
_PATHS = ("/livez", "/readyz", "/startupz", "/metrics")
_TEXT = "text/plain; charset=utf-8"
_LIMITS = Limits(connections=64, makes_room=True, request_bytes=16 * 1024)


class Observer(Protocol):
    """What the admin server knows of the master. Nothing here waits."""

    def health_state(self) -> HealthState:
        """What health is judged by."""

    def snapshot(self) -> metrics.Snapshot:
        """What the metrics show."""


def respond(method: str, target: str, observer: Observer) -> Response:
    """The response to a request. Raises `Refusal`."""
    try:
        parts = urlsplit(target)
        verbose = "verbose" in dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10))
    except ValueError:
        raise Refusal(400, "the request's target is not a path") from None
    path = parts.path.removesuffix("/") or "/"
    if method == "OPTIONS" and path in {"/", "*", *_PATHS}:
        # What haproxy asks unless it is told what to ask.
        return Response(
            200, f"there are {', '.join(_PATHS)}\n".encode(), _TEXT, [("allow", ", ".join(_METHODS))]
        )
    if path not in _PATHS:
        raise Refusal(404, f"nothing here; there are {', '.join(_PATHS)}")
    if method not in _METHODS:
        raise Refusal(405, f"{path} is for GET", allow=", ".join(_METHODS))
    match path:
        case "/livez":
            return _health(check_live(), verbose=verbose)
        case "/readyz":
            return _health(check_ready(observer.health_state()), verbose=verbose)
        case "/startupz":
            return _health(check_started(observer.health_state()), verbose=verbose)
        case _:
            return Response(200, metrics.render(observer.snapshot()).encode(), metrics.CONTENT_TYPE)


def _health(result: HealthResult, *, verbose: bool) -> Response:
    return Response(200 if result.passes else 503, result.text(verbose=verbose).encode(), _TEXT)


class AdminServer(Component):
    """Answers on `sockets` until closed."""

    name = "admin"

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        observer: Observer,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        limits = limits if limits is not None else _LIMITS
        self._http = HttpServer(sockets, selector, self, limits=limits, clock=clock)

    def sweep(self) -> None:
        """End what takes too long; call it about once a second or more often."""
        self._http.sweep()

    def close(self) -> None:
        """Let go of every connection."""
        self._http.close()

    # `Service`

    def admit(self, sock: socket.socket) -> str:  # noqa: ARG002 -- part of `Service`
        """Anybody; see `Service.admit`."""
        return ""

    def take(self, connection: Connection, request: Request) -> None:
        """See `Service.take`."""
        self._http.answer(connection, respond(request.method, request.target, self._observer))

    def refuse(self, refusal: Refusal) -> Response:
        """See `Service.refuse`."""
        headers = [("allow", refusal.allow)] if refusal.allow else []
        return Response(refusal.status, f"{refusal}\n".encode(), _TEXT, headers)

    def lost(self, connection: Connection) -> None:
        """See `Service.lost`."""
