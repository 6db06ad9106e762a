"""The supervisor: facts in, orders out.

`handle` records a fact and then compares what there is with what there should be. Whatever takes time (a
reload, a stop) is not a procedure here but the repeated answer to that comparison.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from asgi_master.errors import ExitCode
from asgi_master.supervision import hang, notices
from asgi_master.supervision.actions import Action
from asgi_master.supervision.deployment import Deployment
from asgi_master.supervision.desired import Desired
from asgi_master.supervision.events import (
    Event,
    HeartbeatsRead,
    ReloadRefused,
    ReloadRequested,
    RollbackRequested,
    ScaleRequested,
    StopRequested,
    TimePassed,
    WorkerExited,
    WorkerFailed,
    WorkerLeaving,
    WorkerReady,
    WorkerStoppedAccepting,
    WorkerWantsToLeave,
    ZygoteExited,
    ZygoteFailed,
    ZygoteReady,
)
from asgi_master.supervision.fleet import Fleet, Urgency, Worker, Zygote
from asgi_master.supervision.orders import UNKILLABLE_AFTER, Orders
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.shutdown import Shutdown, ShutdownState
from asgi_master.supervision.states import (
    Phase,
    PhaseTrigger,
    WorkerState,
    WorkerTrigger,
    ZygoteState,
    ZygoteTrigger,
)

_QUIET_STATUSES = frozenset({0, -15})
"""How a worker that was told to leave may end: by itself, or (still booting) by SIGTERM."""
_SIGKILLED = -9
_SERVING = frozenset({Phase.STEADY, Phase.RELOADING})


def _is_quiet(worker: Worker, status: int) -> bool:
    """Whether a worker that was told to leave ended as it may. One that could not start either is no news."""
    return status in _QUIET_STATUSES or (worker.ready_at is None and status == ExitCode.BOOT_FAILED)


@dataclass(slots=True)
class Knowledge:
    """All that a supervisor knows: plain data, which another one can go on with."""

    fleet: Fleet
    desired: Desired
    clock: hang.Punctuality
    shutdown: ShutdownState = field(default_factory=ShutdownState)


class Supervisor:
    """Decides which processes should live.

    `jitter` returns a number between 0 and 1 and spreads retries; `now` is in seconds on a monotonic clock.
    """

    def __init__(
        self,
        policy: Policy,
        now: float,
        jitter: Callable[[], float],
        *,
        knowledge: Knowledge | None = None,
    ) -> None:
        """`knowledge` is that of the supervisor whose place it takes, between two facts and not on its way out."""
        if knowledge is None:
            knowledge = Knowledge(Fleet(), Desired(policy, policy), hang.Punctuality(now))
        self.knowledge = knowledge
        self.fleet = knowledge.fleet
        self._orders = Orders(self.fleet)
        self._deployment = Deployment(knowledge.desired, self.fleet, self._orders, jitter)
        self._clock = knowledge.clock
        self._shutdown = Shutdown(knowledge.shutdown, self._orders)

    @property
    def phase(self) -> Phase:
        """What the whole is about."""
        return self._deployment.phase

    @property
    def stops_at(self) -> float | None:
        """When a stop begins that was requested; `None` if it has begun, or none was requested."""
        return self._shutdown.state.delayed_until

    @property
    def policy(self) -> Policy:
        """The numbers in effect: while a reload is under way, its own."""
        return self._deployment.policy

    @property
    def can_roll_back(self) -> bool:
        """Whether `RollbackRequested` would change anything now."""
        return self._deployment.can_roll_back

    @property
    def held_generation(self) -> int | None:
        """The generation that a rollback would return to; `None` if there is none."""
        return self._deployment.held_generation

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take note of a fact; returns what to do now, in order. Facts about the unknown mean nothing."""
        if self.phase is Phase.STOPPED:
            return []
        late = self._clock.arrive(now, self.policy.late_after)
        now = self._clock.now
        if late:
            for worker in self.fleet.workers.values():
                hang.forgive(worker, late, now)
        self._record(event, now)
        self._reconcile(now)
        self._clock.promised = self.next_deadline()
        return self._orders.take()

    def next_deadline(self) -> float | None:
        """When `handle` wants to be called at the latest, heartbeats just read; `None`: not before a fact."""
        if self.phase is Phase.STOPPED:
            return None
        now = self._clock.now
        times = [max(time, self._clock.lenient_until) for time in self.fleet.deadlines()]
        times += self._deployment.deadlines()
        times += self._shutdown.deadlines()
        look = hang.next_look(self.fleet.living(), now, self.policy)
        if look is not None:
            times.append(look)
        return min((time for time in times if time > now), default=None)

    # Facts

    def _record(self, event: Event, now: float) -> None:
        match event:
            case ZygoteReady() | ZygoteFailed() | ZygoteExited():
                zygote = self.fleet.zygotes.get(event.generation)
                if zygote is not None:
                    self._record_zygote(event, zygote, now)
            case WorkerReady() | WorkerFailed() | WorkerLeaving() | WorkerExited():
                worker = self.fleet.workers.get(event.worker)
                if worker is not None:
                    self._record_worker(event, worker, now)
            case WorkerStoppedAccepting(worker_id):
                if worker_id in self.fleet.workers:
                    self._shutdown.state.not_accepting.add(worker_id)
            case WorkerWantsToLeave():
                worker = self.fleet.workers.get(event.worker)
                if worker is not None and worker.serves and not worker.wish:
                    worker.wish, worker.wished_at = event.reason, now
            case HeartbeatsRead(stamps, tallies, progress):
                for worker in self.fleet.living():
                    hang.note_heartbeat(worker, stamps.get(worker.id, worker.stamp), now)
                    hang.note_progress(worker, progress.get(worker.id, worker.progress), now)
                    if not self._clock.lenient:
                        self._judge_heartbeat(worker, now)
                self._deployment.tallies_were_read(tallies)
            case ReloadRequested(policy):
                self._deployment.request(policy)
            case ReloadRefused(why, errors):
                self._orders.announce(notices.ReloadRefused(why, errors))
            case RollbackRequested():
                self._deployment.roll_back(now)
            case ScaleRequested(delta):
                self._deployment.scale(delta)
            case StopRequested(quick):
                self._stop(now, quick=quick)
            case TimePassed():
                pass
        if self._shutdown.is_due(now):
            self._stop(now)

    def _record_zygote(
        self, event: ZygoteReady | ZygoteFailed | ZygoteExited, zygote: Zygote, now: float
    ) -> None:
        wanted = zygote.state in {ZygoteState.IMPORTING, ZygoteState.READY}
        match event:
            case ZygoteReady():
                zygote.move(ZygoteTrigger.BECAME_READY)
                if zygote.state is ZygoteState.READY and zygote.ready_at is None:
                    zygote.ready_at = now
                    self._deployment.zygote_became_ready(zygote.generation)
            case ZygoteFailed(_, reason):
                zygote.move(ZygoteTrigger.REFUSED, now + self.policy.kill_grace)
                if wanted and zygote.state is not ZygoteState.READY:
                    self._deployment.zygote_lost(zygote, notices.ImportFailed(reason), now)
            case ZygoteExited(_, status):
                zygote.move(ZygoteTrigger.EXITED)
                del self.fleet.zygotes[zygote.generation]
                if wanted:
                    self._deployment.zygote_lost(zygote, notices.ZygoteDied(status), now)

    def _record_worker(
        self, event: WorkerReady | WorkerFailed | WorkerLeaving | WorkerExited, worker: Worker, now: float
    ) -> None:
        served, before = worker.serves, worker.state
        match event:
            case WorkerReady():
                self._became_ready(worker, now)
            case WorkerFailed(_, reason):
                limit = now + self.policy.shutdown_timeout + self.policy.kill_grace
                worker.move(
                    WorkerTrigger.REFUSED, limit if worker.deadline is None else min(limit, worker.deadline)
                )
                if served and worker.state is WorkerState.FAILED:
                    worker.leaving_since = now
                    self._deployment.worker_lost(worker, notices.BootRefused(worker.slot, reason), now)
            case WorkerLeaving(_, reason):
                worker.move(WorkerTrigger.LEFT, now + self.policy.drain_timeout + self.policy.kill_grace)
                if served:
                    worker.leaving_since, worker.urgency = now, Urgency.DRAIN
                    self._deployment.worker_lost(worker, notices.Left(worker.slot, reason), now)
            case WorkerExited(_, status, out_of_memory):
                worker.move(WorkerTrigger.EXITED)
                del self.fleet.workers[worker.id]
                self._shutdown.state.not_accepting.discard(worker.id)
                ready_for = None if worker.ready_at is None else now - worker.ready_at
                if served:
                    died = notices.Died(
                        worker.slot, status, ready_for, out_of_memory and status == _SIGKILLED
                    )
                    self._deployment.worker_lost(worker, died, now)
                    if died.out_of_memory and self.policy.exit_on_oom:
                        self._out_of_memory(now)
                elif before is WorkerState.DRAINING and not _is_quiet(worker, status):
                    self._orders.announce(notices.WorkerDiedLeaving(*_name(worker), status))

    def _became_ready(self, worker: Worker, now: float) -> None:
        if worker.ready_at is None and worker.state in {WorkerState.BOOTING, WorkerState.DRAINING}:
            worker.ready_at = worker.alive_at = now
        if worker.state is WorkerState.BOOTING:
            worker.move(WorkerTrigger.BECAME_READY)
            self._orders.announce(notices.WorkerBecameReady(*_name(worker), standby=worker.standby))

    def _judge_heartbeat(self, worker: Worker, now: float) -> None:
        silent_for = now - worker.alive_at
        match hang.judge(worker, now, self.policy):
            case hang.Verdict.RECOVERED:
                worker.dumps = 0
                self._orders.announce(notices.WorkerRecovered(*_name(worker)))
            case hang.Verdict.BUSY:
                worker.is_busy = True
                self._orders.announce(notices.WorkerBusy(*_name(worker), silent_for))
            case hang.Verdict.DUMP:
                if worker.dumps == 0:
                    kill_in = 2 * self.policy.dump_interval
                    self._orders.announce(notices.WorkerHung(*_name(worker), silent_for, kill_in))
                self._orders.dump(worker, now)
            case hang.Verdict.KILL:
                served = worker.serves
                cause = notices.Hung(worker.slot, silent_for)
                self._kill(worker, WorkerTrigger.FOUND_HUNG, now)
                if served:
                    self._deployment.worker_lost(worker, cause, now)
                else:
                    self._orders.announce(notices.WorkerKilled(*_name(worker), cause))
            case hang.Verdict.FINE | hang.Verdict.WAIT:
                pass

    def _stop(self, now: float, *, quick: bool = False) -> None:
        serves = self._deployment.phase in _SERVING
        if self._shutdown.request(self.policy, now, quick=quick, serves=serves):
            self._deployment.move(PhaseTrigger.STOP_REQUESTED)
            level = self._shutdown.state.level
            assert level is not None
            self._orders.announce(notices.Stopping(level, len(self.fleet.living())))
        elif self._shutdown.is_delayed:
            self._deployment.move(PhaseTrigger.STOP_DELAYED)

    def _out_of_memory(self, now: float) -> None:
        state = self._shutdown.state
        if state.is_out_of_memory:
            return
        # Also of a first boot that ends by it: the status says what to mend.
        state.is_out_of_memory = True
        self._orders.announce(notices.StoppingForMemory())
        if not self.phase.is_ending:
            self._stop(now)

    # Desired against observed

    def _reconcile(self, now: float) -> None:
        if not self._clock.lenient:
            self._enforce_deadlines(now)
        if self._deployment.serves:
            self._deployment.reconcile_workers(now)
        else:
            self._empty(now)
        if self.phase is Phase.STOPPING:
            self._shutdown.refuse_new_connections(self.fleet.living(), now)
        self._deployment.reconcile_zygotes(now)
        if self.phase is Phase.STOPPING and not self.fleet.living() and not self.fleet.living_zygotes():
            self._exit()

    def _enforce_deadlines(self, now: float) -> None:
        for worker in [
            w for w in self.fleet.workers.values() if w.deadline is not None and w.deadline <= now
        ]:
            served = worker.serves
            if worker.state is WorkerState.KILLED:
                worker.move(WorkerTrigger.TIMED_OUT)
                self._orders.announce(notices.WorkerAbandoned(*_name(worker), UNKILLABLE_AFTER))
                continue
            self._kill(worker, WorkerTrigger.TIMED_OUT, now)
            if served:
                waited = now - worker.ordered_at
                self._deployment.worker_lost(worker, notices.BootTimedOut(worker.slot, waited), now)
            else:
                cause = notices.Overstayed(worker.slot, now - worker.leaving_since)
                self._orders.announce(notices.WorkerKilled(*_name(worker), cause))
        for zygote in [
            z for z in self.fleet.zygotes.values() if z.deadline is not None and z.deadline <= now
        ]:
            before = zygote.state
            if before is ZygoteState.KILLED:
                zygote.move(ZygoteTrigger.TIMED_OUT)
                continue
            self._orders.kill_zygote(zygote, ZygoteTrigger.TIMED_OUT, now)
            if before is ZygoteState.IMPORTING:
                cause_of_zygote = notices.ImportTimedOut(self.policy.boot_timeout)
                self._deployment.zygote_lost(zygote, cause_of_zygote, now)

    def _empty(self, now: float) -> None:
        """Have everybody leave as urgently as was asked for."""
        if self.phase is Phase.STOPPING:
            self._shutdown.boot_failed()
        urgency = self._shutdown.urgency
        for worker in self.fleet.living():
            if worker.urgency >= urgency or worker.state is WorkerState.KILLED:
                continue
            if urgency is Urgency.KILL:
                self._kill(worker, WorkerTrigger.STOPPED_BY_FORCE, now)
            else:
                self._orders.drain(worker, urgency, now, self.policy)
        if urgency is Urgency.KILL:
            for zygote in self.fleet.living_zygotes():
                if zygote.state is not ZygoteState.KILLED:
                    self._orders.kill_zygote(zygote, ZygoteTrigger.STOPPED_BY_FORCE, now)

    def _kill(self, worker: Worker, trigger: WorkerTrigger, now: float) -> None:
        if self.phase is Phase.STOPPING:
            self._shutdown.state.is_forced = True
        self._orders.kill(worker, trigger, now)

    def _exit(self) -> None:
        code = self._shutdown.exit_code()
        self._deployment.move(PhaseTrigger.EMPTIED)
        self._orders.announce(notices.Stopped(code))
        self._orders.exit(code)


def _name(worker: Worker) -> tuple[int, int, int]:
    return worker.id, worker.slot, worker.generation
