"""What the connections of one worker share."""

import asyncio
import socket
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from asgi_master.http.limits import HttpLimits, WebSocketLimits
from asgi_master.worker.outbox import Outbox

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


GiveAway = Callable[[socket.socket], bool]
"""Offers a connection to the other workers; false if they cannot take it now. The caller closes its own copy."""


class Connection(Protocol):
    """What the server asks of a connection, HTTP or WebSocket. Members of `WorkerContext.connections`."""

    def sweep(self, now: float) -> None:
        """Enforce the timeouts that have run out at loop time `now`. Called about once a second."""

    def drain(self, give_away: GiveAway | None = None) -> None:
        """Finish, and go to another worker by `give_away` as soon as it is idle. Told again, it tries again.

        Without `give_away`, or where it cannot move, announce the end and close (WebSocket: with 1012).
        """

    def hurry(self) -> None:
        """Half of the drain's time is over: tell streaming applications that they should end."""

    def cancel(self) -> None:
        """The drain window is over: cancel what the application still does here and close."""

    def is_idle(self) -> bool:
        """Whether no request is in flight and no unparsed byte is buffered."""


class AccessLog(Protocol):
    """Where finished requests are told. See `telemetry.access_log`."""

    def record(self, scope: Scope, status: int, body_bytes: int, duration: float) -> None:
        """One request, answered with `status` and `body_bytes` bytes of body after `duration` seconds."""

    def flush(self) -> None:
        """Write what was recorded. Called about once a second."""


@dataclass(slots=True)
class Stats:
    """Counters of one worker. Totals only grow; the others are the state now."""

    accepted: int = 0
    connections: int = 0
    websockets: int = 0
    in_flight: int = 0
    """HTTP requests whose application has not finished."""
    requests: int = 0
    responses: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0, 0])
    """By class: index 1 to 5 is 1xx to 5xx; index 0 is unused."""
    application_errors: int = 0


@dataclass(slots=True)
class WorkerContext:
    """Shared by every connection of a worker; made once by `worker.main`."""

    app: Callable[..., Any]
    loop: asyncio.AbstractEventLoop
    state: dict[str, Any]
    """The lifespan state; each request sees a shallow copy."""
    http: HttpLimits
    websocket: WebSocketLimits
    parser: str
    """`httptools` or `h11`."""
    root_path: str = ""
    server_header: bool = True
    date_header: bool = True
    extra_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Default headers added to each response."""
    max_active_requests: int = 0
    """Requests served at once by this worker; more are answered 503 with Retry-After. 0 means unlimited."""
    access_log: AccessLog | None = None
    date_line: bytes = b""
    """`date: …\\r\\n`, renewed by the worker's timer each second."""
    draining: bool = False
    stats: Stats = field(default_factory=Stats)
    connections: set[Connection] = field(default_factory=set)
    outbox: Outbox = field(init=False)
    on_connection_lost: Callable[[], None] | None = None
    """Called after a connection left `connections`; the drain waits on it."""

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.loop)
