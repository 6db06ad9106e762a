"""What the desired generations mean for the fleet: one plan while a rollout goes forward, another while it does not."""

from collections.abc import Callable

from asgi_master.supervision.capacity import Plan
from asgi_master.supervision.desired import Desired, Rollout
from asgi_master.supervision.fleet import Fleet
from asgi_master.supervision.recycling import next_to_recycle


def forward_plan(desired: Desired, fleet: Fleet, rollout: Rollout) -> Plan:
    """The fleet as a proven rollout wants it."""
    policy = desired.policy
    return Plan(
        workers=policy.workers,
        keep=frozenset({rollout.generation}),
        most=policy.workers + policy.surge,
        least=policy.workers - policy.max_unavailable,
        replace=True,
        can_fork=fleet.can_fork(rollout.generation),
    )


def standing_plan(desired: Desired, fleet: Fleet, held: Callable[[int], bool]) -> Plan:
    """The fleet as the committed generation wants it. `held` tells which slots wait for their back-off.

    While a newer one may be about to prove itself, what serves stays and only empty slots are filled,
    leaving a place for the canary.
    """
    workers = desired.committed_policy.workers
    rollout = desired.rollout
    pending = rollout is not None or desired.requested
    reserved = int(rollout is not None and fleet.can_fork(rollout.generation))
    return Plan(
        workers=workers,
        keep=desired.settled,
        most=workers + desired.policy.surge - reserved,
        least=workers - (0 if pending else desired.policy.max_unavailable),
        replace=not pending,
        can_fork=fleet.can_fork(desired.committed),
        # A reload replaces everybody anyway.
        recycle=None if pending else _next_to_recycle(desired, fleet, held),
    )


def _next_to_recycle(desired: Desired, fleet: Fleet, held: Callable[[int], bool]) -> int | None:
    workers = desired.committed_policy.workers
    candidates = [w for w in fleet.serving() if w.generation in desired.settled and w.slot < workers]
    return next_to_recycle(candidates, held, can_fork=fleet.can_fork(desired.committed))
