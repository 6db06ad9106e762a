"""A live status, on paper."""

from typing import Any

from asgi_master.control.api import Span
from asgi_master.control.health import HealthState, WorkerHealth
from asgi_master.control.live_status import LiveReading, live_status
from asgi_master.control.metrics import Process, Queue
from asgi_master.history.events import Events
from asgi_master.history.history import History
from asgi_master.history.samples import FleetReading, WorkerReading
from asgi_master.ipc.counters import Stats
from asgi_master.supervision.notices import ReloadCommitted
from asgi_master.supervision.outlook import Step, Upcoming

STARTED = 1_000_000.0
"""When the fleet on paper began, on its monotonic clock."""


def stats(requests: int, *, failed: int = 0, in_flight: int = 0) -> Stats:
    """The counts of a worker whose responses took 20 ms each."""
    counted = Stats(requests=requests, in_flight=in_flight)
    counted.responses[2], counted.responses[5] = requests - failed, failed
    counted.long_responses[4] = requests
    return counted


def history(seconds: int, *, slots: int = 2, generation: int = 3) -> History:
    """The history of a fleet in which each worker answers ten requests a second, and grows by 1 MiB a minute."""
    recorded = History()
    for second in range(seconds):
        workers = [
            WorkerReading(
                worker=slot,
                slot=slot,
                generation=generation,
                stats=stats(10 * second, failed=second, in_flight=1),
                lag=0.002,
                cpu=0.25,
                memory=(50 << 20) + (second << 20) // 60,
            )
            for slot in range(slots)
        ]
        totals = stats(10 * second * slots, failed=second * slots)
        recorded.record(STARTED + second, FleetReading(workers, totals, queue=1, cpus=2.0))
    return recorded


class PaperSource:
    """A `LiveSource` with a history that the test makes."""

    def __init__(self, status: dict[str, Any], recorded: History | None = None) -> None:
        self.status = status
        self.history = recorded or history(90)
        self.events = Events()
        self.made = 0
        """How many documents were asked for."""
        self.events.note(ReloadCommitted(3, 2, 1.5), 20, "reloaded: 2 workers serving generation 3", 1000.0)

    @property
    def tick(self) -> int:
        return self.history.tick

    def last_event(self) -> int:
        return self.events.last_number

    def document(self, *, span: Span, events_after: int) -> dict[str, Any]:
        self.made += 1
        worker = WorkerHealth(slot=0, generation=3, state="ready", heartbeat_age=0.1)
        reading = LiveReading(
            at=1_700_000_000.25,
            status=self.status,
            health=HealthState(started=True, leaving="", quorum=1, workers=(worker,)),
            upcoming=[Upcoming(Step.RESTART, 2.5, slot=1)],
            queues=[Queue("http://127.0.0.1:8000", 1, 2048)],
            processes=[Process("worker", 0, rss=50 << 20, pss=20 << 20, uss=10 << 20)],
        )
        return live_status(reading, self.history, self.events.after(events_after), span=span)
