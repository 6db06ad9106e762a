"""Taking turns: what one turn of the loop does for peers that ask for much at once is bounded.

Rules of this file:
  - What a peer sends first is served as it comes. A peer with more at once goes on for a slice of time,
    and then waits in the queue.
  - The queue is served once a turn, the oldest first, within a budget. So a hundred busy peers take of a turn what a
    few may, and everybody else's timers, accepts and requests come in between.
  - Who waits in the queue is not read from.

Whatever consumes input of a peer, or runs the application without the loop turning in between, is a `TakesTurns`.
"""

import asyncio
import contextvars
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

from asgi_master.worker.transport.stream_transport import StreamTransport

log = logging.getLogger("asgi_master")

_BUDGET: Final = 0.004
"""Seconds of a turn that belong to those who have had something in it already: small beside what a client notices, and
large beside what a turn costs by itself."""
_SLICE: Final = 0.001
"""Seconds that one of them has before the next one's turn."""

FREE: Final = 2
"""Events that need no look at the clock: a request, or a body and its end."""
CREDIT: Final = 64
"""Small ones, of a microsecond each, that are handled between two looks at the clock."""
WEIGHT_SHIFT: Final = 12
"""A large event counts as several: one more for every 2**12 bytes."""


class Waiting(Protocol):
    """Who waits in the queue."""

    def go_on(self) -> None:
        """It is its turn: do what a slice allows, and queue again for the rest."""


class Queue(Protocol):
    """Where connections wait until they may go on."""

    def queue(self, waiting: Any, /) -> None:
        """Have a `Waiting` go on in its turn."""


class Turns:
    """The queue of one worker, and what is left of the present turn."""

    __slots__ = ("_clean_context", "_end", "_is_open", "_loop", "_queue", "clock", "is_spent", "number")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = monotonic) -> None:
        self._loop = loop
        self.clock = clock
        """In seconds, monotonic."""
        self._clean_context = contextvars.copy_context()
        self._queue: deque[Waiting] = deque()
        self._end = 0.0
        self._is_open = False
        self.is_spent = False
        """Whether the budget of this turn is known to be used up: what can wait should."""
        self.number = 0
        """Another one as soon as the loop has turned after a call of `slice`."""

    def slice(self) -> float:
        """End of the slice, on `clock`, for a connection that starts now on more than its first event."""
        now = self.clock()
        if not self._is_open:
            self._is_open = True
            self._end = now + _BUDGET
            self._loop.call_soon(self._turn, context=self._clean_context)
        elif now >= self._end:
            self.is_spent = True
        return min(now + _SLICE, self._end)

    def is_over(self, until: float) -> bool:
        """Whether a slice has ended, so that who has more to do should queue."""
        now = self.clock()
        if now < until:
            return False
        if now >= self._end:
            self.is_spent = True
        return True

    def queue(self, waiting: Waiting) -> None:
        """Have it go on in its turn."""
        self._queue.append(waiting)
        if not self._is_open:
            self.slice()

    async def granted(self) -> float:
        """Wait in the queue; returns until when the slice lasts that was waited for."""
        waiter = self._loop.create_future()
        self.queue(_Sleeper(waiter, self))
        await waiter
        return self.clock() + _SLICE

    def set_aside(self) -> None:
        """Reserve a slice of this turn for work outside of the queue."""
        self._end -= _SLICE

    def _turn(self) -> None:
        """A new turn: serve the queue."""
        queue = self._queue
        self.number += 1
        self._is_open = self.is_spent = False
        if not queue:
            return
        self._is_open = True
        now = self.clock()
        self._end = now + _BUDGET
        try:
            while queue and now < self._end:
                waiting = queue.popleft()
                try:
                    waiting.go_on()
                except Exception:
                    # One connection's trouble must not keep back the others.
                    log.exception("a connection could not go on")
                now = self.clock()
        finally:
            self.is_spent = now >= self._end
            # At the end: tasks that were woken come before the next turn.
            self._loop.call_soon(self._turn, context=self._clean_context)


class _Sleeper:
    """A task that waits for its turn."""

    __slots__ = ("_turns", "_waiter")

    def __init__(self, waiter: "asyncio.Future[None]", turns: Turns) -> None:
        self._waiter = waiter
        self._turns = turns

    def go_on(self) -> None:
        if not self._waiter.done():
            self._turns.set_aside()
            self._waiter.set_result(None)


_FOR_TURN: Final = 1
"""Its turn has not come."""
AHEAD: Final = 2
"""What came is more than can be used yet."""


class TakesTurns:
    """The part of a connection that takes turns with the others, and the only one that pauses reading.

    There are several reasons not to read; each is held and released for itself.
    """

    __slots__ = ("_is_queued", "_slice_of", "_transport", "_turns", "_until", "credit", "holds")

    _transport: StreamTransport

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.holds = 0
        """The reasons not to read now, one bit each."""
        self._is_queued = False
        self.credit = CREDIT
        """What the application may still do until `rest` is due; anew as `CREDIT` when it waited for something."""
        self._until = 0.0  # the end of the application's slice
        self._slice_of = -1  # the turn that it belongs to

    # -- the peer's input --------------------------------------------------------------------------

    def go_on(self) -> None:
        if not self._is_queued:
            return  # it was let off meanwhile
        self._is_queued = False
        self._transport.context.run(self._go_on)
        if not self._is_queued:
            self._release(_FOR_TURN)

    @abstractmethod
    def _go_on(self) -> None:
        """Go on with what came, and queue again if a slice does not suffice; in the context of the connection."""

    def _queue_up(self, queue: Queue | None = None) -> None:
        """Go on in another turn, or when its turn comes in that queue; nothing is read until then."""
        if not self._is_queued:
            self._is_queued = True
            self._hold(_FOR_TURN)
            (queue or self._turns).queue(self)

    def _hold(self, reason: int) -> None:
        """Do not read, for a reason."""
        held = self.holds
        self.holds = held | reason
        if not held:
            self._transport.pause_reading()

    def _release(self, reason: int) -> None:
        """A reason is gone; read, if it was the last."""
        if self.holds & reason:
            self.holds &= ~reason
            if not self.holds:
                self._transport.resume_reading()

    def _let_off(self) -> None:
        """Wait for nothing any more, and read."""
        self._is_queued = False
        self._release(self.holds)

    # -- the application ---------------------------------------------------------------------------

    async def rest(self) -> None:
        """Let the loop turn, if the application has had a slice without that. Due when `credit` is negative."""
        turns = self._turns
        self.credit = CREDIT
        if self._slice_of != turns.number:
            self._until = turns.slice()
            self._slice_of = turns.number
            is_over = turns.is_spent
        else:
            is_over = turns.is_over(self._until)
        if is_over:
            self._until = await turns.granted()
            self._slice_of = turns.number
