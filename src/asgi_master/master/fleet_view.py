"""Health and metrics of the running master, for the admin server."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

from asgi_master import __version__
from asgi_master.control.component import Component
from asgi_master.control.health import HealthState, WorkerHealth
from asgi_master.control.metrics import Process, ServiceCounts, SlotGauges, Snapshot
from asgi_master.ipc.counters import Field
from asgi_master.ipc.scoreboard import Row, Scoreboard
from asgi_master.master.accept_queue import queues
from asgi_master.master.children import Children
from asgi_master.master.listeners import Listeners
from asgi_master.master.memory import MemorySampler, SampledProcess
from asgi_master.master.open_listener import Listener
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.totals import Totals
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.notices import Notice
from asgi_master.supervision.service_view import ServiceState, view_services
from asgi_master.supervision.states import Phase, WorkerState
from asgi_master.supervision.supervisor import Supervisor

_LEAVING = {Phase.STOPPING, Phase.STOPPED}
_STARTED = {Phase.STEADY, Phase.RELOADING}
_STANDBY = "standby"
_STATES = (*(state for state in WorkerState if state is not WorkerState.GONE), _STANDBY)


class FleetView(Component):
    """`asgi_master.control.admin.MasterView`, for the running master."""

    def __init__(
        self,
        supervisor: Supervisor,
        children: Children,
        settings: RunningSettings,
        listeners: Listeners,
        scoreboard: Scoreboard,
        totals: Totals,
        silent: Callable[[], list[Listener]],
        *,
        is_asked: bool,
    ) -> None:
        """`silent` returns the listeners that do not listen.

        `is_asked`: whether there is an admin server, so that expensive values are sampled.
        """
        self._supervisor = supervisor
        self._children = children
        self._settings = settings
        self._listeners = listeners
        self._scoreboard = scoreboard
        self._totals = totals
        self._silent = silent
        self._is_asked = is_asked
        self._was_started = False
        self._memory = MemorySampler()
        self._sampled_until = 0.0

    def note(self, notice: Notice) -> None:
        """Count restarts and reloads."""
        self._totals.note(notice)

    def sweep(self) -> None:
        """Follow the phase; sample the memory of one process, if it is due."""
        self._was_started = self._was_started or self._supervisor.phase in _STARTED
        if (self._is_asked or time.monotonic() < self._sampled_until) and self._memory.is_due:
            self._memory.sample(self._sampled())

    def sample_memory_for(self, seconds: float) -> None:
        """Have memory sampled from now on for this long, also without an admin server."""
        self._sampled_until = time.monotonic() + seconds

    def processes(self) -> Iterator[Process]:
        """The memory of each process, as last sampled."""
        return self._memory.processes()

    def private_memory(self, pid: int) -> int | None:
        """The bytes that no other process shares, as last sampled; `None` if not known."""
        return self._memory.private(pid)

    # `MasterView`

    def health_state(self) -> HealthState:
        """The state that the health checks are computed from."""
        now = time.monotonic()
        settings = self._settings.current.observation
        rows = self._children.rows()
        fleet = self._supervisor.fleet
        serving = [*fleet.serving(), *(spare for spare in fleet.spares() if spare.is_ready)]
        return HealthState(
            started=self._was_started or self._supervisor.phase in _STARTED,
            leaving=self._leaving(now),
            quorum=min(settings.ready_quorum, self._supervisor.policy.workers),
            workers=tuple(
                WorkerHealth(worker.slot, worker.generation, worker.state, _silence(rows.get(worker.id), now))
                for worker in sorted(serving, key=lambda worker: (worker.slot, worker.id))
            ),
            silent=tuple(listener.url for listener in self._silent()),
        )

    def snapshot(self) -> Snapshot:
        """The values of the metrics."""
        now = time.monotonic()
        uptime = now - self._totals.started_at
        settings = self._settings.current
        living = self._supervisor.fleet.living()
        return Snapshot(
            version=__version__,
            python=sys.version.partition(" ")[0],
            started_at=self._totals.started_on,
            uptime=uptime,
            generation=self._totals.generation,
            workers_wanted=self._supervisor.policy.workers,
            workers=dict.fromkeys(_STATES, 0) | Counter(_state(worker) for worker in living),
            stats=self._scoreboard.totals(),
            restarts=self._totals.restarts,
            reloads=self._totals.reloads,
            slots=_by_slot(living, self._children.rows(), now),
            queues=list(queues(self._listeners.of(settings.sockets))),
            processes=list(self._memory.processes()),
            services=self._services(now),
        )

    def _services(self, now: float) -> dict[str, ServiceCounts]:
        seen: dict[str, ServiceCounts] = {}
        for service in view_services(self._supervisor.state, now):
            before = seen.get(service.name)
            seen[service.name] = ServiceCounts(
                running=(before.running if before else 0) + (service.state is ServiceState.RUNNING),
                is_completed=service.state is ServiceState.COMPLETED,
                restarts=self._totals.restarts_of(service.name),
            )
        return seen

    def _leaving(self, now: float) -> str:
        if self._supervisor.phase in _LEAVING:
            return "the master is stopping"
        stops_at = self._supervisor.stops_at
        return "" if stops_at is None else f"the master stops in {max(0.0, stops_at - now):.1f} s"

    def _sampled(self) -> list[SampledProcess]:
        pids = self._children.worker_pids()
        workers = [
            SampledProcess(pids[worker.id], "worker", worker.slot)
            for worker in self._supervisor.fleet.living()
            if worker.id in pids
        ]
        services = [
            SampledProcess(pids[service.id], "service", service=service.service)
            for service in self._supervisor.fleet.services()
            if service.id in pids
        ]
        zygotes = [SampledProcess(pid, "zygote") for pid in self._children.zygote_pids()]
        return [SampledProcess(os.getpid(), "master"), *zygotes, *workers, *services]


def _state(worker: WorkerRecord) -> str:
    return _STANDBY if worker.state is WorkerState.READY and not worker.is_ready else worker.state


def _silence(row: Row | None, now: float) -> float | None:
    """Seconds since the worker's loop turned; `None` if it never did."""
    beat = None if row is None else row.heartbeat(now)
    return None if beat is None else now - beat


def _by_slot(workers: list[WorkerRecord], rows: dict[int, Row], now: float) -> dict[int, SlotGauges]:
    slots: dict[int, SlotGauges] = {}
    for worker in workers:
        row = rows.get(worker.id)
        if row is None:
            continue
        stats, other = row.read(), slots.get(worker.slot, SlotGauges())
        ages = [age for age in (other.heartbeat_age, _silence(row, now)) if age is not None]
        slots[worker.slot] = SlotGauges(
            connections=other.connections + stats.connections,
            websockets=other.websockets + stats.websockets,
            in_flight=other.in_flight + stats.in_flight,
            wsgi_threads=other.wsgi_threads + stats.wsgi_threads,
            wsgi_busy=other.wsgi_busy + stats.wsgi_busy,
            wsgi_stuck=other.wsgi_stuck + stats.wsgi_stuck,
            wsgi_queued=other.wsgi_queued + stats.wsgi_queued,
            loop_lag=max(other.loop_lag, row[Field.LOOP_LAG_NS] / 1e9),
            heartbeat_age=max(ages, default=None),
        )
    return slots
