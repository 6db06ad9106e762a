"""Orders: what the edge must do, in order, once each."""

from dataclasses import dataclass

from asgi_master.errors import ExitCode
from asgi_master.supervision.notices import Notice
from asgi_master.supervision.states import Role


@dataclass(frozen=True, slots=True)
class StartZygote:
    """Start a fresh interpreter that imports the application for this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class RetireZygote:
    """Tell the zygote that it is no longer needed; it exits by itself."""

    generation: int


@dataclass(frozen=True, slots=True)
class KillZygote:
    """SIGKILL the zygote."""

    generation: int


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    """Have the generation's zygote fork a worker. `worker` is unique for ever; `slot` is its stable place."""

    worker: int
    slot: int
    generation: int
    role: Role = Role.WORKER
    """A spare boots, but accepts only once it is admitted."""


@dataclass(frozen=True, slots=True)
class AdmitWorker:
    """Tell the spare to accept from now on."""

    worker: int


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Tell the worker to finish and leave within `timeout` seconds; 0 leaves the lifespan's shutdown only."""

    worker: int
    timeout: float
    hand_off: bool
    """Whether other workers may take its idle connections (false when all of them are leaving)."""


@dataclass(frozen=True, slots=True)
class DumpStacks:
    """Have the worker's stacks written to the log, even if its loop or the GIL is stuck."""

    worker: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """SIGKILL the worker."""

    worker: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell people and machines."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class CloseListeners:
    """Nobody will accept any more: turn newcomers away, except where a service manager keeps the socket."""


@dataclass(frozen=True, slots=True)
class ExitMaster:
    """Nothing is left alive: leave with this status."""

    code: ExitCode


Action = (
    StartZygote
    | RetireZygote
    | KillZygote
    | SpawnWorker
    | AdmitWorker
    | DrainWorker
    | DumpStacks
    | KillWorker
    | Announce
    | CloseListeners
    | ExitMaster
)
