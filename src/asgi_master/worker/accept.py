"""Accept fairly: an own accept callback on the shared listeners, gated by the scoreboard.

Several event loops on one listener do not share it evenly: the last to wait is the first to be woken and takes all
it finds. So a worker that has clearly more connections than the least busy of its siblings leaves the next one to
them, for a few milliseconds at most, and never in favour of a sibling whose heartbeat is stale.
"""

import asyncio
import logging
import socket
import time

from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.scoreboard import Field, Row, Scoreboard
from asgi_master.worker.context import WorkerContext
from asgi_master.worker.heartbeat import BEAT_PERIOD
from asgi_master.worker.http_connection import HttpConnection

log = logging.getLogger("asgi_master")

_ACCEPTS_PER_TURN = 4
_SLACK = 1
"""Connections a worker may be ahead of the least busy one."""
_RETRY_AFTER = 0.001
_DEFER_AT_MOST = 0.005
_FRESH_NS = int(3 * BEAT_PERIOD * 1e9)
_PAUSE_WITHOUT_DESCRIPTORS = 0.1


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
    ) -> None:
        self._context = context
        self._loop = context.loop
        self._listeners = listeners
        self._hand_off = hand_off
        self._scoreboard = scoreboard
        self._row = row
        self._max_connections = max_connections
        self._deferred_since = 0.0
        self._resume: asyncio.TimerHandle | None = None
        self._running = False
        self._opening: set[asyncio.Task[object]] = set()

    def start(self) -> None:
        """Accept from now on."""
        self._running = True
        for listener in self._listeners:
            listener.setblocking(False)
        self._watch()
        self._loop.add_reader(self._hand_off.fds[1], self._on_handed_off)

    def stop(self) -> None:
        """Accept no more; the listeners stay open in the master, so their queues survive."""
        self._running = False
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._unwatch()
        self._loop.remove_reader(self._hand_off.fds[1])

    def _watch(self) -> None:
        for listener in self._listeners:
            self._loop.add_reader(listener, self._on_readable, listener)

    def _unwatch(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _on_readable(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            if self._defers():
                self._pause(_RETRY_AFTER)
                return
            try:
                connection, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors or memory: the queue stays in the kernel, others may take from it meanwhile.
                log.error("accept failed: %s; pausing for %g s", error.strerror, _PAUSE_WITHOUT_DESCRIPTORS)
                self._pause(_PAUSE_WITHOUT_DESCRIPTORS)
                return
            self._context.stats.accepted += 1
            self._open(connection)

    def _on_handed_off(self) -> None:
        for connection in self._hand_off.take(_ACCEPTS_PER_TURN):
            self._open(connection)

    def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: HttpConnection(self._context), connection)
        )
        self._opening.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # The peer left between accept and here.
            log.debug("a connection could not be opened: %s", task.exception())

    def _defers(self) -> bool:
        """Whether this connection is better left to a sibling, or to later."""
        mine = self._context.stats.connections + len(self._opening)
        if self._max_connections and mine >= self._max_connections:
            return True
        # Siblings must see this number now, not at the next heartbeat, or all of them would judge by old ones.
        self._row[Field.CONNECTIONS] = mine
        least = self._scoreboard.least_connections(
            apart_from=self._row.index, fresh_after_ns=time.monotonic_ns() - _FRESH_NS
        )
        if least is None or mine <= least + _SLACK:
            self._deferred_since = 0.0
            return False
        now = self._loop.time()
        if self._deferred_since == 0.0:
            self._deferred_since = now
        elif now - self._deferred_since > _DEFER_AT_MOST:
            self._deferred_since = 0.0
            return False
        return True

    def _pause(self, seconds: float) -> None:
        self._unwatch()
        self._resume = self._loop.call_later(seconds, self._continue)

    def _continue(self) -> None:
        self._resume = None
        if self._running:
            self._watch()
