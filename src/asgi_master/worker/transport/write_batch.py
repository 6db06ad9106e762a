"""What the connections of a worker write in one turn of its loop, sent at the end of the turn.

A response that is sent at once wakes its client while the other requests of the turn still wait; the two then take
turns, one request each. And pieces that are sent together reach the kernel in one call.

That is worth some microseconds a response. Where requests hold the loop for longer, what is complete does not wait for
them: nothing is held back then.
"""

import asyncio
import contextvars
import logging
from time import monotonic
from typing import Protocol

log = logging.getLogger("asgi_master")


_MAX_DELAY_PER_RESPONSE = 0.00025
"""Seconds that a turn may hold its responses back, for each of them."""
_MAX_DELAY_DEBT = 0.02
"""Seconds beyond that, of the turns one after the other, until they are no longer held back."""
_IMMEDIATE_FOR = 10.0
"""Seconds in which none is, before it is tried again."""


class Flushable(Protocol):
    """Who holds something back until the end of the turn."""

    def flush(self) -> None:
        """Send it."""


class WriteBatch:
    """Whom to flush at the end of this turn."""

    __slots__ = (
        "_clean_context",
        "_delay_debt",
        "_held_since",
        "_immediate_until",
        "_loop",
        "_waiting",
        "held",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._clean_context = contextvars.copy_context()
        self._waiting: list[Flushable] = []
        self._held_since = 0.0
        self.held = 0
        """Responses that are held back: one for each `add`. Who holds back more adds those."""
        self._delay_debt = 0.0
        """Seconds that responses were held back for more than it is worth."""
        self._immediate_until = 0.0

    def add(self, waiting: Flushable) -> bool:
        """Flush `waiting` when this turn is over, or at once if turns take too long; true if that was done."""
        if not self._waiting:
            self._held_since = monotonic()
            if self._held_since < self._immediate_until:
                waiting.flush()
                return True
            self._loop.call_soon(self._flush, context=self._clean_context)
        self._waiting.append(waiting)
        self.held += 1
        return False

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        held, self.held = self.held, 0
        now = monotonic()
        # Many small responses pay for a turn that the host interrupts; a few that wait for a slow one do not.
        self._delay_debt = max(
            0.0, self._delay_debt + now - self._held_since - _MAX_DELAY_PER_RESPONSE * held
        )
        if self._delay_debt > _MAX_DELAY_DEBT:
            self._delay_debt = 0.0
            self._immediate_until = now + _IMMEDIATE_FOR
        for writer in waiting:
            try:
                writer.flush()
            except Exception:
                # One connection's trouble must not keep back what the others wrote.
                log.exception("a connection could not be written to")
