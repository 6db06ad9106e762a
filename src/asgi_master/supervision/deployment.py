"""Which generation should serve: first boot, reload, rollback, and a stand-in for a zygote that died.

Rules of this file:
  - The *committed* generation is the one that lost workers are replaced from. A *rollout* tries to take its
    place; until it commits, the committed zygote is kept, so that there always is a way back.
  - *Settled* generations are those whose workers may stay: the committed one, and older ones whose zygote
    died.
  - At most one zygote that nobody wants any more lives at a time: requests in between melt into the newest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from asgi_master.supervision import notices
from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.capacity import Moves, Plan, moves
from asgi_master.supervision.fleet import Fleet, Worker, Zygote
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.policy import MOST_WORKERS, Policy
from asgi_master.supervision.recycling import next_to_recycle
from asgi_master.supervision.states import PHASE_TABLE, Phase, PhaseTrigger, ZygoteState

_SERVING_PHASES = frozenset({Phase.BOOTING, Phase.STEADY, Phase.RELOADING})


@dataclass(slots=True)
class Rollout:
    """A generation on its way to be committed."""

    generation: int
    started: float
    proven: bool
    """Whether its first worker (the canary) stayed ready for `watch_time`; before, it gets no other."""


class Deployment:
    """The desired generations, and what follows from them for the fleet."""

    def __init__(self, policy: Policy, fleet: Fleet, orders: Orders, jitter: Callable[[], float]) -> None:
        self.policy = policy
        """In effect now: of the rollout while there is one."""
        self.phase = Phase.BOOTING
        self._committed_policy = policy
        self._committed: int | None = None
        self._settled: frozenset[int] = frozenset()
        self._requested = True
        """A generation is wanted that was not started yet. The first boot is such a request."""
        self._rollout: Rollout | None = None
        self._stand_in: int | None = None
        self._stand_in_backoff = Backoff()
        self._fleet = fleet
        self._orders = orders
        self._jitter = jitter

    def move(self, trigger: PhaseTrigger) -> None:
        """Go where the table says."""
        self.phase = PHASE_TABLE[self.phase, trigger]

    @property
    def _serves(self) -> bool:
        return self.phase in _SERVING_PHASES

    # Facts

    def request(self, policy: Policy) -> None:
        """A reload is wanted; one that is under way is dropped for it."""
        if self.phase in {Phase.STOPPING, Phase.STOPPED}:
            return
        if self._rollout is not None:
            self._orders.announce(notices.ReloadSuperseded(self._rollout.generation))
        self._rollout = None
        self._stand_in = None
        self._requested = True
        self.policy = policy
        self.move(PhaseTrigger.REQUESTED)

    def scale(self, delta: int) -> None:
        """So many workers more or less, now and after a rollback."""
        if self.phase in {Phase.STOPPING, Phase.STOPPED}:
            return
        before = self.policy.workers
        self.policy = _scaled(self.policy, delta)
        self._committed_policy = _scaled(self._committed_policy, delta)
        self._orders.announce(notices.ScaledTo(self.policy.workers, before))

    def zygote_became_ready(self, generation: int) -> None:
        """A zygote can fork."""
        if generation == self._stand_in and self._committed is not None:
            self._orders.announce(notices.ZygoteReplaced(self._committed, generation))
            self._committed = generation
            self._settled |= {generation}
            self._stand_in = None

    def zygote_lost(self, zygote: Zygote, cause: notices.ZygoteCause, now: float) -> None:
        """A zygote failed, or ended unasked."""
        if not self._serves:
            return
        if self._rollout is not None and zygote.generation == self._rollout.generation:
            self._fail(self._rollout, cause)
        elif zygote.generation == self._stand_in:
            self._stand_in = None
            delay = self._strike_stand_in(zygote, now)
            self._orders.announce(notices.ZygoteNotReplaced(zygote.generation, cause, delay))
        elif zygote.generation == self._committed and isinstance(cause, notices.ZygoteDied):
            delay = self._strike_stand_in(zygote, now)
            retry_in = delay if self.phase is Phase.STEADY else None
            self._orders.announce(notices.ZygoteLost(zygote.generation, cause.status, retry_in))

    def worker_lost(self, worker: Worker, cause: notices.WorkerCause, now: float) -> None:
        """A worker stopped serving unasked: fail the rollout, or set when its slot is filled again."""
        if not self._serves:
            return
        rollout = self._rollout
        if (
            rollout is not None
            and worker.generation == rollout.generation
            and not isinstance(cause, notices.Left)
        ):
            self._fail(rollout, cause)
            return
        delay = self._fleet.backoff(worker.slot).strike(
            now,
            generation=worker.generation,
            stable=self._was_stable(worker.ready_at, now),
            policy=self.policy,
            jitter=self._jitter,
        )
        retry_in = delay if worker.slot < self.policy.workers else None
        self._orders.announce(notices.WorkerLost(worker.id, worker.slot, worker.generation, cause, retry_in))

    def _fail(self, rollout: Rollout, cause: notices.Cause) -> None:
        """Give the rollout up: back to the committed generation, if there is one."""
        self._rollout = None
        if self._committed is not None:
            self.policy = self._committed_policy
            self._orders.announce(notices.ReloadFailed(rollout.generation, cause, self._committed))
            self.move(PhaseTrigger.ROLLED_BACK)
            return
        waits = not self.policy.exit_on_first_failure
        self._orders.announce(notices.BootFailed(rollout.generation, cause, waits))
        self.move(PhaseTrigger.BOOT_FAILED_WAITING if waits else PhaseTrigger.BOOT_FAILED)

    def _strike_stand_in(self, zygote: Zygote, now: float) -> float:
        # Its code may be another each time, yet it is one history: generation 0 stands for all of them.
        return self._stand_in_backoff.strike(
            now,
            generation=0,
            stable=self._was_stable(zygote.ready_at, now),
            policy=self.policy,
            jitter=self._jitter,
        )

    def _was_stable(self, ready_at: float | None, now: float) -> bool:
        return ready_at is not None and now - ready_at >= self.policy.stable_after

    # Desired against observed

    def reconcile_workers(self, now: float) -> None:
        """Spawn who is missing, drain who is too many, and commit when nothing is left to do."""
        rollout = self._rollout
        if rollout is not None and not rollout.proven:
            rollout.proven = any(
                w.ready_at is not None and now >= w.ready_at + self.policy.watch_time
                for w in self._fleet.serving(rollout.generation)
            )
        if rollout is not None and rollout.proven:
            self._converge(self._forward_plan(rollout), rollout.generation, self._fleet.serving(), now)
            if not self._commit_when_done(rollout, now):
                return
            rollout = None
        candidate = rollout.generation if rollout is not None else None
        others = [worker for worker in self._fleet.serving() if worker.generation != candidate]
        self._converge(self._standing_plan(now), self._committed, others, now)
        if rollout is not None:
            self._send_canary(rollout, now)

    def _converge(self, plan: Plan, source: int | None, serving: list[Worker], now: float) -> None:
        todo = moves(serving, plan, lambda slot: self._holds(slot, source, now))
        self._announce_recycling(plan, todo)
        self._orders.drain_all(todo.drain, now, self.policy)
        for slot in todo.spawn:
            assert source is not None
            self._orders.spawn(slot, source, now, self.policy)

    def _holds(self, slot: int, source: int | None, now: float) -> bool:
        return source is not None and self._fleet.backoff(slot).holds(source, now)

    def _announce_recycling(self, plan: Plan, todo: Moves) -> None:
        """Once for each wish: when it makes a successor boot, or, where there is no room for one, an end."""
        worker = self._fleet.workers.get(plan.recycle) if plan.recycle is not None else None
        if worker is None or worker.is_recycled or not (worker.slot in todo.spawn or worker in todo.drain):
            return
        worker.is_recycled = True
        self._orders.announce(notices.WorkerRecycling(worker.id, worker.slot, worker.generation, worker.wish))

    def _forward_plan(self, rollout: Rollout) -> Plan:
        """The fleet as a proven rollout wants it."""
        workers = self.policy.workers
        return Plan(
            workers=workers,
            keep=frozenset({rollout.generation}),
            most=workers + _surge(self.policy),
            least=workers - self.policy.max_unavailable,
            replace=True,
            can_fork=self._fleet.can_fork(rollout.generation),
        )

    def _standing_plan(self, now: float) -> Plan:
        """The fleet as the committed generation wants it.

        While a newer one may be about to prove itself, what serves stays and only empty slots are filled,
        leaving a place for the canary.
        """
        workers = self._committed_policy.workers
        pending = self._rollout is not None or self._requested
        reserved = int(self._rollout is not None and self._fleet.can_fork(self._rollout.generation))
        return Plan(
            workers=workers,
            keep=self._settled,
            most=workers + _surge(self.policy) - reserved,
            least=workers - (0 if pending else self.policy.max_unavailable),
            replace=not pending,
            can_fork=self._fleet.can_fork(self._committed),
            # A reload replaces everybody anyway.
            recycle=None if pending else self._next_to_recycle(workers, now),
        )

    def _next_to_recycle(self, workers: int, now: float) -> int | None:
        candidates = [w for w in self._fleet.serving() if w.generation in self._settled and w.slot < workers]
        held = partial(self._holds, source=self._committed, now=now)
        return next_to_recycle(candidates, held, can_fork=self._fleet.can_fork(self._committed))

    def _send_canary(self, rollout: Rollout, now: float) -> None:
        """Spawn the rollout's first worker, if there is room; without surge, make room for it."""
        generation = rollout.generation
        if not self._fleet.can_fork(generation) or self._fleet.serving(generation):
            return
        serving = self._fleet.serving()
        workers, surge = self._committed_policy.workers, _surge(self.policy)
        leaving: list[Worker] = []
        if len(serving) >= workers + surge:
            # Whoever does not serve yet is missed least, then whoever should not be there anyway.
            least = min(serving, key=lambda w: (w.is_ready, w.generation in self._settled, w.slot))
            ready = sum(worker.is_ready for worker in serving)
            if surge or (least.is_ready and ready - 1 < workers - self.policy.max_unavailable):
                return
            leaving = [least]
        served = {worker.slot for worker in serving if worker not in leaving}
        slot = next((slot for slot in range(self.policy.workers) if slot not in served), 0)
        if not self._fleet.backoff(slot).holds(generation, now):
            self._orders.drain_all(leaving, now, self.policy)
            self._orders.spawn(slot, generation, now, self.policy)

    def _commit_when_done(self, rollout: Rollout, now: float) -> bool:
        serving = self._fleet.serving()
        team = {worker.slot for worker in serving if worker.is_ready}
        if (
            any(worker.generation != rollout.generation for worker in serving)
            or not team.issuperset(range(self.policy.workers))
            or now < self._calm_at(rollout)
        ):
            return False
        workers = self.policy.workers
        if self._committed is None:
            self._orders.announce(notices.MasterReady(workers, rollout.generation))
        else:
            took = now - rollout.started
            self._orders.announce(notices.ReloadCommitted(rollout.generation, workers, took))
        self._committed, self._committed_policy = rollout.generation, self.policy
        self._settled = frozenset({rollout.generation})
        self._rollout = None
        self._stand_in_backoff = Backoff()
        self.move(PhaseTrigger.COMMITTED)
        return True

    def _calm_at(self, rollout: Rollout) -> float:
        """When the rollout's newest worker was ready for long enough; a first boot cannot go back."""
        if self._committed is None:
            return rollout.started
        became = [w.ready_at for w in self._fleet.serving(rollout.generation) if w.ready_at is not None]
        return max(became, default=rollout.started) + self.policy.watch_time

    def reconcile_zygotes(self, now: float) -> None:
        """Retire the zygotes nobody wants, start the one that is missing."""
        wanted: set[int | None] = set()
        if self._serves:
            wanted = {self._committed, self._stand_in}
            if self._rollout is not None:
                wanted.add(self._rollout.generation)
        living = self._fleet.living_zygotes()
        unwanted = [zygote for zygote in living if zygote.generation not in wanted]
        for zygote in unwanted:
            if zygote.state in {ZygoteState.IMPORTING, ZygoteState.READY}:
                self._orders.retire_zygote(zygote, now, self.policy)
        if not self._serves:
            return
        if self._requested and not unwanted:
            self._start_rollout(now)
        elif self._needs_stand_in() and now >= self._stand_in_backoff.until:
            self._stand_in = self._orders.start_zygote(now, self.policy)

    def _start_rollout(self, now: float) -> None:
        self._requested = False
        generation = self._orders.start_zygote(now, self.policy)
        self._rollout = Rollout(generation, started=now, proven=self._committed is None)
        if generation > 1:
            self._orders.announce(notices.ReloadStarted(generation))

    def _needs_stand_in(self) -> bool:
        return (
            self.phase is Phase.STEADY
            and self._stand_in is None
            and not self._fleet.can_fork(self._committed)
        )

    def deadlines(self) -> Iterator[float]:
        """When something becomes possible that is not yet; times in the past mean nothing."""
        if not self._serves:
            return
        if self._rollout is not None:
            yield self._calm_at(self._rollout)
            for worker in self._fleet.serving(self._rollout.generation):
                if worker.ready_at is not None:
                    yield worker.ready_at + self.policy.watch_time
        if self._needs_stand_in():
            yield self._stand_in_backoff.until
        for slot in range(max(self.policy.workers, self._committed_policy.workers)):
            yield self._fleet.backoff(slot).until


def _surge(policy: Policy) -> int:
    """With neither surge nor anybody missing allowed, nothing could ever be exchanged: one more it is."""
    return policy.max_surge if policy.max_surge or policy.max_unavailable else 1


def _scaled(policy: Policy, delta: int) -> Policy:
    most = max(policy.workers, MOST_WORKERS)
    return replace(policy, workers=min(most, max(1, policy.workers + delta)))
