"""Starts and stops the queue listeners of a `log_config`.

`dictConfig` creates a listener but does not start it. A listener is a thread, which only a worker may have: the master
is single-threaded, and a zygote must not have threads when it forks. There, and while the listener does not run,
records go to its handlers directly.
"""

import atexit
import copy
import logging
import logging.handlers
import queue
from collections.abc import Iterable, Iterator
from typing import Any

_STOP_TIMEOUT = 2.0
"""Seconds that a listener may take, at the end of the process, to empty its queue."""


def serve_queues(handlers: Iterable[logging.Handler], *, in_threads: bool) -> None:
    """Connect queue handlers with the handlers behind them: through a listener thread, or directly."""
    for handler, listener in _with_listener(handlers):
        attended = listener if isinstance(listener, _Attended) else _attend(handler, listener)
        if in_threads and not attended.is_running:
            attended.run()
            atexit.register(_stop, attended)


def _with_listener(
    handlers: Iterable[logging.Handler],
) -> Iterator[tuple[logging.handlers.QueueHandler, logging.handlers.QueueListener]]:
    for handler in handlers:
        listener = getattr(handler, "listener", None)  # exists from Python 3.12 on
        if isinstance(handler, logging.handlers.QueueHandler) and isinstance(
            listener, logging.handlers.QueueListener
        ):
            yield handler, listener
            yield from _with_listener(listener.handlers)


class _Attended(logging.handlers.QueueListener):
    """A listener that only `serve_queues` starts and stops; calls from the application are ignored."""

    _thread: Any

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def run(self) -> None:
        """Start the thread, as `QueueListener.start` does."""
        super().start()

    def start(self) -> None:
        """Does nothing: the thread runs, or records need no thread."""

    def stop(self) -> None:
        """Handle what is in the queue; later records are handled directly."""
        _stop(self)


def _attend(handler: logging.handlers.QueueHandler, listener: Any) -> _Attended:
    kind = type(listener)
    listener.__class__ = type(kind.__name__, (_Attended, kind), {})
    own_enqueue = handler.enqueue

    def enqueue(record: logging.LogRecord) -> None:
        if listener.is_running:
            own_enqueue(record)
        else:
            listener.handle(record)

    handler.enqueue = enqueue  # type: ignore[method-assign]
    if type(handler) is logging.handlers.QueueHandler and _is_of_this_process(handler.queue):
        handler.prepare = _prepare  # type: ignore[method-assign]
    attended: _Attended = listener
    return attended


def _is_of_this_process(place: object) -> bool:
    return isinstance(place, queue.Queue | queue.SimpleQueue)


def _prepare(record: logging.LogRecord) -> logging.LogRecord:
    """As `QueueHandler.prepare`, but keeps the exception for the formatters behind it."""
    prepared = copy.copy(record)
    prepared.msg = record.getMessage()
    prepared.args = None
    return prepared


def _stop(listener: _Attended) -> None:
    thread, listener._thread = listener._thread, None  # noqa: SLF001 -- the public `stop` waits without end
    if thread is not None:
        listener.enqueue_sentinel()
        thread.join(_STOP_TIMEOUT)
