"""What is wanted of the generations: which serves, which is on its way, which one could be returned to.

Plain data: it can be written down and read back.
"""

from dataclasses import field

from asgi_master.records import mutable_record
from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.error_watch import ErrorWatch
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import PHASE_TABLE, Phase, PhaseTrigger

_SERVING = frozenset({Phase.BOOTING, Phase.STEADY, Phase.RELOADING, Phase.TERMINATING})


@mutable_record
class Held:
    """The generation that was committed before: its zygote is kept for a while, so that there is a way back."""

    generation: int
    policy: Policy
    """What it ran under."""
    until: float


@mutable_record
class Rollout:
    """A generation on its way to be committed."""

    generation: int
    started: float
    proven: bool
    """Whether its first worker (the canary) stayed ready for `watch_time`; before, it gets no other."""
    watch: ErrorWatch = field(default_factory=ErrorWatch)
    returns_to: Held | None = None
    """Of a rollback: what was held. If it fails, that is held again."""


@mutable_record
class Desired:
    """The desired generations and the policies they run under."""

    policy: Policy
    """In effect now: of the rollout while there is one."""
    committed_policy: Policy
    phase: Phase = Phase.BOOTING
    committed: int | None = None
    """The generation that lost workers are replaced from; `None` before the first is ready."""
    settled: frozenset[int] = frozenset()
    """Generations whose workers may stay."""
    requested: bool = True
    """A generation is wanted that was not started yet. The first boot is such a request."""
    rollout: Rollout | None = None
    held: Held | None = None
    """Only while there is no rollout, and none is wanted."""
    stand_in: int | None = None
    """The generation whose zygote is to stand in for the committed one's, which died."""
    stand_in_backoff: Backoff = field(default_factory=Backoff)
    paused_until: float = 0.0
    """Until then no worker of older code serves: clients wait for the rollout."""
    lost: set[int] = field(default_factory=set)
    """Slots that lost their worker, and whose next one has not been ready for `watch_time` yet."""

    def is_paused(self, now: float) -> bool:
        """Whether clients are to wait for the new code rather than be served by the old one."""
        return now < self.paused_until and (self.requested or self.rollout is not None)

    def move(self, trigger: PhaseTrigger) -> None:
        """Enter the phase that the table names."""
        self.phase = PHASE_TABLE[self.phase, trigger]

    def scale(self, delta: int) -> None:
        """Change the number of workers by `delta`, also of the generations that can be returned to."""
        self.policy = self.policy.scaled(delta)
        self.committed_policy = self.committed_policy.scaled(delta)
        for held in (self.held, self.rollout.returns_to if self.rollout is not None else None):
            if held is not None:
                held.policy = held.policy.scaled(delta)

    @property
    def held_generation(self) -> int | None:
        """The generation that a rollback would return to."""
        return self.held.generation if self.held is not None else None

    @property
    def serves(self) -> bool:
        """Whether workers are wanted."""
        return self.phase in _SERVING

    @property
    def is_settled(self) -> bool:
        """Whether the committed generation serves, and no other is to follow it."""
        return self.phase is Phase.STEADY or (
            self.phase is Phase.TERMINATING and self.rollout is None and not self.requested
        )
