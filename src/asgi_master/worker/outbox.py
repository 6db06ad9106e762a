"""What the connections of a worker write in one turn of its loop, sent at the end of the turn.

A response that is sent at once wakes its client while the other requests of the turn still wait; the two then take
turns, one request each. And pieces that are sent together reach the kernel in one call.
"""

import asyncio
import contextvars
import logging
from typing import Protocol

log = logging.getLogger("asgi_master")


class Flushable(Protocol):
    """Who holds something back until the end of the turn."""

    def flush(self) -> None:
        """Send it."""


class Outbox:
    """Whom to flush at the end of this turn."""

    __slots__ = ("_clean_context", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._clean_context = contextvars.copy_context()
        self._waiting: list[Flushable] = []

    def add(self, waiting: Flushable) -> None:
        """Flush `waiting` when this turn is over."""
        if not self._waiting:
            self._loop.call_soon(self._flush, context=self._clean_context)
        self._waiting.append(waiting)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for writer in waiting:
            try:
                writer.flush()
            except Exception:
                # One connection's trouble must not keep back what the others wrote.
                log.exception("a connection could not be written to")
