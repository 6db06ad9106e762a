"""The states of workers, zygotes and the fleet, and their transitions: total tables.

Rules of this file:
  - A pair that is not among the moves keeps its state: facts may arrive late, and none of them is an error.
  - Every state in which something is awaited has a deadline; `TIMED_OUT` is what its passing does.
"""

from enum import StrEnum


class Role(StrEnum):
    """What a worker is for."""

    WORKER = "worker"
    """Serves its slot."""
    SPARE = "spare"
    """Stands by: accepts only while another worker is missing."""
    SERVICE = "service"
    """Runs a function of the application, one process for the whole server; accepts no connections."""


class WorkerState(StrEnum):
    """Where a worker is in its life."""

    BOOTING = "booting"
    """From the order to fork it until it is ready. Deadline: boot_timeout."""
    READY = "ready"
    """Serves. Its heartbeat is watched (hang_timeout)."""
    FAILED = "failed"
    """Said that it cannot serve; its process exits by itself. Deadline: shutdown_timeout + kill_grace."""
    DRAINING = "draining"
    """Finishes and leaves. Deadline: drain_timeout + kill_grace. Its heartbeat is watched."""
    KILLED = "killed"
    """SIGKILL was sent. Deadline: UNKILLABLE_AFTER."""
    ABANDONED = "abandoned"
    """Stuck in the kernel; no longer waited for."""
    GONE = "gone"
    """Reaped, and forgotten."""


class WorkerTrigger(StrEnum):
    """What moves a worker."""

    BECAME_READY = "became ready"
    REFUSED = "failed to boot"
    TOLD_TO_LEAVE = "told to leave"
    LEFT = "began to leave"
    FOUND_HUNG = "found hung"
    TIMED_OUT = "deadline passed"
    STOPPED_BY_FORCE = "third stop"
    EXITED = "exited"


class ZygoteState(StrEnum):
    """Where a zygote is in its life."""

    IMPORTING = "importing"
    """Loads the application. Deadline: boot_timeout."""
    READY = "ready"
    """Can fork."""
    RETIRING = "retiring"
    """Was told to leave, or leaves because it could not import. Deadline: kill_grace."""
    KILLED = "killed"
    """SIGKILL was sent. Deadline: UNKILLABLE_AFTER."""
    ABANDONED = "abandoned"
    """Stuck in the kernel; no longer waited for."""
    GONE = "gone"
    """Reaped, and forgotten."""


class ZygoteTrigger(StrEnum):
    """What moves a zygote."""

    BECAME_READY = "imported"
    REFUSED = "failed to import"
    TOLD_TO_LEAVE = "not needed"
    TIMED_OUT = "deadline passed"
    STOPPED_BY_FORCE = "third stop"
    EXITED = "exited"


class Phase(StrEnum):
    """Phase of the fleet."""

    BOOTING = "booting"
    """The first generation comes up; any failure ends it."""
    STEADY = "steady"
    """A generation is committed; lost workers are replaced from it."""
    RELOADING = "reloading"
    """A newer generation is proving itself, slot by slot."""
    TERMINATING = "terminating"
    """A stop was requested and waits for the shutdown delay: readiness is gone, the workers serve on."""
    WAITING = "waiting"
    """The first boot failed and development waits for the next reload; nothing serves."""
    STOPPING = "stopping"
    """Everything leaves."""
    STOPPED = "stopped"
    """Nothing lives; no further order is given."""

    @property
    def is_ending(self) -> bool:
        """Whether a stop was requested."""
        return self in {Phase.TERMINATING, Phase.STOPPING, Phase.STOPPED}


class PhaseTrigger(StrEnum):
    """What changes the phase."""

    REQUESTED = "reload requested"
    ROLLBACK_REQUESTED = "rollback requested"
    COMMITTED = "committed"
    ROLLED_BACK = "reload failed"
    BOOT_FAILED = "boot failed"
    BOOT_FAILED_WAITING = "boot failed, development"
    STOP_DELAYED = "stop requested, delayed"
    STOP_REQUESTED = "stop requested"
    EMPTIED = "nothing lives"


_W, _WT = WorkerState, WorkerTrigger
WORKER_MOVES: dict[tuple[WorkerState, WorkerTrigger], WorkerState] = {
    (_W.BOOTING, _WT.BECAME_READY): _W.READY,
    (_W.BOOTING, _WT.REFUSED): _W.FAILED,
    (_W.BOOTING, _WT.TOLD_TO_LEAVE): _W.DRAINING,
    (_W.BOOTING, _WT.LEFT): _W.DRAINING,
    (_W.BOOTING, _WT.TIMED_OUT): _W.KILLED,
    (_W.BOOTING, _WT.STOPPED_BY_FORCE): _W.KILLED,
    (_W.BOOTING, _WT.EXITED): _W.GONE,
    (_W.READY, _WT.TOLD_TO_LEAVE): _W.DRAINING,
    (_W.READY, _WT.LEFT): _W.DRAINING,
    (_W.READY, _WT.FOUND_HUNG): _W.KILLED,
    (_W.READY, _WT.STOPPED_BY_FORCE): _W.KILLED,
    (_W.READY, _WT.EXITED): _W.GONE,
    (_W.FAILED, _WT.TIMED_OUT): _W.KILLED,
    (_W.FAILED, _WT.STOPPED_BY_FORCE): _W.KILLED,
    (_W.FAILED, _WT.EXITED): _W.GONE,
    (_W.DRAINING, _WT.REFUSED): _W.FAILED,
    (_W.DRAINING, _WT.FOUND_HUNG): _W.KILLED,
    (_W.DRAINING, _WT.TIMED_OUT): _W.KILLED,
    (_W.DRAINING, _WT.STOPPED_BY_FORCE): _W.KILLED,
    (_W.DRAINING, _WT.EXITED): _W.GONE,
    (_W.KILLED, _WT.TIMED_OUT): _W.ABANDONED,
    (_W.KILLED, _WT.EXITED): _W.GONE,
    (_W.ABANDONED, _WT.EXITED): _W.GONE,
}

_Z, _ZT = ZygoteState, ZygoteTrigger
ZYGOTE_MOVES: dict[tuple[ZygoteState, ZygoteTrigger], ZygoteState] = {
    (_Z.IMPORTING, _ZT.BECAME_READY): _Z.READY,
    (_Z.IMPORTING, _ZT.REFUSED): _Z.RETIRING,
    (_Z.IMPORTING, _ZT.TOLD_TO_LEAVE): _Z.RETIRING,
    (_Z.IMPORTING, _ZT.TIMED_OUT): _Z.KILLED,
    (_Z.IMPORTING, _ZT.STOPPED_BY_FORCE): _Z.KILLED,
    (_Z.IMPORTING, _ZT.EXITED): _Z.GONE,
    (_Z.READY, _ZT.TOLD_TO_LEAVE): _Z.RETIRING,
    (_Z.READY, _ZT.STOPPED_BY_FORCE): _Z.KILLED,
    (_Z.READY, _ZT.EXITED): _Z.GONE,
    (_Z.RETIRING, _ZT.TIMED_OUT): _Z.KILLED,
    (_Z.RETIRING, _ZT.STOPPED_BY_FORCE): _Z.KILLED,
    (_Z.RETIRING, _ZT.EXITED): _Z.GONE,
    (_Z.KILLED, _ZT.TIMED_OUT): _Z.ABANDONED,
    (_Z.KILLED, _ZT.EXITED): _Z.GONE,
    (_Z.ABANDONED, _ZT.EXITED): _Z.GONE,
}

_P, _PT = Phase, PhaseTrigger
PHASE_MOVES: dict[tuple[Phase, PhaseTrigger], Phase] = {
    (_P.BOOTING, _PT.COMMITTED): _P.STEADY,
    (_P.BOOTING, _PT.BOOT_FAILED): _P.STOPPING,
    (_P.BOOTING, _PT.BOOT_FAILED_WAITING): _P.WAITING,
    (_P.BOOTING, _PT.STOP_REQUESTED): _P.STOPPING,
    (_P.STEADY, _PT.REQUESTED): _P.RELOADING,
    (_P.STEADY, _PT.ROLLBACK_REQUESTED): _P.RELOADING,
    (_P.STEADY, _PT.STOP_DELAYED): _P.TERMINATING,
    (_P.STEADY, _PT.STOP_REQUESTED): _P.STOPPING,
    (_P.RELOADING, _PT.COMMITTED): _P.STEADY,
    (_P.RELOADING, _PT.ROLLED_BACK): _P.STEADY,
    (_P.RELOADING, _PT.STOP_DELAYED): _P.TERMINATING,
    (_P.RELOADING, _PT.STOP_REQUESTED): _P.STOPPING,
    (_P.TERMINATING, _PT.STOP_REQUESTED): _P.STOPPING,
    (_P.WAITING, _PT.REQUESTED): _P.BOOTING,
    (_P.WAITING, _PT.STOP_REQUESTED): _P.STOPPING,
    (_P.STOPPING, _PT.EMPTIED): _P.STOPPED,
}

WORKER_TABLE = {(s, t): WORKER_MOVES.get((s, t), s) for s in WorkerState for t in WorkerTrigger}
ZYGOTE_TABLE = {(s, t): ZYGOTE_MOVES.get((s, t), s) for s in ZygoteState for t in ZygoteTrigger}
PHASE_TABLE = {(s, t): PHASE_MOVES.get((s, t), s) for s in Phase for t in PhaseTrigger}
