"""Which generation should serve: first boot, reload, rollback, and a stand-in for a zygote that died.

Rules of this file:
  - The *committed* generation is the one that lost workers are replaced from. A *rollout* tries to take its
    place; until it commits, the committed zygote is kept, so that there always is a way back.
  - *Settled* generations are those whose workers may stay: the committed one, and older ones whose zygote
    died.
  - The *held* generation is the one that was committed before: its zygote is kept for a while. A rollback is a
    rollout to it. It is let go before a newer generation is imported, so that two applications are in memory at most.
  - At most one zygote that nobody wants any more lives at a time: requests in between melt into the newest.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from asgi_master.supervision import notices
from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.capacity import Moves, Plan, moves
from asgi_master.supervision.desired import Desired, Held, Rollout
from asgi_master.supervision.error_watch import Tally
from asgi_master.supervision.fleet import Fleet, Worker, Zygote
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.plans import forward_plan, standing_plan
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.spares import Spares
from asgi_master.supervision.states import PHASE_TABLE, Phase, PhaseTrigger, Role, ZygoteState

_SERVING_PHASES = frozenset({Phase.BOOTING, Phase.STEADY, Phase.RELOADING, Phase.TERMINATING})


class Deployment:
    """The desired generations, and what follows from them for the fleet."""

    def __init__(self, desired: Desired, fleet: Fleet, orders: Orders, jitter: Callable[[], float]) -> None:
        self.desired = desired
        self._fleet = fleet
        self._orders = orders
        self._jitter = jitter

    @property
    def phase(self) -> Phase:
        """What the whole is about."""
        return self.desired.phase

    @property
    def policy(self) -> Policy:
        """In effect now: of the rollout while there is one."""
        return self.desired.policy

    def move(self, trigger: PhaseTrigger) -> None:
        """Go where the table says."""
        self.desired.phase = PHASE_TABLE[self.desired.phase, trigger]

    @property
    def serves(self) -> bool:
        """Whether workers are wanted."""
        return self.desired.phase in _SERVING_PHASES

    @property
    def can_roll_back(self) -> bool:
        """Whether asking for a rollback would change anything."""
        return self.desired.phase is Phase.RELOADING or (
            self.held_generation is not None and not self.desired.phase.is_ending
        )

    @property
    def held_generation(self) -> int | None:
        """The generation that a rollback would return to."""
        return self.desired.held.generation if self.desired.held is not None else None

    # Facts

    def request(self, policy: Policy) -> None:
        """A reload is wanted; one that is under way is dropped for it."""
        if self.desired.phase.is_ending:
            return
        if self.desired.rollout is not None:
            self._orders.announce(notices.ReloadSuperseded(self.desired.rollout.generation))
        self._let_go(notices.WhyLetGo.RELOADING)
        self.desired.rollout = None
        self.desired.stand_in = None
        self.desired.requested = True
        self.desired.policy = policy
        self.move(PhaseTrigger.REQUESTED)

    def roll_back(self, now: float) -> None:
        """Go back, if there is somewhere to go: a second request while that is under way changes nothing."""
        desired = self.desired
        if desired.phase.is_ending:
            return
        if desired.phase is Phase.RELOADING:
            self._call_off()
        elif desired.phase is Phase.STEADY and desired.held is not None:
            held, desired.held = desired.held, None
            desired.rollout = Rollout(held.generation, started=now, proven=False, returns_to=held)
            desired.stand_in = None
            desired.policy = held.policy
            self._announce_rollback(held)
            self.move(PhaseTrigger.ROLLBACK_REQUESTED)
        else:
            self._orders.announce(notices.NothingToRollBackTo(desired.committed))

    def _call_off(self) -> None:
        """Give up the reload under way."""
        rollout = self.desired.rollout
        if rollout is not None and rollout.returns_to is not None:
            self._announce_rollback(rollout.returns_to)
        elif rollout is not None:
            self._fail(rollout, notices.RollbackAsked())
        else:
            # It has not begun. It is given a number all the same, so that whoever waits for it learns its end.
            self.desired.requested = False
            generation = self._orders.skip_generation()
            self._orders.announce(notices.ReloadStarted(generation))
            self._fail(Rollout(generation, started=0.0, proven=False), notices.RollbackAsked())

    def _announce_rollback(self, held: Held) -> None:
        assert self.desired.committed is not None
        self._orders.announce(notices.RollbackStarted(held.generation, self.desired.committed))

    def scale(self, delta: int) -> None:
        """So many workers more or less, now and after a rollback."""
        if self.desired.phase in {Phase.STOPPING, Phase.STOPPED}:
            return
        before = self.policy.workers
        self.desired.policy = self.policy.scaled(delta)
        self.desired.committed_policy = self.desired.committed_policy.scaled(delta)
        rollout = self.desired.rollout
        for held in (self.desired.held, rollout.returns_to if rollout is not None else None):
            if held is not None:
                held.policy = held.policy.scaled(delta)
        self._orders.announce(notices.ScaledTo(self.policy.workers, before))

    def zygote_became_ready(self, generation: int) -> None:
        """A zygote can fork."""
        if generation == self.desired.stand_in and self.desired.committed is not None:
            self._orders.announce(notices.ZygoteReplaced(self.desired.committed, generation))
            self.desired.committed = generation
            self.desired.settled |= {generation}
            self.desired.stand_in = None

    def zygote_lost(self, zygote: Zygote, cause: notices.ZygoteCause, now: float) -> None:
        """A zygote failed, or ended unasked."""
        if not self.serves:
            return
        if self.desired.rollout is not None and zygote.generation == self.desired.rollout.generation:
            self._fail(self.desired.rollout, cause)
        elif zygote.generation == self.desired.stand_in:
            self.desired.stand_in = None
            delay = self._strike_stand_in(zygote, now)
            self._orders.announce(notices.ZygoteNotReplaced(zygote.generation, cause, delay))
        elif zygote.generation == self.desired.committed and isinstance(cause, notices.ZygoteDied):
            delay = self._strike_stand_in(zygote, now)
            retry_in = delay if self.desired.is_settled else None
            self._orders.announce(notices.ZygoteLost(zygote.generation, cause.status, retry_in))
        elif zygote.generation == self.held_generation:
            self._let_go(notices.WhyLetGo.DIED)

    def worker_lost(self, worker: Worker, cause: notices.WorkerCause, now: float) -> None:
        """A worker stopped serving unasked: fail the rollout, or set when its slot is filled again."""
        if not self.serves:
            return
        rollout = self.desired.rollout
        if worker.role is Role.WORKER:
            self.desired.lost.add(worker.slot)
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
        slots = self.policy.workers + (self.policy.spares if worker.role is Role.SPARE else 0)
        retry_in = delay if worker.slot < slots else None
        self._orders.announce(notices.WorkerLost(worker.id, worker.slot, worker.generation, cause, retry_in))

    def tallies_were_read(self, tallies: Mapping[int, Tally]) -> None:
        """Workers told what they answered so far."""
        rollout, committed = self.desired.rollout, self.desired.committed
        watched = rollout is not None and any(
            worker.ready_at is not None for worker in self._fleet.serving(rollout.generation)
        )
        for worker in self._fleet.workers.values():
            before, worker.tally = worker.tally, tallies.get(worker.id, worker.tally)
            if rollout is not None and watched:
                is_new = worker.generation == rollout.generation
                rollout.watch.note(before, worker.tally, is_new=is_new)
        if rollout is not None and committed is not None and self.serves:
            errors = rollout.watch.verdict(committed, self.policy.max_error_share)
            if errors is not None:
                self._fail(rollout, errors)

    def _fail(self, rollout: Rollout, cause: notices.Cause) -> None:
        """Give the rollout up: back to the committed generation, if there is one."""
        self.desired.rollout = None
        if rollout.returns_to is not None and self._fleet.can_fork(rollout.generation):
            self.desired.held = rollout.returns_to
        if self.desired.committed is not None:
            self.desired.policy = self.desired.committed_policy
            self._orders.announce(notices.ReloadFailed(rollout.generation, cause, self.desired.committed))
            self.move(PhaseTrigger.ROLLED_BACK)
            return
        waits = not self.policy.exit_on_first_failure
        self._orders.announce(notices.BootFailed(rollout.generation, cause, waits))
        self.move(PhaseTrigger.BOOT_FAILED_WAITING if waits else PhaseTrigger.BOOT_FAILED)

    def _strike_stand_in(self, zygote: Zygote, now: float) -> float:
        # Its code may be another each time, yet it is one history: generation 0 stands for all of them.
        return self.desired.stand_in_backoff.strike(
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
        spares = Spares(self.desired, self._fleet, self._orders)
        spares.promote()
        self._reconcile_team(now)
        spares.forget_healed(now)
        spares.reconcile(partial(self._holds, source=self.desired.committed, now=now), now)

    def _reconcile_team(self, now: float) -> None:
        rollout = self.desired.rollout
        if rollout is not None and not rollout.proven:
            rollout.proven = any(
                w.ready_at is not None and now >= w.ready_at + self.policy.watch_time
                for w in self._fleet.serving(rollout.generation)
            )
        if rollout is not None and rollout.proven:
            plan = forward_plan(self.desired, self._fleet, rollout)
            self._converge(plan, rollout.generation, self._fleet.serving(), now)
            if not self._commit_when_done(rollout, now):
                return
            rollout = None
        candidate = rollout.generation if rollout is not None else None
        others = [worker for worker in self._fleet.serving() if worker.generation != candidate]
        held = partial(self._holds, source=self.desired.committed, now=now)
        plan = standing_plan(self.desired, self._fleet, held)
        self._converge(plan, self.desired.committed, others, now)
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

    def _send_canary(self, rollout: Rollout, now: float) -> None:
        """Spawn the rollout's first worker, if there is room; without surge, make room for it."""
        generation = rollout.generation
        if not self._fleet.can_fork(generation) or self._fleet.serving(generation):
            return
        serving = self._fleet.serving()
        workers, surge = self.desired.committed_policy.workers, self.policy.surge
        leaving: list[Worker] = []
        if len(serving) >= workers + surge:
            # Whoever does not serve yet is missed least, then whoever should not be there anyway.
            least = min(serving, key=lambda w: (w.is_ready, w.generation in self.desired.settled, w.slot))
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
        if self.desired.committed is None:
            self._orders.announce(notices.MasterReady(workers, rollout.generation))
        else:
            took = now - rollout.started
            is_rollback = rollout.returns_to is not None
            self._orders.announce(notices.ReloadCommitted(rollout.generation, workers, took, is_rollback))
        self._hold(now)
        self.desired.committed, self.desired.committed_policy = rollout.generation, self.policy
        self.desired.settled = frozenset({rollout.generation})
        self.desired.rollout = None
        self.desired.stand_in_backoff = Backoff()
        self.move(PhaseTrigger.COMMITTED)
        return True

    def _hold(self, now: float) -> None:
        """Keep a way back to what was committed so far, if it is there."""
        generation, policy = self.desired.committed, self.desired.committed_policy
        if generation is not None and self.policy.rollback_window > 0 and self._fleet.can_fork(generation):
            self.desired.held = Held(generation, policy, until=now + self.policy.rollback_window)

    def _let_go(self, why: notices.WhyLetGo) -> None:
        if self.desired.held is not None:
            self._orders.announce(notices.HeldLetGo(self.desired.held.generation, why))
            self.desired.held = None

    def _calm_at(self, rollout: Rollout) -> float:
        """When the rollout's newest worker was ready for long enough; a first boot cannot go back."""
        if self.desired.committed is None:
            return rollout.started
        became = [w.ready_at for w in self._fleet.serving(rollout.generation) if w.ready_at is not None]
        return max(became, default=rollout.started) + self.policy.watch_time

    def reconcile_zygotes(self, now: float) -> None:
        """Retire the zygotes nobody wants, start the one that is missing."""
        wanted: set[int | None] = set()
        if self.serves:
            if self.desired.held is not None and now >= self.desired.held.until:
                self._let_go(notices.WhyLetGo.EXPIRED)
            wanted = {self.desired.committed, self.desired.stand_in, self.held_generation}
            if self.desired.rollout is not None:
                wanted.add(self.desired.rollout.generation)
        living = self._fleet.living_zygotes()
        unwanted = [zygote for zygote in living if zygote.generation not in wanted]
        for zygote in unwanted:
            if zygote.state in {ZygoteState.IMPORTING, ZygoteState.READY}:
                self._orders.retire_zygote(zygote, now, self.policy)
        if not self.serves:
            return
        if self.desired.requested and not unwanted:
            self._start_rollout(now)
        elif self._needs_stand_in() and now >= self.desired.stand_in_backoff.until:
            self.desired.stand_in = self._orders.start_zygote(now, self.policy)

    def _start_rollout(self, now: float) -> None:
        self.desired.requested = False
        generation = self._orders.start_zygote(now, self.policy)
        self.desired.rollout = Rollout(generation, started=now, proven=self.desired.committed is None)
        if generation > 1:
            self._orders.announce(notices.ReloadStarted(generation))

    def _needs_stand_in(self) -> bool:
        return (
            self.desired.is_settled
            and self.desired.stand_in is None
            and not self._fleet.can_fork(self.desired.committed)
        )

    def deadlines(self) -> Iterator[float]:
        """When something becomes possible that is not yet; times in the past mean nothing."""
        if not self.serves:
            return
        if self.desired.rollout is not None:
            yield self._calm_at(self.desired.rollout)
            for worker in self._fleet.serving(self.desired.rollout.generation):
                if worker.ready_at is not None:
                    yield worker.ready_at + self.policy.watch_time
        if self._needs_stand_in():
            yield self.desired.stand_in_backoff.until
        if self.desired.held is not None:
            yield self.desired.held.until
        for worker in self._fleet.serving():
            if worker.slot in self.desired.lost and worker.ready_at is not None:
                yield worker.ready_at + self.policy.watch_time
        slots = max(self.policy.workers, self.desired.committed_policy.workers) + self.policy.spares
        for slot in range(slots):
            yield self._fleet.backoff(slot).until
