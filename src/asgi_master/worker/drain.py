"""Leave without a trace: finish what is in flight, give idle connections to the other workers, then end the rest.

The ladder: hand off or close what is idle; wait for what is in flight; cancel what is left when the time that is not
reserved for the lifespan's shutdown is over.
"""

import asyncio
import contextlib
import logging

from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.messages import Drain
from asgi_master.worker.context import Connection, WorkerContext
from asgi_master.worker.http_connection import HttpConnection

log = logging.getLogger("asgi_master")

_TURN = 0.05
"""Seconds between two looks at connections that became idle."""
_CANCEL_SLICE = 0.5
"""Seconds that cancelled requests get to unwind."""


async def drain(
    context: WorkerContext,
    *,
    order: Drain,
    harsher: "asyncio.Queue[Drain]",
    reserved: float,
    hand_off: HandOff,
) -> None:
    """Empty `context.connections` within the order's time less `reserved` seconds, or sooner by a harsher order."""
    loop = context.loop
    started = loop.time()
    context.draining = True
    lost = asyncio.Event()
    context.on_connection_lost = lost.set
    for connection in list(context.connections):
        _begin(connection, hand_off if order.hand_off else None)
    while context.connections:
        deadline = started + max(0.0, order.timeout - reserved - _CANCEL_SLICE)
        if loop.time() >= deadline:
            await _cancel(context, lost)
            return
        while not harsher.empty():
            order = harsher.get_nowait()
            started = loop.time()
        lost.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_TURN, max(0.0, deadline - loop.time()))):
                await lost.wait()
        if order.hand_off:
            for connection in list(context.connections):
                if connection.is_idle():
                    _begin(connection, hand_off)


def _begin(connection: Connection, hand_off: HandOff | None) -> None:
    if hand_off is not None and isinstance(connection, HttpConnection) and connection.is_idle():
        sock = connection.detach()
        if sock is not None:
            # A full queue refuses: the client then sees what it would see without hand-off.
            hand_off.put(sock)
            sock.close()
            return
    connection.drain()


async def _cancel(context: WorkerContext, lost: asyncio.Event) -> None:
    """Cancel what is left and wait shortly for it to unwind."""
    if context.connections:
        log.warning("the drain window is over: cancelling %d connection(s)", len(context.connections))
    for connection in list(context.connections):
        connection.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CANCEL_SLICE):
            while context.connections:
                lost.clear()
                await lost.wait()
