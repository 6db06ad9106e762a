"""What the connections of one worker share."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any, Protocol

from asgi_master.asgi.scope import ForwardedScopes, HttpScopes
from asgi_master.asgi.types import Address, Scope
from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.engines import Engines
from asgi_master.http.forwarded import Forwarded, Trust
from asgi_master.http.h2.engine import Engine, Owner
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.http.limits import Http2Limits, HttpLimits, WebSocketLimits
from asgi_master.http.message import Fields
from asgi_master.http.server_fields import ServerFields
from asgi_master.ipc.counters import Stats
from asgi_master.worker.affinity.router import SessionRouter
from asgi_master.worker.transport.connection_state import TransferConnection
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.poller import Poller
from asgi_master.worker.transport.refused_streams import RefusedStreamLog
from asgi_master.worker.transport.rejected_connections import RejectedConnectionLog
from asgi_master.worker.transport.sweeps import Sweeps
from asgi_master.worker.transport.turns import Turns
from asgi_master.worker.transport.write_batch import WriteBatch


class Ending(Enum):
    """How far a connection has come to its end."""

    OPEN = auto()
    CLOSING = auto()
    """What was written is sent, then the transport closes. What arrives is dropped."""
    LINGERING = auto()
    """Our side has ended. For a while what arrives is dropped: closing over unread bytes would reset the connection."""
    LOST = auto()
    """The transport is closed, or given away."""


class Leaving(Enum):
    """What becomes of a connection while its worker drains."""

    NO = auto()
    """No drain has begun for it."""
    MOVE = auto()
    """Another worker takes it as soon as it is idle."""
    STAY = auto()
    """It cannot move, and other workers serve: the next response announces the end."""
    CLOSE = auto()
    """The next response announces the end, and an idle connection closes."""


class Connection:
    """A connection as the worker sees it, whatever it speaks. Members of `WorkerContext.connections`."""

    __slots__ = ()

    closes_gradually = False
    """Whether a drain closes connections like this one after the other, over half of its time.

    Their clients come back at once: all together they would be a storm on the other workers.
    """

    context: "WorkerContext"
    rests_until: int
    """See `Swept`."""

    @abstractmethod
    def sweep(self, now: float) -> float:
        """Enforce the time-outs that have run out at loop time `now`.

        Returns until when it need not be called again, if nothing wakes the connection (`Sweeps.wake`); 0 if in a
        second.
        """

    @abstractmethod
    def drain(self, transfer: TransferConnection | None = None) -> None:
        """Finish, and go to another worker by `transfer` as soon as it is idle. Called again, it tries again.

        Without `transfer`, or where it cannot move, announce the end and close (WebSocket: with 1012).
        """

    @abstractmethod
    def signal_disconnect(self) -> None:
        """Half of the drain's time is over: signal a disconnect to applications that still stream."""

    @abstractmethod
    def cancel(self) -> None:
        """The drain window is over: cancel what the application still does here and close."""

    def _register(self, *, is_counted: bool = True) -> None:
        """The connection is the worker's from now on. One that runs on another's stream is not counted."""
        context = self.context
        context.connections.add(self)
        context.sweeps.add(self)
        context.stats.connections += is_counted

    def _transport_lost(self) -> None:
        """The transport is closed, or belongs to another connection: it counts no more."""
        self.context.stats.connections -= 1

    def _unregister(self) -> None:
        """Nothing is left to wait for: transport and application have ended."""
        context = self.context
        if self in context.connections:
            context.connections.discard(self)
            context.sweeps.discard(self)
            if context.on_connection_lost is not None:
                context.on_connection_lost()


class ConnectionLog(Protocol):
    """The access log of one connection."""

    def record(
        self, request: object, scope: Scope, status: int, body_bytes: int, duration: float, fields: Fields
    ) -> None:
        """One request, answered with `status` and `body_bytes` bytes of body after `duration` seconds.

        `fields` are those of the response's head, as far as the application set them.
        For one that is repeated byte for byte, `request` may be the same object.
        """


class AccessLog(Protocol):
    """The access log. See `telemetry.access_log`."""

    is_timed: bool
    """Whether it logs durations; if not, any `duration` will do."""

    def of_connection(self) -> ConnectionLog:
        """The log of one connection's requests."""

    def refused(self, client: Address | None, line: bytes, status: int, body_bytes: int) -> None:
        """What never became a request was refused; `line` is its first line as far as that came."""

    def flush(self) -> None:
        """Write what was recorded. Called about once a second."""

    def renew(self, fd: int) -> None:
        """Go on in the file behind this descriptor, which is given away."""


class Backlog(Protocol):
    """Requests that wait for a thread."""

    @property
    def is_full(self) -> bool:
        """Whether connections should wait before they read another request."""

    def queue(self, waiting: Any, /) -> None:
        """Have a connection go on when that is over. See `turns.Queue`."""


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
    new_request: Callable[..., Any] | None = None
    """Makes the running request of an application that is not called by ASGI, of its stream, the request and the
    connection's `HttpScopes`. See `http.running_request`."""
    backlog: Backlog | None = None
    """Of that application; `None` if nothing waits so."""
    http2: Http2Limits | None = None
    """`None` if HTTP/2 is not spoken."""
    root_path: str = ""
    forwarded: Forwarded | None = None
    """Reads the forwarding headers of trusted proxies; `None` if no peer is trusted."""
    proxies: Trust | None = None
    """Who may connect, each with a PROXY header first; `None` if that protocol is not spoken."""
    server_fields: ServerFields = field(default_factory=ServerFields)
    """Added to each response. The worker's timer renews their date each second."""
    max_active_requests: int = 0
    """Requests served at once by this worker; more are answered 503 with Retry-After. 0 means unlimited."""
    sessions: SessionRouter | None = None
    """Where sessions are; `None` if they have no places."""
    access_log: AccessLog | None = None
    counts_durations: bool = False
    """Whether anybody asks how long responses take."""
    is_timed: bool = field(init=False)
    """Whether requests read the clock: for the metrics, or for an access log with durations."""
    draining: bool = False
    stats: Stats = field(default_factory=Stats)
    connections: set[Connection] = field(default_factory=set)
    sweeps: Sweeps[Connection] = field(default_factory=Sweeps)
    rejected: RejectedConnectionLog = field(default_factory=RejectedConnectionLog)
    refused_streams: RefusedStreamLog = field(default_factory=RefusedStreamLog)
    response_heads: ResponseHeadEncoder = field(init=False)
    """Of HTTP/2."""
    stream_quota: StreamQuota = field(init=False)
    """The streams of HTTP/2."""
    write_batch: WriteBatch = field(init=False)
    turns: Turns = field(init=False)
    poller: Poller = field(init=False)
    _scopes: BoundedCache[tuple[Address | None, bool, tuple[str, ...], bool], HttpScopes] = field(init=False)
    """By what they differ in from connection to connection, apart from the client."""
    on_connection_lost: Callable[[], None] | None = None
    """Called after a connection left `connections`; the drain waits on it."""

    def __post_init__(self) -> None:
        self.response_heads = self.server_fields.encoder(ResponseHeadEncoder)
        self.stream_quota = StreamQuota(0 if self.http2 is None else self.http2.max_streams)
        self.write_batch = WriteBatch(self.loop)
        self.turns = Turns(self.loop)
        self.poller = Poller(self.loop)
        self._scopes = BoundedCache(64)
        self.is_timed = self.counts_durations or (self.access_log is not None and self.access_log.is_timed)

    def h2_engine(self, owner: Owner) -> Engine:
        """The engine of a connection that speaks HTTP/2, which is enabled."""
        assert self.http2 is not None
        return self.engines.http2(owner, self.http, self.http2, self.response_heads, self.stream_quota)

    def scopes(self, ends: Endpoints, tls: dict[str, Any] | None, extensions: tuple[str, ...]) -> HttpScopes:
        """What makes the scopes of a connection's requests; for `tls` and `extensions` see `HttpScopes`.

        Whether the peer is trusted as a proxy is decided here, once a connection.
        """
        forwarded = self.forwarded
        if forwarded is not None and not ends.are_trusted_by(forwarded.trust):
            forwarded = None
        kind = (ends.server, ends.is_tls, extensions, forwarded is None)
        known = self._scopes.get(kind)
        if known is None:
            make: Callable[..., HttpScopes] = HttpScopes
            if forwarded is not None:
                make = partial(ForwardedScopes, forwarded)
            known = make(
                client=None,
                server=ends.server,
                scheme="https" if ends.is_tls else "http",
                root_path=self.root_path,
                extensions=extensions,
            )
            self._scopes.offer(kind, known)
        return known.of_connection(ends.client, tls)
