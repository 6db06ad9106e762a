"""For whom code runs: every connection marks the context of its callbacks, which the tasks of its requests inherit.

That costs a connection something and a request nothing. Tasks tell their context from Python 3.12 on; before, only the
task that a request began with is known to be its.
"""

import asyncio
import sys
import weakref
from contextvars import ContextVar
from typing import Any, Protocol

from asgi_master.worker.places import Territory, describe, waiting_places

_MOST_PLACES = 3


class Served(Protocol):
    """A connection, as far as it matters here."""

    def subject(self) -> str:
        """The request that is being served, such as `GET /path`; empty if there is none."""


# Weak: contexts live in the transport, and a connection shall go as soon as that lets go of it.
_SERVED: ContextVar["weakref.ref[Served] | None"] = ContextVar("asgi_master_served", default=None)


def mark(served: Served) -> None:
    """Note in the present context that what runs in it runs for this connection."""
    _SERVED.set(weakref.ref(served))


def subject_of(task: "asyncio.Task[Any]") -> str:
    """The task by the name of its coroutine, and the request that its connection serves."""
    name = f"task {getattr(task.get_coro(), '__qualname__', task.get_name())}"
    served = _served(task)
    request = served.subject() if served is not None else ""
    return f"{name} of {request}" if request else name


def waits_at(
    task: "asyncio.Task[Any]", served: Served, loop: asyncio.AbstractEventLoop, territory: Territory
) -> str:
    """Where the task of a request waits, and where other tasks of its connection do."""
    others = [other for other in asyncio.all_tasks(loop) if other is not task and _served(other) is served]
    described = [
        describe(waiting_places(waiting.get_coro()), territory)
        for waiting in (task, *others[: _MOST_PLACES - 1])
    ]
    return "; another task at ".join(text for text in described if text)


def _served(task: "asyncio.Task[Any]") -> Served | None:
    if sys.version_info < (3, 12):
        return None
    reference = task.get_context().get(_SERVED)
    return None if reference is None else reference()
