"""What a person or a machine wants to know: one value per thing that happened, no sentences.

`asgi_master.telemetry.notices` turns each into a line; the control socket and systemd get them as they are.
"""

from enum import StrEnum

from asgi_master.errors import ExitCode
from asgi_master.records import record

# --- causes: why a worker or a whole generation was lost


@record
class ImportFailed:
    """The zygote could not import the application."""

    reason: str


@record
class ImportTimedOut:
    """The zygote was not done importing after `timeout` seconds."""

    timeout: float


@record
class ZygoteDied:
    """The zygote's process ended unasked. `status` is as `subprocess` tells it."""

    status: int


@record
class BootRefused:
    """The worker said that it cannot serve (import or lifespan failed, or the fork did)."""

    slot: int
    reason: str


@record
class BootTimedOut:
    """The worker was not ready after `timeout` seconds."""

    slot: int
    timeout: float


@record
class Died:
    """The worker's process ended unasked. `ready_for` is in seconds, `None` if it was never ready."""

    slot: int
    status: int
    ready_for: float | None
    out_of_memory: bool = False
    """Whether it was SIGKILL, and the kernel had just killed here for lack of memory."""


@record
class Hung:
    """The worker's loop sent no heartbeat for `silent_for` seconds, so it was killed."""

    slot: int
    silent_for: float


@record
class Left:
    """The worker began to drain unasked (someone signalled it)."""

    slot: int
    reason: str


@record
class Overstayed:
    """The worker was told to leave (or said it would) and still lived `seconds` later."""

    slot: int
    seconds: float


@record
class TooManyErrors:
    """A reload's generation answered many more requests badly than generation `kept` did meanwhile."""

    failed: int
    answered: int
    kept: int
    kept_failed: int
    kept_answered: int
    broken_off: int = 0
    """Of the failed: those that were not answered with 5xx, but broken off by an exception later."""


@record
class RollbackAsked:
    """Someone asked to go back before the reload was committed."""


WorkerCause = BootRefused | BootTimedOut | Died | Hung | Left
ZygoteCause = ImportFailed | ImportTimedOut | ZygoteDied
Cause = WorkerCause | ZygoteCause | TooManyErrors | RollbackAsked

# --- the fleet


class StopLevel(StrEnum):
    """How harshly everything is being stopped; each further request is one level harsher."""

    GRACEFUL = "graceful"
    """Requests in flight finish, within the drain timeout."""
    QUICK = "quick"
    """Requests in flight are cancelled; the lifespan's shutdown still runs."""
    KILL = "kill"
    """SIGKILL."""


@record
class MasterReady:
    """Every worker of the first generation is ready."""

    workers: int
    generation: int


@record
class BootFailed:
    """The first generation did not come up. The master exits, or waits for a reload."""

    generation: int
    cause: Cause
    waits: bool


@record
class ScaledTo:
    """The number of workers was changed (or kept, at its limit)."""

    workers: int
    before: int


@record
class StopDelayed:
    """A stop was asked for, and begins in `seconds`; until then everybody serves, so that clients can go elsewhere."""

    seconds: float


@record
class ReloadRefused:
    """A reload was requested by `why` and does not begin; a line for each reason."""

    why: str
    errors: tuple[str, ...]


@record
class StoppingForMemory:
    """A stop is requested, as the kernel killed a worker for lack of memory."""


@record
class Stopping:
    """Everything is being stopped; `workers` still live."""

    how: StopLevel
    workers: int


@record
class Stopped:
    """Nothing lives any more."""

    code: ExitCode


# --- one worker


@record
class OfWorker:
    """Which worker: `worker` is unique for ever, `slot` is what people call it by."""

    worker: int
    slot: int
    generation: int


@record
class WorkerBecameReady(OfWorker):
    """The worker serves, or, as a spare, could."""

    standby: bool = False
    """Whether it is a spare, which does not accept yet."""


@record
class SpareAdmitted(OfWorker):
    """A spare accepts from now on: for a worker that was lost, or because its slot became a regular one."""


@record
class SpareReleased(OfWorker):
    """A spare that was admitted leaves, as no worker is missing any more."""


@record
class WorkerReplacementStarted(OfWorker):
    """The replacement that a worker requested has started. `reason` is its own, one line."""

    reason: str


@record
class WorkerLost(OfWorker):
    """A worker stopped serving unasked. Its slot is filled again in `retry_in` seconds (`None`: never)."""

    cause: WorkerCause
    retry_in: float | None


@record
class WorkerHung(OfWorker):
    """The worker's loop is stuck: its stacks are being dumped, and it is killed unless it goes on."""

    silent_for: float
    kill_in: float


@record
class WorkerBusy(OfWorker):
    """The worker's loop has not turned for long, but it gets on. It is left alone; said once until the loop turns."""

    silent_for: float


@record
class WorkerRecovered(OfWorker):
    """A worker that was called hung goes on."""


@record
class WorkerKilled(OfWorker):
    """A worker that was leaving had to be killed."""

    cause: Hung | Overstayed


@record
class WorkerDiedLeaving(OfWorker):
    """A worker that was leaving died before it was done."""

    status: int


@record
class WorkerAbandoned(OfWorker):
    """A killed worker does not go away (stuck in the kernel). It is no longer waited for."""

    seconds: float


# --- one service


@record
class OfService:
    """Which process of a service: `worker` is unique for ever, `service` is the name of the service."""

    worker: int
    service: str
    generation: int


@record
class ServiceStarted(OfService):
    """The service runs."""


class WhyStopped(StrEnum):
    """Why a service is stopped while the fleet serves."""

    REPLACED = "replaced"
    """A newer generation, or the one that a rollback returned to, has its own."""
    REMOVED = "removed"
    """The settings do not name it any more."""
    TERMINATED = "terminated"
    """Its process received SIGTERM from someone else: it is started anew."""


@record
class ServiceStopping(OfService):
    """The service was told to stop, because of `why`."""

    why: WhyStopped


@record
class ServiceCompleted(OfService):
    """The service returned after `ran_for` seconds; it is not started again before the next generation."""

    ran_for: float


@record
class ServiceLost(OfService):
    """The service failed, or its process ended unasked. It is started again in `retry_in` seconds (`None`: not)."""

    cause: BootRefused | BootTimedOut | Died
    retry_in: float | None


@record
class ServiceDiedStopping(OfService):
    """The process of a service ended with a failure when it was told to stop."""

    status: int


@record
class ServiceKilled(OfService):
    """The service was told to stop and still ran `seconds` later: it was killed."""

    seconds: float


@record
class ServiceAbandoned(OfService):
    """The killed process of a service does not go away (stuck in the kernel). It is no longer waited for."""

    seconds: float


# --- generations


@record
class ReloadStarted:
    """A new generation is being imported."""

    generation: int


@record
class RollbackStarted:
    """Every slot is to go back to `generation`, whose zygote was held; `ReloadCommitted` or `ReloadFailed` follows.

    Said again for each further request while that is under way.
    """

    generation: int
    from_generation: int


@record
class NothingToRollBackTo:
    """A rollback was asked for, but no generation is held; `generation` stays."""

    generation: int | None


class WhyLetGo(StrEnum):
    """Why a held generation cannot be returned to any more."""

    EXPIRED = "expired"
    """The rollback window has passed."""
    RELOADING = "reloading"
    """A newer generation needs the memory."""
    DIED = "died"
    """Its zygote ended unasked."""


@record
class HeldLetGo:
    """The generation that could have been returned to is given up."""

    generation: int
    why: WhyLetGo


@record
class ReloadSuperseded:
    """The reload to this generation was dropped for a newer request."""

    generation: int


@record
class ReloadCommitted:
    """All workers run the new generation. `took` is in seconds since it was started."""

    generation: int
    workers: int
    took: float
    is_rollback: bool = False
    """Whether it is an older one, to which somebody asked to return."""


@record
class ReloadFailed:
    """The new generation failed; every slot goes back to generation `kept`."""

    generation: int
    cause: Cause
    kept: int


@record
class ZygoteLost:
    """The zygote that lost workers are replaced from is gone; its workers stay.

    Another one is started in `retry_in` seconds; `None`: the reload under way brings one.
    """

    generation: int
    status: int
    retry_in: float | None


@record
class ZygoteReplaced:
    """A new zygote, of a new generation, stands in for the lost one."""

    lost: int
    generation: int


@record
class ZygoteNotReplaced:
    """The code on disk does not import any more; what lives goes on, and it is tried again."""

    generation: int
    cause: ZygoteCause
    retry_in: float


Notice = (
    MasterReady
    | BootFailed
    | ScaledTo
    | ReloadRefused
    | StopDelayed
    | StoppingForMemory
    | Stopping
    | Stopped
    | WorkerBecameReady
    | SpareAdmitted
    | SpareReleased
    | WorkerReplacementStarted
    | WorkerLost
    | WorkerHung
    | WorkerBusy
    | WorkerRecovered
    | WorkerKilled
    | WorkerDiedLeaving
    | WorkerAbandoned
    | ServiceStarted
    | ServiceStopping
    | ServiceCompleted
    | ServiceLost
    | ServiceDiedStopping
    | ServiceKilled
    | ServiceAbandoned
    | ReloadStarted
    | RollbackStarted
    | NothingToRollBackTo
    | HeldLetGo
    | ReloadSuperseded
    | ReloadCommitted
    | ReloadFailed
    | ZygoteLost
    | ZygoteReplaced
    | ZygoteNotReplaced
)
