"""Logs failures in the loop that no code handles: unretrieved task exceptions, callbacks, transports.

asyncio logs them as several lines of reprs. Here the exception heads the line, and the rest stands below.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

from asgi_master.telemetry.failures import describe

ours = logging.getLogger("asgi_master")
log = logging.getLogger("asyncio")
"""The logger of asyncio itself: filters and handlers for it keep working."""

_MAX_LENGTH = 500
_SHOWN_KEYS = ("message", "exception", "source_traceback", "handle")


def log_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log the failure. An exception handler (`loop.set_exception_handler`)."""
    message = str(context.get("message") or "unhandled exception in the event loop")
    error = context.get("exception")
    if not isinstance(error, BaseException):
        error = None
    headline = message if error is None else f"{message.rstrip('.')}: {describe(error)}"
    log.error("%s", headline, exc_info=error, extra={"detail": "\n".join(_details(context))})


def install_thread_hook() -> None:
    """Log threads that end with an exception."""
    threading.excepthook = _thread_ended


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is SystemExit or ended.exc_value is None:
        return  # as Python itself does
    name = "a thread" if ended.thread is None else f"thread {ended.thread.name!r}"
    raised = (ended.exc_type, ended.exc_value, ended.exc_traceback)
    ours.error("%s ended: %s", name, describe(ended.exc_value), exc_info=raised)


def _details(context: dict[str, Any]) -> Iterator[str]:
    for key, value in context.items():
        if isinstance(value, asyncio.Task):
            yield f"{key}: {_task(value)}"
        elif key not in _SHOWN_KEYS:
            yield f"{key}: {_shown(value)}"


def _task(task: "asyncio.Task[Any]") -> str:
    """Its name, and the coroutine with the location of its definition."""
    coroutine: Any = task.get_coro()
    name = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
    code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
    place = f", defined at {code.co_filename}:{code.co_firstlineno}" if code is not None else ""
    return f"{task.get_name()!r} of {name}(){place}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- the application's `__repr__` may do anything
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
