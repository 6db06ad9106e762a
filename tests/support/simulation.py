"""A fake world for the supervisor: it obeys orders with scripted delays and failures, in virtual time.

A worker or zygote behaves as the script of its generation says; whole lives of a fleet pass in milliseconds.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from asgi_master.errors import ExitCode
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
    TimePassed,
    WorkerExited,
    WorkerFailed,
    WorkerReady,
    ZygoteExited,
    ZygoteFailed,
    ZygoteReady,
)
from asgi_master.supervision.notices import Notice
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import Role
from asgi_master.supervision.supervisor import Supervisor

NEVER = float("inf")


@dataclass(frozen=True)
class Code:
    """How a generation behaves. Times are in seconds; NEVER means that it does not happen."""

    import_time: float = 0.5
    import_error: str = ""
    answers_with_error: bool = False  # in development: workers serve the error of the import
    boot_time: float = 0.2
    boot_error: str = ""
    dies_after: float = NEVER  # once ready
    returns_after: float = NEVER  # once ready, of a service
    hangs_after: float = NEVER  # once ready
    drain_time: float = 0.1
    unkillable: bool = False
    rate: float = 0.0  # requests answered in a second, once ready
    failing: float = 0.0  # the share of them answered with 5xx


@dataclass
class FakeWorker:
    id: int
    slot: int
    generation: int
    code: Code
    ready_at: float | None = None
    draining: DrainWorker | StopService | None = None
    beats_until: float = NEVER
    moves_until: float = -NEVER  # seen to get on though it does not beat
    standby: bool = False
    service: str = ""


@dataclass
class Simulation:
    """Time, the processes that live, and everything that was ordered and said."""

    policy: Policy = field(default_factory=lambda: Policy(workers=4))
    now: float = 1000.0
    codes: dict[int, Code] = field(default_factory=dict)
    scripts: dict[int, Code] = field(default_factory=dict)  # by worker, before the generation's
    services: dict[str, Code] = field(default_factory=dict)  # by name
    heartbeat_period: float = 0.5

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.policy, self.now, lambda: 1.0)
        self.workers: dict[int, FakeWorker] = {}
        self.zygotes: dict[int, Code] = {}
        self.actions: list[tuple[float, Action]] = []
        self.exit_code: ExitCode | None = None
        self.capacity: list[tuple[float, int]] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = 0
        self._next_beat = self.now
        self.tell(TimePassed())

    # Facts and time

    def tell(self, event: Event) -> list[Action]:
        """A fact reaches the supervisor, and its orders are carried out."""
        actions = self.supervisor.handle(event, self.now)
        for action in actions:
            self.actions.append((self.now, action))
            self._obey(action)
        self.capacity.append((self.now, len(self.ready())))
        return actions

    def at(self, delay: float, what: Callable[[], None]) -> None:
        if delay != NEVER:
            self._counter += 1
            heapq.heappush(self._queue, (self.now + delay, self._counter, what))

    def run(self, seconds: float) -> "Simulation":
        """Let time pass."""
        end = self.now + seconds
        while self.exit_code is None:
            deadline = self.supervisor.next_deadline()
            assert deadline is None or deadline > self.now, "a deadline in the past would make the edge spin"
            moments = [self._next_beat, NEVER if deadline is None else deadline]
            moments += [self._queue[0][0]] if self._queue else []
            moment = min(moments)
            if moment > end:
                break
            self.now = max(self.now, moment)
            self._turn()
        self.now = end if self.exit_code is None else self.now
        return self

    def sleep_through(self, seconds: float) -> "Simulation":
        """The master itself does not run (nor do the workers); what was due meanwhile comes after its first look."""
        self.now += seconds
        self.tell(TimePassed())
        self._queue = [(max(self.now, moment), n, what) for moment, n, what in self._queue]
        heapq.heapify(self._queue)
        return self

    def until(self, condition: Callable[[], object], within: float = 300.0) -> "Simulation":
        """Let time pass until something is so."""
        end = self.now + within
        while not condition():
            assert self.now < end, f"not within {within} s"
            assert self.exit_code is None, f"the master left: {self.exit_code!r}"
            self.run(0.05)
        return self

    def _turn(self) -> None:
        if self.now >= self._next_beat:
            self._next_beat = self.now + self.heartbeat_period
            stamps = {
                w.id: min(self.now, w.beats_until) for w in self.workers.values() if w.ready_at is not None
            }
            progress = {w.id: min(self.now, w.moves_until) for w in self.workers.values()}
            self.tell(HeartbeatsRead(stamps, {w.id: self._tally(w) for w in self._booted_ones()}, progress))
        while self._queue and self._queue[0][0] <= self.now:
            heapq.heappop(self._queue)[2]()
        self.tell(TimePassed())

    def _tally(self, fake: FakeWorker) -> Tally:
        assert fake.ready_at is not None
        answered = 0 if fake.standby else int(fake.code.rate * (self.now - fake.ready_at))
        return Tally(answered, int(answered * fake.code.failing))

    # What can be asked

    def ready(self) -> list[FakeWorker]:
        return [w for w in self._booted_ones() if not w.standby]

    def standing_by(self) -> list[FakeWorker]:
        return [w for w in self._booted_ones() if w.standby]

    def _booted_ones(self) -> list[FakeWorker]:
        return [w for w in self._running() if not w.service]

    def _running(self) -> list[FakeWorker]:
        return [w for w in self.workers.values() if w.ready_at is not None and w.draining is None]

    def running(self, service: str) -> list[FakeWorker]:
        """The processes in which the service runs."""
        return [w for w in self._running() if w.service == service]

    def generations(self) -> list[int]:
        """The generation that serves each slot, by slot."""
        return [w.generation for w in sorted(self.ready(), key=lambda w: w.slot)]

    def notices(self, kind: type | None = None) -> list[Notice]:
        said = [action.notice for _, action in self.actions if isinstance(action, Announce)]
        return said if kind is None else [notice for notice in said if isinstance(notice, kind)]

    def orders(self, kind: type) -> list[Action]:
        return [action for _, action in self.actions if isinstance(action, kind)]

    def times(self, kind: type) -> list[float]:
        return [moment for moment, action in self.actions if isinstance(action, kind)]

    def worker(self, slot: int) -> FakeWorker:
        """The ready worker of a slot."""
        (worker,) = [w for w in self.ready() if w.slot == slot]
        return worker

    # What can happen

    def die(self, worker: FakeWorker, status: int = -9) -> None:
        """The process ends, unless it is gone already."""
        if self.workers.pop(worker.id, None) is not None:
            self.tell(WorkerExited(worker.id, status))

    def zygote_dies(self, generation: int, status: int = -9) -> None:
        if self.zygotes.pop(generation, None) is not None:
            self.tell(ZygoteExited(generation, status))

    # Obedience

    def _obey(self, action: Action) -> None:
        assert self.exit_code is None, f"{action} after the exit"
        match action:
            case StartZygote(generation):
                assert generation not in self.zygotes
                code = self.zygotes[generation] = self.codes.get(generation, Code())
                self.at(code.import_time, lambda: self._imported(generation, code))
            case RetireZygote(generation):
                zygote = self.zygotes.get(generation)
                busy = zygote is not None and zygote.import_time == NEVER
                self.at(NEVER if busy else 0.01, lambda: self.zygote_dies(generation, 0))
            case KillZygote(generation):
                self.at(0.01, lambda: self.zygote_dies(generation, -9))
            case SpawnWorker(worker, slot, generation, role):
                self._spawn(worker, slot, generation)
                self.workers[worker].standby = role is Role.SPARE
            case SpawnService(worker, service, generation):
                self._spawn(worker, -1, generation, self.services.get(service, Code()), service)
            case StopService(worker, timeout):
                self._drain(self.workers[worker], action, timeout)
            case AdmitWorker(worker):
                assert self.workers[worker].ready_at is not None
                assert self.workers[worker].draining is None
                assert self.workers[worker].standby
                self.workers[worker].standby = False
            case DrainWorker(worker, timeout):
                self._drain(self.workers[worker], action, action.sessions + timeout)
            case KillWorker(worker):
                fake = self.workers[worker]
                self.at(NEVER if fake.code.unkillable else 0.01, lambda: self.die(fake))
            case DumpStacks(worker):
                assert worker in self.workers
            case ExitMaster(code):
                self.exit_code = code
            case Announce():
                pass

    def _imported(self, generation: int, code: Code) -> None:
        if generation not in self.zygotes:
            return
        if code.import_error:
            self.tell(ZygoteFailed(generation, code.import_error))
            self.at(0.01, lambda: self.zygote_dies(generation, 3))
        else:
            self.tell(ZygoteReady(generation, code.answers_with_error))

    def _spawn(
        self, worker: int, slot: int, generation: int, code: Code | None = None, service: str = ""
    ) -> None:
        assert worker not in self.workers
        if code is None:
            code = self.scripts.get(worker, self.codes.get(generation, Code()))
        fake = self.workers[worker] = FakeWorker(worker, slot, generation, code, service=service)
        if generation not in self.zygotes:
            # As the edge does for an order that finds no zygote.
            self.at(0, lambda: self._failed(fake, "its zygote is gone", 1))
        else:
            self.at(code.boot_time, lambda: self._booted(fake))

    def _booted(self, fake: FakeWorker) -> None:
        if fake.id not in self.workers:
            return
        if fake.code.boot_error:
            self._failed(fake, fake.code.boot_error, 3)
            return
        fake.ready_at = self.now
        fake.beats_until = self.now + fake.code.hangs_after
        self.tell(WorkerReady(fake.id))
        self.at(fake.code.dies_after, lambda: self.die(fake, -11))
        self.at(fake.code.returns_after, lambda: self.die(fake, 0))
        if fake.draining is not None:
            self._drain(fake, fake.draining, fake.draining.timeout)

    def _failed(self, fake: FakeWorker, reason: str, status: int) -> None:
        if fake.id in self.workers:
            self.tell(WorkerFailed(fake.id, reason))
            self.at(0.01, lambda: self.die(fake, status))

    def _drain(self, fake: FakeWorker, order: DrainWorker | StopService, timeout: float) -> None:
        fake.draining = replace(order)
        if fake.ready_at is not None and fake.beats_until > self.now:
            # A worker sees to the end of its time itself; the function of a service need not.
            time = fake.code.drain_time if fake.service else min(timeout, fake.code.drain_time)
            self.at(time, lambda: self.die(fake, 0))
