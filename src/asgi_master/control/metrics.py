"""The metrics in Prometheus' text format 0.0.4. Pure.

Names follow the conventions of Prometheus: base units, `_total` for counters, `_seconds` and `_bytes`.
`docs/reference/metrics.md` describes each; `make docs` writes its table.

Counters of workers are shown as sums. Gauges that help to find one worker are labelled with its slot; the two processes
that a slot has during a replacement are shown as one, so that a reload creates no time series.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field

from asgi_master.ipc.counters import DURATION_BOUNDS, NUMBERS, Stats
from asgi_master.records import record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "asgi_master_"
_GOAWAY_CODES = ("no_error", "protocol_error", "enhance_your_calm", "other")
_COUNTER, _GAUGE, _HISTOGRAM, _SUMMARY = "counter", "gauge", "histogram", "summary"

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]
"""Suffix of the family's name, labels, and value."""


@record
class SlotGauges:
    """The gauges of a slot, over its processes."""

    connections: int = 0
    websockets: int = 0
    in_flight: int = 0
    wsgi_threads: int = 0
    """0 for ASGI."""
    wsgi_busy: int = 0
    wsgi_stuck: int = 0
    wsgi_queued: int = 0
    loop_lag: float = 0.0
    """Seconds; the maximum over the processes."""
    heartbeat_age: float | None = None
    """Seconds; the maximum over the processes. `None` before the first heartbeat."""


@record
class Queue:
    """The accept queue of one listener."""

    listener: str
    """Its URL."""
    length: int
    """Connections that no worker has accepted yet."""
    limit: int


@record
class Process:
    """The memory of one process, in bytes."""

    kind: str
    """`master`, `zygote`, `worker` or `service`."""
    slot: int | None
    rss: int
    pss: int | None
    uss: int | None
    """Both are `None` if the master cannot read them."""
    service: str = ""
    """The name of the service; empty for other kinds."""


@record
class ServiceCounts:
    """One service."""

    running: int
    """Processes that run it: 0 or 1, and 2 for a moment of a reload with `--service-overlap`."""
    is_completed: bool
    """Whether it returned."""
    restarts: Mapping[str, int]
    """By reason."""


@record
class Snapshot:
    """The values of all metrics at one moment. Times are in seconds."""

    version: str
    python: str
    started_at: float
    """Since the epoch."""
    uptime: float
    generation: int
    """The committed generation; 0 before the first."""
    workers_wanted: int
    workers: Mapping[str, int]
    """Number of workers by state, for every state."""
    stats: Stats
    """The sums over all workers, including those that have ended."""
    restarts: Mapping[str, int]
    """By reason."""
    reloads: Mapping[str, int]
    """By result."""
    slots: Mapping[int, SlotGauges] = field(default_factory=dict)
    queues: Iterable[Queue] = ()
    processes: Iterable[Process] = ()
    services: Mapping[str, ServiceCounts] = field(default_factory=dict)
    """By name."""


@record
class Family:
    """One metric, with its samples."""

    name: str
    kind: str
    help: str
    samples: Callable[[Snapshot], Iterable[Sample]]
    labels: tuple[str, ...] = ()
    """Some samples lack some of them."""


def _single(name: str, kind: str, help_: str, value: Callable[[Snapshot], float]) -> Family:
    return Family(name, kind, help_, lambda snapshot: [("", {}, value(snapshot))])


def _by(
    label: str, name: str, kind: str, help_: str, values: Callable[[Snapshot], Mapping[str, int]]
) -> Family:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        return (("", {label: key}, value) for key, value in values(snapshot).items())

    return Family(name, kind, help_, samples, (label,))


def _worker_count(name: str, attribute: str, help_: str) -> Family:
    return _single(name, _COUNTER, help_, lambda snapshot: getattr(snapshot.stats, attribute))


def _summary(name: str, help_: str, total: Callable[[Stats], float], count: Callable[[Stats], int]) -> Family:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        yield "_sum", {}, total(snapshot.stats)
        yield "_count", {}, count(snapshot.stats)

    return Family(name, _SUMMARY, help_, samples)


def _durations(snapshot: Snapshot) -> Iterator[Sample]:
    total = 0
    for bound, count in zip((*DURATION_BOUNDS, float("inf")), snapshot.stats.buckets, strict=True):
        total += count
        yield "_bucket", {"le": _number(bound)}, total
    yield "_sum", {}, snapshot.stats.response_time
    yield "_count", {}, total


def _slot_gauge(name: str, help_: str, value: Callable[[SlotGauges], float | None]) -> Family:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        for slot, gauges in sorted(snapshot.slots.items()):
            number = value(gauges)
            if number is not None:
                yield "", {"worker": str(slot)}, number

    return Family(name, _GAUGE, help_, samples, ("worker",))


def _queue_gauge(name: str, help_: str, value: Callable[[Queue], int]) -> Family:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        return (("", {"listener": queue.listener}, value(queue)) for queue in snapshot.queues)

    return Family(name, _GAUGE, help_, samples, ("listener",))


def _memory_gauge(name: str, help_: str, value: Callable[[Process], int | None]) -> Family:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        for process in snapshot.processes:
            size = value(process)
            if size is not None:
                slot = {} if process.slot is None else {"worker": str(process.slot)}
                service = {"service": process.service} if process.service else {}
                yield "", {"process": process.kind, **slot, **service}, size

    return Family(name, _GAUGE, help_, samples, ("process", "worker", "service"))


def _service_gauge(name: str, help_: str, value: Callable[[ServiceCounts], int]) -> Family:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        return (("", {"service": name}, value(counts)) for name, counts in snapshot.services.items())

    return Family(name, _GAUGE, help_, samples, ("service",))


def _service_restarts(snapshot: Snapshot) -> Iterator[Sample]:
    for name, counts in snapshot.services.items():
        for reason, count in counts.restarts.items():
            yield "", {"service": name, "reason": reason}, count


FAMILIES = (
    Family(
        "build_info",
        _GAUGE,
        "Version of the running master; always 1.",
        lambda s: [("", {"version": s.version, "python": s.python}, 1)],
        ("version", "python"),
    ),
    _single(
        "start_time_seconds",
        _GAUGE,
        "When the master started, in seconds since the epoch. A live upgrade is no start.",
        lambda s: s.started_at,
    ),
    _single("uptime_seconds", _GAUGE, "Time since the master started.", lambda s: s.uptime),
    _single(
        "generation",
        _GAUGE,
        "Generation of the application that is committed; 0 before the first.",
        lambda s: s.generation,
    ),
    _single(
        "workers_wanted", _GAUGE, "Workers that should serve, without spares.", lambda s: s.workers_wanted
    ),
    _by(
        "state",
        "workers",
        _GAUGE,
        "Worker processes: booting, ready, standby (a spare), draining, failed, killed, abandoned.",
        lambda s: s.workers,
    ),
    _by(
        "reason",
        "worker_restarts_total",
        _COUNTER,
        "Workers replaced other than by a reload or a scaling: crashed, out_of_memory, hung, boot_failed,"
        " left (signalled by another process), recycled.",
        lambda s: s.restarts,
    ),
    _service_gauge(
        "service_up",
        "Processes in which the service runs: 1, or 2 for a moment of a reload with --service-overlap.",
        lambda counts: counts.running,
    ),
    _service_gauge(
        "service_completed",
        "1 if the service has returned, which is no failure; it runs again after the next reload.",
        lambda counts: int(counts.is_completed),
    ),
    Family(
        "service_restarts_total",
        _COUNTER,
        "Services started again other than by a reload: crashed, out_of_memory, boot_failed (its import, or longer than"
        " --boot-timeout), left (SIGTERM from another process).",
        _service_restarts,
        ("service", "reason"),
    ),
    _by(
        "result",
        "reloads_total",
        _COUNTER,
        "Reloads, rollbacks included: committed, failed, superseded (by a newer one), refused (bad settings).",
        lambda s: s.reloads,
    ),
    *(_worker_count(n.metric, attribute, n.help) for attribute, n in NUMBERS.items() if n.metric),
    _by(
        "code",
        "http_responses_total",
        _COUNTER,
        "Responses begun, by class: 1xx to 5xx.",
        lambda s: {f"{digit}xx": s.stats.responses[digit] for digit in range(1, 6)},
    ),
    _by(
        "code",
        "http2_goaways_total",
        _COUNTER,
        "HTTP/2 connections that were ended, by the code of GOAWAY: no_error (idle, reload, stop), protocol_error,"
        " enhance_your_calm (a flood), other.",
        lambda s: dict(zip(_GOAWAY_CODES, s.stats.http2_goaways[1:], strict=True)),
    ),
    Family(
        "http_request_duration_seconds",
        _HISTOGRAM,
        "From a request's head to the end of its response; without streams and WebSockets. Buckets from 1 ms to 60 s.",
        _durations,
        ("le",),
    ),
    _summary(
        "http_stream_duration_seconds",
        "From a request's head to the end of a stream: a response without a length, such as server-sent events.",
        lambda stats: stats.stream_time,
        lambda stats: stats.streams,
    ),
    _summary(
        "websocket_duration_seconds",
        "From the handshake to the end, of WebSockets that are over.",
        lambda stats: stats.websocket_time,
        lambda stats: stats.websockets_ended,
    ),
    _summary(
        "wsgi_queue_duration_seconds",
        "Time that requests of a WSGI application waited for a thread.",
        lambda stats: stats.wsgi_wait,
        lambda stats: stats.wsgi_calls,
    ),
    _slot_gauge("connections", "Open connections.", lambda g: g.connections),
    _slot_gauge("websockets", "Open connections that are WebSockets.", lambda g: g.websockets),
    _slot_gauge(
        "http_requests_in_flight", "Requests that the application is working on.", lambda g: g.in_flight
    ),
    _slot_gauge(
        "wsgi_threads",
        "Threads that may call a WSGI application: --threads.",
        lambda g: g.wsgi_threads or None,
    ),
    _slot_gauge(
        "wsgi_threads_busy",
        "Threads that are calling a WSGI application.",
        lambda g: g.wsgi_busy if g.wsgi_threads else None,
    ),
    _slot_gauge(
        "wsgi_threads_stuck",
        "Threads whose call has lasted longer than --stall-warn.",
        lambda g: g.wsgi_stuck if g.wsgi_threads else None,
    ),
    _slot_gauge(
        "wsgi_queue_length",
        "Requests that wait for a thread.",
        lambda g: g.wsgi_queued if g.wsgi_threads else None,
    ),
    _slot_gauge(
        "worker_loop_lag_seconds", "How late the event loop ran its last timer.", lambda g: g.loop_lag
    ),
    _slot_gauge(
        "worker_heartbeat_age_seconds",
        "Time since the event loop last turned: up to 0.25 is normal, more than 0.5 means that it is blocked.",
        lambda g: g.heartbeat_age,
    ),
    _queue_gauge(
        "listener_queue_length",
        "Connections in the kernel that no worker has accepted yet.",
        lambda queue: queue.length,
    ),
    _queue_gauge(
        "listener_queue_limit",
        "Connections that the kernel queues at most: --backlog, or net.core.somaxconn if that is less.",
        lambda queue: queue.limit,
    ),
    _memory_gauge(
        "process_rss_bytes",
        "Resident memory; shared pages count in full for each process.",
        lambda process: process.rss,
    ),
    _memory_gauge(
        "process_pss_bytes",
        "Memory, each shared page divided by the number of processes that share it: the sum is what all take.",
        lambda process: process.pss,
    ),
    _memory_gauge(
        "process_uss_bytes",
        "Memory that no other process shares.",
        lambda process: process.uss,
    ),
)
"""All metrics, in the order of the page."""


def render(snapshot: Snapshot) -> str:
    """The complete page. A metric without samples is left out."""
    return "".join(f"{line}\n" for family in FAMILIES for line in _lines(family, snapshot))


# --- the format


def _lines(family: Family, snapshot: Snapshot) -> Iterator[str]:
    name = f"{_PREFIX}{family.name}"
    samples = list(family.samples(snapshot))
    if samples:
        yield f"# HELP {name} {family.help}"
        yield f"# TYPE {name} {family.kind}"
    for suffix, labels, value in samples:
        inner = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        yield f"{name}{suffix}{f'{{{inner}}}' if inner else ''} {_number(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(value) if isinstance(value, int) else repr(float(value)).removesuffix(".0")
