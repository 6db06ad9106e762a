"""What is measured, as Prometheus reads it: text format 0.0.4. Pure.

Names follow the practice of Prometheus: base units, `_total` for what only grows, `_seconds` and `_bytes`.
`docs/reference/metrics.md` describes each.

Of the workers' counters only sums are shown. Gauges that help to find one worker are labelled with its slot; the two
processes that a slot has while a worker is exchanged are shown as one, so that no reload makes new time series.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "asgi_master_"
_COUNTER, _GAUGE, _HISTOGRAM, _SUMMARY = "counter", "gauge", "histogram", "summary"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SlotGauges:
    """The processes of one slot, as one."""

    connections: int = 0
    websockets: int = 0
    in_flight: int = 0
    loop_lag: float = 0.0
    """Seconds; the larger of two."""
    heartbeat_age: float | None = None
    """Seconds; the larger of two. `None` before the first heartbeat."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The accept queue of one listener."""

    listener: str
    """Its URL."""
    length: int
    """Connections that no worker has taken yet."""
    limit: int


@dataclass(frozen=True, slots=True)
class Process:
    """The memory of one process, in bytes."""

    kind: str
    """`master`, `zygote` or `worker`."""
    slot: int | None
    rss: int
    pss: int | None
    uss: int | None
    """Both are `None` where the master cannot read them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown, at one moment. Times are in seconds."""

    version: str
    python: str
    started_at: float
    """Since the epoch."""
    uptime: float
    generation: int
    """The one that is committed; 0 before the first."""
    workers_wanted: int
    workers: Mapping[str, int]
    """How many there are, by state; all states are there."""
    counters: Mapping[str, int]
    """The scoreboard's counters by the lower-case names of `asgi_master.ipc.scoreboard.Field`, of all workers ever."""
    bounds: tuple[float, ...]
    """Upper bounds of the buckets."""
    buckets: list[int]
    """Responses in each bucket, and one more for the rest; not cumulative."""
    restarts: Mapping[str, int]
    """By reason."""
    reloads: Mapping[str, int]
    """By result."""
    slots: Mapping[int, SlotGauges] = field(default_factory=dict)
    queues: Iterable[Queue] = ()
    processes: Iterable[Process] = ()


def render(snapshot: Snapshot) -> str:
    """The whole page."""
    return "".join(f"{line}\n" for line in _lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[str]:
    yield from _master(snapshot)
    yield from _traffic(snapshot)
    yield from _durations(snapshot)
    yield from _slots(snapshot.slots)
    yield from _queues(list(snapshot.queues))
    yield from _memory(list(snapshot.processes))


def _master(snapshot: Snapshot) -> Iterator[str]:
    yield from _family(
        "build_info",
        _GAUGE,
        "Version of the running master; always 1.",
        [({"version": snapshot.version, "python": snapshot.python}, 1)],
    )
    yield from _single(
        "start_time_seconds",
        _GAUGE,
        "When the master started, in seconds since the epoch.",
        snapshot.started_at,
    )
    yield from _single("uptime_seconds", _GAUGE, "How long the master has been running.", snapshot.uptime)
    yield from _single(
        "generation", _GAUGE, "Generation of the application that is committed.", snapshot.generation
    )
    yield from _single(
        "workers_wanted", _GAUGE, "Workers that should serve, without spares.", snapshot.workers_wanted
    )
    yield from _family("workers", _GAUGE, "Worker processes by state.", _by("state", snapshot.workers))
    yield from _family(
        "worker_restarts_total",
        _COUNTER,
        "Workers that were replaced other than by a reload or a scaling, by reason.",
        _by("reason", snapshot.restarts),
    )
    yield from _family(
        "reloads_total", _COUNTER, "Reloads that are over, by result.", _by("result", snapshot.reloads)
    )


def _traffic(snapshot: Snapshot) -> Iterator[str]:
    counters = snapshot.counters
    yield from _single(
        "http_requests_total",
        _COUNTER,
        "Requests whose head arrived, upgrades included.",
        counters["requests"],
    )
    classes = {f"{digit}xx": counters[f"responses_{digit}xx"] for digit in range(1, 6)}
    yield from _family(
        "http_responses_total", _COUNTER, "Responses begun, by class of status.", _by("code", classes)
    )
    yield from _single(
        "application_errors_total",
        _COUNTER,
        "Exceptions the application did not catch, responses it did not finish or begin in time.",
        counters["application_errors"],
    )
    yield from _single(
        "connections_accepted_total",
        _COUNTER,
        "Connections that workers took from the listeners.",
        counters["accepted"],
    )
    yield from _single(
        "tls_handshake_failures_total",
        _COUNTER,
        "TLS handshakes that failed or took too long.",
        counters["tls_failures"],
    )


def _durations(snapshot: Snapshot) -> Iterator[str]:
    counters = snapshot.counters
    name = "http_request_duration_seconds"
    help_ = "From the request's head to the end of its response; without streams and WebSockets."
    yield from _head(name, _HISTOGRAM, help_)
    total = 0
    for bound, count in zip((*snapshot.bounds, float("inf")), snapshot.buckets, strict=True):
        total += count
        yield _sample(f"{name}_bucket", {"le": _number(bound)}, total)
    yield _sample(f"{name}_sum", {}, counters["response_time_ns"] / 1e9)
    yield _sample(f"{name}_count", {}, total)
    yield from _summary(
        "http_stream_duration_seconds",
        "From the request's head to the end of responses that came in pieces without a length.",
        counters["stream_time_ns"],
        counters["streams"],
    )
    yield from _summary(
        "websocket_duration_seconds",
        "From the handshake to the end of WebSockets that are over.",
        counters["websocket_time_ns"],
        counters["websockets_ended"],
    )


def _slots(slots: Mapping[int, SlotGauges]) -> Iterator[str]:
    def each(name: str, help_: str, values: Iterable[tuple[int, float | None]]) -> Iterator[str]:
        samples = [({"worker": str(slot)}, value) for slot, value in values if value is not None]
        return _family(name, _GAUGE, help_, samples)

    by_slot = sorted(slots.items())
    yield from each("connections", "Open connections.", ((slot, g.connections) for slot, g in by_slot))
    yield from each("websockets", "Connections that are WebSockets.", ((s, g.websockets) for s, g in by_slot))
    yield from each(
        "http_requests_in_flight",
        "Requests that the application is working on.",
        ((slot, g.in_flight) for slot, g in by_slot),
    )
    yield from each(
        "worker_loop_lag_seconds",
        "How late the event loop ran its last timer.",
        ((slot, g.loop_lag) for slot, g in by_slot),
    )
    yield from each(
        "worker_heartbeat_age_seconds",
        "Since the event loop last turned; more than half a second means that it is blocked.",
        ((slot, g.heartbeat_age) for slot, g in by_slot),
    )


def _queues(queues: list[Queue]) -> Iterator[str]:
    yield from _family(
        "listener_queue_length",
        _GAUGE,
        "Connections in the kernel that no worker has accepted yet.",
        [({"listener": queue.listener}, queue.length) for queue in queues],
    )
    yield from _family(
        "listener_queue_limit",
        _GAUGE,
        "Connections that the kernel queues at the most.",
        [({"listener": queue.listener}, queue.limit) for queue in queues],
    )


def _memory(processes: list[Process]) -> Iterator[str]:
    def labels(process: Process) -> Labels:
        slot = {} if process.slot is None else {"worker": str(process.slot)}
        return {"process": process.kind, **slot}

    for name, help_ in (
        ("rss", "Resident memory, shared pages in full."),
        ("pss", "Memory, each shared page divided by those that share it; its sum is what all take."),
        ("uss", "Memory that nobody else shares."),
    ):
        samples = [
            (labels(process), value) for process in processes if (value := getattr(process, name)) is not None
        ]
        yield from _family(f"process_{name}_bytes", _GAUGE, help_, samples)


# --- the format


def _by(label: str, values: Mapping[str, float]) -> list[tuple[Labels, float]]:
    return [({label: key}, value) for key, value in values.items()]


def _family(name: str, kind: str, help_: str, samples: Iterable[tuple[Labels, float]]) -> Iterator[str]:
    """A metric with its samples; nothing at all if there are none."""
    listed = list(samples)
    if listed:
        yield from _head(name, kind, help_)
    for labels, value in listed:
        yield _sample(name, labels, value)


def _single(name: str, kind: str, help_: str, value: float) -> Iterator[str]:
    return _family(name, kind, help_, [({}, value)])


def _summary(name: str, help_: str, nanoseconds: int, count: int) -> Iterator[str]:
    yield from _head(name, _SUMMARY, help_)
    yield _sample(f"{name}_sum", {}, nanoseconds / 1e9)
    yield _sample(f"{name}_count", {}, count)


def _head(name: str, kind: str, help_: str) -> Iterator[str]:
    text = help_.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"


def _sample(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{_PREFIX}{name}{f'{{{inner}}}' if inner else ''} {_number(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(value) if isinstance(value, int) else repr(float(value)).removesuffix(".0")
