"""Watches the threads of a pool: names those that are stuck, counts, and has a worker replaced whose threads all are.

A thread cannot be cancelled. What is left is to say where it is, and to leave it behind with its process.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.wsgi.pool import PoolThread, ThreadPool
from asgi_master.worker.wsgi.request import WsgiRequest

log = logging.getLogger("asgi_master")

_PERIOD = 0.25
"""Seconds between two looks."""


class _Call:
    """One call of the application, as far as it was seen."""

    __slots__ = ("is_reported", "progress", "request", "since")

    def __init__(self, request: WsgiRequest, since: float) -> None:
        self.request = request
        self.since = since
        """When it last got on, on the monotonic clock."""
        self.progress = 0
        self.is_reported = False


class ThreadWatch:
    """The watch of one worker."""

    def __init__(
        self,
        pool: ThreadPool,
        context: WorkerContext,
        *,
        stall_warn: float,
        hang_timeout: float,
        replace: Callable[[str], object],
    ) -> None:
        """`replace` asks for a successor, with the reason. Times in seconds; 0 is never."""
        self._pool = pool
        self._context = context
        self._stall_warn = stall_warn
        self._hang_timeout = hang_timeout
        self._replace = replace
        self._has_asked = False
        self._calls: dict[PoolThread, _Call] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and go on until `stop`."""
        self._timer = self._context.loop.call_later(_PERIOD, self.start)
        self.look(monotonic())

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self, now: float) -> None:
        """What is to be done at a moment, on the monotonic clock."""
        pool, stats = self._pool, self._context.stats
        busy = stuck = lost = 0
        for thread in pool.threads:
            request = thread.request
            if request is None:
                self._calls.pop(thread, None)
                continue
            busy += 1
            call = self._calls.get(thread)
            if call is None or call.request is not request:
                call = self._calls[thread] = _Call(request, thread.since)
            if call.progress != request.progress:
                call.progress, call.since = request.progress, now
            lasted = now - call.since
            if self._stall_warn and lasted > self._stall_warn:
                stuck += 1
                lost += request.disconnected or 0 < self._hang_timeout < lasted
                if not call.is_reported:
                    call.is_reported = True
                    self._report(thread, request, lasted)
        stats.wsgi_threads, stats.wsgi_busy, stats.wsgi_stuck = pool.size, busy, stuck
        stats.wsgi_queued = pool.queued
        if lost == pool.size and pool.queued and not self._has_asked:
            self._has_asked = True
            log.error("all %d threads are stuck, and requests wait: asking for another worker", pool.size)
            self._replace("all threads are stuck")
        if limit := self._context.http.request_timeout:
            pool.refuse_since(now - limit)

    def _report(self, thread: PoolThread, request: WsgiRequest, lasted: float) -> None:
        self._context.stats.wsgi_stuck_calls += 1
        info = request.info()
        log.warning(
            "%s: thread %s has got no further for %.1f s, at %s",
            info.title,
            thread.name,
            lasted,
            self._pool.location_of(thread) or "an unknown place",
            extra={"request": info},
        )
