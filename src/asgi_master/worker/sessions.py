"""Sessions that stay with this worker, where the settings ask for that."""

import asyncio
import logging

from asgi_master.http.affinity import SessionKeys
from asgi_master.ipc import descriptors
from asgi_master.ipc.hand_off import LARGE_METADATA, HandOff, PutEnd
from asgi_master.ipc.messages import Drain, UsePlace, UsePlaces
from asgi_master.ipc.stick_table import StickTable
from asgi_master.settings.model import AffinitySettings
from asgi_master.settings.sticky import parse_sticky
from asgi_master.worker.accept.place_queue import PlaceQueue
from asgi_master.worker.affinity.router import SessionRouter
from asgi_master.worker.relay.caller import Relays
from asgi_master.worker.relay.session_application import SessionApplication
from asgi_master.worker.transport.context import WorkerContext

log = logging.getLogger("asgi_master")

_PATIENCE = 10.0
"""Seconds that the master may take to say where sessions are. Only an older version of it says nothing."""
_TURN = 0.25
"""Seconds between two looks whether the last session is over."""


class Sessions:
    """What the master says about sessions, and what follows from it."""

    def __init__(self, settings: AffinitySettings) -> None:
        self._settings = settings
        self._is_placed = asyncio.Event()
        self._router: SessionRouter | None = None
        self._queue: HandOff | None = None
        self._places: tuple[UsePlaces, dict[int, PutEnd]] | None = None
        self._context: WorkerContext | None = None
        self._application: SessionApplication | None = None
        self._own: PlaceQueue | None = None
        self._relays: Relays | None = None

    # -- messages of the master --------------------------------------------------------------------

    def use_place(self, message: UsePlace, fds: list[int]) -> None:
        """Keep sessions at this place."""
        table_fd, put_fd, take_fd = fds
        if self._router is not None:
            for fd in fds:
                descriptors.close(fd)
            return
        sources = [parse_sticky(text) for text in self._settings.sticky]
        keys = SessionKeys([(source.kind, source.name) for source in sources], bytes.fromhex(message.secret))
        self._router = SessionRouter(keys, StickTable(table_fd), message.place, self._settings.sticky_idle)
        self._queue = HandOff.of_fds(put_fd, take_fd, LARGE_METADATA)
        self._is_placed.set()

    def use_places(self, message: UsePlaces, fds: list[int]) -> None:
        """Send sessions there."""
        new = {number: PutEnd(fd) for number, fd in zip(message.new, fds, strict=True)}
        if self._router is not None:
            self._router.use_places(message.places, message.slots, new)

    def take_place(self, fds: list[int]) -> None:
        """Serve what is left of another place."""
        put_fd, take_fd = fds
        queue = HandOff.of_fds(put_fd, take_fd, LARGE_METADATA)
        if self._router is None or self._application is None or self._context is None:
            queue.close()
            return
        PlaceQueue(self._context, queue, self._router, self._application, queue.close).start()

    # -- the life of the worker --------------------------------------------------------------------

    async def install(self, context: WorkerContext) -> None:
        """Have the requests of this worker served where their sessions are."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._is_placed.wait()
        except TimeoutError:
            log.error("sticky has no effect here: the master does not say where sessions are")
            return
        assert self._router is not None
        assert self._queue is not None
        context.sessions = self._router
        self._relays = Relays(context)
        context.app = self._application = SessionApplication(context.app, self._router, self._relays)
        self._context = context
        self._own = PlaceQueue(context, self._queue, self._router, self._application)

    def start(self) -> None:
        """Take what other workers send."""
        if self._own is not None:
            self._own.start()

    async def linger(self, order: Drain, orders: "asyncio.Queue[Drain]") -> Drain:
        """Serve the sessions that are here until they are over, for the order's time; returns the order that is due."""
        router = self._router
        if self._own is None or router is None:
            return order
        router.leave()
        loop = asyncio.get_running_loop()
        ends = loop.time() + order.sessions
        while router.has_sessions and (left := ends - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(_TURN, left)):
                    order = await orders.get()
            except TimeoutError:
                continue
            break
        self._own.end()
        return order

    async def close(self) -> None:
        """Close what leads to other workers, before the interpreter reports it as unclosed (`-X dev`)."""
        if self._router is not None:
            self._router.use_places([], [], {})
        if self._relays is not None:
            self._relays.close()
            await asyncio.sleep(0)  # they close in the loop's next turn
        if self._queue is not None:
            self._queue.close()
