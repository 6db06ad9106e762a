"""Leave without a trace: what is idle moves to the other workers, what is in flight finishes, the rest ends in stages.

The stages, over the time that is not reserved for the lifespan's shutdown:
  - at once: HTTP connections move as soon as they are idle; where no other worker takes them they announce their end;
  - over the first half: WebSockets are closed with 1012, spread out, so that their clients do not return all at once;
  - at half time: applications that still stream see `http.disconnect`;
  - at the end: what is left is cancelled.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque

from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.messages import Drain
from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.context import Connection, WorkerContext

log = logging.getLogger("asgi_master")

_TURN = 0.05
"""Seconds between two looks at what became idle, or came in, meanwhile."""
_CANCEL_SLICE = 0.5
"""Seconds that cancelled requests get to unwind."""
_CLOSE_SPACING = 0.02
"""Seconds between the ends of two WebSockets, if there is time for it."""


async def drain(
    context: WorkerContext,
    *,
    order: Drain,
    harsher: "asyncio.Queue[Drain]",
    reserved: float,
    hand_off: HandOff,
) -> None:
    """Empty `context.connections` within the order's time less `reserved` seconds, or sooner by a harsher order."""

    def transfer(connection: socket.SocketType, state: ConnectionState) -> bool:
        return hand_off.put(connection, state.to_metadata())

    loop = context.loop
    context.draining = True
    lost = asyncio.Event()
    context.on_connection_lost = lost.set
    progress = _DrainProgress(context, order, reserved, transfer)
    while context.connections:
        while not harsher.empty():
            progress.order(harsher.get_nowait())
        if loop.time() >= progress.deadline:
            await _cancel(context, lost)
            return
        progress.advance(loop.time())
        lost.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(loop.time() + _TURN, progress.deadline)):
                await lost.wait()


class _DrainProgress:
    """How far the stages have come."""

    def __init__(
        self, context: WorkerContext, order: Drain, reserved: float, transfer: TransferConnection
    ) -> None:
        self._context = context
        self._reserved = reserved
        self._to_others = transfer
        self._hurried = False
        self._to_close: deque[Connection] = deque(
            connection for connection in context.connections if connection.closes_gradually
        )
        self.order(order)

    def order(self, order: Drain) -> None:
        """Begin, or begin again under a harsher order."""
        self._started = self._context.loop.time()
        window = max(0.0, order.timeout - self._reserved - _CANCEL_SLICE)
        self.deadline = self._started + window
        self._half_time = self._started + window / 2
        self._transfer = self._to_others if order.hand_off else None
        self._spacing = min(_CLOSE_SPACING, window / 2 / max(1, len(self._to_close)))
        self._next_close = self._started

    def advance(self, now: float) -> None:
        """Do what is due. The others are drained again each time: what could not move before may now."""
        hurries = not self._hurried and now >= self._half_time
        self._hurried = self._hurried or hurries
        waiting = set(self._to_close)
        for connection in list(self._context.connections):
            if connection not in waiting:
                connection.drain(None if self._hurried else self._transfer)
                if hurries:
                    connection.signal_disconnect()
        while self._to_close and now >= self._next_close:
            self._to_close.popleft().drain()
            self._next_close += self._spacing


async def _cancel(context: WorkerContext, lost: asyncio.Event) -> None:
    """Cancel what is left and wait shortly for it to unwind."""
    log.warning("the drain window is over: cancelling %d connection(s)", len(context.connections))
    for connection in list(context.connections):
        connection.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CANCEL_SLICE):
            while context.connections:
                lost.clear()
                await lost.wait()
