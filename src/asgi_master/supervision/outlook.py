"""What will happen next by itself: the deadlines and back-offs of the present state, as values.

`asgi_master.telemetry.outlook` has a sentence for each.
"""

from collections.abc import Iterator
from enum import StrEnum

from asgi_master.records import record
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.service_view import view_services
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import Phase, WorkerState, ZygoteState

_SILENT_AFTER = 2.0
"""Seconds without a heartbeat after which a worker's end is foreseen; heartbeats come four times a second."""


class Step(StrEnum):
    """What will happen, or what is waited for."""

    STOP_BEGINS = "stop-begins"
    """A stop that was requested begins."""
    STOPPING = "stopping"
    """The last worker or service has left."""
    IMPORT = "import"
    """A new generation has imported the application."""
    CANARY = "canary"
    """The first worker of a new generation is ready, and then has been for long enough."""
    ROLLOUT = "rollout"
    """Every worker runs the new generation."""
    BOOT = "boot"
    """A worker is ready."""
    RESTART = "restart"
    """A slot that backs off after failures gets a worker."""
    SERVICE = "service"
    """A service that failed is started again."""
    KILL = "kill"
    """A worker whose event loop is blocked is killed."""
    LEAVE = "leave"
    """A worker that drains has left."""
    RECYCLE = "recycle"
    """A worker that asked for it is replaced."""
    ZYGOTE = "zygote"
    """A zygote replaces the one that was lost."""
    LET_GO = "let-go"
    """The generation before is no longer kept for a rollback."""


@record
class Upcoming:
    """One thing that will happen. The field names are the JSON's keys."""

    step: Step
    seconds: float | None
    """When, or at the latest; `None` if there is no such time."""
    slot: int | None = None
    generation: int | None = None
    done: int | None = None
    total: int | None = None
    """Of several workers: how many are done, of how many."""
    is_rollback: bool = False
    service: str = ""
    """Its name, of a service."""


def outlook(state: SupervisorState, now: float) -> list[Upcoming]:
    """What will happen, the most important first."""
    shutdown, phase = state.shutdown, state.desired.phase
    if phase in {Phase.STOPPING, Phase.STOPPED}:
        living = [*state.fleet.living(), *state.fleet.services()]
        return [Upcoming(Step.STOPPING, _latest(living, now), total=len(living))] if living else []
    found = []
    if shutdown.delayed_until is not None:
        found.append(Upcoming(Step.STOP_BEGINS, max(0.0, shutdown.delayed_until - now)))
    found += _rollout(state, now)
    found += sorted(
        _of_workers(state, now), key=lambda upcoming: (_RANK[upcoming.step], upcoming.seconds or 0.0)
    )
    found += (
        Upcoming(Step.SERVICE, service.retry_in, service=service.name)
        for service in view_services(state, now)
        if service.retry_in is not None
    )
    if state.desired.stand_in is None and state.desired.stand_in_backoff.until > now:
        found.append(Upcoming(Step.ZYGOTE, state.desired.stand_in_backoff.until - now))
    if state.desired.held is not None:
        held = state.desired.held
        found.append(Upcoming(Step.LET_GO, max(0.0, held.until - now), generation=held.generation))
    return found


_RANK = {
    step: rank for rank, step in enumerate((Step.KILL, Step.RESTART, Step.BOOT, Step.RECYCLE, Step.LEAVE))
}


def _rollout(state: SupervisorState, now: float) -> Iterator[Upcoming]:
    """Where a start, a reload or a rollback stands."""
    rollout = state.desired.rollout
    if rollout is None:
        return
    generation, back = rollout.generation, rollout.returns_to is not None
    zygote = state.fleet.zygotes.get(generation)
    if zygote is not None and zygote.state is ZygoteState.IMPORTING:
        yield Upcoming(Step.IMPORT, _left(zygote.deadline, now), generation=generation, is_rollback=back)
        return
    workers = state.fleet.serving(generation)
    wanted, watch = state.desired.policy.workers, state.desired.policy.watch_time
    done = sum(worker.is_ready for worker in workers)
    if not rollout.proven:
        first = workers[0] if workers else None
        until = (
            None if first is None else first.deadline if first.ready_at is None else first.ready_at + watch
        )
        slot = None if first is None else first.slot
        yield Upcoming(Step.CANARY, _left(until, now), slot, generation, is_rollback=back)
        return
    others = [worker for worker in state.fleet.living() if worker.generation != generation]
    seconds = _latest([*others, *workers], now)
    yield Upcoming(Step.ROLLOUT, seconds, None, generation, done, wanted, back)


def _of_workers(state: SupervisorState, now: float) -> Iterator[Upcoming]:
    policy, fleet, rollout = state.desired.policy, state.fleet, state.desired.rollout
    for worker in fleet.living():
        if worker.beats and (left := _kill_in(worker, policy, now)) is not None:
            yield Upcoming(Step.KILL, left, worker.slot, worker.generation)
        elif rollout is not None:
            # Told by the rollout.
            continue
        elif worker.state is WorkerState.BOOTING:
            yield Upcoming(Step.BOOT, _left(worker.deadline, now), worker.slot, worker.generation)
        elif worker.state is WorkerState.READY and worker.replacement_reason:
            yield Upcoming(Step.RECYCLE, None, worker.slot, worker.generation)
        elif worker.state is not WorkerState.READY:
            yield Upcoming(Step.LEAVE, _left(worker.deadline, now), worker.slot, worker.generation)
    served = {worker.slot for worker in fleet.serving()}
    for slot, backoff in fleet.backoffs.items():
        if backoff.until > now and slot not in served and slot < policy.workers:
            yield Upcoming(Step.RESTART, backoff.until - now, slot, backoff.generation)


def _kill_in(worker: WorkerRecord, policy: Policy, now: float) -> float | None:
    """Seconds until the master kills a worker that is silent, if it stays so; `None` if it is not silent."""
    if policy.hang_timeout <= 0 or now - worker.alive_at < _SILENT_AFTER:
        return None
    silent_since = max(worker.alive_at, worker.moved_at)
    return max(0.0, silent_since + policy.hang_timeout + 2 * policy.dump_interval - now)


def _left(deadline: float | None, now: float) -> float | None:
    return None if deadline is None else max(0.0, deadline - now)


def _latest(workers: list[WorkerRecord], now: float) -> float | None:
    """Seconds until the last deadline of these workers."""
    return max((worker.deadline - now for worker in workers if worker.deadline is not None), default=None)
