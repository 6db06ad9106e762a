"""Records events and missed deadlines in the fleet, and passes on what they mean for generations, slots and a stop."""

from asgi_master.errors import ExitCode
from asgi_master.supervision import hang, notices
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
    WorkerReplacementRequested,
    WorkerStoppedAccepting,
    ZygoteExited,
    ZygoteFailed,
    ZygoteReady,
)
from asgi_master.supervision.fleet import Urgency, WorkerRecord, ZygoteRecord
from asgi_master.supervision.orders import UNKILLABLE_AFTER, Orders
from asgi_master.supervision.rollout import Generations
from asgi_master.supervision.services import Services
from asgi_master.supervision.slots import Slots
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import Phase, WorkerState, WorkerTrigger, ZygoteState, ZygoteTrigger
from asgi_master.supervision.stopping import Stopping

_QUIET_STATUSES = frozenset({0, -15})
"""Expected statuses of a draining worker: it exited by itself, or (still booting) by SIGTERM."""
_SIGKILLED = -9


def _is_quiet(worker: WorkerRecord, status: int) -> bool:
    """Whether the exit of a draining worker is as expected. One that could not boot either is not announced."""
    return status in _QUIET_STATUSES or (worker.ready_at is None and status == ExitCode.BOOT_FAILED)


class Facts:
    """Records events, heartbeats and deadlines that passed."""

    def __init__(
        self,
        state: SupervisorState,
        orders: Orders,
        generations: Generations,
        slots: Slots,
        services: Services,
        stopping: Stopping,
    ) -> None:
        self._state = state
        self._desired = state.desired
        self._fleet = state.fleet
        self._orders = orders
        self._generations = generations
        self._slots = slots
        self._services = services
        self._stopping = stopping

    def record(self, event: Event, now: float) -> None:
        """Take note of an event. Events about the unknown mean nothing."""
        match event:
            case ZygoteReady() | ZygoteFailed() | ZygoteExited():
                zygote = self._fleet.zygotes.get(event.generation)
                if zygote is not None:
                    self._record_zygote(event, zygote, now)
            case WorkerReady() | WorkerFailed() | WorkerLeaving() | WorkerExited():
                worker = self._fleet.workers.get(event.worker)
                if worker is not None and worker.is_service:
                    self._services.record(event, worker, now)
                elif worker is not None:
                    self._record_worker(event, worker, now)
            case WorkerStoppedAccepting(worker_id):
                if worker_id in self._fleet.workers:
                    self._state.shutdown.not_accepting.add(worker_id)
            case WorkerReplacementRequested():
                worker = self._fleet.workers.get(event.worker)
                if worker is not None and worker.serves and not worker.replacement_reason:
                    worker.replacement_reason, worker.replacement_requested_at = event.reason, now
            case HeartbeatsRead(stamps, tallies, progress):
                for worker in self._fleet.living():
                    hang.note_heartbeat(worker, stamps.get(worker.id, worker.stamp), now)
                    hang.note_progress(worker, progress.get(worker.id, worker.progress), now)
                    if not self._state.clock.in_grace:
                        self._judge_heartbeat(worker, now)
                self._generations.tallies_were_read(tallies)
            case ReloadRequested(policy):
                self._generations.request(policy, now)
            case ReloadRefused(why, errors):
                self._orders.announce(notices.ReloadRefused(why, errors))
            case RollbackRequested():
                self._generations.roll_back(now)
            case ScaleRequested(delta):
                self._scale(delta)
            case StopRequested(quick):
                self._stopping.request(now, quick=quick)
            case TimePassed():
                pass

    def enforce_deadlines(self, now: float) -> None:
        """Kill what has stayed in its state for too long."""
        for worker in [
            w for w in self._fleet.workers.values() if w.deadline is not None and w.deadline <= now
        ]:
            if worker.is_service:
                self._services.overdue(worker, now)
                continue
            served = worker.serves
            if worker.state is WorkerState.KILLED:
                worker.move(WorkerTrigger.TIMED_OUT)
                self._orders.announce(notices.WorkerAbandoned(*_name(worker), UNKILLABLE_AFTER))
                continue
            self._stopping.kill(worker, WorkerTrigger.TIMED_OUT, now)
            if served:
                waited = now - worker.ordered_at
                self._slots.worker_lost(worker, notices.BootTimedOut(worker.slot, waited), now)
            else:
                cause = notices.Overstayed(worker.slot, now - worker.leaving_since)
                self._orders.announce(notices.WorkerKilled(*_name(worker), cause))
        for zygote in [
            z for z in self._fleet.zygotes.values() if z.deadline is not None and z.deadline <= now
        ]:
            before = zygote.state
            if before is ZygoteState.KILLED:
                zygote.move(ZygoteTrigger.TIMED_OUT)
                continue
            self._orders.kill_zygote(zygote, ZygoteTrigger.TIMED_OUT, now)
            if before is ZygoteState.IMPORTING:
                cause_of_zygote = notices.ImportTimedOut(self._desired.policy.boot_timeout)
                self._generations.zygote_lost(zygote, cause_of_zygote, now)

    def _record_zygote(
        self, event: ZygoteReady | ZygoteFailed | ZygoteExited, zygote: ZygoteRecord, now: float
    ) -> None:
        wanted = zygote.state in {ZygoteState.IMPORTING, ZygoteState.READY}
        match event:
            case ZygoteReady(is_broken=is_broken):
                zygote.is_broken = is_broken
                zygote.move(ZygoteTrigger.BECAME_READY)
                if zygote.state is ZygoteState.READY and zygote.ready_at is None:
                    zygote.ready_at = now
                    self._generations.zygote_became_ready(zygote.generation)
            case ZygoteFailed(_, reason):
                zygote.move(ZygoteTrigger.REFUSED, now + self._desired.policy.kill_grace)
                if wanted and zygote.state is not ZygoteState.READY:
                    self._generations.zygote_lost(zygote, notices.ImportFailed(reason), now)
            case ZygoteExited(_, status):
                zygote.move(ZygoteTrigger.EXITED)
                del self._fleet.zygotes[zygote.generation]
                if wanted:
                    self._generations.zygote_lost(zygote, notices.ZygoteDied(status), now)

    def _record_worker(
        self,
        event: WorkerReady | WorkerFailed | WorkerLeaving | WorkerExited,
        worker: WorkerRecord,
        now: float,
    ) -> None:
        served, before, policy = worker.serves, worker.state, self._desired.policy
        match event:
            case WorkerReady():
                self._became_ready(worker, now)
            case WorkerFailed(_, reason):
                limit = now + policy.shutdown_timeout + policy.kill_grace
                worker.move(
                    WorkerTrigger.REFUSED, limit if worker.deadline is None else min(limit, worker.deadline)
                )
                if served and worker.state is WorkerState.FAILED:
                    worker.leaving_since = now
                    self._slots.worker_lost(worker, notices.BootRefused(worker.slot, reason), now)
            case WorkerLeaving(_, reason):
                worker.move(
                    WorkerTrigger.LEFT,
                    now + policy.drain_timeout + policy.kill_grace,
                )
                if served:
                    worker.leaving_since, worker.urgency = now, Urgency.DRAIN
                    self._slots.worker_lost(worker, notices.Left(worker.slot, reason), now)
            case WorkerExited(_, status, out_of_memory):
                worker.move(WorkerTrigger.EXITED)
                del self._fleet.workers[worker.id]
                self._state.shutdown.not_accepting.discard(worker.id)
                ready_for = None if worker.ready_at is None else now - worker.ready_at
                if served:
                    died = notices.Died(
                        worker.slot, status, ready_for, out_of_memory and status == _SIGKILLED
                    )
                    self._slots.worker_lost(worker, died, now)
                    if died.out_of_memory and policy.exit_on_oom:
                        self._stopping.out_of_memory(now)
                elif before is WorkerState.DRAINING and not _is_quiet(worker, status):
                    self._orders.announce(notices.WorkerDiedLeaving(*_name(worker), status))

    def _became_ready(self, worker: WorkerRecord, now: float) -> None:
        if worker.ready_at is None and worker.state in {WorkerState.BOOTING, WorkerState.DRAINING}:
            worker.ready_at = worker.alive_at = now
        if worker.state is WorkerState.BOOTING:
            worker.move(WorkerTrigger.BECAME_READY)
            self._orders.announce(notices.WorkerBecameReady(*_name(worker), standby=worker.standby))

    def _judge_heartbeat(self, worker: WorkerRecord, now: float) -> None:
        silent_for = now - worker.alive_at
        match hang.judge(worker, now, self._desired.policy):
            case hang.HangAction.RECOVERED:
                worker.dumps = 0
                self._orders.announce(notices.WorkerRecovered(*_name(worker)))
            case hang.HangAction.BUSY:
                worker.is_busy = True
                self._orders.announce(notices.WorkerBusy(*_name(worker), silent_for))
            case hang.HangAction.DUMP:
                if worker.dumps == 0:
                    kill_in = 2 * self._desired.policy.dump_interval
                    self._orders.announce(notices.WorkerHung(*_name(worker), silent_for, kill_in))
                self._orders.dump(worker, now)
            case hang.HangAction.KILL:
                served = worker.serves
                cause = notices.Hung(worker.slot, silent_for)
                self._stopping.kill(worker, WorkerTrigger.FOUND_HUNG, now)
                if served:
                    self._slots.worker_lost(worker, cause, now)
                else:
                    self._orders.announce(notices.WorkerKilled(*_name(worker), cause))
            case hang.HangAction.FINE | hang.HangAction.WAIT:
                pass

    def _scale(self, delta: int) -> None:
        if self._desired.phase in {Phase.STOPPING, Phase.STOPPED}:
            return
        before = self._desired.policy.workers
        self._desired.scale(delta)
        self._orders.announce(notices.ScaledTo(self._desired.policy.workers, before))


def _name(worker: WorkerRecord) -> tuple[int, int, int]:
    return worker.id, worker.slot, worker.generation
