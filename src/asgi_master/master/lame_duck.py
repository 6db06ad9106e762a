"""The time between being told to stop and stopping, in which readiness is already gone. Pure.

Whoever sends requests learns only after a while that this instance leaves: load balancers ask for readiness every few
seconds, and Kubernetes tells a pod to stop before all its nodes know. Until then the workers serve on as ever.
"""


class LameDuck:
    """Holds a graceful stop back for a while. Times are in seconds, on one clock."""

    def __init__(self) -> None:
        self.until: float | None = None
        """When the stop may begin; `None` while none is held back."""
        self._is_over = False

    def holds_back(self, *, quick: bool, serves: bool, delay: float, now: float) -> bool:
        """Whether the stop that was just asked for must wait for `is_due`. `serves`: somebody would miss us.

        Only the first one waits, and not if it is to be quick; a second one ends the waiting.
        """
        if self._is_over:
            return False
        if self.until is None and serves and delay > 0 and not quick:
            self.until = now + delay
            return True
        self.until, self._is_over = None, True
        return False

    def is_due(self, now: float) -> bool:
        """Whether the stop that was held back must be asked for now."""
        return self.until is not None and self.until <= now

    @property
    def is_leaving(self) -> bool:
        """Whether a stop is held back."""
        return self.until is not None
