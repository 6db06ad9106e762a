"""The admin server: health and metrics over HTTP at an address of its own, answered by the master itself.

It listens on a network, so it is read-only.
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
_TEXT = "text/plain; charset=utf-8"
_LIMITS = Limits(connections=64, evicts_oldest=True, request_bytes=16 * 1024)


class MasterView(Protocol):
    """Read access to the master, for the admin server. No method blocks."""

    def health_state(self) -> HealthState:
        """The input of the health checks."""

    def snapshot(self) -> metrics.Snapshot:
        """The input of the metrics."""


def _health(result: HealthResult, *, verbose: bool) -> Response:
    return Response(200 if result.passes else 503, result.text(verbose=verbose).encode(), _TEXT)


def _metrics(master: MasterView) -> Response:
    return Response(200, metrics.render(master.snapshot()).encode(), metrics.CONTENT_TYPE)


_ROUTES: dict[str, Callable[[MasterView, bool], Response]] = {
    "/livez": lambda _master, verbose: _health(check_live(), verbose=verbose),
    "/readyz": lambda master, verbose: _health(check_ready(master.health_state()), verbose=verbose),
    "/startupz": lambda master, verbose: _health(check_started(master.health_state()), verbose=verbose),
    "/metrics": lambda master, _verbose: _metrics(master),
}
"""For each path, the response to a GET; the flag is the parameter `verbose` of the query."""


def respond(method: str, target: str, master: MasterView) -> Response:
    """The response to a request. Raises `Refusal`."""
    try:
        parts = urlsplit(target)
        verbose = "verbose" in dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10))
    except ValueError:
        raise Refusal(400, "the request's target is not a path") from None
    path = parts.path.removesuffix("/") or "/"
    if method == "OPTIONS" and path in {"/", "*", *_ROUTES}:
        # The request of haproxy's health check by default.
        return Response(
            200, f"there are {', '.join(_ROUTES)}\n".encode(), _TEXT, [("allow", ", ".join(_METHODS))]
        )
    route = _ROUTES.get(path)
    if route is None:
        raise Refusal(404, f"not found; available: {', '.join(_ROUTES)}")
    if method not in _METHODS:
        raise Refusal(405, f"{path} is for GET", allow=", ".join(_METHODS))
    return route(master, verbose)


class AdminServer(Component):
    """Answers on `sockets` until closed."""

    name = "admin"

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        master: MasterView,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._master = master
        limits = limits if limits is not None else _LIMITS
        self._http = HttpServer(sockets, selector, self, limits=limits, clock=clock)

    def sweep(self) -> None:
        """End connections that take too long; to be called at least about once a second."""
        self._http.sweep()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    # Implements `Service`.

    def admit(self, sock: socket.socket) -> str:  # noqa: ARG002 -- part of `Service`
        """Admits every client."""
        return ""

    def handle(self, connection: Connection, request: Request) -> None:
        self._http.answer(connection, respond(request.method, request.target, self._master))

    def refuse(self, refusal: Refusal) -> Response:
        headers = [("allow", refusal.allow)] if refusal.allow else []
        return Response(refusal.status, f"{refusal}\n".encode(), _TEXT, headers)

    def closed(self, connection: Connection) -> None: ...
