"""What the control socket can do with the running master: read the fleet, and request changes as events."""

import os
import time
from collections.abc import Callable, Mapping

from asgi_master import __version__
from asgi_master.control.health import HealthState
from asgi_master.control.stack_dumps import StackDumpRequest
from asgi_master.control.status import FleetStatus, ServiceStatus, SlotWaiting, Totals, WorkerStatus
from asgi_master.ipc.counters import Field, Stats
from asgi_master.ipc.scoreboard import Row
from asgi_master.master.children import Children
from asgi_master.master.listeners import Listeners
from asgi_master.master.running_settings import RunningSettings
from asgi_master.supervision.events import (
    Event,
    RollbackRequested,
    ScaleRequested,
    StopRequested,
    WorkerReplacementRequested,
)
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.service_view import ServiceView, view_services
from asgi_master.supervision.supervisor import Supervisor


class FleetControl:
    """`asgi_master.control.commands.MasterControl` of the running master; called between batches of events."""

    def __init__(
        self,
        supervisor: Supervisor,
        children: Children,
        settings: RunningSettings,
        listeners: Listeners,
        *,
        report: Callable[[Event], None],
        reload: Callable[[], list[str]],
        started_at: float,
        totals: Callable[[], Stats],
        service_restarts: Callable[[], Mapping[str, Mapping[str, int]]],
        health_state: Callable[[], HealthState],
    ) -> None:
        self._supervisor = supervisor
        self._children = children
        self._settings = settings
        self._listeners = listeners
        self._report = report
        self._reload = reload
        self._started_at = started_at
        self._totals = totals
        self._service_restarts = service_restarts
        self.health_state = health_state

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._supervisor.phase.is_ending

    def status(self) -> FleetStatus:
        """The present state of the fleet."""
        now = time.monotonic()
        settings = self._settings.current
        rows, pids = self._children.rows(), self._children.worker_pids()
        totals = self._totals()
        fleet = self._supervisor.fleet
        workers = sorted(fleet.living(), key=lambda worker: (worker.slot, worker.id))
        return FleetStatus(
            version=__version__,
            pid=os.getpid(),
            name=settings.process.name or settings.application.app,
            app=settings.application.app,
            uptime=now - self._started_at,
            phase=self._supervisor.phase,
            listening=[listener.url for listener in self._listeners.of(settings.sockets)],
            held_generation=self._supervisor.held_generation,
            workers_wanted=self._supervisor.policy.workers,
            spares_wanted=self._supervisor.policy.spares,
            totals=Totals(
                requests=totals.requests,
                responses_5xx=totals.responses[5],
                application_errors=totals.application_errors,
            ),
            workers=[_status_of(worker, rows.get(worker.id), pids.get(worker.id), now) for worker in workers],
            waiting=[
                SlotWaiting(slot, backoff.until - now, backoff.strikes)
                for slot, backoff in sorted(fleet.backoffs.items())
                if backoff.until > now and slot not in {worker.slot for worker in fleet.serving()}
            ],
            services=[
                self._service_status(service, pids, now)
                for service in view_services(self._supervisor.state, now)
            ],
        )

    def _service_status(self, service: ServiceView, pids: Mapping[int, int], now: float) -> ServiceStatus:
        process = service.process
        return ServiceStatus(
            name=service.name,
            state=service.state,
            generation=None if process is None else process.generation,
            pid=None if process is None else pids.get(process.id),
            age=None if process is None else now - process.ordered_at,
            restarts=sum(self._service_restarts().get(service.name, {}).values()),
            failures=service.failures,
            retry_in=service.retry_in,
        )

    def reload(self) -> list[str]:
        """Request a reload; returns a line for each error in the settings."""
        return self._reload()

    def rollback(self) -> bool:
        """Request a rollback; false if there is no generation to return to."""
        if not self._supervisor.can_roll_back:
            return False
        self._report(RollbackRequested())
        return True

    def scale(self, workers: int) -> None:
        """Request this number of workers."""
        self._report(ScaleRequested(workers - self._supervisor.policy.workers))

    def drain(self, slot: int) -> bool:
        """Request the replacement of the worker that serves in the slot; false if none does."""
        serving = [
            worker for worker in self._supervisor.fleet.serving() if worker.slot == slot and worker.is_ready
        ]
        for worker in serving:
            self._report(WorkerReplacementRequested(worker.id, "asked for through the control socket"))
        return bool(serving)

    def stacks(self, slot: int | None) -> StackDumpRequest | None:
        """Request stack dumps of the workers of the slot, or all; `None` if there is none."""
        workers = [worker.id for worker in self._supervisor.fleet.living() if slot in {None, worker.slot}]
        return self._children.request_stack_dumps(workers) if workers else None

    def stop(self, *, quick: bool) -> None:
        """Request a stop."""
        self._report(StopRequested(quick=quick))


def _status_of(worker: WorkerRecord, row: Row | None, pid: int | None, now: float) -> WorkerStatus:
    beat = row.heartbeat(now) if row is not None else None
    stats = row.read() if row is not None else Stats()
    return WorkerStatus(
        id=worker.id,
        slot=worker.slot,
        generation=worker.generation,
        state=worker.state,
        role=worker.role,
        standby=worker.standby,
        pid=pid,
        age=now - worker.ordered_at,
        heartbeat_age=None if beat is None else now - beat,
        loop_lag=row[Field.LOOP_LAG_NS] / 1e9 if row is not None else 0.0,
        connections=stats.connections,
        websockets=stats.websockets,
        in_flight=stats.in_flight,
        threads=stats.wsgi_threads,
        threads_busy=stats.wsgi_busy,
        requests=stats.requests,
        responses_5xx=stats.responses[5],
        application_errors=stats.application_errors,
    )
