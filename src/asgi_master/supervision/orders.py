"""Giving orders: each one changes the record of the fleet and the list of actions together."""

from collections.abc import Iterable

from asgi_master.errors import ExitCode
from asgi_master.supervision.actions import (
    Action,
    AdmitWorker,
    Announce,
    CloseListeners,
    DrainWorker,
    DumpStacks,
    ExitMaster,
    KillWorker,
    KillZygote,
    RetireZygote,
    SpawnService,
    SpawnWorker,
    StartZygote,
    StopService,
)
from asgi_master.supervision.fleet import Fleet, Urgency, WorkerRecord, ZygoteRecord
from asgi_master.supervision.notices import Notice, SpareAdmitted
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import Role, WorkerState, WorkerTrigger, ZygoteTrigger

UNKILLABLE_AFTER = 10.0
"""Seconds after SIGKILL until a process that is still there is no longer waited for."""


class Orders:
    """The orders given since they were last taken, and their effect on the record."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._actions: list[Action] = []

    def take(self) -> list[Action]:
        """The orders so far, in order; the list starts anew."""
        actions, self._actions = self._actions, []
        return actions

    def announce(self, notice: Notice) -> None:
        """Add a notice."""
        self._actions.append(Announce(notice))

    def exit(self, code: ExitCode) -> None:
        """End the master."""
        self._actions.append(ExitMaster(code))

    def start_zygote(self, now: float, policy: Policy) -> int:
        """Start the zygote of a new generation; returns its number."""
        self._fleet.last_generation += 1
        generation = self._fleet.last_generation
        self._fleet.zygotes[generation] = ZygoteRecord(generation, deadline=now + policy.boot_timeout)
        self._actions.append(StartZygote(generation))
        return generation

    def retire_zygote(self, zygote: ZygoteRecord, now: float, policy: Policy) -> None:
        """Retire the zygote."""
        zygote.move(ZygoteTrigger.TOLD_TO_LEAVE, now + policy.kill_grace)
        self._actions.append(RetireZygote(zygote.generation))

    def kill_zygote(self, zygote: ZygoteRecord, trigger: ZygoteTrigger, now: float) -> None:
        """End it."""
        zygote.move(trigger, now + UNKILLABLE_AFTER)
        self._actions.append(KillZygote(zygote.generation))

    def skip_generation(self) -> int:
        """The number of a generation that never starts."""
        self._fleet.last_generation += 1
        return self._fleet.last_generation

    def spawn(self, slot: int, generation: int, now: float, policy: Policy, role: Role = Role.WORKER) -> None:
        """Fork a worker into the slot. Its deadline runs from here, before anything can go wrong."""
        self._fleet.last_worker += 1
        worker = WorkerRecord(
            self._fleet.last_worker,
            slot,
            generation,
            ordered_at=now,
            deadline=now + policy.boot_timeout,
            role=role,
            standby=role is Role.SPARE,
        )
        self._fleet.workers[worker.id] = worker
        self._actions.append(SpawnWorker(worker.id, slot, generation, role))

    def spawn_service(self, name: str, generation: int, now: float, policy: Policy) -> None:
        """Fork a process for the service."""
        self._fleet.last_worker += 1
        service = WorkerRecord(
            self._fleet.last_worker,
            -1,
            generation,
            ordered_at=now,
            deadline=now + policy.boot_timeout,
            role=Role.SERVICE,
            service=name,
        )
        self._fleet.workers[service.id] = service
        self._actions.append(SpawnService(service.id, name, generation))

    def stop_service(self, service: WorkerRecord, urgency: Urgency, now: float, policy: Policy) -> None:
        """Have it stop, this urgently. One that stops already gets less time, never more, and no second signal."""
        timeout = policy.service_stop_timeout
        if urgency is Urgency.QUICK:
            timeout = min(timeout, policy.shutdown_timeout)
        deadline = now + timeout + policy.kill_grace
        service.urgency = urgency
        if service.serves:
            service.leaving_since = now
            service.move(WorkerTrigger.TOLD_TO_LEAVE, deadline)
            self._actions.append(StopService(service.id, timeout))
        else:
            assert service.deadline is not None, "as wherever an end is awaited"
            service.deadline = min(service.deadline, deadline)

    def admit(self, worker: WorkerRecord) -> None:
        """Let a ready spare accept."""
        worker.standby = False
        self._actions.append(AdmitWorker(worker.id))
        self.announce(SpareAdmitted(worker.id, worker.slot, worker.generation))

    def drain(self, worker: WorkerRecord, urgency: Urgency, now: float, policy: Policy) -> None:
        """Have it leave, this urgently. A worker that leaves already gets less time, never more."""
        worker.urgency = urgency
        sessions = (
            policy.sticky_drain if urgency is Urgency.DRAIN and worker.is_ready and worker.serves else 0.0
        )
        if urgency is Urgency.QUICK:
            # Requests are cancelled at once; only the lifespan's shutdown takes time, if it ever started up.
            timeout = 0.0
            deadline = (
                now + policy.kill_grace + (policy.shutdown_timeout if worker.ready_at is not None else 0.0)
            )
        else:
            timeout = policy.drain_timeout
            deadline = now + sessions + timeout + policy.kill_grace
        if worker.serves:
            worker.leaving_since = now
        elif worker.deadline is not None and worker.deadline < deadline:
            deadline = worker.deadline
            timeout = max(0.0, min(timeout, deadline - policy.kill_grace - now))
        worker.move(WorkerTrigger.TOLD_TO_LEAVE, deadline)
        worker.deadline = deadline
        # One that could not boot exits by itself, or never started: no order is needed.
        if worker.state is WorkerState.DRAINING:
            self._actions.append(
                DrainWorker(worker.id, timeout, hand_off=urgency is Urgency.DRAIN, sessions=sessions)
            )

    def drain_all(self, workers: Iterable[WorkerRecord], now: float, policy: Policy) -> None:
        """Drain these workers; others take over their idle connections."""
        for worker in workers:
            self.drain(worker, Urgency.DRAIN, now, policy)

    def dump(self, worker: WorkerRecord, now: float) -> None:
        """Have the stacks of the worker written."""
        worker.dumps += 1
        worker.dumped_at = now
        self._actions.append(DumpStacks(worker.id))

    def close_listeners(self) -> None:
        """Refuse new connections."""
        self._actions.append(CloseListeners())

    def kill(self, worker: WorkerRecord, trigger: WorkerTrigger, now: float) -> None:
        """End it."""
        worker.move(trigger, now + UNKILLABLE_AFTER)
        self._actions.append(KillWorker(worker.id))
