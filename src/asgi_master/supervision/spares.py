"""Spare workers: booted, but accepting only while another worker is missing.

Rules of this file:
  - A spare has a slot of its own, above those that are to be served, and keeps it. If scaling makes its slot one of
    those, it is simply that slot's worker.
  - Spares never hold anything up: they count neither for `max_serving` and `min_ready` nor for a commit, and follow it.
"""

from collections.abc import Callable
from dataclasses import field

from asgi_master.records import mutable_record, record
from asgi_master.supervision import notices
from asgi_master.supervision.desired import Desired
from asgi_master.supervision.fleet import Fleet, WorkerRecord
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.states import Role, WorkerState


@record
class SparePlan:
    """The desired spares, and how many of them should serve."""

    slots: frozenset[int]
    kept_generations: frozenset[int]
    """Generations whose spares may stay."""
    settled: bool
    """Whether spares are made and given up; while generations are exchanged, they are only admitted and released."""
    missing: int
    """Slots whose worker was lost and that have no worker that serves."""
    unwell: int
    """Slots whose worker was lost, whether its successor serves or not, until that has proven itself."""


@mutable_record
class SpareChanges:
    """The changes to the spares."""

    drain: list[WorkerRecord] = field(default_factory=list)
    admit: list[WorkerRecord] = field(default_factory=list)
    spawn: list[int] = field(default_factory=list)
    """Slots."""


def spare_changes(spares: list[WorkerRecord], plan: SparePlan) -> SpareChanges:
    """The difference between the plan and the observed spares."""
    result = SpareChanges()
    admitted = sorted((w for w in spares if not w.standby), key=lambda w: w.slot)
    result.drain = admitted[plan.unwell :]
    waiting = [worker for worker in spares if worker.standby]
    if plan.settled:
        unwanted = [
            w
            for w in waiting
            if w.generation not in plan.kept_generations or w.slot not in plan.slots or w.replacement_reason
        ]
        result.drain += unwanted
        waiting = [worker for worker in waiting if worker not in unwanted]
        taken = {worker.slot for worker in spares if worker not in result.drain}
        result.spawn = sorted(plan.slots - taken)
    ready = [w for w in waiting if w.state is WorkerState.READY and w.generation in plan.kept_generations]
    ready.sort(key=lambda worker: worker.slot)
    result.admit = ready[: max(0, plan.missing - len(admitted))]
    return result


class Spares:
    """Keeps as many spares as the policy asks for."""

    def __init__(self, desired: Desired, fleet: Fleet, orders: Orders) -> None:
        self._desired = desired
        self._fleet = fleet
        self._orders = orders

    def promote(self) -> None:
        """Spares whose slot is to be served now are its workers."""
        desired = self._desired
        if desired.rollout is None or not desired.rollout.proven:
            for worker in self._fleet.spares():
                if worker.slot < desired.committed_policy.workers and worker.generation in desired.settled:
                    worker.role = Role.WORKER
        for worker in self._fleet.serving():
            if worker.standby and worker.state is WorkerState.READY:
                self._orders.admit(worker)

    def forget_healed(self, now: float) -> None:
        """A slot is well again once its worker has been ready for the watch time."""
        desired = self._desired
        healed = {
            worker.slot
            for worker in self._fleet.serving()
            if worker.is_ready
            and worker.ready_at is not None
            and now >= worker.ready_at + desired.policy.watch_time
        }
        workers = max(desired.policy.workers, desired.committed_policy.workers)
        desired.lost = {slot for slot in desired.lost - healed if slot < workers}

    def reconcile(self, holds: Callable[[int], bool], now: float) -> None:
        """Admit, release, replace. `holds` is true for slots that wait after a failure."""
        desired = self._desired
        policy = desired.policy
        served = {worker.slot for worker in self._fleet.serving() if worker.is_ready}
        plan = SparePlan(
            slots=frozenset(range(policy.workers, policy.workers + policy.spares)),
            kept_generations=desired.settled,
            settled=desired.is_settled,
            missing=len(desired.lost - served),
            unwell=len(desired.lost),
        )
        todo = spare_changes(self._fleet.spares(), plan)
        for worker in todo.drain:
            self._say_why(worker)
        self._orders.drain_all(todo.drain, now, policy)
        for worker in todo.admit:
            self._orders.admit(worker)
        taken = {worker.slot for worker in self._fleet.serving()}
        if desired.committed is not None and self._fleet.can_fork(desired.committed):
            for slot in todo.spawn:
                if slot not in taken and not holds(slot):
                    self._orders.spawn(slot, desired.committed, now, policy, Role.SPARE)

    def _say_why(self, worker: WorkerRecord) -> None:
        who = (worker.id, worker.slot, worker.generation)
        if not worker.standby:
            self._orders.announce(notices.SpareReleased(*who))
        elif worker.replacement_reason:
            self._orders.announce(notices.WorkerReplacementStarted(*who, worker.replacement_reason))
