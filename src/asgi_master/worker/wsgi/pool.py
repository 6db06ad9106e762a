"""The threads that call a WSGI application, and their two ways to the loop: a queue of requests and a box of answers.

Threads that compute at once only fight for the GIL: with eight of them a small request takes half as much CPU again as
with one (ADR 30). So a thread takes one request after the other, and another one is woken only if that one does not get
on: because it waits for something, or because one call takes long.
"""

import asyncio
import contextlib
import contextvars
import itertools
import logging
import sys
import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import monotonic, process_time
from typing import Any, Final, Protocol

from asgi_master.asgi.scope import HttpScopes
from asgi_master.asgi.wsgi.environ import Environs
from asgi_master.asgi.wsgi.file_wrapper import FileWrapper
from asgi_master.http.errors import ProtocolError
from asgi_master.http.message import Request
from asgi_master.telemetry.code_ownership import ownership
from asgi_master.telemetry.failure_log import FailureLog
from asgi_master.worker.diagnostics.code_location import describe, locations_of, outwards
from asgi_master.worker.diagnostics.current_request import is_runner
from asgi_master.worker.http.running_request import Stream
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.turns import Waiting
from asgi_master.worker.wsgi.request import WsgiRequest

log = logging.getLogger("asgi_master")

_LOOK: Final = 0.002
"""Seconds between two looks at what waits, while something does."""
_SHORT: Final = 0.001
"""Seconds of a call below which its thread will soon take the next one."""
_QUEUED: Final = 4
"""Requests in the queue for each thread, beyond which connections wait with what they want next."""
_BUSY: Final = 0.8
"""Share of a CPU from which on more threads are no use."""


class Overflow(Waiting, Protocol):
    """A connection whose next request waits, as too many do already."""

    def refuse_queued(self, error: ProtocolError) -> None:
        """Answer that request with an error, if it still waits."""


class PoolThread:
    """One thread of the pool."""

    __slots__ = ("ident", "idle", "name", "request", "since")

    def __init__(self, number: int) -> None:
        self.name = f"wsgi-{number}"
        self.idle = allocate_lock()
        """Taken while the thread has nothing to do; released to wake it."""
        self.idle.acquire()
        self.ident = 0
        """As `sys._current_frames` has it; 0 before it runs."""
        self.request: WsgiRequest | None = None
        """What it runs."""
        self.since = 0.0
        """Since when, on the monotonic clock."""


class ThreadPool:
    """The threads of one worker. They are started as they are needed, so that none is there before a fork."""

    def __init__(
        self, app: Callable[..., Any], loop: asyncio.AbstractEventLoop, *, size: int, multiprocess: bool
    ) -> None:
        """`size` is how many calls may run at once; `multiprocess` whether other workers run the application too."""
        self.size = size
        self.app = app
        self.environs = Environs(multithread=size > 1, multiprocess=multiprocess, file_wrapper=FileWrapper)
        self._loop = loop
        self._context = contextvars.copy_context()
        self._queue: deque[WsgiRequest | None] = deque()
        self._box: deque[WsgiRequest] = deque()
        self._failures = FailureLog()
        self._overflow: deque[tuple[float, Overflow]] = deque()
        self.threads: list[PoolThread] = []
        """Those that were started."""
        self._idle: list[PoolThread] = []
        self._is_dispatching = False
        self._is_woken = False
        self._looks = False
        self._looked_at = (0.0, 0.0)

    def request(self, stream: Stream, request: Request, scopes: HttpScopes) -> WsgiRequest:
        """A request to be started."""
        return WsgiRequest(self, stream, request, scopes)

    # -- in the loop -------------------------------------------------------------------------------

    def submit(self, request: WsgiRequest) -> None:
        """See `request.Pool.submit`. A thread is woken at the end of the turn, for all that came in it."""
        request.queued_at = monotonic()
        self._queue.append(request)
        if not self._is_dispatching:
            self._is_dispatching = True
            self._loop.call_soon(self._dispatch, context=self._context)

    @property
    def queued(self) -> int:
        """Requests that wait for a thread."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """See `transport.context.Backlog`."""
        return len(self._queue) >= self.size * _QUEUED

    def queue(self, waiting: Overflow, /) -> None:
        """See `transport.context.Backlog`."""
        self._overflow.append((monotonic(), waiting))

    def refuse_since(self, moment: float) -> None:
        """Answer 503 to connections that have waited since before that moment, on the monotonic clock."""
        overflow = self._overflow
        while overflow and overflow[0][0] <= moment:
            overflow.popleft()[1].refuse_queued(ProtocolError(503, "Service Unavailable"))

    def location(self, request: WsgiRequest) -> str:
        """See `request.Pool.location`."""
        return next((self.location_of(thread) for thread in self.threads if thread.request is request), "")

    def location_of(self, thread: PoolThread) -> str:
        """Where in the application a thread is."""
        frame = sys._current_frames().get(thread.ident)  # noqa: SLF001 -- documented, in spite of its name
        frames = itertools.takewhile(lambda frame: not is_runner(frame), outwards(frame))
        return describe(locations_of(frames), ownership)

    def _dispatch(self) -> None:
        self._is_dispatching = False
        if not self._queue:
            return
        if not self._gets_on(monotonic()):
            self._wake_thread()
        self._look_soon()

    def _gets_on(self, now: float) -> bool:
        """Whether some thread is in a call that began a moment ago, so that it will soon take the next one."""
        return any(thread.request is not None and now - thread.since < _SHORT for thread in self.threads)

    def _wake_thread(self) -> None:
        """Have one more thread take from the queue, if there is one."""
        if self._idle:
            self._idle.pop().idle.release()
        elif len(self.threads) < self.size:
            thread = PoolThread(len(self.threads))
            try:
                threading.Thread(target=self._work, args=(thread,), name=thread.name, daemon=True).start()
            except RuntimeError as error:
                # No memory for its stack, or too many threads of this user. `_look` tries again.
                self._failures.failed("starting a thread for the application", error, "it is retried")
            else:
                self.threads.append(thread)

    def _look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            self._looked_at = monotonic(), process_time()
            self._loop.call_later(_LOOK, self._look, context=self._context)

    def _look(self) -> None:
        """Deliver what is held, and see whether what waits needs another thread."""
        self._looks = False
        self._empty_box()
        if self._queue:
            now, cpu = monotonic(), process_time()
            then, cpu_then = self._looked_at
            if not self._gets_on(now) or cpu - cpu_then < _BUSY * (now - then):
                self._wake_thread()
            if self._idle or len(self.threads) < self.size:
                self._look_soon()

    def _empty_box(self) -> None:
        self._is_woken = False
        box = self._box
        while box:
            try:
                box.popleft().deliver()
            except Exception:
                # One request's trouble must not keep back the others.
                log.exception("a response could not be sent")
        while self._overflow and not self.is_full:
            self._overflow.popleft()[1].go_on()

    def stop(self) -> None:
        """Have the threads end, as soon as they have nothing to do."""
        for _ in self.threads:
            self._queue.append(None)
        while self._idle:
            self._idle.pop().idle.release()

    # -- in the threads ----------------------------------------------------------------------------

    def hold(self, request: WsgiRequest) -> None:
        self._box.append(request)
        if not self._looks:
            self.wake()

    def post(self, request: WsgiRequest) -> None:
        self._box.append(request)
        self.wake()

    def wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self.call_in_loop(self._empty_box)

    def call_in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        # A loop that is closed raises: the worker has given its requests up.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments, context=self._context)

    def _work(self, thread: PoolThread) -> None:
        queue, idle = self._queue, self._idle
        thread.ident = threading.get_ident()
        while True:
            try:
                request = queue.popleft()
            except IndexError:
                idle.append(thread)
                if not queue or not self._is_back(thread):
                    thread.idle.acquire()
                continue
            if request is None:
                return
            thread.since = request.taken_at = monotonic()
            thread.request = request
            try:
                request.run()
            except BaseException:
                log.exception("a thread of the pool failed")
            thread.request = None

    def _is_back(self, thread: PoolThread) -> bool:
        """Take the thread from those that are idle; false if the loop has done so, and wakes it."""
        try:
            self._idle.remove(thread)
        except ValueError:
            return False
        return True


def call_by_wsgi(context: WorkerContext, threads: ThreadPool) -> None:
    """Have the connections of a worker call its application by WSGI."""
    context.new_request = threads.request
    context.backlog = threads
    if context.http2 is not None:
        context.http2 = replace(context.http2, extended_connect=False)
