"""The one rule behind start, replacement, scaling, rollout and rollback: which workers are missing or surplus.

A rollout is what this rule does when the generation of some workers is not kept; nothing here refers to reloads.
"""

from collections.abc import Callable
from dataclasses import field

from asgi_master.records import mutable_record, record
from asgi_master.supervision.fleet import WorkerRecord


@record
class Plan:
    """The desired fleet."""

    workers: int
    """Slots 0 to `workers` - 1 are to have a worker each."""
    kept_generations: frozenset[int]
    """Generations whose workers may stay; the others are outdated."""
    max_serving: int
    """Workers that may serve or boot at once during an exchange."""
    min_ready: int
    """Workers that must stay ready when an outdated one leaves."""
    replace: bool
    """Whether outdated workers get a successor beside them; if not, only empty slots are filled."""
    can_fork: bool
    """Whether the zygote that new workers come from is ready."""
    recycle: int | None = None
    """The ready worker that is to leave although its generation may stay: it gets a successor too."""


@mutable_record
class Changes:
    """The difference between a plan and the observed fleet."""

    drain: list[WorkerRecord] = field(default_factory=list)
    spawn: list[int] = field(default_factory=list)
    """Slots."""


def plan_changes(serving: list[WorkerRecord], plan: Plan, is_backing_off: Callable[[int], bool]) -> Changes:
    """The changes that are possible now; more become so as workers boot and exit.

    `is_backing_off` is true for slots that wait after a failure.
    """
    result = Changes(drain=_too_many(serving, plan))
    leaving = {worker.id for worker in result.drain}
    staying = [worker for worker in serving if worker.id not in leaving]
    served = {worker.slot for worker in staying}
    lasting = [w for w in staying if w.generation in plan.kept_generations and w.id != plan.recycle]
    filled = {worker.slot for worker in lasting} if plan.replace else served
    if plan.can_fork:
        missing = [slot for slot in range(plan.workers) if slot not in filled and not is_backing_off(slot)]
        # Slots without a worker come first.
        missing.sort(key=lambda slot: slot in served)
        result.spawn = missing[: max(0, plan.max_serving - len(staying))]
    return result


def _too_many(serving: list[WorkerRecord], plan: Plan) -> list[WorkerRecord]:
    kept = [worker for worker in serving if worker.generation in plan.kept_generations]
    surplus = [worker for worker in kept if worker.slot >= plan.workers]
    surplus.sort(key=lambda worker: -worker.slot)
    gone = surplus + _doubles([worker for worker in kept if worker.slot < plan.workers], plan.recycle)
    outdated = [worker for worker in serving if worker.generation not in plan.kept_generations]
    # A worker that is not ready yet is not needed.
    leaving = gone + [worker for worker in outdated if not worker.is_ready]
    succeeded = {worker.slot for worker in kept if worker.is_ready}
    exchangeable = [worker for worker in outdated if worker.is_ready]
    exchangeable.sort(key=lambda worker: _order(worker, plan, succeeded))
    if plan.max_serving <= plan.workers and all(w.is_ready for w in serving if w not in leaving):
        # No surge is allowed: the worker to recycle stops first, but only while every other worker is ready.
        exchangeable += [worker for worker in kept if worker.id == plan.recycle and worker not in gone]
    spare = sum(worker.is_ready for worker in serving if worker not in gone) - plan.min_ready
    return leaving + exchangeable[: max(0, spare)]


def _doubles(kept: list[WorkerRecord], recycle: int | None) -> list[WorkerRecord]:
    """Surplus workers of a slot: those older than the newest ready one, and those that boot beside it without need.

    A worker boots beside a ready one for as long as that is the one to recycle.
    """
    newest = {worker.slot: worker for worker in sorted(kept, key=lambda w: w.id) if worker.is_ready}
    return [
        worker
        for worker in kept
        if (stays := newest.get(worker.slot)) is not None
        and (worker.id < stays.id or (worker.id > stays.id and stays.id != recycle))
    ]


def _order(worker: WorkerRecord, plan: Plan, succeeded: set[int]) -> tuple[int, int]:
    """Slots no longer wanted first, from the top; then those whose successor is ready; then by number."""
    if worker.slot >= plan.workers:
        return 0, -worker.slot
    return (1 if worker.slot in succeeded else 2), worker.slot
