"""What `GET /status` shows: the fleet at one moment, as plain values. The field names are the JSON's keys."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker. The counters are its own words, a quarter of a second old at most while it is healthy."""

    slot: int
    generation: int
    state: str
    """See `asgi_master.supervision.states.WorkerState`."""
    role: str
    """See `asgi_master.supervision.states.Role`."""
    standby: bool
    """Whether it is a spare that does not accept: no other worker is missing."""
    pid: int | None
    """`None` before the process said so."""
    age: float
    """Seconds since it was ordered."""
    heartbeat_age: float | None
    """Seconds since its loop last turned; `None` before the first heartbeat."""
    loop_lag: float
    """Seconds by which the last heartbeat was late."""
    connections: int
    websockets: int
    in_flight: int
    requests: int
    responses_5xx: int
    application_errors: int


@dataclass(frozen=True, slots=True)
class SlotWaiting:
    """A slot whose next worker is held back because the last ones failed."""

    slot: int
    retry_in: float
    """Seconds."""
    failures: int
    """In a row."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What all workers together did so far, those that are gone included."""

    requests: int
    responses_5xx: int
    application_errors: int


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """The master and everybody below it."""

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
    """The one that a rollback would return to."""
    workers_wanted: int
    spares_wanted: int
    totals: Totals
    workers: list[WorkerStatus]
    """By slot, older first."""
    waiting: list[SlotWaiting]
