"""Queue handlers of a `log_config`: whoever configured one expects that somebody takes the records out again.

`dictConfig` makes a listener and starts none. A listener is a thread, and that is right in a worker only: the master
has no threads, and a zygote must not have any when it forks. So there, and wherever the listener does not run, records
go to its handlers at once.
"""

import atexit
import copy
import logging
import logging.handlers
import queue
from collections.abc import Iterable, Iterator
from typing import Any

_PATIENCE = 2.0
"""Seconds that a listener gets, at the end of the process, for what is still in its queue."""


def serve_queues(handlers: Iterable[logging.Handler], *, in_threads: bool) -> None:
    """Have records of queue handlers reach the handlers behind them: by their listeners, or without."""
    for handler, listener in _with_listener(handlers):
        attended = listener if isinstance(listener, _Attended) else _attend(handler, listener)
        if in_threads and not attended.is_running:
            attended.run()
            atexit.register(_stop, attended)


def _with_listener(
    handlers: Iterable[logging.Handler],
) -> Iterator[tuple[logging.handlers.QueueHandler, logging.handlers.QueueListener]]:
    for handler in handlers:
        listener = getattr(handler, "listener", None)  # which there is from Python 3.12 on
        if isinstance(handler, logging.handlers.QueueHandler) and isinstance(
            listener, logging.handlers.QueueListener
        ):
            yield handler, listener
            yield from _with_listener(listener.handlers)


class _Attended(logging.handlers.QueueListener):
    """A listener whose start and stop are ours; the application may ask for either at any time."""

    _thread: Any

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def run(self) -> None:
        """Start, as the listener itself does."""
        super().start()

    def start(self) -> None:
        """Nothing: it runs, or records need no thread."""

    def stop(self) -> None:
        """Let it handle what is in the queue; later records are handled at once."""
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
    """As the handler's own, but the exception stays one: formatters behind it may have a form for it."""
    prepared = copy.copy(record)
    prepared.msg = record.getMessage()
    prepared.args = None
    return prepared


def _stop(listener: _Attended) -> None:
    thread, listener._thread = listener._thread, None  # noqa: SLF001 -- the public `stop` waits without end
    if thread is not None:
        listener.enqueue_sentinel()
        thread.join(_PATIENCE)
