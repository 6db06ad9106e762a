"""Which generation should serve: first boot, reload, rollback, and a stand-in for a zygote that died.

Rules of this file:
  - The *committed* generation is the one that lost workers are replaced from. A *rollout* tries to take its
    place; until it commits, the committed zygote is kept, so that there always is a way back.
  - *Settled* generations are those whose workers may stay: the committed one, and older ones whose zygote
    died.
  - The *held* generation is the one that was committed before: its zygote is kept for a while. A rollback is a
    rollout to it. It is let go before a newer generation is imported, so that two applications are in memory at most.
  - No zygote is started while one that is no longer needed is alive: requests in between are coalesced with the newest.
"""

from collections.abc import Callable, Iterator, Mapping

from asgi_master.supervision import notices
from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.desired import Held, Rollout
from asgi_master.supervision.error_watch import Tally
from asgi_master.supervision.fleet import ZygoteRecord
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import Phase, PhaseTrigger, ZygoteState


class Generations:
    """Moves the desired generations on, and keeps the zygotes that they need."""

    def __init__(self, state: SupervisorState, orders: Orders, jitter: Callable[[], float]) -> None:
        self._desired = state.desired
        self._fleet = state.fleet
        self._services = state.services
        self._orders = orders
        self._jitter = jitter

    @property
    def can_roll_back(self) -> bool:
        """Whether asking for a rollback would change anything."""
        return self._desired.phase is Phase.RELOADING or (
            self._desired.held is not None and not self._desired.phase.is_ending
        )

    def request(self, policy: Policy, now: float) -> None:
        """Request a reload; it supersedes one that is under way."""
        if self._desired.phase.is_ending:
            return
        if self._desired.rollout is not None:
            self._orders.announce(notices.ReloadSuperseded(self._desired.rollout.generation))
        self._let_go(notices.WhyLetGo.RELOADING)
        self._desired.rollout = None
        self._desired.stand_in = None
        self._desired.requested = True
        self._desired.policy = policy
        self._desired.paused_until = now + policy.pause_on_reload if policy.pause_on_reload else 0.0
        self._desired.move(PhaseTrigger.REQUESTED)

    def roll_back(self, now: float) -> None:
        """Return to the held generation, if there is one; a second request during a rollback changes nothing."""
        desired = self._desired
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
            self._desired.move(PhaseTrigger.ROLLBACK_REQUESTED)
        else:
            self._orders.announce(notices.NothingToRollBackTo(desired.committed))

    def _call_off(self) -> None:
        """Give up the reload under way."""
        rollout = self._desired.rollout
        if rollout is not None and rollout.returns_to is not None:
            self._announce_rollback(rollout.returns_to)
        elif rollout is not None:
            self.fail(rollout, notices.RollbackAsked())
        else:
            # It has not begun. It gets a number all the same, so that pending replies get its outcome.
            self._desired.requested = False
            generation = self._orders.skip_generation()
            self._orders.announce(notices.ReloadStarted(generation))
            self.fail(Rollout(generation, started=0.0, proven=False), notices.RollbackAsked())

    def _announce_rollback(self, held: Held) -> None:
        assert self._desired.committed is not None
        self._orders.announce(notices.RollbackStarted(held.generation, self._desired.committed))

    def zygote_became_ready(self, generation: int) -> None:
        """A zygote can fork."""
        if generation == self._desired.stand_in and self._desired.committed is not None:
            self._orders.announce(notices.ZygoteReplaced(self._desired.committed, generation))
            self._desired.committed = generation
            self._desired.settled |= {generation}
            self._desired.stand_in = None

    def zygote_lost(self, zygote: ZygoteRecord, cause: notices.ZygoteCause, now: float) -> None:
        """A zygote failed, or ended unasked."""
        if not self._desired.serves:
            return
        if self._desired.rollout is not None and zygote.generation == self._desired.rollout.generation:
            self.fail(self._desired.rollout, cause)
        elif zygote.generation == self._desired.stand_in:
            self._desired.stand_in = None
            delay = self._strike_stand_in(zygote, now)
            self._orders.announce(notices.ZygoteNotReplaced(zygote.generation, cause, delay))
        elif zygote.generation == self._desired.committed and isinstance(cause, notices.ZygoteDied):
            delay = self._strike_stand_in(zygote, now)
            retry_in = delay if self._desired.is_settled else None
            self._orders.announce(notices.ZygoteLost(zygote.generation, cause.status, retry_in))
        elif zygote.generation == self._desired.held_generation:
            self._let_go(notices.WhyLetGo.DIED)

    def tallies_were_read(self, tallies: Mapping[int, Tally]) -> None:
        """Record the tallies of the workers, and fail a rollout with too many errors."""
        rollout, committed = self._desired.rollout, self._desired.committed
        watched = rollout is not None and any(
            worker.ready_at is not None for worker in self._fleet.serving(rollout.generation)
        )
        for worker in self._fleet.workers.values():
            before, worker.tally = worker.tally, tallies.get(worker.id, worker.tally)
            if rollout is not None and watched:
                is_new = worker.generation == rollout.generation
                rollout.watch.note(before, worker.tally, is_new=is_new)
        if rollout is not None and committed is not None and self._desired.serves:
            errors = rollout.watch.verdict(committed, self._desired.policy.max_error_share)
            if errors is not None:
                self.fail(rollout, errors)

    def fail(self, rollout: Rollout, cause: notices.Cause) -> None:
        """Give the rollout up: back to the committed generation, if there is one."""
        self._desired.rollout = None
        if rollout.returns_to is not None and self._fleet.can_fork(rollout.generation):
            self._desired.held = rollout.returns_to
        if self._desired.committed is not None:
            self._desired.policy = self._desired.committed_policy
            self._orders.announce(notices.ReloadFailed(rollout.generation, cause, self._desired.committed))
            self._desired.move(PhaseTrigger.ROLLED_BACK)
            return
        waits = not self._desired.policy.exit_on_first_failure
        self._orders.announce(notices.BootFailed(rollout.generation, cause, waits))
        self._desired.move(PhaseTrigger.BOOT_FAILED_WAITING if waits else PhaseTrigger.BOOT_FAILED)

    def _strike_stand_in(self, zygote: ZygoteRecord, now: float) -> float:
        # The code may differ each time, but the history is one: generation 0 stands for all of them.
        return self._desired.stand_in_backoff.strike(
            now,
            generation=0,
            stable=self._desired.policy.is_stable(zygote.ready_at, now),
            policy=self._desired.policy,
            jitter=self._jitter,
        )

    def commit_when_done(self, rollout: Rollout, now: float) -> bool:
        """Commit the rollout if all slots run it and have for long enough; returns whether that is so."""
        serving = self._fleet.serving()
        team = {worker.slot for worker in serving if worker.is_ready}
        if (
            any(worker.generation != rollout.generation for worker in serving)
            or not team.issuperset(range(self._desired.policy.workers))
            or now < self._calm_at(rollout)
        ):
            return False
        workers = self._desired.policy.workers
        if self._desired.committed is None:
            self._orders.announce(notices.MasterReady(workers, rollout.generation))
        else:
            took = now - rollout.started
            is_rollback = rollout.returns_to is not None
            self._orders.announce(notices.ReloadCommitted(rollout.generation, workers, took, is_rollback))
        self._hold(now)
        self._desired.committed, self._desired.committed_policy = rollout.generation, self._desired.policy
        self._desired.settled = frozenset({rollout.generation})
        self._desired.rollout = None
        self._desired.stand_in_backoff = Backoff()
        # Each generation that is committed runs its services anew.
        self._services.completed.clear()
        self._desired.move(PhaseTrigger.COMMITTED)
        return True

    def _hold(self, now: float) -> None:
        """Hold the generation that was committed so far, if its zygote is there."""
        generation, policy = self._desired.committed, self._desired.committed_policy
        if (
            generation is not None
            and self._desired.policy.rollback_window > 0
            and self._fleet.can_fork(generation)
        ):
            self._desired.held = Held(generation, policy, until=now + self._desired.policy.rollback_window)

    def _let_go(self, why: notices.WhyLetGo) -> None:
        if self._desired.held is not None:
            self._orders.announce(notices.HeldLetGo(self._desired.held.generation, why))
            self._desired.held = None

    def _calm_at(self, rollout: Rollout) -> float:
        """When the rollout's newest worker was ready for long enough; a first boot cannot go back."""
        if self._desired.committed is None:
            return rollout.started
        became = [w.ready_at for w in self._fleet.serving(rollout.generation) if w.ready_at is not None]
        return max(became, default=rollout.started) + self._desired.policy.watch_time

    def start_zygotes(self, now: float) -> None:
        """Start the zygote that is missing, once those that are not needed are gone."""
        if not self._desired.serves:
            return
        if self._desired.held is not None and now >= self._desired.held.until:
            self._let_go(notices.WhyLetGo.EXPIRED)
        if self._unwanted_zygotes():
            return
        if self._desired.requested:
            self._start_rollout(now)
        elif self._needs_stand_in() and now >= self._desired.stand_in_backoff.until:
            self._desired.stand_in = self._orders.start_zygote(now, self._desired.policy)

    def retire_zygotes(self, now: float) -> None:
        """Retire the zygotes that are not needed."""
        for zygote in self._unwanted_zygotes():
            if zygote.state in {ZygoteState.IMPORTING, ZygoteState.READY}:
                self._orders.retire_zygote(zygote, now, self._desired.policy)

    def _unwanted_zygotes(self) -> list[ZygoteRecord]:
        desired = self._desired
        wanted: set[int | None] = set()
        if desired.serves:
            wanted = {desired.committed, desired.stand_in, desired.held_generation}
            if desired.rollout is not None:
                wanted.add(desired.rollout.generation)
        return [zygote for zygote in self._fleet.living_zygotes() if zygote.generation not in wanted]

    def _start_rollout(self, now: float) -> None:
        self._desired.requested = False
        generation = self._orders.start_zygote(now, self._desired.policy)
        self._desired.rollout = Rollout(generation, started=now, proven=self._desired.committed is None)
        if generation > 1:
            self._orders.announce(notices.ReloadStarted(generation))

    def _needs_stand_in(self) -> bool:
        return (
            self._desired.is_settled
            and self._desired.stand_in is None
            and not self._fleet.can_fork(self._desired.committed)
        )

    def deadlines(self) -> Iterator[float]:
        """When a generation may be committed, started or given up; times in the past mean nothing."""
        if not self._desired.serves:
            return
        rollout = self._desired.rollout
        if rollout is not None:
            yield self._calm_at(rollout)
            for worker in self._fleet.serving(rollout.generation):
                if worker.ready_at is not None:
                    yield worker.ready_at + self._desired.policy.watch_time
        if self._needs_stand_in():
            yield self._desired.stand_in_backoff.until
        if self._desired.held is not None:
            yield self._desired.held.until
