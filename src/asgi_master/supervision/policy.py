"""The numbers supervision decides by."""

from dataclasses import replace

from asgi_master.records import record

MOST_WORKERS = 500
"""Scaling stops here: the scoreboard must hold them twice over while one generation follows another."""


@record
class Policy:
    """What the operator asked for. All times are in seconds."""

    workers: int = 1
    max_surge: int = 1
    """How many workers above `workers` may live while workers are exchanged."""
    max_unavailable: int = 0
    """How many of `workers` may be missing while workers are exchanged."""
    boot_timeout: float = 60.0
    """From the order to spawn until ready; also the time a zygote has to import the application."""
    drain_timeout: float = 30.0
    """From the order to drain until the worker must be gone (its lifespan shutdown included)."""
    sticky_drain: float = 0.0
    """How long, before `drain_timeout` begins, a worker that others replace may go on with its sessions."""
    shutdown_timeout: float = 5.0
    """The slice of `drain_timeout` that is reserved for the lifespan's shutdown; all a quick stop leaves."""
    kill_grace: float = 1.0
    """How long after `drain_timeout` the master waits before it kills."""
    hang_timeout: float = 30.0
    """A ready or draining worker whose heartbeat is older is killed; 0 turns it off."""
    dump_interval: float = 1.0
    """Time between the two stack dumps of a hung worker, and again until its kill."""
    late_after: float = 1.0
    """If the master itself runs this much late, it takes as long to catch up before it enforces deadlines."""
    shutdown_delay: float = 0.0
    """How long a graceful stop waits before it begins, readiness gone already."""
    exit_on_oom: bool = False
    """Whether the fleet stops when the kernel killed a worker for lack of memory."""
    watch_time: float = 1.0
    """How long a reload's first worker must stay ready before others follow, and its last before commit."""
    max_error_share: float = 20.0
    """A reload fails if the share of failed requests exceeds the old generation's by this many percent; 0: never."""
    rollback_window: float = 300.0
    """How long after a commit the generation before is held, so that it can be returned to; 0: not at all."""
    spares: int = 0
    """How many workers beyond `workers` stand by, booted, until one of those is lost."""
    backoff_base: float = 0.5
    backoff_cap: float = 30.0
    stable_after: float = 10.0
    """A worker that was ready this long resets its slot's back-off."""
    pause_on_reload: float = 0.0
    """In development: for how long at most nothing serves, and clients wait, while new code is prepared."""
    exit_on_first_failure: bool = True
    """False in development (`--reload`): a first boot that fails waits for the next reload."""
    services: tuple[str, ...] = ()
    """The names of the services that run beside the workers."""
    service_overlap: bool = False
    """Whether a new generation's service starts before the old one stops; without it, after the old one has ended."""
    service_stop_timeout: float = 10.0
    """From the order to stop until the service must be gone."""

    @property
    def surge(self) -> int:
        """With neither surge nor anybody missing allowed, nothing could ever be exchanged: one more it is."""
        return self.max_surge if self.max_surge or self.max_unavailable else 1

    def is_stable(self, ready_at: float | None, now: float) -> bool:
        """Whether what is ready since then has worked long enough for its failures before to be forgotten."""
        return ready_at is not None and now - ready_at >= self.stable_after

    def scaled(self, delta: int) -> "Policy":
        """The same with `delta` more workers, within the limits."""
        most = max(self.workers, MOST_WORKERS)
        return replace(self, workers=min(most, max(1, self.workers + delta)))
