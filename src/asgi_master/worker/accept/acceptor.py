"""Accept fairly: an own accept callback on the shared listeners, gated by the scoreboard.

Several event loops on one listener do not share it evenly: the last to wait is the first to be woken and takes all
it finds. So a worker that has clearly more connections than the least busy of its siblings leaves the next one to
them, for a few milliseconds at most, and never in favour of a sibling whose heartbeat is stale.

Listeners and the hand-off queue are shared, and any worker can spoil them for all: an operation that fails is tried
again later, is logged at a limited rate, and never blocks the loop.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

from asgi_master.errors import advice
from asgi_master.ipc.hand_off import HandOff, TransferredConnection
from asgi_master.ipc.scoreboard import Row, Scoreboard
from asgi_master.telemetry.failure_log import FailureLog
from asgi_master.telemetry.rate_limit import RateLimit
from asgi_master.worker.accept.listener import Listener
from asgi_master.worker.accept.opening import open_connection
from asgi_master.worker.heartbeat import BEAT_PERIOD
from asgi_master.worker.transport.connection_state import ConnectionState
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.tls import TlsServer

log = logging.getLogger("asgi_master")

_ACCEPTS_PER_TURN = 4
_SLACK = 1
"""Connections a worker may be ahead of the least busy one."""
_ACCEPTS_IN_A_STORM = 64
_SHARE_IN_A_STORM = 1 / 32
"""The same in a storm, as a share of its connections: politeness costs time, and a full queue refuses clients."""
_STORM = 64
"""Connections in the queue of a listener from which on there is a storm."""
_RETRY_AFTER = 0.001
_DEFER_AT_MOST_NS = 5_000_000
_DEFER_TO_THE_BUSY_NS = 500_000
_FRESH_NS = int(3 * BEAT_PERIOD * 1e9)
_PAUSE_AFTER_A_FAULT = 0.1
_TAKING = "taking connections of other workers"
_FOR_THE_REST = 0.5
"""Seconds, well within what the master waits before it closes the listeners."""
_LEFT_IN_A_QUEUE = 64
"""Connections taken from a queue at once before it is let go."""


class Acceptor:
    """Takes connections from the listeners, and from workers that leave."""

    def __init__(
        self,
        context: WorkerContext,
        listeners: list[socket.socket],
        hand_off: HandOff,
        scoreboard: Scoreboard,
        row: Row,
        *,
        max_connections: int,
        secure: Collection[socket.socket] = (),
        tls: TlsServer | None = None,
        own: Collection[socket.socket] = (),
    ) -> None:
        """On `secure`, a part of the listeners, `tls` is spoken; on `own` no other worker accepts."""
        self._context = context
        self._loop = context.loop
        self._listening = listeners
        self._secure = frozenset(secure)
        self._own = frozenset(own)
        self._listeners: list[Listener] = []
        """Made of these when it starts."""
        self._tls = tls
        self._hand_off = hand_off
        self._scoreboard = scoreboard
        self._row = row
        self._max_connections = max_connections
        self._deferred_since = 0
        """On the clock of the heartbeats; 0 while no connection waits for a sibling."""
        self._busy_before = 0
        """Siblings whose last sign of life is older let a connection wait already."""
        self._owed = 0
        """Connections to take without asking, after one had to wait."""
        self._resume: asyncio.TimerHandle | None = None
        self._set_aside: dict[Listener, asyncio.TimerHandle] = {}
        """Listeners that failed, until they are tried again."""
        self._failures = FailureLog()
        self._refused = RateLimit()
        self._may_storm = False  # whether the last turn left something in a queue, as far as it saw
        self._running = self._is_stopped = False

    def start(self) -> None:
        """Accept from now on."""
        self._running = True
        self._prepare_listeners()
        self._watch()
        self._watch_handed_off()

    async def take_the_rest(self) -> None:
        """Accept what waits in the queues, without regard to siblings; as much as there may be, for a short time."""
        ends = self._loop.time() + _FOR_THE_REST
        remaining = list(self._listeners) if self._running else []
        while remaining and self._loop.time() < ends:
            remaining = [listener for listener in remaining if self._take_some(listener)]
            await asyncio.sleep(0)

    def _take_some(self, listener: Listener) -> bool:
        """Accept a few; false if no more wait there."""
        try:
            for _ in range(_ACCEPTS_PER_TURN):
                if self._is_full():
                    return False
                self._accept_one(listener)
        except OSError as error:
            return isinstance(error, ConnectionAbortedError)
        return True

    def _is_full(self) -> bool:
        return bool(self._max_connections) and self._mine() >= self._max_connections

    async def stop(self) -> None:
        """Accept no more; returns when what was accepted is a connection of the worker's.

        The master holds the listeners that are still wanted, so their queues survive.
        """
        self._running, self._is_stopped = False, True
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._unwatch()
        self._loop.remove_reader(self._hand_off.fds[1])
        self._close_listeners()

    def renew_hand_off(self, renewed: HandOff) -> None:
        """Go on with another queue, once what is left in the one before is taken."""
        self._loop.remove_reader(self._hand_off.fds[1])
        if self._running:
            self._guarded(self._hand_off, _TAKING, self._take, _LEFT_IN_A_QUEUE)
        self._hand_off.become(renewed).close()
        self._watch_handed_off()

    def renew_listeners(
        self,
        listeners: list[socket.socket],
        secure: Collection[socket.socket],
        own: Collection[socket.socket] = (),
    ) -> None:
        """Accept there, and nowhere else."""
        self._unwatch()
        self._close_listeners()
        self._listening = listeners
        self._secure, self._own = frozenset(secure), frozenset(own)
        self._prepare_listeners()
        if self._is_stopped:
            self._close_listeners()
        elif self._running and self._resume is None:
            self._watch()

    def _prepare_listeners(self) -> None:
        self._listeners = [
            Listener(sock, is_secure=sock in self._secure, is_own=sock in self._own)
            for sock in self._listening
        ]

    def _close_listeners(self) -> None:
        for timer in self._set_aside.values():
            timer.cancel()
        self._set_aside.clear()
        for sock in self._listening:
            sock.close()
        self._listening = []
        self._listeners = []
        self._secure = self._own = frozenset()

    def _watch(self) -> None:
        for listener in self._listeners:
            if listener not in self._set_aside:
                self._watch_one(listener)

    def _watch_one(self, listener: Listener) -> None:
        # Not to be left unwatched: the worker would count as one that serves.
        if not self._guarded(listener, "accept", self._add_reader, listener):
            self._set_aside_for_now(listener)

    def _add_reader(self, listener: Listener) -> None:
        self._loop.add_reader(listener.sock, self._on_readable, listener)

    def _set_aside_for_now(self, listener: Listener) -> None:
        self._set_aside[listener] = self._loop.call_later(_PAUSE_AFTER_A_FAULT, self._try_again, listener)

    def _unwatch(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener.sock)

    def _watch_handed_off(self) -> None:
        if not self._running or self._hand_off.is_over:
            return
        if not self._guarded(self._hand_off, _TAKING, self._add_taker, self._hand_off.fds[1]):
            self._loop.call_later(_PAUSE_AFTER_A_FAULT, self._watch_handed_off)

    def _add_taker(self, fd: int) -> None:
        self._loop.add_reader(fd, self._on_handed_off)

    def _on_readable(self, listener: Listener) -> None:
        if not self._guarded(listener, "accept", self._accept, listener):
            # The queue stays in the kernel, others may take from it meanwhile.
            self._loop.remove_reader(listener.sock)
            self._set_aside_for_now(listener)

    def _try_again(self, listener: Listener) -> None:
        del self._set_aside[listener]
        if self._running and self._resume is None:
            self._watch_one(listener)

    def _accept(self, listener: Listener) -> None:
        most, slack = self._pace(listener)
        for _ in range(most):
            # What only this worker accepts is not left to another one.
            if self._is_full() if listener.is_own else self._defers(slack):
                self._pause(_RETRY_AFTER)
                return
            try:
                self._accept_one(listener)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._deferred_since = self._owed = 0
                self._may_storm = False
                return
            if self._failures.running:
                self._failures.recovered(listener)
        self._may_storm = True

    def _pace(self, listener: Listener) -> tuple[int, int]:
        """How many connections to accept in this turn, and how far to be ahead of others then."""
        # Only once a turn left something in a queue: looking costs as much as accepting nothing.
        if not self._may_storm or listener.queued() < _STORM:
            return _ACCEPTS_PER_TURN, _SLACK
        return _ACCEPTS_IN_A_STORM, _SLACK + int(self._mine() * _SHARE_IN_A_STORM)

    def _on_handed_off(self) -> None:
        most = _ACCEPTS_PER_TURN
        if self._max_connections:
            most = min(most, self._max_connections - self._mine())
        if most <= 0:
            self._pause_taking(_RETRY_AFTER)
        elif not self._guarded(self._hand_off, _TAKING, self._take, most):
            # Nothing is lost: the queue stays in the kernel, as that of a listener does.
            self._pause_taking(_PAUSE_AFTER_A_FAULT)
        elif self._hand_off.is_over:
            # The master looks, and gives another one to all.
            self._loop.remove_reader(self._hand_off.fds[1])

    def _take(self, most: int) -> None:
        for taken in self._hand_off.take(most):
            if self._failures.running:
                self._failures.recovered(self._hand_off)
            self._open_taken(taken)
        if self._hand_off.refused:
            self._log_refused(self._hand_off.refused)
            self._hand_off.refused = 0

    def _log_refused(self, count: int) -> None:
        if times := self._refused.count("hand-off", time.monotonic()):
            log.error(
                "the hand-off queue contained %d item(s) that are no connection (%d times since the last such line)",
                count,
                times,
            )

    def _open_taken(self, taken: TransferredConnection) -> None:
        connection = taken.connection
        connection.setblocking(
            False
        )  # it has the time-out that the application set for all sockets, if it did
        ends = Endpoints.of_socket(connection, is_tls=taken.is_tls)
        if taken.metadata is None:
            self._context.stats.accepted += 1  # by the master, which does not count
            if taken.is_tls:
                self._open_secure(connection, ends)
            else:
                open_connection(self._context, connection, ends)
            return
        try:
            state = ConnectionState.from_metadata(taken.metadata)
        except ValueError:
            self._hand_off.refuse(connection)
        else:
            open_connection(self._context, connection, ends, state=state)

    def _guarded(self, source: object, what: str, work: Callable[[Any], None], argument: object) -> bool:
        """Do it; false, with a line in the log, if it failed."""
        try:
            work(argument)
        except Exception as error:  # noqa: BLE001 -- raised, it would come again at each turn of the loop
            hint = advice(error) if isinstance(error, OSError) else ""
            then = f"pausing for {_PAUSE_AFTER_A_FAULT:g} s each time until it works{hint}"
            self._failures.failed(what, error, then, logging.ERROR, source=source)
            return False
        return True

    def _accept_one(self, listener: Listener) -> None:
        """Accept and serve a connection. Raises `OSError`, as `Listener.accept`."""
        connection, ends = listener.accept()
        self._context.stats.accepted += 1
        if listener.is_secure:
            self._open_secure(connection, ends)
        else:
            open_connection(self._context, connection, ends)

    def _open_secure(self, connection: socket.SocketType, ends: Endpoints) -> None:
        if self._tls is not None:
            open_connection(self._context, connection, ends, tls=self._tls)
        else:
            # Of a bind that was removed, and no other speaks TLS: there is no certificate to answer with.
            connection.close()

    def _defers(self, slack: int = _SLACK) -> bool:
        """Whether this connection is better left to a sibling, or to later."""
        mine = self._mine()
        if self._max_connections and mine >= self._max_connections:
            return True
        now = time.monotonic_ns()
        # Siblings must see now, not at the next heartbeat, how many there are and that this worker came by.
        self._row.stir(mine, now)
        if self._owed:
            self._owed -= 1
            return False
        if mine <= slack or not self._is_ahead(mine - slack, now - _FRESH_NS):
            self._deferred_since = 0
            return False
        if self._deferred_since == 0:
            self._deferred_since = now
            return True
        # A sibling that did not stir while a connection waited for it is busy, however few connections it has. The
        # next ones wait for it only as long as it may take a host with more to do than cores to let it run.
        waits_for_the_busy = not self._is_ahead(mine - slack, max(now - _FRESH_NS, self._busy_before))
        if now - self._deferred_since < (_DEFER_TO_THE_BUSY_NS if waits_for_the_busy else _DEFER_AT_MOST_NS):
            return True
        self._busy_before = max(self._busy_before, self._deferred_since)
        self._deferred_since = 0
        self._owed = _ACCEPTS_PER_TURN - 1
        return False

    def _mine(self) -> int:
        """Connections that this worker has."""
        return self._context.stats.connections

    def _is_ahead(self, mine: int, fresh_after_ns: int) -> bool:
        """Whether that is more than the least busy sibling has, of those that lived since then."""
        least = self._scoreboard.least_connections(apart_from=self._row.index, fresh_after_ns=fresh_after_ns)
        return least is not None and mine > least

    def _pause(self, seconds: float) -> None:
        self._unwatch()
        self._resume = self._loop.call_later(seconds, self._continue)

    def _pause_taking(self, seconds: float) -> None:
        self._loop.remove_reader(self._hand_off.fds[1])
        self._loop.call_later(seconds, self._watch_handed_off)

    def _continue(self) -> None:
        self._resume = None
        if self._running:
            self._watch()
