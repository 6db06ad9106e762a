"""Reads the fleet once a second into its history, and makes the live status of it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from asgi_master.control.api import Span
from asgi_master.control.component import Component
from asgi_master.control.live_status import LiveReading, live_status
from asgi_master.history.events import Events
from asgi_master.history.history import History
from asgi_master.history.samples import FleetReading, WorkerReading
from asgi_master.ipc.counters import Field
from asgi_master.ipc.scoreboard import Row, Scoreboard
from asgi_master.master.accept_queue import queues
from asgi_master.master.children import Children
from asgi_master.master.cpu import CpuSampler
from asgi_master.master.fleet_view import FleetView
from asgi_master.master.listeners import Listeners
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.upgrade_state import StateSection
from asgi_master.settings.cpus import available_cpus
from asgi_master.supervision.notices import Notice
from asgi_master.supervision.outlook import outlook
from asgi_master.supervision.supervisor import Supervisor
from asgi_master.telemetry import notices
from asgi_master.telemetry.text import one_line, without_secrets

_BEAT_PERIOD = 0.25
"""Seconds between two heartbeats of a worker whose loop turns: a silence beyond that is lag."""
_ASKED_FOR = 120.0
"""Seconds for which what is expensive is sampled after somebody asked for the live status."""


class LiveView(Component):
    """`asgi_master.control.live_feed.LiveSource` of the running master."""

    name = "live view"

    def __init__(
        self,
        supervisor: Supervisor,
        children: Children,
        settings: RunningSettings,
        listeners: Listeners,
        scoreboard: Scoreboard,
        fleet_view: FleetView,
        status: Callable[[], Mapping[str, Any]],
        past: "FleetPast",
    ) -> None:
        """`status` returns the reply to `GET /status`."""
        self._supervisor = supervisor
        self._children = children
        self._settings = settings
        self._listeners = listeners
        self._scoreboard = scoreboard
        self._fleet_view = fleet_view
        self._status = status
        self._history, self._events = past.history, past.events
        self._cpu = CpuSampler()
        self._cpus = float(available_cpus())

    def note(self, notice: Notice) -> None:
        """Add it to the events."""
        level, text = notices.render(notice)
        self._events.note(notice, level, without_secrets(one_line(text)), time.time())

    def sweep(self) -> None:
        """Add a second to the history, if one has passed."""
        now = time.monotonic()
        if int(now) > self._history.tick:
            self._history.record(now, self._read(now))

    # `LiveSource`

    @property
    def tick(self) -> int:
        """The number of the newest second."""
        return self._history.tick

    def last_event(self) -> int:
        """The number of the newest event."""
        return self._events.last_number

    def document(self, *, span: Span, events_after: int) -> dict[str, Any]:
        """The live status."""
        self._fleet_view.sample_memory_for(_ASKED_FOR)
        now = time.monotonic()
        reading = LiveReading(
            at=time.time(),
            status=self._status(),
            health=self._fleet_view.health_state(),
            upcoming=outlook(self._supervisor.state, now),
            queues=list(queues(self._listeners.of(self._settings.current.sockets))),
            processes=list(self._fleet_view.processes()),
        )
        return live_status(reading, self._history, self._events.after(events_after), span=span)

    def _read(self, now: float) -> FleetReading:
        rows, pids = self._children.rows(), self._children.worker_pids()
        cpu = self._cpu.sample(list(pids.values()))
        workers = [
            WorkerReading(
                worker.id,
                worker.slot,
                worker.generation,
                row.read(),
                _lag(row, now),
                cpu.get(pids.get(worker.id, 0)),
                self._fleet_view.private_memory(pids.get(worker.id, 0)),
            )
            for worker in self._supervisor.fleet.living()
            if (row := rows.get(worker.id)) is not None
        ]
        serving = sum(worker.is_ready for worker in self._supervisor.fleet.living())
        waiting = [queue.length for queue in queues(self._listeners.of(self._settings.current.sockets))]
        return FleetReading(
            workers,
            self._scoreboard.totals(),
            sum(waiting) if waiting else None,
            min(self._cpus, max(1, serving)),
        )


class FleetPast:
    """What is known of the time before now, over a live upgrade."""

    def __init__(self, history: History | None = None, events: Events | None = None) -> None:
        self.history = history or History()
        self.events = events or Events()

    def export_state(self) -> StateSection:
        """For a live upgrade."""
        return StateSection({"history": self.history.dump(), "events": self.events.dump()})

    @classmethod
    def import_state(cls, section: StateSection) -> "FleetPast":
        """That of the program before this one; what cannot be read is forgotten."""
        values = section.values
        return cls(History.load(values.get("history", {})), Events.load(values.get("events", {})))


def _lag(row: Row, now: float) -> float | None:
    """By how many seconds the worker's loop is late: its last heartbeat was, or the next one is."""
    beat = row.heartbeat(now)
    if beat is None:
        return None
    return max(row[Field.LOOP_LAG_NS] / 1e9, now - beat - _BEAT_PERIOD, 0.0)
