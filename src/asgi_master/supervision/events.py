"""Events: what happened, reported by the edge to the supervisor."""

from collections.abc import Mapping
from dataclasses import field

from asgi_master.records import record
from asgi_master.supervision.error_watch import Tally
from asgi_master.supervision.policy import Policy


@record
class ZygoteReady:
    """The generation's zygote imported the application and can fork."""

    generation: int
    is_broken: bool = False
    """In development: whether the import failed, so that its workers answer with the error."""


@record
class ZygoteFailed:
    """The generation's zygote could not import the application; `reason` is one line."""

    generation: int
    reason: str


@record
class ZygoteExited:
    """The zygote's process is gone, asked for or not. `status` is as in `subprocess`: -N for signal N."""

    generation: int
    status: int


@record
class WorkerReady:
    """The worker's lifespan started and it accepts."""

    worker: int


@record
class WorkerFailed:
    """The worker (or its fork) could not boot; its process exits by itself, if it ever lived.

    `reason` is one line.
    """

    worker: int
    reason: str


@record
class WorkerLeaving:
    """The worker began to drain without an order (someone signalled it). `reason` is one line."""

    worker: int
    reason: str


@record
class WorkerStoppedAccepting:
    """The worker, which leaves, holds no listener any more."""

    worker: int


@record
class WorkerReplacementRequested:
    """The worker requested its replacement, and serves until it is drained. `reason` is one line."""

    worker: int
    reason: str


@record
class WorkerExited:
    """The worker's process was reaped. `status` is as in `subprocess`: -N for signal N."""

    worker: int
    status: int
    out_of_memory: bool = False
    """Whether the kernel killed processes here for lack of memory just before."""


@record
class HeartbeatsRead:
    """The newest heartbeat of each living worker, on the clock that `now` is on."""

    stamps: Mapping[int, float]
    tallies: Mapping[int, Tally] = field(default_factory=dict)
    """What each worker answered so far."""
    progress: Mapping[int, float] = field(default_factory=dict)
    """When each was last seen to get on, its loop turning or not; on the same clock."""


@record
class ReloadRequested:
    """Replace all workers by a new generation, under the policy of the settings as read again."""

    policy: Policy


@record
class ReloadRefused:
    """A reload was requested by `why` and the settings are wrong, a line for each error: it does not begin."""

    why: str
    errors: tuple[str, ...]


@record
class RollbackRequested:
    """Go back: give up the reload under way; without one, return to the generation that is held."""


@record
class ScaleRequested:
    """Change the number of workers by `delta` (never below one)."""

    delta: int


@record
class StopRequested:
    """Stop; each further one is harsher: graceful, then quick, then kill. `quick` starts at quick."""

    quick: bool = False


@record
class TimePassed:
    """Nothing happened but time."""


Event = (
    ZygoteReady
    | ZygoteFailed
    | ZygoteExited
    | WorkerReady
    | WorkerFailed
    | WorkerLeaving
    | WorkerStoppedAccepting
    | WorkerReplacementRequested
    | WorkerExited
    | HeartbeatsRead
    | ReloadRequested
    | ReloadRefused
    | RollbackRequested
    | ScaleRequested
    | StopRequested
    | TimePassed
)
