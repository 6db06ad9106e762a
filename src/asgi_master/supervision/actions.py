"""Orders: what the edge must do, in order, once each."""

from asgi_master.errors import ExitCode
from asgi_master.records import record
from asgi_master.supervision.notices import Notice
from asgi_master.supervision.states import Role


@record
class StartZygote:
    """Start a fresh interpreter that imports the application for this generation."""

    generation: int


@record
class RetireZygote:
    """Tell the zygote that it is no longer needed; it exits by itself."""

    generation: int


@record
class KillZygote:
    """SIGKILL the zygote."""

    generation: int


@record
class SpawnWorker:
    """Have the generation's zygote fork a worker. `worker` is unique for ever; `slot` is its stable place."""

    worker: int
    slot: int
    generation: int
    role: Role = Role.WORKER
    """A spare boots, but accepts only once it is admitted."""


@record
class SpawnService:
    """Have the generation's zygote fork a process that runs the service. `worker` is unique for ever, as of workers."""

    worker: int
    service: str
    generation: int


@record
class StopService:
    """Have the service stop: SIGTERM. It has `timeout` seconds."""

    worker: int
    timeout: float


@record
class AdmitWorker:
    """Tell the spare to accept from now on."""

    worker: int


@record
class DrainWorker:
    """Tell the worker to finish and leave within `timeout` seconds; 0 leaves the lifespan's shutdown only."""

    worker: int
    timeout: float
    hand_off: bool
    """Whether other workers may take its idle connections (false when all of them are leaving)."""
    sessions: float = 0.0
    """Seconds, before those of `timeout`, for which it may go on with the sessions that it has."""


@record
class DumpStacks:
    """Have the worker's stacks written to the log, even if its loop or the GIL is stuck."""

    worker: int


@record
class KillWorker:
    """SIGKILL the worker, or the process of a service."""

    worker: int


@record
class Announce:
    """Tell people and machines."""

    notice: Notice


@record
class CloseListeners:
    """Refuse new connections, as no worker accepts any more, except where a service manager keeps the socket."""


@record
class ExitMaster:
    """Nothing is left alive: leave with this status."""

    code: ExitCode


Action = (
    StartZygote
    | RetireZygote
    | KillZygote
    | SpawnWorker
    | SpawnService
    | StopService
    | AdmitWorker
    | DrainWorker
    | DumpStacks
    | KillWorker
    | Announce
    | CloseListeners
    | ExitMaster
)
