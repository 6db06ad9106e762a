"""All that a supervisor decides from, as one value. What is not in it is forgotten at a live upgrade."""

from dataclasses import field

from asgi_master.records import mutable_record
from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.desired import Desired
from asgi_master.supervision.fleet import Fleet
from asgi_master.supervision.hang import ClockWatch
from asgi_master.supervision.notices import StopLevel


@mutable_record
class ShutdownState:
    """All that is known of a stop, as plain data. Before one is requested, all fields have their defaults."""

    level: StopLevel | None = None
    delayed_until: float | None = None
    """When a stop that was requested begins; `None` if it has begun, or none was requested."""
    is_boot_failure: bool = False
    """Whether the first boot failed, without a request to stop."""
    is_out_of_memory: bool = False
    """Whether it was requested because the kernel killed a worker for lack of memory."""
    is_forced: bool = False
    """Whether a process had to be killed."""
    not_accepting: set[int] = field(default_factory=set)
    """Workers that reported that they accept no more."""
    close_by: float | None = None
    """When the listeners are closed, even if a worker still accepts."""
    is_closed: bool = False


@mutable_record
class ServicesState:
    """What is known of the services beyond their processes."""

    backoffs: dict[str, Backoff] = field(default_factory=dict)
    """The history of failures, by service."""
    completed: set[str] = field(default_factory=set)
    """Services that returned since the committed generation was committed."""


@mutable_record
class SupervisorState:
    """Plain data: observed, desired, the master's own punctuality, the course of a stop, and the services."""

    fleet: Fleet
    desired: Desired
    clock: ClockWatch
    shutdown: ShutdownState = field(default_factory=ShutdownState)
    services: ServicesState = field(default_factory=ServicesState)
