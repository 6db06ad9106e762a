"""The reply to `GET /status`: the fleet at one moment, as plain values. The field names are the JSON's keys."""

from dataclasses import field

from asgi_master.records import record


@record
class WorkerStatus:
    """One worker. Its counters are self-reported, at most a quarter of a second old while it is healthy."""

    slot: int
    generation: int
    state: str
    """See `asgi_master.supervision.states.WorkerState`."""
    role: str
    """See `asgi_master.supervision.states.Role`."""
    standby: bool
    """Whether it is a spare that does not accept, as no other worker is missing."""
    pid: int | None
    """`None` before the process has reported it."""
    age: float
    """Seconds since it was ordered."""
    heartbeat_age: float | None
    """Seconds since its event loop last ran; `None` before the first heartbeat."""
    loop_lag: float
    """Seconds by which the last heartbeat was late."""
    connections: int
    websockets: int
    in_flight: int
    requests: int
    responses_5xx: int
    application_errors: int
    threads: int = 0
    """Threads that may call a WSGI application at once; 0 for ASGI."""
    threads_busy: int = 0
    """Of them, those that do."""
    id: int = 0
    """Unique for ever."""


@record
class ServiceStatus:
    """A process of a service, or a service without one."""

    name: str
    state: str
    """See `asgi_master.supervision.service_view.ServiceState`."""
    generation: int | None
    pid: int | None
    """These are `None` without a process."""
    age: float | None
    """Seconds since the process was ordered."""
    restarts: int
    """How often it was started again other than by a reload, since the master started."""
    failures: int
    """Consecutive failures."""
    retry_in: float | None
    """Seconds until it is started again; `None` if it does not wait for that."""


@record
class SlotWaiting:
    """A slot whose next worker is delayed after failures."""

    slot: int
    retry_in: float
    """Seconds."""
    failures: int
    """Consecutive failures."""


@record
class Totals:
    """Sums over all workers, including those that have ended."""

    requests: int
    responses_5xx: int
    application_errors: int


@record
class FleetStatus:
    """The master and its workers."""

    version: str
    pid: int
    name: str
    """The `name` setting, or else the application's target."""
    app: str
    uptime: float
    """Seconds."""
    phase: str
    """See `asgi_master.supervision.states.Phase`."""
    listening: list[str]
    held_generation: int | None
    """The generation that a rollback would return to."""
    workers_wanted: int
    spares_wanted: int
    totals: Totals
    workers: list[WorkerStatus]
    """By slot, older first."""
    waiting: list[SlotWaiting]
    services: list[ServiceStatus] = field(default_factory=list)
    """By name; those that are being replaced have a row for each process."""
