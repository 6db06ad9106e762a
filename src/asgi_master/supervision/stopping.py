"""The stop: how harsh it is, when it begins, and what is left to do before the exit.

Rules of this file:
  - The first graceful stop of a fleet that serves waits for `Policy.shutdown_delay`. Readiness is gone at once and the
    workers serve on: a load balancer learns only after seconds that this instance leaves. A second stop ends the wait.
  - Each further stop is one level harsher.
  - Services are stopped once no worker lives; by force, at once.
  - New connections are refused once every worker has stopped accepting, or could have.
"""

from collections.abc import Iterator

from asgi_master.errors import ExitCode
from asgi_master.supervision import notices
from asgi_master.supervision.fleet import Urgency, WorkerRecord
from asgi_master.supervision.notices import StopLevel
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import (
    Phase,
    PhaseTrigger,
    WorkerState,
    WorkerTrigger,
    ZygoteState,
    ZygoteTrigger,
)

_URGENCY = {
    StopLevel.GRACEFUL: Urgency.GRACEFUL,
    StopLevel.QUICK: Urgency.QUICK,
    StopLevel.KILL: Urgency.KILL,
}
_HARSHER = {
    None: StopLevel.GRACEFUL,
    StopLevel.GRACEFUL: StopLevel.QUICK,
    StopLevel.QUICK: StopLevel.KILL,
    StopLevel.KILL: StopLevel.KILL,
}
_STOPS_ACCEPTING_WITHIN = 1.0
"""Seconds for workers that leave to accept what waits in the listeners' queues."""
_SERVING = frozenset({Phase.STEADY, Phase.RELOADING})


class Stopping:
    """Decides the course of a stop. Times are in seconds on the supervisor's clock."""

    def __init__(self, state: SupervisorState, orders: Orders) -> None:
        self._state = state.shutdown
        self._desired = state.desired
        self._fleet = state.fleet
        self._orders = orders

    def request(self, now: float, *, quick: bool = False) -> None:
        """Stop, or stop more harshly."""
        state, policy = self._state, self._desired.policy
        if state.level is StopLevel.KILL:
            return
        is_first = state.level is None and state.delayed_until is None
        if is_first and not quick and self._desired.phase in _SERVING and policy.shutdown_delay > 0:
            state.delayed_until = now + policy.shutdown_delay
            self._orders.announce(notices.StopDelayed(policy.shutdown_delay))
            self._desired.move(PhaseTrigger.STOP_DELAYED)
            return
        state.delayed_until = None
        state.level = StopLevel.QUICK if quick and state.level is None else _HARSHER[state.level]
        self._desired.move(PhaseTrigger.STOP_REQUESTED)
        self._orders.announce(notices.Stopping(state.level, len(self._fleet.living())))

    def begin_when_due(self, now: float) -> None:
        """Stop once the delay of a requested stop is over."""
        if self._state.delayed_until is not None and self._state.delayed_until <= now:
            self.request(now)

    def out_of_memory(self, now: float) -> None:
        """The kernel killed a worker for lack of memory, and the policy is to stop then."""
        if self._state.is_out_of_memory:
            return
        # Also at a first boot that fails by it: the exit status then names the cause.
        self._state.is_out_of_memory = True
        self._orders.announce(notices.StoppingForMemory())
        if not self._desired.phase.is_ending:
            self.request(now)

    def empty(self, now: float) -> None:
        """Have all workers leave, as urgently as was requested, and refuse new connections."""
        state = self._state
        is_stopping = self._desired.phase is Phase.STOPPING
        if is_stopping and state.level is None:
            # The first boot failed: no worker has a request to finish.
            state.level, state.is_boot_failure = StopLevel.QUICK, True
        # Development waits for the next reload: requests of the failed code are not waited for.
        urgency = Urgency.QUICK if state.level is None else _URGENCY[state.level]
        for worker in self._fleet.living():
            if worker.urgency >= urgency or worker.state is WorkerState.KILLED:
                continue
            if urgency is Urgency.KILL:
                self.kill(worker, WorkerTrigger.STOPPED_BY_FORCE, now)
            else:
                self._orders.drain(worker, urgency, now, self._desired.policy)
        self._empty_of_services(urgency, now)
        if urgency is Urgency.KILL:
            for zygote in self._fleet.living_zygotes():
                if zygote.state is not ZygoteState.KILLED:
                    self._orders.kill_zygote(zygote, ZygoteTrigger.STOPPED_BY_FORCE, now)
        if is_stopping:
            self._refuse_new_connections(now)

    def _empty_of_services(self, urgency: Urgency, now: float) -> None:
        workers = self._fleet.living()
        for service in self._fleet.services():
            if service.urgency >= urgency or service.state is WorkerState.KILLED:
                continue
            if urgency is Urgency.KILL:
                self.kill(service, WorkerTrigger.STOPPED_BY_FORCE, now)
            elif not workers:
                self._orders.stop_service(service, urgency, now, self._desired.policy)

    def kill(self, worker: WorkerRecord, trigger: WorkerTrigger, now: float) -> None:
        """SIGKILL it. During a stop, the exit status reports that."""
        if self._desired.phase is Phase.STOPPING:
            self._state.is_forced = True
        self._orders.kill(worker, trigger, now)

    def exit_when_empty(self) -> None:
        """End the master once nothing lives."""
        if (
            self._desired.phase is Phase.STOPPING
            and not self._fleet.living()
            and not self._fleet.services()
            and not self._fleet.living_zygotes()
        ):
            code = self._exit_code()
            self._desired.move(PhaseTrigger.EMPTIED)
            self._orders.announce(notices.Stopped(code))
            self._orders.exit(code)

    def deadlines(self) -> Iterator[float]:
        """When a delayed stop begins, and when the listeners are closed."""
        state = self._state
        if state.delayed_until is not None:
            yield state.delayed_until
        if state.close_by is not None and not state.is_closed:
            yield state.close_by

    def _refuse_new_connections(self, now: float) -> None:
        """Close the listeners once every worker has accepted what waited there, or could have."""
        state = self._state
        if state.close_by is None:
            state.close_by = now + _STOPS_ACCEPTING_WITHIN
        accepting = any(
            worker.ready_at is not None and worker.id not in state.not_accepting
            for worker in self._fleet.living()
        )
        if not state.is_closed and (not accepting or now >= state.close_by):
            state.is_closed = True
            self._orders.close_listeners()

    def _exit_code(self) -> ExitCode:
        if self._state.is_out_of_memory:
            return ExitCode.OUT_OF_MEMORY
        if self._state.is_boot_failure:
            return ExitCode.BOOT_FAILED
        return ExitCode.KILLED if self._state.is_forced else ExitCode.OK
