"""Which slots get a worker, and which workers leave: what the desired generations mean for the fleet.

Rules of this file:
  - Nothing here waits: each call compares the slots with the plan.
  - A worker that is lost makes its slot back off, or the rollout fail.
"""

from collections.abc import Callable, Iterator
from functools import partial

from asgi_master.supervision import notices
from asgi_master.supervision.capacity import Changes, Plan, plan_changes
from asgi_master.supervision.desired import Rollout
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.plans import forward_plan, standing_plan
from asgi_master.supervision.rollout import Generations
from asgi_master.supervision.spares import Spares
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import Role


class Slots:
    """Fills and empties the slots."""

    def __init__(
        self, state: SupervisorState, orders: Orders, generations: Generations, jitter: Callable[[], float]
    ) -> None:
        self._desired = state.desired
        self._fleet = state.fleet
        self._orders = orders
        self._generations = generations
        self._jitter = jitter

    def worker_lost(self, worker: WorkerRecord, cause: notices.WorkerCause, now: float) -> None:
        """A worker stopped serving unasked: fail the rollout, or set when its slot is filled again."""
        if not self._desired.serves:
            return
        rollout = self._desired.rollout
        if worker.role is Role.WORKER:
            self._desired.lost.add(worker.slot)
        if (
            rollout is not None
            and worker.generation == rollout.generation
            and not isinstance(cause, notices.Left)
        ):
            self._generations.fail(rollout, cause)
            return
        delay = self._fleet.backoff(worker.slot).strike(
            now,
            generation=worker.generation,
            stable=self._desired.policy.is_stable(worker.ready_at, now),
            policy=self._desired.policy,
            jitter=self._jitter,
        )
        slots = self._desired.policy.workers + (
            self._desired.policy.spares if worker.role is Role.SPARE else 0
        )
        retry_in = delay if worker.slot < slots else None
        self._orders.announce(notices.WorkerLost(worker.id, worker.slot, worker.generation, cause, retry_in))

    def reconcile(self, now: float) -> None:
        """Spawn missing workers, drain surplus ones, and commit when nothing is left to do."""
        spares = Spares(self._desired, self._fleet, self._orders)
        spares.promote()
        self._reconcile_team(now)
        spares.forget_healed(now)
        spares.reconcile(partial(self._holds, source=self._desired.committed, now=now), now)

    def _reconcile_team(self, now: float) -> None:
        rollout = self._desired.rollout
        if rollout is not None and not rollout.proven:
            rollout.proven = any(
                w.ready_at is not None and now >= w.ready_at + self._desired.policy.watch_time
                for w in self._fleet.serving(rollout.generation)
            )
        if rollout is not None and rollout.proven:
            plan = forward_plan(self._desired, self._fleet, rollout)
            self._converge(plan, rollout.generation, self._fleet.serving(), now)
            if not self._generations.commit_when_done(rollout, now):
                return
            rollout = None
        candidate = rollout.generation if rollout is not None else None
        others = [worker for worker in self._fleet.serving() if worker.generation != candidate]
        held = partial(self._holds, source=self._desired.committed, now=now)
        plan = standing_plan(self._desired, self._fleet, held, now)
        self._converge(plan, self._desired.committed, others, now)
        if rollout is not None:
            self._send_canary(rollout, now)

    def _converge(self, plan: Plan, source: int | None, serving: list[WorkerRecord], now: float) -> None:
        todo = plan_changes(serving, plan, lambda slot: self._holds(slot, source, now))
        self._announce_recycling(plan, todo)
        self._orders.drain_all(todo.drain, now, self._desired.policy)
        for slot in todo.spawn:
            assert source is not None
            self._orders.spawn(slot, source, now, self._desired.policy)

    def _holds(self, slot: int, source: int | None, now: float) -> bool:
        return source is not None and self._fleet.backoff(slot).holds(source, now)

    def _announce_recycling(self, plan: Plan, todo: Changes) -> None:
        """Once for each request: when its successor is spawned or, without a surge, when the worker is drained."""
        worker = self._fleet.workers.get(plan.recycle) if plan.recycle is not None else None
        if (
            worker is None
            or worker.is_being_replaced
            or not (worker.slot in todo.spawn or worker in todo.drain)
        ):
            return
        worker.is_being_replaced = True
        self._orders.announce(
            notices.WorkerReplacementStarted(
                worker.id, worker.slot, worker.generation, worker.replacement_reason
            )
        )

    def _send_canary(self, rollout: Rollout, now: float) -> None:
        """Spawn the rollout's first worker, if there is room; without surge, make room for it."""
        generation = rollout.generation
        if not self._fleet.can_fork(generation) or self._fleet.serving(generation):
            return
        serving = self._fleet.serving()
        workers, surge = self._desired.committed_policy.workers, self._desired.policy.surge
        leaving: list[WorkerRecord] = []
        if len(serving) >= workers + surge:
            if surge:
                return
            # A worker that is not ready is missed least, then one of a generation that is not kept.
            leaving = [
                min(serving, key=lambda w: (w.is_ready, w.generation in self._desired.settled, w.slot))
            ]
        served = {worker.slot for worker in serving if worker not in leaving}
        slot = next((slot for slot in range(self._desired.policy.workers) if slot not in served), 0)
        if not self._fleet.backoff(slot).holds(generation, now):
            self._orders.drain_all(leaving, now, self._desired.policy)
            self._orders.spawn(slot, generation, now, self._desired.policy)

    def deadlines(self) -> Iterator[float]:
        """When a slot may be filled, or is well again; times in the past mean nothing."""
        desired = self._desired
        if not desired.serves:
            return
        yield desired.paused_until
        for worker in self._fleet.serving():
            if worker.slot in desired.lost and worker.ready_at is not None:
                yield worker.ready_at + desired.policy.watch_time
        slots = max(desired.policy.workers, desired.committed_policy.workers) + desired.policy.spares
        for slot in range(slots):
            yield self._fleet.backoff(slot).until
