"""What is wanted of the generations: which serves, which is on its way, which one could be returned to.

Plain data, and all that `Deployment` remembers: it can be written down and read back.
"""

from dataclasses import dataclass, field

from asgi_master.supervision.backoff import Backoff
from asgi_master.supervision.error_watch import ErrorWatch
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import Phase


@dataclass(slots=True)
class Held:
    """The generation that was committed before: its zygote is kept for a while, so that there is a way back."""

    generation: int
    policy: Policy
    """What it ran under."""
    until: float


@dataclass(slots=True)
class Rollout:
    """A generation on its way to be committed."""

    generation: int
    started: float
    proven: bool
    """Whether its first worker (the canary) stayed ready for `watch_time`; before, it gets no other."""
    watch: ErrorWatch = field(default_factory=ErrorWatch)
    returns_to: Held | None = None
    """Of a rollback: what was held. If it fails, that is held again."""


@dataclass(slots=True)
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
    lost: set[int] = field(default_factory=set)
    """Slots that lost their worker, and whose next one has not been ready for `watch_time` yet."""

    @property
    def is_settled(self) -> bool:
        """Whether the committed generation serves, and no other is to follow it."""
        return self.phase is Phase.STEADY or (
            self.phase is Phase.TERMINATING and self.rollout is None and not self.requested
        )
