"""The reply to `GET /status.json`, and the events of `GET /events`: the fleet now and in the last minutes. Pure.

`docs/reference/status.schema.json` describes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from asgi_master.control.api import Span
from asgi_master.control.health import HealthState, check_ready
from asgi_master.control.metrics import Process, Queue
from asgi_master.history.events import Event
from asgi_master.history.history import (
    COARSE_PERIOD,
    FINE_PERIOD,
    FLEET,
    History,
    generation_key,
    slot_key,
)
from asgi_master.history.samples import FIELDS
from asgi_master.records import record
from asgi_master.supervision.outlook import Upcoming
from asgi_master.telemetry import outlook
from asgi_master.telemetry.text import without_secrets

_SLOT_FIELDS = ("rate", "p99", "lag", "memory")
"""What the history shows of each slot."""
_MOST_SLOTS = 32
"""Slots of which the last fifteen minutes are shown; of 500, it would be megabytes."""
_MOST_MINUTES = 128
"""The same, of the last minute of loop lag."""


@record
class LiveReading:
    """The input, at one moment."""

    at: float
    """Seconds since the epoch."""
    status: Mapping[str, Any]
    """As the reply to `GET /status`."""
    health: HealthState
    upcoming: Sequence[Upcoming]
    queues: Iterable[Queue]
    processes: Iterable[Process]


def live_status(
    reading: LiveReading, history: History, events: Iterable[Event], *, span: Span
) -> dict[str, Any]:
    """The document. `span`: how much of the past it shows."""
    ready = check_ready(reading.health)
    status = dict(reading.status)
    if (last := status.get("last_reload")) is not None:
        status["last_reload"] = last | {"message": without_secrets(last["message"])}
    return {
        "at": round(reading.at, 3),
        "tick": history.tick,
        "ready": ready.passes,
        "reasons": [reason for check in ready.checks for reason in check.reasons],
        "next": [asdict(each) | {"text": outlook.render(each)} for each in reading.upcoming],
        "status": status,
        "now": _now(status["workers"], history),
        "listeners": [asdict(queue) for queue in reading.queues],
        "processes": [asdict(process) for process in reading.processes],
        "events": [asdict(event) for event in events],
        "history": _past(history, span),
    }


def _now(workers: Sequence[Mapping[str, Any]], history: History) -> dict[str, Any]:
    """The newest second of the fleet, and of the slots and generations that live."""
    ages: dict[int, float] = {}
    counts: dict[int, int] = {}
    for worker in workers:
        ages[worker["slot"]] = worker["age"]
        counts[worker["generation"]] = counts.get(worker["generation"], 0) + 1
    return {
        "fleet": history.latest(FLEET),
        "workers": {str(worker["id"]): history.worker(worker["id"]) for worker in workers},
        "slots": {
            str(slot): history.latest(slot_key(slot))
            | {"memory_slope": _rounded(history.memory_slope(slot, age))}
            for slot, age in ages.items()
        },
        "generations": {
            str(generation): history.latest(generation_key(generation)) | {"workers": count}
            for generation, count in sorted(counts.items())
        },
    }


def _past(history: History, span: Span) -> dict[str, Any] | None:
    match span:
        case Span.NONE:
            return None
        case Span.MINUTE:
            return {"minute": _minute(history)}
        case Span.ALL:
            return {"minute": _minute(history), "quarter": _quarter(history)}


def _minute(history: History) -> dict[str, Any]:
    return {
        "period": FINE_PERIOD,
        "fleet": {field: history.minute(FLEET, field) for field in FIELDS},
        "slots": {
            str(slot): {"lag": history.minute(slot_key(slot), "lag")}
            for slot in history.slots()[:_MOST_MINUTES]
        },
    }


def _quarter(history: History) -> dict[str, Any]:
    return {
        "period": COARSE_PERIOD,
        "fleet": {field: history.quarter(FLEET, field) for field in FIELDS},
        "generations": {
            str(generation): {field: history.quarter(generation_key(generation), field) for field in FIELDS}
            for generation in history.generations()
        },
        "slots": {
            str(slot): {field: history.quarter(slot_key(slot), field) for field in _SLOT_FIELDS}
            for slot in history.slots()[:_MOST_SLOTS]
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
