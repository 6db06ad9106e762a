"""The supervisor: facts in, orders out.

`handle` records a fact and then compares what there is with what there should be. Whatever takes time (a
reload, a stop) is not a procedure here but the repeated answer to that comparison.
"""

from collections.abc import Callable

from asgi_master.supervision import hang
from asgi_master.supervision.actions import Action
from asgi_master.supervision.desired import Desired
from asgi_master.supervision.events import Event
from asgi_master.supervision.facts import Facts
from asgi_master.supervision.fleet import Fleet
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.rollout import Generations
from asgi_master.supervision.services import Services
from asgi_master.supervision.slots import Slots
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import Phase
from asgi_master.supervision.stopping import Stopping


class Supervisor:
    """Decides which processes should live.

    `jitter` returns a number between 0 and 1 and spreads retries; `now` is in seconds on a monotonic clock.
    """

    def __init__(
        self, policy: Policy, now: float, jitter: Callable[[], float], *, state: SupervisorState | None = None
    ) -> None:
        """`state` is that of the supervisor whose place it takes, between two facts and in `Phase.STEADY`."""
        if state is None:
            state = SupervisorState(Fleet(), Desired(policy, policy), hang.ClockWatch(now))
        self.state = state
        self._orders = Orders(state.fleet)
        self._generations = Generations(state, self._orders, jitter)
        self._slots = Slots(state, self._orders, self._generations, jitter)
        self._stopping = Stopping(state, self._orders)
        self._services = Services(state, self._orders, self._stopping, jitter)
        self._facts = Facts(
            state, self._orders, self._generations, self._slots, self._services, self._stopping
        )

    @property
    def fleet(self) -> Fleet:
        """What is observed."""
        return self.state.fleet

    @property
    def phase(self) -> Phase:
        """Phase of the fleet."""
        return self.state.desired.phase

    @property
    def stops_at(self) -> float | None:
        """When a stop begins that was requested; `None` if it has begun, or none was requested."""
        return self.state.shutdown.delayed_until

    @property
    def policy(self) -> Policy:
        """The numbers in effect: while a reload is under way, its own."""
        return self.state.desired.policy

    @property
    def can_roll_back(self) -> bool:
        """Whether `RollbackRequested` would change anything now."""
        return self._generations.can_roll_back

    @property
    def held_generation(self) -> int | None:
        """The generation that a rollback would return to; `None` if there is none."""
        return self.state.desired.held_generation

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take note of a fact; returns what to do now, in order."""
        if self.phase is Phase.STOPPED:
            return []
        now = self._check_clock(now)
        self._facts.record(event, now)
        self._reconcile(now)
        self.state.clock.promised = self.next_deadline()
        return self._orders.take()

    def next_deadline(self) -> float | None:
        """When `handle` must be called at the latest, with fresh heartbeats; `None`: not before an event."""
        if self.phase is Phase.STOPPED:
            return None
        clock, fleet = self.state.clock, self.fleet
        times = [max(time, clock.lenient_until) for time in fleet.deadlines()]
        times += self.reconciled_at()
        times += self._stopping.deadlines()
        look = hang.next_look(fleet.living(), clock.now, self.policy)
        if look is not None:
            times.append(look)
        return min((time for time in times if time > clock.now), default=None)

    def reconciled_at(self) -> list[float]:
        """When the desired state may ask for something that it does not yet; times in the past mean nothing."""
        return [*self._generations.deadlines(), *self._slots.deadlines(), *self._services.deadlines()]

    def _check_clock(self, now: float) -> float:
        """The time that counts; workers are not blamed for the master being late."""
        clock = self.state.clock
        if late := clock.tick(now, self.policy.late_after):
            for worker in self.fleet.workers.values():
                hang.forgive(worker, late, clock.now)
        return clock.now

    def _reconcile(self, now: float) -> None:
        self._stopping.begin_when_due(now)
        if not self.state.clock.in_grace:
            self._facts.enforce_deadlines(now)
        # A rollout that starts now changes the plan for the slots; a commit there leaves zygotes to retire.
        self._generations.start_zygotes(now)
        if self.state.desired.serves:
            self._slots.reconcile(now)
            # What a commit has just changed is theirs to follow.
            self._services.reconcile(now)
        else:
            self._stopping.empty(now)
        self._generations.retire_zygotes(now)
        self._stopping.exit_when_empty()
