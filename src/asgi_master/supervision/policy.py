"""The numbers supervision decides by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator asked for. All times are in seconds."""

    workers: int = 1
    max_surge: int = 1
    """How many workers above `workers` may live during a rollout."""
    max_unavailable: int = 0
    """How many of `workers` may be missing during a rollout."""
    boot_timeout: float = 60.0
    """From the order to spawn until ready; also the time a zygote has to import the application."""
    drain_timeout: float = 30.0
    """From the order to drain until the worker must be gone (its lifespan shutdown included)."""
    kill_grace: float = 1.0
    """How long after `drain_timeout` the master waits before it kills."""
    hang_timeout: float = 30.0
    """A ready or draining worker whose heartbeat is older is killed; 0 turns it off."""
    dump_interval: float = 1.0
    """Time between the stack dump of a hung worker and its kill."""
    late_after: float = 1.0
    """If the master itself was not scheduled for longer, heartbeats are not judged in that round."""
    watch_time: float = 1.0
    """A candidate of a reload that dies this soon after it was ready fails the reload."""
    backoff_base: float = 0.5
    backoff_cap: float = 30.0
    stable_after: float = 10.0
    """A worker that was ready this long resets its slot's back-off."""
    exit_on_first_failure: bool = True
    """False in development (`--reload`): a first boot that fails waits for the next reload."""
