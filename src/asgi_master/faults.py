"""Fault points: places where processes hand something over, at which a test can have one of them fail.

Set for a whole fleet by one environment variable; without it every point is a call that does nothing:

    ASGI_MASTER_FAULT=ACTION@POINT[:FILTER=VALUE,...]        kill@before_ready:generation=2,slot=0

Actions: `kill` (SIGKILL), `exit` (at once, with status 70), `raise` (an `OSError`), `hang` (blocks the thread).
Filters, all of which must hold: `generation` and `slot` of the process (or, in the master, of what it is about),
`nth` (only the nth time that this process comes by with those two holding, from 1) and `armed` (a file: only for the
one who removes it, so the test chooses the moment, it happens once, and its absence says that it did).

An unknown word keeps the program from starting, so that a misspelt fault does not pass for one that was survived.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asgi_master.errors import SettingsError

VARIABLE = "ASGI_MASTER_FAULT"

POINTS = (
    # The master.
    "before_refusal",  # is about to have the kernel refuse descriptors of a child: `raise` makes it an older kernel
    "before_zygote",  # is about to start a zygote
    "before_spawn_order",  # is about to order a worker
    "after_spawn_order",  # has ordered it
    "before_drain_order",  # is about to tell a worker to leave
    "before_commit",  # all new workers are ready; nothing of the old generation is let go yet
    # A zygote.
    "after_import",  # the application is imported, the master not told
    "before_fork",  # has the order to fork
    "mid_fork",  # the process in between has forked the worker and is about to exit
    # A worker.
    "after_fork",  # lives, the master not told
    "after_forked",  # the master knows its pid
    "before_lifespan",  # its loop runs
    "before_ready",  # accepts, the master not told
    "after_ready",  # the master is told
    "drain_start",  # stopped accepting
    "before_hand_off",  # is about to give a connection away
    "mid_hand_off",  # the connection is in the queue, its own copies are not closed yet
    "after_take",  # took a connection that another worker gave away, and has not served it yet
    "drain_end",  # its connections are gone, the lifespan's shutdown comes next
    "before_exit",  # all is done
)
"""Each hand-over, named for the moment at which its process fails."""

EXIT_STATUS = 70
_LONG = 3600.0


@dataclass(slots=True)
class Fault:
    """What the variable asks for."""

    action: Callable[[str], None]
    point: str
    generation: int | None = None
    slot: int | None = None
    nth: int | None = None
    armed: str = ""
    passes: int = 0
    """How often this process came by."""

    def strikes(self, point: str, generation: int | None, slot: int | None) -> bool:
        """Whether it happens now, at this point; counts the pass."""
        if point != self.point:
            return False
        if self.generation is not None and self.generation != generation:
            return False
        if self.slot is not None and self.slot != slot:
            return False
        self.passes += 1
        return (self.nth is None or self.passes == self.nth) and (not self.armed or _disarm(self.armed))


def parse(text: str) -> Fault | None:
    """The fault that the variable asks for; `None` if it is empty. Raises `SettingsError` for words not known here."""
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
    """This process is of that generation, and a worker in that slot; points that say nothing else mean it."""
    global _generation, _slot  # noqa: PLW0603 -- a process is what it is, once
    _generation = _generation if generation is None else generation
    _slot = _slot if slot is None else slot


def fault_point(name: str, *, generation: int | None = None, slot: int | None = None) -> None:
    """Fail here, if that is asked for; `raise` raises an `OSError`. The master says whom it is about."""
    if _fault is None:
        return
    generation = _generation if generation is None else generation
    slot = _slot if slot is None else slot
    if _fault.strikes(name, generation, slot):
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
