"""The plan for the fleet: one while a rollout goes forward, another while it does not."""

from collections.abc import Callable

from asgi_master.supervision.capacity import Plan
from asgi_master.supervision.desired import Desired, Rollout
from asgi_master.supervision.fleet import Fleet
from asgi_master.supervision.recycling import next_to_recycle


def forward_plan(desired: Desired, fleet: Fleet, rollout: Rollout) -> Plan:
    """The desired fleet of a proven rollout."""
    policy = desired.policy
    return Plan(
        workers=policy.workers,
        kept_generations=frozenset({rollout.generation}),
        max_serving=policy.workers + policy.surge,
        min_ready=policy.workers - policy.max_unavailable,
        replace=True,
        can_fork=fleet.can_fork(rollout.generation),
    )


def standing_plan(desired: Desired, fleet: Fleet, is_backing_off: Callable[[int], bool], now: float) -> Plan:
    """The desired fleet of the committed generation. `is_backing_off` is true for slots that wait after a failure.

    While a newer one may be about to prove itself, what serves stays and only empty slots are filled,
    leaving a place for the canary. If clients are to wait for the newer one, none is wanted.
    """
    workers = 0 if desired.is_paused(now) else desired.committed_policy.workers
    rollout = desired.rollout
    pending = rollout is not None or desired.requested
    reserved = int(rollout is not None and fleet.can_fork(rollout.generation))
    return Plan(
        workers=workers,
        kept_generations=desired.settled,
        max_serving=workers + desired.policy.surge - reserved,
        min_ready=workers - (0 if pending else desired.policy.max_unavailable),
        replace=not pending,
        can_fork=fleet.can_fork(desired.committed),
        # A reload replaces all workers anyway.
        recycle=None if pending else _next_to_recycle(desired, fleet, is_backing_off),
    )


def _next_to_recycle(desired: Desired, fleet: Fleet, is_backing_off: Callable[[int], bool]) -> int | None:
    workers = desired.committed_policy.workers
    candidates = [w for w in fleet.serving() if w.generation in desired.settled and w.slot < workers]
    return next_to_recycle(candidates, is_backing_off, can_fork=fleet.can_fork(desired.committed))
