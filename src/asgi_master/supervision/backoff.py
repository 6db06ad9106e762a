"""How long to wait before trying again what keeps failing."""

from collections.abc import Callable

from asgi_master.records import mutable_record
from asgi_master.supervision.policy import Policy

_MAX_DOUBLINGS = 30


@mutable_record
class Backoff:
    """Exponential back-off: the first failure is free, each further one in a row waits twice as long."""

    strikes: int = 0
    """Failures in a row, of one generation."""
    generation: int = 0
    until: float = 0.0

    def strike(
        self, now: float, *, generation: int, stable: bool, policy: Policy, jitter: Callable[[], float]
    ) -> float:
        """Count a failure; returns the delay in seconds. `stable`: it worked long enough to forget all."""
        if stable or generation != self.generation:
            self.strikes = 0
        self.generation = generation
        self.strikes += 1
        delay = 0.0
        if self.strikes > 1:
            doublings = min(self.strikes - 2, _MAX_DOUBLINGS)
            whole = min(policy.backoff_cap, policy.backoff_base * 2.0**doublings)
            # Half of it is random, so that slots that crashed together do not come back together.
            delay = whole * (0.5 + 0.5 * jitter())
        self.until = now + delay
        return delay

    def holds(self, generation: int, now: float) -> bool:
        """Whether this generation has to wait; another one is other code and owes nothing."""
        return generation == self.generation and now < self.until
