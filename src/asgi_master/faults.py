"""Fault points: steps between processes at which a test can make one of them fail.

Configured for a whole fleet by one environment variable; without it every point is a call that does nothing:

    ASGI_MASTER_FAULT=ACTION@POINT[:FILTER=VALUE,...]        kill@before_ready:generation=2,slot=0

Actions: `kill` (SIGKILL), `exit` (at once, with status 70), `raise` (an `OSError`), `hang` (blocks the thread).

Filters, all of which must match: `generation` and `slot` of the process (or, in the master, of the process concerned),
`nth` (only the nth pass of this process that matches both, from 1) and `armed` (a file: only the process that removes
it fails, so the test chooses the moment, it happens once, and the file's absence proves it).

An unknown word is an error, so that a misspelt fault is not mistaken for one that was survived.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from asgi_master.errors import SettingsError
from asgi_master.records import mutable_record

VARIABLE = "ASGI_MASTER_FAULT"

POINTS = (
    # The master.
    "before_refusal",  # before the kernel is made to refuse descriptors of a child: `raise` simulates an older kernel
    "before_zygote",  # before a zygote is started
    "before_spawn_order",  # before a worker is ordered
    "after_spawn_order",  # after it was ordered
    "before_drain_order",  # before a worker is ordered to drain
    "before_commit",  # all new workers are ready, and the whole old generation is still there
    # A zygote.
    "after_import",  # the application is imported, the master not informed
    "before_fork",  # the order to fork has arrived
    "mid_fork",  # the intermediate process has forked the worker and is about to exit
    # A worker.
    "after_fork",  # the worker runs, the master is not informed
    "after_forked",  # the master knows its pid
    "before_lifespan",  # its event loop runs
    "before_ready",  # it accepts, the master is not informed
    "after_ready",  # the master is informed
    "drain_start",  # it no longer accepts
    "before_hand_off",  # before a connection is transferred
    "mid_hand_off",  # the connection is in the queue, and this process's copies are still open
    "after_take",  # a transferred connection was received, and is not served yet
    "drain_end",  # its connections are closed, the lifespan shutdown comes next
    "before_exit",  # everything is done
)
"""The fault points, named for the moment of the failure."""

EXIT_STATUS = 70
_LONG = 3600.0


@mutable_record
class Fault:
    """The parsed variable."""

    action: Callable[[str], None]
    point: str
    generation: int | None = None
    slot: int | None = None
    nth: int | None = None
    armed: str = ""
    passes: int = 0
    """Number of passes of this process."""

    def matches(self, point: str, generation: int | None, slot: int | None) -> bool:
        """Whether the fault happens at this pass; counts the pass."""
        if point != self.point:
            return False
        if self.generation is not None and self.generation != generation:
            return False
        if self.slot is not None and self.slot != slot:
            return False
        self.passes += 1
        return (self.nth is None or self.passes == self.nth) and (not self.armed or _disarm(self.armed))


def parse(text: str) -> Fault | None:
    """Parse the variable; `None` if it is empty. Raises `SettingsError` for unknown words."""
    if not text:
        return None
    what, _, conditions = text.partition(":")
    action, _, point = what.partition("@")
    if action not in _ACTIONS:
        raise _refuse(f"there is no action {action!r}, only {', '.join(_ACTIONS)}")
    if point not in POINTS:
        raise _refuse(f"there is no point {point!r}, only {', '.join(POINTS)}")
    fault = Fault(_ACTIONS[action], point)
    for condition in filter(None, conditions.split(",")):
        name, _, value = condition.partition("=")
        if name == "armed" and value:
            fault.armed = value
        elif name in {"generation", "slot", "nth"} and value.isdigit():
            setattr(fault, name, int(value))
        else:
            raise _refuse(f"cannot read {condition!r}; generation=N, slot=N, nth=N and armed=FILE are known")
    return fault


def set_location(*, generation: int | None = None, slot: int | None = None) -> None:
    """Set the generation of this process, and the slot of a worker: the defaults for its fault points."""
    global _generation, _slot  # noqa: PLW0603 -- a process is what it is, once
    _generation = _generation if generation is None else generation
    _slot = _slot if slot is None else slot


def fault_point(name: str, *, generation: int | None = None, slot: int | None = None) -> None:
    """Fail here if configured; `raise` raises an `OSError`. The master passes the process concerned."""
    if _fault is None:
        return
    generation = _generation if generation is None else generation
    slot = _slot if slot is None else slot
    if _fault.matches(name, generation, slot):
        _fault.action(name)


def _kill(_point: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(_point: str) -> None:
    os._exit(EXIT_STATUS)


def _raise(point: str) -> None:
    raise OSError(errno.EIO, f"fault point {point}")


def _hang(_point: str) -> None:
    time.sleep(_LONG)


_ACTIONS: dict[str, Callable[[str], None]] = {"kill": _kill, "exit": _exit, "raise": _raise, "hang": _hang}


def _disarm(file: str) -> bool:
    try:
        Path(file).unlink()
    except FileNotFoundError:
        return False
    return True


def _refuse(why: str) -> SettingsError:
    return SettingsError([f"{VARIABLE}: {why}"])


_generation: int | None = None
_slot: int | None = None
_fault = parse(os.environ.get(VARIABLE, ""))
