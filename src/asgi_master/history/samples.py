"""What is read of a fleet once a second, and the samples that are made of it."""

from collections.abc import Sequence
from dataclasses import field

from asgi_master.history.percentiles import percentile
from asgi_master.ipc.counters import BUCKET_COUNT, Stats
from asgi_master.records import mutable_record, record


@record
class Quantity:
    """One number of a sample."""

    unit: float
    """The step in which it is stored."""
    help: str
    """Its meaning, for the reference."""


FIELDS = {
    "rate": Quantity(0.01, "requests a second"),
    "errors": Quantity(0.01, "responses of 5xx a second"),
    "p50": Quantity(1e-5, "seconds: half of the responses took no longer; only with `--admin-bind`"),
    "p99": Quantity(1e-5, "seconds: 99 % of the responses took no longer; only with `--admin-bind`"),
    "lag": Quantity(1e-5, "seconds by which event loops were late: the worst"),
    "cpu": Quantity(1e-4, "CPU seconds a second: 1 is one core"),
    "memory": Quantity(4096.0, "bytes that no other process shares (USS)"),
    "in_flight": Quantity(1.0, "requests that the application is working on"),
    "queue": Quantity(1.0, "connections that no worker has accepted yet; of the fleet"),
    "saturation": Quantity(
        1e-4,
        "share of the CPU time that workers can get, or of their WSGI threads, that is used; of the fleet",
    ),
}
"""The numbers of a sample. Stored ones are read in this order: an upgrade to another order forgets them."""


@record
class WorkerReading:
    """A worker at one moment."""

    worker: int
    """Unique for ever."""
    slot: int
    generation: int
    stats: Stats
    lag: float | None
    """Seconds; `None` before its first heartbeat."""
    cpu: float | None
    """CPU seconds a second; `None` if not known."""
    memory: int | None
    """Bytes that no other process shares; `None` if not known."""


@record
class FleetReading:
    """The fleet at one moment."""

    workers: Sequence[WorkerReading]
    totals: Stats
    """The counts of all workers that ever were."""
    queue: int | None
    """Connections that no worker has accepted yet; `None` if not known."""
    cpus: float
    """The CPUs that the workers can use together."""


def counts_of(stats: Stats) -> list[int]:
    """The counts that samples are made of: requests, responses of 5xx, then the buckets of durations."""
    return [stats.requests, stats.responses[5], *stats.buckets]


def _no_counts() -> list[int]:
    return [0] * (2 + BUCKET_COUNT)


@mutable_record
class Window:
    """What happened in some seconds, of one slot, one generation or the fleet."""

    seconds: float = 0.0
    counts: list[int] = field(default_factory=_no_counts)
    lag: float | None = None
    cpu: float | None = None
    memory: float | None = None
    in_flight: int = 0
    queue: float | None = None
    saturation: float | None = None

    @classmethod
    def of_worker(cls, seconds: float, counts: list[int], reading: WorkerReading) -> "Window":
        """That of one worker."""
        return cls(seconds, counts, reading.lag, reading.cpu, reading.memory, reading.stats.in_flight)

    def beside(self, other: "Window") -> "Window":
        """The sum with another one, of other workers in the same seconds."""
        return Window(
            self.seconds,
            [one + more for one, more in zip(self.counts, other.counts, strict=True)],
            _largest(self.lag, other.lag),
            _sum(self.cpu, other.cpu),
            _sum(self.memory, other.memory),
            self.in_flight + other.in_flight,
        )

    def add_later(self, later: "Window") -> None:
        """Add the seconds that followed. Peaks stay; of memory, the newest is kept; CPU is averaged."""
        before, self.seconds = self.seconds, self.seconds + later.seconds
        self.counts = [old + new for old, new in zip(self.counts, later.counts, strict=True)]
        self.lag = _largest(self.lag, later.lag)
        self.cpu = _mean(self.cpu, before, later.cpu, later.seconds)
        self.memory = later.memory if later.memory is not None else self.memory
        self.in_flight = max(self.in_flight, later.in_flight)
        self.queue = _largest(self.queue, later.queue)
        self.saturation = _mean(self.saturation, before, later.saturation, later.seconds)

    def values(self) -> list[float | None]:
        """The sample, in the order of `FIELDS`."""
        requests, failed, *buckets = self.counts
        seconds = max(self.seconds, 1e-3)
        return [
            requests / seconds,
            failed / seconds,
            percentile(buckets, 0.5),
            percentile(buckets, 0.99),
            self.lag,
            self.cpu,
            self.memory,
            self.in_flight,
            self.queue,
            self.saturation,
        ]


def _largest(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


def _mean(one: float | None, weight: float, other: float | None, other_weight: float) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return (one * weight + other * other_weight) / max(weight + other_weight, 1e-3)
