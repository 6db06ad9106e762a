"""The observed fleet: what is known about each worker and zygote."""

from collections.abc import Iterator
from dataclasses import field
from enum import IntEnum

from asgi_master import codec
from asgi_master.records import mutable_record
from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.error_watch import Tally
from asgi_master.supervision.states import (
    WORKER_TABLE,
    ZYGOTE_TABLE,
    Role,
    WorkerState,
    WorkerTrigger,
    ZygoteState,
    ZygoteTrigger,
)


class Urgency(IntEnum):
    """How urgently a worker was ordered to leave so far: the last three are the levels of a stop (`StopLevel`)."""

    NONE = 0
    DRAIN = 1
    """Other workers serve on: idle connections move to them."""
    GRACEFUL = 2
    QUICK = 3
    KILL = 4


@mutable_record
class WorkerRecord:
    """The observed state of a worker, from the order to fork it until it is reaped."""

    id: int
    slot: int
    generation: int
    ordered_at: float
    deadline: float | None
    """When the present state has lasted too long."""
    state: WorkerState = WorkerState.BOOTING
    urgency: Urgency = Urgency.NONE
    leaving_since: float = 0.0
    ready_at: float | None = None
    stamp: float = float("-inf")
    """The newest heartbeat."""
    alive_at: float = 0.0
    """Silence counts from here: the newest sign of life, plus the time the master itself did not run."""
    progress: float = float("-inf")
    """The newest progress, whether or not the loop turned."""
    moved_at: float = 0.0
    """As `alive_at`, of progress."""
    is_busy: bool = False
    """Whether it was reported as busy since its loop last turned."""
    dumps: int = 0
    dumped_at: float = 0.0
    replacement_reason: str = field(default="", metadata=codec.keys("wish"))
    """Why it requested its replacement; empty if it did not. It serves until it is drained."""
    replacement_requested_at: float = field(default=0.0, metadata=codec.keys("wished_at"))
    is_being_replaced: bool = field(default=False, metadata=codec.keys("is_recycled"))
    """Whether the replacement has started."""
    tally: Tally = field(default_factory=Tally)
    """What it answered so far, as last read."""
    role: Role = Role.WORKER
    """A spare does not count for the slots that are to be served, admitted or not; a service has no slot (-1)."""
    service: str = ""
    """The name of the service that it runs; empty for workers and spares."""
    standby: bool = False
    """Forked as a spare and not admitted yet: it does not accept."""

    @property
    def serves(self) -> bool:
        """Whether it counts for its slot: it serves or soon will."""
        return self.state in {WorkerState.BOOTING, WorkerState.READY}

    @property
    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return self.state is WorkerState.READY and not self.standby

    @property
    def lives(self) -> bool:
        """Whether its end is awaited."""
        return self.state not in {WorkerState.ABANDONED, WorkerState.GONE}

    @property
    def is_service(self) -> bool:
        """Whether it runs a service, and no slot."""
        return self.role is Role.SERVICE

    @property
    def beats(self) -> bool:
        """Whether heartbeats are expected of it: its loop runs, and it was not killed. Services have none."""
        return (
            self.ready_at is not None
            and self.state in {WorkerState.READY, WorkerState.DRAINING}
            and not self.is_service
        )

    def move(self, trigger: WorkerTrigger, deadline: float | None = None) -> None:
        """Enter the state that the table names; a change sets the deadline."""
        state = WORKER_TABLE[self.state, trigger]
        if state is not self.state:
            self.state, self.deadline = state, deadline


@mutable_record
class ZygoteRecord:
    """The observed state of a zygote, from the order to start it until it is reaped."""

    generation: int
    deadline: float | None
    state: ZygoteState = ZygoteState.IMPORTING
    ready_at: float | None = None
    is_broken: bool = False
    """In development: whether its import failed, and its workers answer with the error."""

    @property
    def lives(self) -> bool:
        """Whether its end is awaited."""
        return self.state not in {ZygoteState.ABANDONED, ZygoteState.GONE}

    def move(self, trigger: ZygoteTrigger, deadline: float | None = None) -> None:
        """Enter the state that the table names; a change sets the deadline."""
        state = ZYGOTE_TABLE[self.state, trigger]
        if state is not self.state:
            self.state, self.deadline = state, deadline


@mutable_record
class Fleet:
    """All workers, services and zygotes, and the history of failures of each slot."""

    workers: dict[int, WorkerRecord] = field(default_factory=dict)
    """Services are among them, with their role."""
    zygotes: dict[int, ZygoteRecord] = field(default_factory=dict)
    """By generation."""
    backoffs: dict[int, Backoff] = field(default_factory=dict)
    """By slot."""
    last_worker: int = 0
    last_generation: int = 0

    def serving(self, generation: int | None = None) -> list[WorkerRecord]:
        """The workers that count, of one generation or of all, oldest first; spares do not."""
        return [
            w
            for w in self.workers.values()
            if w.serves and w.role is Role.WORKER and generation in {None, w.generation}
        ]

    def spares(self) -> list[WorkerRecord]:
        """The spares that stand by, soon will, or are admitted, oldest first."""
        return [worker for worker in self.workers.values() if worker.serves and worker.role is Role.SPARE]

    def living(self) -> list[WorkerRecord]:
        """The workers whose end is awaited; spares included, services not."""
        return [worker for worker in self.workers.values() if worker.lives and not worker.is_service]

    def services(self) -> list[WorkerRecord]:
        """The processes of services whose end is awaited, oldest first."""
        return [worker for worker in self.workers.values() if worker.lives and worker.is_service]

    def living_zygotes(self) -> list[ZygoteRecord]:
        """The zygotes whose end is awaited."""
        return [zygote for zygote in self.zygotes.values() if zygote.lives]

    def can_fork(self, generation: int | None) -> bool:
        """Whether the generation's zygote is there and ready."""
        zygote = self.zygotes.get(generation) if generation is not None else None
        return zygote is not None and zygote.state is ZygoteState.READY

    def is_broken(self, generation: int | None) -> bool:
        """Whether the generation has no application, and serves the error of its import."""
        zygote = self.zygotes.get(generation) if generation is not None else None
        return zygote is not None and zygote.is_broken

    def backoff(self, slot: int) -> Backoff:
        """The slot's history."""
        return self.backoffs.setdefault(slot, Backoff())

    def deadlines(self) -> Iterator[float]:
        """When something has lasted too long."""
        yield from (w.deadline for w in self.workers.values() if w.deadline is not None)
        yield from (z.deadline for z in self.zygotes.values() if z.deadline is not None)
