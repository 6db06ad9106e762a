"""The master's loop: wait, collect facts, have them dispatched, let each component do what is due."""

import logging
import selectors
import time
from collections.abc import Callable

from asgi_master.control.component import Component
from asgi_master.errors import ExitCode
from asgi_master.master.children import Children
from asgi_master.master.dispatcher import Dispatcher
from asgi_master.master.guard import GOES_ON, Guard
from asgi_master.supervision.events import StopRequested, TimePassed

_HEARTBEAT_PERIOD = 0.5
"""Seconds between two looks at the scoreboard."""
_SHORTEST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25
"""Seconds between two turns of the loop while something fails in each of them."""


class Master:
    """The running master. Everything happens in `run`, in one thread."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        children: Children,
        selector: selectors.BaseSelector,
        collect_signals: Callable[[], None],
        guarded: Guard,
    ) -> None:
        """`collect_signals` runs the actions of the signals that came; some come without waking the selector."""
        self._dispatcher = dispatcher
        self._children = children
        self._selector = selector
        self._collect_signals = collect_signals
        self._guarded = guarded
        self._next_look = time.monotonic() + _HEARTBEAT_PERIOD

    def run(self) -> ExitCode:
        """Supervise until nothing is left to supervise."""
        self._guarded(self._dispatcher.dispatch)
        self._guarded(self._children.reap)  # a zygote that died before there was a handler for that
        failed_turns = 0
        while (status := self._dispatcher.executor.exit_code) is None:
            failures = self._guarded.failures.count
            self._guarded(self._turn)
            failed_turns = failed_turns + 1 if self._guarded.failures.count > failures else 0
            if failed_turns:
                # What failed is tried again at the next turn, which may be at once.
                time.sleep(min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(failed_turns, 10)))
        return status

    def add(self, component: Component) -> None:
        """Have one more component follow what happens."""
        self._dispatcher.components.append(component)

    def stop(self) -> None:
        """As `SIGTERM` does."""
        self._dispatcher.events.append(StopRequested())

    def _turn(self) -> None:
        """Wait for facts, for half a second at most, and do what follows from them."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _HEARTBEAT_PERIOD
            self._look()
        deadline = self._dispatcher.supervisor.next_deadline()
        wait = (self._next_look if deadline is None else min(self._next_look, deadline)) - now
        for key, _events in self._ready(max(0.0, wait)):
            self._guarded(key.data)
        self._dispatcher.events.append(TimePassed())
        self._dispatcher.dispatch()
        for component in self._dispatcher.components:
            self._guarded(component.sweep)
        self._guarded.failures.sweep()

    def _look(self) -> None:
        """Collect what wakes no selector, and what was missed because something failed."""
        events = self._dispatcher.events
        self._guarded(self._children.oom_kills.look)
        self._guarded(self._children.signal_unresponsive)
        self._collect_signals()
        self._guarded(self._children.reap)
        if not events:
            # Otherwise they may be what a child's absence is due to.
            events.extend(self._children.missing(self._dispatcher.supervisor.fleet))
        events.append(self._children.read_heartbeats())

    def _ready(self, wait: float) -> list[tuple[selectors.SelectorKey, int]]:
        try:
            return self._selector.select(wait)
        except OSError as error:
            self._guarded.failures.failed("waiting for events", error, GOES_ON, logging.ERROR)
            return []
