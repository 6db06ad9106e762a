"""A supervisor's random life, for Hypothesis: any fact at any moment, and what must hold all the same."""

from collections import Counter
from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asgi_master.supervision.actions import (
    Action,
    AdmitWorker,
    Announce,
    DrainWorker,
    DumpStacks,
    ExitMaster,
    KillWorker,
    KillZygote,
    RetireZygote,
    SpawnService,
    SpawnWorker,
    StartZygote,
    StopService,
)
from asgi_master.supervision.error_watch import Tally
from asgi_master.supervision.events import (
    Event,
    HeartbeatsRead,
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
    ZygoteExited,
    ZygoteFailed,
    ZygoteReady,
)
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import Phase, Role, WorkerState, ZygoteState
from asgi_master.supervision.supervisor import Supervisor

POLICIES = st.builds(
    Policy,
    workers=st.integers(1, 4),
    max_surge=st.integers(0, 2),
    max_unavailable=st.integers(0, 2),
    boot_timeout=st.just(10.0),
    drain_timeout=st.just(8.0),
    shutdown_timeout=st.just(2.0),
    hang_timeout=st.sampled_from([0.0, 3.0]),
    watch_time=st.sampled_from([0.0, 1.0]),
    max_error_share=st.sampled_from([0.0, 20.0]),
    rollback_window=st.sampled_from([0.0, 20.0]),
    spares=st.sampled_from([0, 0, 1, 2]),
    backoff_cap=st.just(4.0),
    exit_on_first_failure=st.booleans(),
    services=st.sampled_from([(), (), ("a",), ("a", "b")]),
    service_overlap=st.booleans(),
    service_stop_timeout=st.just(4.0),
)
WAITS = frozenset({WorkerState.BOOTING, WorkerState.FAILED, WorkerState.DRAINING, WorkerState.KILLED})


class FakeProcess:
    def __init__(self, slot: int, generation: int, standby: bool, service: str = "") -> None:
        self.slot, self.generation, self.standby, self.service = slot, generation, standby, service
        self.answered = self.answered_badly = 0
        self.ready = self.failed = self.told = self.killed = self.left = self.asked = False

    @property
    def serves(self) -> bool:
        return not self.service and self.runs and not self.standby

    @property
    def runs(self) -> bool:
        return self.ready and not (self.told or self.left or self.killed or self.failed)


class FleetMachine(RuleBasedStateMachine):
    """The edge, as badly as the world can treat it."""

    @initialize(policy=POLICIES, boots=st.booleans())
    def start(self, policy: Policy, boots: bool) -> None:
        self.now = 100.0
        self.supervisor = Supervisor(policy, self.now, lambda: 0.5)
        self.workers: dict[int, FakeProcess] = {}
        self.zygotes: dict[int, str] = {}
        self.seen_workers = 0
        self.seen_generations = 0
        self.exited: ExitMaster | None = None
        self.stopping = False
        self.tell(TimePassed())
        if boots:
            self.settle()
            assert self.supervisor.phase is Phase.STEADY

    # Every order is checked

    def tell(self, event: Event) -> None:
        for action in self.supervisor.handle(event, self.now):
            assert self.exited is None
            self.obey(action)
        deadline = self.supervisor.next_deadline()
        assert deadline is None or deadline > self.now

    def obey(self, action: Action) -> None:
        match action:
            case StartZygote(generation):
                assert generation > self.seen_generations
                assert not self.stopping
                self.seen_generations = generation
                self.zygotes[generation] = "importing"
                living = [
                    z for z in self.supervisor.fleet.zygotes.values() if z.state is not ZygoteState.ABANDONED
                ]
                assert len(living) <= 4
            case RetireZygote(generation):
                assert self.zygotes[generation] in {"importing", "ready"}
                self.zygotes[generation] = "retired"
            case KillZygote(generation):
                assert self.zygotes[generation] != "killed"
                self.zygotes[generation] = "killed"
            case SpawnWorker(worker, slot, generation, role):
                assert worker == self.seen_workers + 1
                assert self.zygotes[generation] == "ready"
                assert not self.stopping
                self.seen_workers = worker
                self.workers[worker] = FakeProcess(slot, generation, role is Role.SPARE)
                old, new = self.supervisor.state.desired.committed_policy, self.supervisor.policy
                most = max(old.workers, new.workers) + max(old.max_surge, new.max_surge, 1)
                assert len(self.supervisor.fleet.serving()) <= most
            case SpawnService(worker, service, generation):
                assert worker == self.seen_workers + 1
                self.seen_workers = worker
                self.check_never_twice(service, generation)
                self.workers[worker] = FakeProcess(-1, generation, standby=False, service=service)
            case StopService(worker, timeout):
                process = self.workers[worker]
                assert 0 < timeout <= self.supervisor.policy.service_stop_timeout
                assert not process.told
                assert not process.killed
                assert not process.failed
                self.check_stop(process)
                process.told = True
            case AdmitWorker(worker):
                process = self.workers[worker]
                assert process.standby
                assert process.ready
                assert not (process.told)
                assert not (process.killed)
                assert not (process.left)
                assert not (process.failed)
                process.standby = False
            case DrainWorker(worker, timeout, hand_off):
                process = self.workers[worker]
                assert not process.failed
                assert not process.killed
                assert timeout >= 0
                if hand_off and self.supervisor.fleet.workers[worker].role is Role.WORKER:
                    self.check_capacity(process)
                process.told = True
            case DumpStacks(worker):
                assert self.workers[worker].ready
            case KillWorker(worker):
                assert not self.workers[worker].killed
                self.workers[worker].killed = True
            case ExitMaster():
                abandoned = {w.id for w in self.supervisor.fleet.workers.values()}
                assert set(self.workers) <= abandoned
                self.exited = action
            case Announce():
                pass

    def check_never_twice(self, service: str, generation: int) -> None:
        """No process of a service starts before every other one has ended; with overlap, of this generation."""
        desired = self.supervisor.state.desired
        assert self.zygotes[generation] == "ready"
        assert not self.stopping
        assert generation == desired.committed
        assert service in desired.committed_policy.services
        assert service not in self.supervisor.state.services.completed
        others = [
            w for w in self.supervisor.fleet.services() if w.service == service and w.id != self.seen_workers
        ]
        if desired.committed_policy.service_overlap:
            assert len(others) <= 1
            assert not {other.generation for other in others} & desired.settled
        else:
            assert others == []

    def check_stop(self, process: FakeProcess) -> None:
        """A service is stopped for a committed generation, for a SIGTERM, or once no worker lives."""
        desired = self.supervisor.state.desired
        if self.supervisor.phase is Phase.STOPPING:
            assert self.supervisor.fleet.living() == []
        elif not process.asked and process.service in desired.committed_policy.services:
            assert process.generation not in desired.settled

    def check_capacity(self, process: FakeProcess) -> None:
        """No serving worker is drained for an exchange unless enough others are ready."""
        process.told = True
        if not process.ready or process.left:
            return
        old, new = self.supervisor.state.desired.committed_policy, self.supervisor.policy
        workers = min(old.workers, new.workers)
        left = sum(p.serves for p in self.workers.values())
        missing = max(old.max_unavailable, new.max_unavailable)
        succeeded = process.asked and any(
            p.serves and p.slot == process.slot and p.generation >= process.generation
            for p in self.workers.values()
        )
        assert process.slot >= workers or left >= workers - missing or succeeded

    # Facts

    def pick(self, data: st.DataObject, things: Iterable[int]) -> int:
        return data.draw(st.sampled_from(sorted(things)))

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 2.0, 5.0, 12.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tell(TimePassed())

    @rule()
    def deadline_passes(self) -> None:
        self.now = self.supervisor.next_deadline() or self.now
        self.tell(TimePassed())

    @rule(back=st.floats(0, 1000))
    def clock_jumps_back(self, back: float) -> None:
        for action in self.supervisor.handle(TimePassed(), self.now - back):
            self.obey(action)

    @precondition(lambda self: self.zygotes)
    @rule(data=st.data(), what=st.sampled_from(["ready", "ready", "failed", "exited"]))
    def zygote_tells(self, data: st.DataObject, what: str) -> None:
        generation = self.pick(data, self.zygotes)
        if what == "ready" and self.zygotes[generation] in {"importing", "retired"}:
            if self.zygotes[generation] == "importing":
                self.zygotes[generation] = "ready"
            self.tell(ZygoteReady(generation))
        elif what == "failed" and self.zygotes[generation] == "importing":
            self.zygotes[generation] = "failed"
            self.tell(ZygoteFailed(generation, "bad"))
        elif what == "exited":
            del self.zygotes[generation]
            self.tell(ZygoteExited(generation, -9))

    @precondition(lambda self: self.workers)
    @rule(
        data=st.data(),
        what=st.sampled_from(["ready", "ready", "ready", "asks", "asks", "failed", "leaving", "exited"]),
    )
    def worker_tells(self, data: st.DataObject, what: str) -> None:
        worker = self.pick(data, self.workers)
        process = self.workers[worker]
        if what == "ready" and not (process.ready or process.failed):
            process.ready = True
            self.tell(WorkerReady(worker))
        elif what == "failed" and not (process.ready or process.failed):
            process.failed = True
            self.tell(WorkerFailed(worker, "bad"))
        elif what == "asks" and process.ready:
            process.asked = True
            self.tell(WorkerReplacementRequested(worker, "old"))
        elif what == "leaving" and not process.failed and not process.service:
            process.left = True
            self.tell(WorkerLeaving(worker, "SIGTERM"))
        elif what == "exited":
            del self.workers[worker]
            self.tell(WorkerExited(worker, data.draw(st.sampled_from([0, 1, -9, -11]))))

    @rule(data=st.data())
    def heartbeats_are_read(self, data: st.DataObject) -> None:
        ready = sorted(worker for worker, process in self.workers.items() if process.ready)
        silent = data.draw(st.sets(st.sampled_from(ready))) if ready else set()
        bad = data.draw(st.sets(st.sampled_from(ready))) if ready else set()
        moving = data.draw(st.sets(st.sampled_from(ready))) if ready else set()
        for worker in ready:
            process = self.workers[worker]
            process.answered += 10 * process.serves
            process.answered_badly += 6 * process.serves * (worker in bad)
        was_killed = {worker: process.killed for worker, process in self.workers.items()}
        tallies = {w: Tally(self.workers[w].answered, self.workers[w].answered_badly) for w in ready}
        beating = {worker: self.now for worker in ready if worker not in silent}
        self.tell(HeartbeatsRead(beating, tallies, dict.fromkeys(moving, self.now)))
        for worker in moving:
            if worker in self.workers:
                assert not self.workers[worker].killed or was_killed[worker], "who gets on is not hung"

    @rule(policy=POLICIES)
    def reload(self, policy: Policy) -> None:
        self.tell(ReloadRequested(policy))

    @rule()
    def roll_back(self) -> None:
        possible, held = self.supervisor.can_roll_back, self.supervisor.held_generation
        phase = self.supervisor.phase
        self.tell(RollbackRequested())
        if phase is Phase.STEADY and self.supervisor.phase is Phase.RELOADING:
            rollout = self.supervisor.state.desired.rollout
            assert rollout is not None
            assert rollout.generation == held
        assert possible or self.supervisor.phase is phase

    @rule(delta=st.integers(-2, 2))
    def scale(self, delta: int) -> None:
        self.tell(ScaleRequested(delta))

    @rule(quick=st.booleans(), seldom=st.integers(0, 9))
    def stop(self, quick: bool, seldom: int) -> None:
        if seldom == 0:
            self.stopping = True
            self.tell(StopRequested(quick))

    @rule(turns=st.integers(1, 8), pause=st.sampled_from([0.1, 0.5, 1.0]))
    def all_goes_well_for_a_while(self, turns: int, pause: float) -> None:
        for _ in range(turns):
            self.behave()
            self.now += pause
            self.tell(TimePassed())

    # What always holds

    @invariant()
    def everything_awaited_has_a_deadline(self) -> None:
        deadline = self.supervisor.next_deadline()
        if self.supervisor.phase is Phase.STOPPED:
            assert deadline is None
            return
        for worker in self.supervisor.fleet.workers.values():
            assert (worker.deadline is not None) == (worker.state in WAITS)
        for zygote in self.supervisor.fleet.zygotes.values():
            waits = zygote.state in {ZygoteState.IMPORTING, ZygoteState.RETIRING, ZygoteState.KILLED}
            assert (zygote.deadline is not None) == waits
        awaited = list(self.supervisor.fleet.deadlines())
        if awaited:
            lenient = self.supervisor.state.clock.lenient_until
            assert deadline is not None
            assert deadline <= max(lenient, *awaited, self.now + 0.001)

    @invariant()
    def no_slot_has_two_of_a_generation_but_one_that_is_recycled(self) -> None:
        serving = self.supervisor.fleet.serving()
        places = Counter((w.slot, w.generation) for w in serving)
        doubled = [w for w in serving if places[w.slot, w.generation] > 1]
        assert max(places.values(), default=1) <= 2
        assert len(doubled) in {0, 2}
        if doubled:
            old, successor = sorted(doubled, key=lambda w: w.id)
            assert self.workers[old.id].asked
            assert not self.workers[successor.id].ready
            assert self.supervisor.phase is Phase.STEADY

    @invariant()
    def the_record_agrees_with_the_world(self) -> None:
        if self.supervisor.phase is not Phase.STOPPED:
            assert set(self.supervisor.fleet.workers) == set(self.workers)
            assert set(self.supervisor.fleet.zygotes) == set(self.zygotes)

    @invariant()
    def no_service_has_two_processes_of_a_generation(self) -> None:
        if self.supervisor.phase is not Phase.STOPPED:
            living = Counter((w.service, w.generation) for w in self.supervisor.fleet.services())
            assert max(living.values(), default=1) == 1
            assert max(Counter(name for name, _ in living).values(), default=1) <= 2

    @invariant()
    def a_spare_accepts_only_once_it_is_admitted(self) -> None:
        if self.supervisor.phase is Phase.STOPPED:
            return
        for worker in self.supervisor.fleet.workers.values():
            assert worker.standby == self.workers[worker.id].standby
            assert worker.role is Role.SPARE or not (worker.is_ready and worker.standby)
        admitted = [w for w in self.supervisor.fleet.spares() if not w.standby]
        if self.supervisor.phase in {Phase.STEADY, Phase.RELOADING}:
            assert len(admitted) <= len(self.supervisor.state.desired.lost)

    @invariant()
    def one_generation_is_held_at_most_and_its_zygote_is_there(self) -> None:
        desired = self.supervisor.state.desired
        wanted = {desired.committed, desired.stand_in}
        if desired.rollout is not None:
            wanted.add(desired.rollout.generation)
        kept = {
            z.generation
            for z in self.supervisor.fleet.zygotes.values()
            if z.state in {ZygoteState.IMPORTING, ZygoteState.READY} and z.generation not in wanted
        }
        held = self.supervisor.held_generation
        assert kept <= {held}
        if held is not None and self.supervisor.phase is Phase.STEADY:
            assert kept == {held}
        assert held is None or self.supervisor.phase is not Phase.RELOADING

    @invariant()
    def the_phase_agrees_with_the_generations(self) -> None:
        desired = self.supervisor.state.desired
        pending = desired.requested or desired.rollout is not None
        match self.supervisor.phase:
            case Phase.BOOTING:
                assert pending
                assert desired.committed is None
            case Phase.STEADY:
                assert not pending
                assert desired.committed is not None
            case Phase.RELOADING:
                assert pending
                assert desired.committed is not None
            case Phase.WAITING:
                assert not pending
                assert desired.committed is None
            case Phase.STOPPING | Phase.STOPPED:
                pass

    @invariant()
    def repeating_a_look_orders_nothing(self) -> None:
        assert self.supervisor.handle(TimePassed(), self.now) == []

    # Every life comes to rest, and to its end

    def settle(self) -> None:
        """Everybody behaves, and time passes, until nothing happens any more."""
        for _ in range(400):
            if self.exited is not None:
                return
            before = (self.seen_workers, self.seen_generations, len(self.workers), len(self.zygotes))
            self.behave()
            after = (self.seen_workers, self.seen_generations, len(self.workers), len(self.zygotes))
            calm = before == after and self.supervisor.phase in {Phase.STEADY, Phase.WAITING}
            deadlines = self.supervisor.reconciled_at()
            if calm and not any(d > self.now for d in (*self.supervisor.fleet.deadlines(), *deadlines)):
                return
            deadline = self.supervisor.next_deadline()
            self.now = self.now + 0.5 if deadline is None else min(deadline, self.now + 0.5)
            self.tell(TimePassed())
        raise AssertionError("it never comes to rest")

    def behave(self) -> None:
        for generation, state in sorted(self.zygotes.items()):
            if state == "importing":
                self.zygotes[generation] = "ready"
                self.tell(ZygoteReady(generation))
            elif state != "ready":
                del self.zygotes[generation]
                self.tell(ZygoteExited(generation, 0))
        for worker, process in sorted(self.workers.items()):
            if process.told or process.left or process.killed or process.failed:
                del self.workers[worker]
                self.tell(WorkerExited(worker, 0))
            elif not process.ready:
                process.ready = True
                self.tell(WorkerReady(worker))
        self.tell(HeartbeatsRead({worker: self.now for worker, p in self.workers.items() if p.ready}))

    def teardown(self) -> None:
        if not hasattr(self, "supervisor"):
            return
        if not self.stopping:
            self.settle()
            if self.supervisor.phase is Phase.STEADY:
                policy = self.supervisor.policy
                ready = sorted(p.slot for p in self.workers.values() if p.serves)
                assert ready == list(range(policy.workers))
                standing_by = sorted(p.slot for p in self.workers.values() if p.standby)
                assert standing_by == list(range(policy.workers, policy.workers + policy.spares))
                assert not any(p.asked for p in self.workers.values()), (
                    "every requested replacement happens in the end"
                )
                assert list(self.zygotes.values()) == ["ready"]
                running = sorted(p.service for p in self.workers.values() if p.service and p.runs)
                assert running == sorted(set(policy.services) - self.supervisor.state.services.completed)
                settled = self.supervisor.state.desired.settled
                assert all(p.generation in settled for p in self.workers.values() if p.service)
        # The worst end: no process ever responds, not even to SIGKILL.
        if self.exited is None:
            self.stopping = True
            self.tell(StopRequested())
        steps = 0
        while self.exited is None:
            steps += 1
            assert steps < 200
            deadline = self.supervisor.next_deadline()
            assert deadline is not None, "a stop that waits for ever"
            self.now = deadline
            self.tell(TimePassed())
        assert self.supervisor.handle(StopRequested(), self.now) == []
