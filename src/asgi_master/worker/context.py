"""What the connections of one worker share."""

import asyncio
import socket
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from asgi_master.asgi.scope import Address
from asgi_master.http.engines import Engines
from asgi_master.http.forwarded import Forwarded, Trust
from asgi_master.http.limits import HttpLimits, WebSocketLimits
from asgi_master.http.response import ServerFields
from asgi_master.ipc.counters import Stats
from asgi_master.worker.outbox import Outbox
from asgi_master.worker.refusals import Refusals
from asgi_master.worker.turns import Turns

if TYPE_CHECKING:
    from asgi_master.worker.standing import Standing

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


GiveAway = Callable[[socket.socket, "Standing"], bool]
"""Offers a connection to the other workers, with what the socket does not tell.

False if they cannot take it now. The caller closes its own copy.
"""


class Connection(Protocol):
    """What the server asks of a connection, whatever it speaks. Members of `WorkerContext.connections`."""

    closes_gradually: bool
    """Whether a drain closes connections like this one after the other, over half of its time.

    Their clients come back at once: all together they would be a storm on the other workers.
    """

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


class ConnectionLog(Protocol):
    """Where the finished requests of one connection are told."""

    def record(
        self, request: object, scope: Scope, status: int, body_bytes: int, duration: float, block: bytes
    ) -> None:
        """One request, answered with `status` and `body_bytes` bytes of body after `duration` seconds.

        `block` are the fields of the response's head, or all of it.
        For one that is repeated byte for byte, `request` may be the same object.
        """


class AccessLog(Protocol):
    """Where finished requests are told. See `telemetry.access_log`."""

    is_timed: bool
    """Whether it tells how long requests took; if not, any `duration` will do."""

    def of_connection(self) -> ConnectionLog:
        """Where the requests of one connection are told."""

    def refused(self, client: Address | None, line: bytes, status: int, body_bytes: int) -> None:
        """What never became a request was refused; `line` is its first line as far as that came."""

    def flush(self) -> None:
        """Write what was recorded. Called about once a second."""

    def renew(self, fd: int) -> None:
        """Go on in the file behind this descriptor, which is given away."""


@dataclass(slots=True)
class WorkerContext:
    """Shared by every connection of a worker; made once by `worker.main`."""

    app: Callable[..., Any]
    loop: asyncio.AbstractEventLoop
    state: dict[str, Any]
    """The lifespan state; each request sees a shallow copy."""
    http: HttpLimits
    websocket: WebSocketLimits
    engines: Engines
    root_path: str = ""
    forwarded: Forwarded | None = None
    """Reads for whom believed peers ask; `None` if nobody is believed."""
    proxies: Trust | None = None
    """Who may connect, each with a PROXY header first; `None` if that protocol is not spoken."""
    server_fields: ServerFields = field(default_factory=ServerFields)
    """Added to each response. The worker's timer renews their date each second."""
    max_active_requests: int = 0
    """Requests served at once by this worker; more are answered 503 with Retry-After. 0 means unlimited."""
    access_log: AccessLog | None = None
    counts_durations: bool = False
    """Whether anybody asks how long responses take."""
    is_timed: bool = field(init=False)
    """Whether requests look at the clock: for that, or for an access log that tells."""
    draining: bool = False
    stats: Stats = field(default_factory=Stats)
    connections: set[Connection] = field(default_factory=set)
    refusals: Refusals = field(default_factory=Refusals)
    """Of peers that may not connect, or whose PROXY header is wrong."""
    refused_certificates: Refusals = field(default_factory=Refusals)
    """Of clients that TLS refused for their certificate, told apart lest one kind silence the other."""
    outbox: Outbox = field(init=False)
    turns: Turns = field(init=False)
    on_connection_lost: Callable[[], None] | None = None
    """Called after a connection left `connections`; the drain waits on it."""

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.loop)
        self.turns = Turns(self.loop)
        self.is_timed = self.counts_durations or (self.access_log is not None and self.access_log.is_timed)
