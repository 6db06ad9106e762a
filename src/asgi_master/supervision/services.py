"""Services: functions of the application that run in one process each for the whole server.

Rules of this file:
  - Services belong to the committed generation. A rollout that is not committed yet starts none and stops none: a
    reload that fails changes nothing for them; nor, in development, does one whose workers answer with the error.
  - A service never runs twice. Its next process is ordered only once every earlier one has ended (or SIGKILL was sent
    to it and it is stuck in the kernel, where it runs no code). With `Policy.service_overlap` the next generation's
    process starts beside the old one: two at most, and only then.
  - A service that returns is completed, until the next commit. One that fails is started again, after a back-off of
    its own; that never holds up workers, reloads or readiness.
  - In a stop, services leave after the last worker, whose requests may still have work for them.
"""

from collections.abc import Callable, Iterator

from asgi_master.errors import ExitCode
from asgi_master.supervision import notices
from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.events import WorkerExited, WorkerFailed, WorkerLeaving, WorkerReady
from asgi_master.supervision.fleet import Urgency, WorkerRecord
from asgi_master.supervision.notices import WhyStopped
from asgi_master.supervision.orders import UNKILLABLE_AFTER, Orders
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import WorkerState, WorkerTrigger
from asgi_master.supervision.stopping import Stopping

GROUP_SIGNALLED = 0.3
"""Seconds after which a master that received the same signal as a service, sent to the process group, stops itself."""

_QUIET_STATUSES = frozenset({0, -15})
"""Expected statuses of a service that was told to stop: it returned, or (still starting) ended by SIGTERM."""
_COMPLETED = frozenset({ExitCode.OK, ExitCode.LEFT_BEHIND})
"""Statuses of a function that returned; with the second, threads that it left had to be ended."""
_SIGKILLED = -9


class Services:
    """Starts, restarts, replaces and stops the services."""

    def __init__(
        self, state: SupervisorState, orders: Orders, stopping: Stopping, jitter: Callable[[], float]
    ) -> None:
        self._desired = state.desired
        self._fleet = state.fleet
        self._state = state.services
        self._orders = orders
        self._stopping = stopping
        self._jitter = jitter

    def record(
        self,
        event: WorkerReady | WorkerFailed | WorkerLeaving | WorkerExited,
        service: WorkerRecord,
        now: float,
    ) -> None:
        """Take note of an event about the process of a service."""
        served, before, policy = service.serves, service.state, self._desired.committed_policy
        match event:
            case WorkerReady():
                if before is WorkerState.BOOTING:
                    service.ready_at = now
                    service.move(WorkerTrigger.BECAME_READY)
                    self._orders.announce(notices.ServiceStarted(*_name(service)))
            case WorkerFailed(_, reason):
                limit = now + policy.shutdown_timeout + policy.kill_grace
                service.move(WorkerTrigger.REFUSED, limit)
                if served and service.state is WorkerState.FAILED:
                    service.leaving_since = now
                    self._lost(service, notices.BootRefused(service.slot, reason), now)
            case WorkerLeaving():
                pass  # only workers drain
            case WorkerExited(_, status, out_of_memory):
                service.move(WorkerTrigger.EXITED)
                del self._fleet.workers[service.id]
                if served and status in _COMPLETED and service.ready_at is not None:
                    self._state.completed.add(service.service)
                    self._orders.announce(notices.ServiceCompleted(*_name(service), now - service.ready_at))
                elif served:
                    ran_for = None if service.ready_at is None else now - service.ready_at
                    is_out = out_of_memory and status == _SIGKILLED
                    self._lost(service, notices.Died(service.slot, status, ran_for, is_out), now)
                elif before is WorkerState.DRAINING and status not in _QUIET_STATUSES:
                    self._orders.announce(notices.ServiceDiedStopping(*_name(service), status))

    def overdue(self, service: WorkerRecord, now: float) -> None:
        """Its deadline has passed: kill it, or stop waiting for its end."""
        if service.state is WorkerState.KILLED:
            service.move(WorkerTrigger.TIMED_OUT)
            self._orders.announce(notices.ServiceAbandoned(*_name(service), UNKILLABLE_AFTER))
            return
        served = service.serves
        self._stopping.kill(service, WorkerTrigger.TIMED_OUT, now)
        if served:
            self._lost(service, notices.BootTimedOut(service.slot, now - service.ordered_at), now)
        else:
            self._orders.announce(notices.ServiceKilled(*_name(service), now - service.leaving_since))

    def reconcile(self, now: float) -> None:
        """Start what is missing and may start; stop what is outdated."""
        if self._desired.committed is None or self._fleet.is_broken(self._desired.committed):
            return
        names = self._desired.committed_policy.services
        living: dict[str, list[WorkerRecord]] = {name: [] for name in names}
        for service in self._fleet.services():
            living.setdefault(service.service, []).append(service)
        for name, processes in living.items():
            if name in names:
                self._reconcile_one(name, processes, now)
            else:
                self._stop(processes, WhyStopped.REMOVED, now)

    def _reconcile_one(self, name: str, living: list[WorkerRecord], now: float) -> None:
        desired = self._desired
        policy, committed = desired.committed_policy, desired.committed
        current = [s for s in living if s.serves and s.generation in desired.settled]
        outdated = [s for s in living if s.serves and s.generation not in desired.settled]
        is_completed = name in self._state.completed
        if not policy.service_overlap or is_completed or any(self._is_proven(s, now) for s in current):
            self._stop(outdated, WhyStopped.REPLACED, now)
        self._stop([s for s in living if _restart_at(s) <= now], WhyStopped.TERMINATED, now)
        is_alone = not living or (policy.service_overlap and self._is_old(living))
        if (
            committed is not None
            and is_alone
            and not is_completed
            and self._fleet.can_fork(committed)
            and not self._backoff(name).holds(committed, now)
        ):
            self._orders.spawn_service(name, committed, now, policy)

    def _is_old(self, living: list[WorkerRecord]) -> bool:
        """Whether these are one process, of a generation that is not kept."""
        return len(living) == 1 and living[0].generation not in self._desired.settled

    def _is_proven(self, service: WorkerRecord, now: float) -> bool:
        return (
            service.ready_at is not None
            and now >= service.ready_at + self._desired.committed_policy.watch_time
        )

    def _stop(self, services: list[WorkerRecord], why: WhyStopped, now: float) -> None:
        for service in services:
            if service.serves:
                self._orders.announce(notices.ServiceStopping(*_name(service), why))
                self._orders.stop_service(service, Urgency.DRAIN, now, self._desired.committed_policy)

    def _lost(
        self,
        service: WorkerRecord,
        cause: notices.BootRefused | notices.BootTimedOut | notices.Died,
        now: float,
    ) -> None:
        policy, retry_in = self._desired.committed_policy, None
        if self._desired.serves and service.service in policy.services:
            retry_in = self._backoff(service.service).strike(
                now,
                generation=service.generation,
                stable=policy.is_stable(service.ready_at, now),
                policy=policy,
                jitter=self._jitter,
            )
        self._orders.announce(notices.ServiceLost(*_name(service), cause, retry_in))

    def _backoff(self, name: str) -> Backoff:
        return self._state.backoffs.setdefault(name, Backoff())

    def deadlines(self) -> Iterator[float]:
        """When a service may be started or stopped; times in the past mean nothing."""
        if not self._desired.serves:
            return
        watch_time = self._desired.committed_policy.watch_time
        for service in self._fleet.services():
            if service.replacement_reason and service.serves:
                yield _restart_at(service)
            if service.ready_at is not None:
                yield service.ready_at + watch_time
        for backoff in self._state.backoffs.values():
            yield backoff.until


def _restart_at(service: WorkerRecord) -> float:
    """When it is stopped because its process received a signal; infinity if it did not."""
    if not service.replacement_reason:
        return float("inf")
    return service.replacement_requested_at + GROUP_SIGNALLED


def _name(service: WorkerRecord) -> tuple[int, str, int]:
    return service.id, service.service, service.generation
