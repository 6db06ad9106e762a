"""What the master counts of the fleet's life, and carries across a live upgrade.

The workers' own counters stand on the scoreboard, whose header keeps those of the dead.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from asgi_master import codec
from asgi_master.records import mutable_record
from asgi_master.supervision.notices import (
    BootRefused,
    BootTimedOut,
    Died,
    Hung,
    Left,
    MasterReady,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    ReloadRefused,
    ReloadSuperseded,
    ServiceLost,
    ServiceStopping,
    WhyStopped,
    WorkerCause,
    WorkerLost,
    WorkerReplacementStarted,
    ZygoteReplaced,
)

_REASONS = ("crashed", "out_of_memory", "hung", "boot_failed", "left", "recycled")
_SERVICE_REASONS = ("crashed", "out_of_memory", "boot_failed", "left")
_RESULTS = ("committed", "failed", "superseded", "refused")


@mutable_record
class Totals:
    """Counts, by words that metrics use as they are."""

    started_at: float
    """When the master started, in seconds on the monotonic clock."""
    started_on: float
    """The same in seconds since the epoch."""
    generation: int = 0
    """The one that is committed; 0 before the first."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Workers that were replaced other than by a reload or a scaling, by reason."""
    reloads: dict[str, int] = field(default_factory=dict)
    """By result."""

    service_restarts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Services that were started again other than by a reload, by name and reason."""

    def __post_init__(self) -> None:
        self.restarts = {reason: self.restarts.get(reason, 0) for reason in _REASONS}
        self.reloads = {result: self.reloads.get(result, 0) for result in _RESULTS}

    def note(self, notice: Notice) -> None:
        """Follow what the supervisor announced."""
        match notice:
            case MasterReady(generation=generation) | ZygoteReplaced(generation=generation):
                self.generation = generation
            case ReloadCommitted(generation=generation):
                self.generation = generation
                self.reloads["committed"] += 1
            case ReloadFailed():
                self.reloads["failed"] += 1
            case ReloadSuperseded():
                self.reloads["superseded"] += 1
            case ReloadRefused():
                self.reloads["refused"] += 1
            case WorkerReplacementStarted():
                self.restarts["recycled"] += 1
            case WorkerLost(cause=cause, retry_in=float() | int()):
                self.restarts[_reason(cause)] += 1
            case ServiceLost(service=service, cause=cause, retry_in=float() | int()):
                self.restarts_of(service)[_reason(cause)] += 1
            case ServiceStopping(service=service, why=WhyStopped.TERMINATED):
                self.restarts_of(service)["left"] += 1

    def restarts_of(self, service: str) -> dict[str, int]:
        """How often the service was started again, for every reason."""
        known = self.service_restarts.get(service, {})
        self.service_restarts[service] = {reason: known.get(reason, 0) for reason in _SERVICE_REASONS}
        return self.service_restarts[service]

    @classmethod
    def load(cls, data: Mapping[str, Any], now: float, today: float) -> "Totals":
        """From what `codec.dump` made, possibly of another version of this program; what is missing begins now.

        `now` is on the monotonic clock and `today` in seconds since the epoch. Raises `ValueError`.
        """
        return codec.load(cls, {"started_at": now, "started_on": today, **data})


def _reason(cause: WorkerCause) -> str:
    match cause:
        case Died(out_of_memory=True):
            return "out_of_memory"
        case Died():
            return "crashed"
        case Hung():
            return "hung"
        case BootRefused() | BootTimedOut():
            return "boot_failed"
        case Left():
            return "left"
