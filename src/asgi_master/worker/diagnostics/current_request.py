"""For whom code runs: every connection marks the context of its callbacks, which the tasks of its requests inherit.

That costs a connection something and a request nothing. Python 3.11 does not let tasks tell their context; there
the future that a task waits for does, as it has to wake the task in that context.
"""

import asyncio
import sys
import weakref
from collections.abc import Callable
from contextvars import Context, ContextVar
from types import CodeType, FrameType
from typing import Any, Protocol, TypeVar

from asgi_master.telemetry.code_ownership import CodeOwnership
from asgi_master.worker.diagnostics.code_location import describe, waiting_locations

F = TypeVar("F", bound=Callable[..., Any])

_MAX_LOCATIONS = 3


class RequestOwner(Protocol):
    """A connection or a request, as far as it matters here."""

    def subject(self) -> str:
        """The request that is being served, such as `GET /path`; empty if there is none."""


# Weak: contexts live in the transport, and a connection shall go as soon as that lets go of it.
_SERVED: ContextVar[Callable[[], RequestOwner | None] | None] = ContextVar("asgi_master_served", default=None)
_RUNNERS: set[CodeType] = set()


def bind_context(served: RequestOwner) -> None:
    """Note in the present context that what runs in it runs for this connection."""
    _SERVED.set(weakref.ref(served))


def runs_the_application(method: F) -> F:
    """Note that this method of a `RequestOwner` runs the application for it: its frame in a stack tells for whom."""
    _RUNNERS.add(method.__code__)
    return method


def is_runner(frame: FrameType) -> bool:
    """Whether the frame is one that knows for whom the application runs. Outwards of it is only the server."""
    return frame.f_code in _RUNNERS


def subject_of_frame(frame: FrameType) -> str:
    """The request that is served in a frame that `is_runner`."""
    served: RequestOwner | None = frame.f_locals.get("self")
    return served.subject() if served is not None else ""


def started_at_of(task: "asyncio.Task[Any]") -> float:
    """When the request that the task runs began, in seconds on the monotonic clock; 0 if that is not known."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    if frame is None or not is_runner(frame):
        return 0.0
    # Only a request has it, and only where durations are measured.
    return getattr(frame.f_locals.get("self"), "started_at", 0.0)


def request_of(task: "asyncio.Task[Any]") -> str:
    """The request that a task serves, as far as that is known; else empty."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    if frame is not None and is_runner(frame):
        return subject_of_frame(frame)
    served = _served(task)
    return served.subject() if served is not None else ""


def subject_of(task: "asyncio.Task[Any]") -> str:
    """The task by the name of its coroutine, and the request that it serves."""
    name = f"task {getattr(task.get_coro(), '__qualname__', task.get_name())}"
    request = request_of(task)
    return f"{name} of {request}" if request else name


def waits_at(
    task: "asyncio.Task[Any]", served: RequestOwner, loop: asyncio.AbstractEventLoop, ownership: CodeOwnership
) -> str:
    """Where the task of a request waits, and where other tasks of its connection do."""
    others = [other for other in asyncio.all_tasks(loop) if other is not task and _served(other) is served]
    described = [
        describe(waiting_locations(waiting.get_coro()), ownership)
        for waiting in (task, *others[: _MAX_LOCATIONS - 1])
    ]
    return "; another task at ".join(text for text in described if text)


def _served(task: "asyncio.Task[Any]") -> RequestOwner | None:
    context = _context_of(task)
    reference = None if context is None else context.get(_SERVED)
    return None if reference is None else reference()


if sys.version_info >= (3, 12):

    def _context_of(task: "asyncio.Task[Any]") -> Context | None:
        return task.get_context()
else:

    def _context_of(task: "asyncio.Task[Any]") -> Context | None:
        # Undocumented, but of a Python that does not change any more.
        future = getattr(task, "_fut_waiter", None)
        callbacks: list[tuple[object, Context]] = getattr(future, "_callbacks", None) or []
        return next((context for call, context in callbacks if getattr(call, "__self__", None) is task), None)
