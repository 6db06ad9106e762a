"""Facts to the supervisor, its orders to the executor, its notices to the components."""

import time
from collections import deque

from asgi_master.control.component import Component
from asgi_master.master.executor import Executor
from asgi_master.master.guard import Guard
from asgi_master.supervision.actions import Announce
from asgi_master.supervision.events import Event
from asgi_master.supervision.supervisor import Supervisor


class Dispatcher:
    """Empties the queue of facts. What one of them leads to is carried out before the next is handled."""

    def __init__(
        self, events: deque[Event], supervisor: Supervisor, executor: Executor, guarded: Guard
    ) -> None:
        self.events = events
        self.supervisor = supervisor
        self.executor = executor
        self.components: list[Component] = []
        """Get each notice, in this order."""
        self._guarded = guarded

    def dispatch(self) -> None:
        """Handle all facts, and those that are caused meanwhile. Raises `MemoryError`; call it again then."""
        while self.events:
            event = self.events.popleft()
            try:
                actions = self.supervisor.handle(event, time.monotonic())
            except MemoryError:
                self.events.appendleft(event)
                raise
            for action in actions:
                if isinstance(action, Announce):
                    for component in self.components:
                        self._guarded(component.note, action.notice)
                else:
                    self._guarded(self.executor.execute, action)
