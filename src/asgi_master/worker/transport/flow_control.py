"""Flow control of what an application writes: it waits while the peer reads more slowly."""

import asyncio
from collections.abc import Callable


class WriteFlow:
    """The write side of a connection, or of one stream of it."""

    __slots__ = ("_loop", "_waiters", "is_paused", "waits")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] = []
        self.is_paused = False
        """Whether the peer reads more slowly than the application writes."""
        self.waits = False
        """Whether the next write has to wait: while paused, or to let the loop turn after many writes."""

    def pause(self) -> None:
        """The peer reads more slowly than the application writes."""
        self.is_paused = self.waits = True

    def resume(self) -> None:
        """The peer caught up, or is gone."""
        self.is_paused = self.waits = False
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def call_when_resumed(self, function: Callable[[], None]) -> None:
        """Call a function in a later turn of the loop, once the peer caught up or is gone. It is paused now."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)

        def resumed(_: object) -> None:
            self._waiters.remove(waiter)
            function()

        waiter.add_done_callback(resumed)

    async def wait_until_resumed(self) -> None:
        """Return once the peer caught up or is gone."""
        while self.is_paused:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
