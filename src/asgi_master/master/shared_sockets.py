"""Repairs what all workers share, and any of them can shut down: the listeners and the hand-off queue.

A shutdown is detected within a second, logged and repaired.
"""

import logging
import time
from collections.abc import Callable

from asgi_master.control.component import Component
from asgi_master.errors import BindError
from asgi_master.ipc.hand_off import HandOff
from asgi_master.master.children import Children
from asgi_master.master.listeners import Listeners
from asgi_master.master.open_listener import Listener
from asgi_master.master.reopening import listens
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.worker_resources import WorkerResources
from asgi_master.telemetry.rate_limit import RateLimit

log = logging.getLogger("asgi_master")

_PERIOD = 1.0
"""Seconds between two looks."""


class SharedSockets(Component):
    """Checks them every second."""

    def __init__(
        self,
        children: Children,
        settings: RunningSettings,
        listeners: Listeners,
        resources: WorkerResources,
        hand_off: HandOff,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._children = children
        self._settings = settings
        self._listeners = listeners
        self._resources = resources
        self._hand_off = hand_off
        self._clock = clock
        self._due = clock()
        self._limit = RateLimit()
        self._hand_off_owed = False
        self._listeners_owed: set[int] = set()
        """Workers that have not got what they should: their channel was full."""

    def sweep(self) -> None:
        """Look, if it is time."""
        self._children.disposal.sweep()
        now = self._clock()
        if now < self._due:
            return
        self._due = now + _PERIOD
        self._look_at_hand_off(now)
        self._look_at_listeners(now)

    def silent(self) -> list[Listener]:
        """The listeners that do not listen at this moment."""
        sockets = self._settings.current.sockets
        return [listener for listener in self._listeners.of(sockets) if not listens(listener)]

    def _look_at_hand_off(self, now: float) -> None:
        if self._hand_off.is_shut_down:
            if times := self._limit.count("hand-off", now):
                log.error(
                    "the hand-off queue was shut down by somebody who has it%s: all workers get a new one",
                    _again(times),
                )
            self._children.disposal.close(self._hand_off.become(HandOff.create()))
            self._hand_off_owed = True
        if self._hand_off_owed:
            self._hand_off_owed = bool(self._children.give_hand_off())

    def _look_at_listeners(self, now: float) -> None:
        for listener in self.silent():
            times = self._limit.count(listener.url, now)
            try:
                before = self._listeners.mend(listener, self._settings.current.sockets)
            except BindError as error:
                if times:
                    log.error(
                        "%s was shut down by somebody who has it%s: %s", listener.url, _again(times), error
                    )
                continue
            if times:
                log.error(
                    "%s was shut down by somebody who has it%s: it listens again", listener.url, _again(times)
                )
            if before is not None:
                self._children.disposal.close(before)
                self._listeners_owed = set(self._children.generations())
        if self._listeners_owed:
            self._give_listeners()

    def _give_listeners(self) -> None:
        generations, slots = self._children.generations(), self._children.slots()
        owed, self._listeners_owed = self._listeners_owed, set()
        for worker in owed:
            if worker in generations:
                settings = self._children.settings_of(generations[worker])
                lent = self._resources.lent_to(settings, slots[worker])
                self._listeners_owed |= self._children.give_listeners([worker], lent)


def _again(times: int) -> str:
    return f" ({times} times)" if times > 1 else ""
