"""The stop: how harsh it is, when it begins, and what is left to do before the exit.

Rules of this file:
  - The first graceful stop of a fleet that serves waits for `Policy.shutdown_delay`. Readiness is gone at once and the
    workers serve on: a load balancer learns only after seconds that this instance leaves. A second stop ends the wait.
  - Each further stop is one level harsher.
  - New connections are refused once every worker has stopped accepting, or could have.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from asgi_master.errors import ExitCode
from asgi_master.supervision import notices
from asgi_master.supervision.fleet import Urgency, Worker
from asgi_master.supervision.notices import StopLevel
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.policy import Policy

_URGENCY = {
    StopLevel.GRACEFUL: Urgency.GRACEFUL,
    StopLevel.QUICK: Urgency.QUICK,
    StopLevel.KILL: Urgency.KILL,
}
_HARSHER = {
    None: StopLevel.GRACEFUL,
    StopLevel.GRACEFUL: StopLevel.QUICK,
    StopLevel.QUICK: StopLevel.KILL,
    StopLevel.KILL: StopLevel.KILL,
}
_STOPS_ACCEPTING_WITHIN = 1.0
"""Seconds for workers that leave to accept what waits in the listeners' queues."""


@dataclass(slots=True)
class ShutdownState:
    """All that is known of a stop, as plain data. Before one is requested, all fields have their defaults."""

    level: StopLevel | None = None
    delayed_until: float | None = None
    """When a stop that was requested begins; `None` if it has begun, or none was requested."""
    is_boot_failure: bool = False
    """Whether the first boot failed, so that nobody requested the stop."""
    is_out_of_memory: bool = False
    """Whether it was requested because the kernel killed a worker for want of memory."""
    is_forced: bool = False
    """Whether a process had to be killed."""
    not_accepting: set[int] = field(default_factory=set)
    """Workers that reported that they accept no more."""
    close_by: float | None = None
    """When the listeners are closed, even if a worker still accepts."""
    is_closed: bool = False


class Shutdown:
    """Decides the course of a stop. Times are in seconds on the supervisor's clock."""

    def __init__(self, state: ShutdownState, orders: Orders) -> None:
        self.state = state
        self._orders = orders

    @property
    def is_delayed(self) -> bool:
        """Whether a stop was requested that has not begun."""
        return self.state.delayed_until is not None

    @property
    def urgency(self) -> Urgency:
        """How urgently workers are to leave."""
        # While development waits for better code, no request of the failed one is worth waiting for.
        return Urgency.QUICK if self.state.level is None else _URGENCY[self.state.level]

    def request(self, policy: Policy, now: float, *, quick: bool, serves: bool) -> bool:
        """Stop, or stop more harshly; returns whether it begins or goes on now. `serves`: a client would notice."""
        state = self.state
        if state.level is StopLevel.KILL:
            return False
        is_first = state.level is None and state.delayed_until is None
        if is_first and serves and not quick and policy.shutdown_delay > 0:
            state.delayed_until = now + policy.shutdown_delay
            self._orders.announce(notices.StopDelayed(policy.shutdown_delay))
            return False
        state.delayed_until = None
        state.level = StopLevel.QUICK if quick and state.level is None else _HARSHER[state.level]
        return True

    def is_due(self, now: float) -> bool:
        """Whether the delay of a stop is over."""
        return self.state.delayed_until is not None and self.state.delayed_until <= now

    def boot_failed(self) -> None:
        """The first boot failed: everything that is there leaves quickly."""
        if self.state.level is None:
            self.state.level, self.state.is_boot_failure = StopLevel.QUICK, True

    def refuse_new_connections(self, living: Iterable[Worker], now: float) -> None:
        """Close the listeners once every worker has accepted what waited there, or could have."""
        state = self.state
        if state.close_by is None:
            state.close_by = now + _STOPS_ACCEPTING_WITHIN
        accepting = any(
            worker.ready_at is not None and worker.id not in state.not_accepting for worker in living
        )
        if not state.is_closed and (not accepting or now >= state.close_by):
            state.is_closed = True
            self._orders.close_listeners()

    def deadlines(self) -> list[float]:
        """When something is due."""
        state = self.state
        times = [] if state.is_closed else [state.close_by]
        return [time for time in (state.delayed_until, *times) if time is not None]

    def exit_code(self) -> ExitCode:
        """With which status the master ends."""
        if self.state.is_out_of_memory:
            return ExitCode.OUT_OF_MEMORY
        if self.state.is_boot_failure:
            return ExitCode.BOOT_FAILED
        return ExitCode.KILLED if self.state.is_forced else ExitCode.OK
