"""Failures that a process outlives: the first of a kind is said, the rest are counted, and the end is said too.

What fails once because the kernel is out of something fails again at the next attempt, many times a second. A line for
each would bury what matters.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger("asgi_master")

_QUIET = 5.0
"""Seconds without a failure of its kind after which it is over."""
_MOST_KINDS = 256
"""Kinds that are told apart. More of them are no kinds, but words that differ each time."""

Kind = tuple[str, type[BaseException], int | None]


@dataclass(slots=True)
class _Run:
    """A kind that has failed and is not over."""

    began: float
    last: float
    times: int = 1


class Setbacks:
    """Remembers what failed, for one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self._clock = clock
        self._running: dict[Kind, _Run] = {}
        self._traced: set[Kind] = set()
        self.count = 0
        """How many there were."""

    def note(self, what: str, error: Exception, then: str, level: int = logging.WARNING) -> None:
        """`what` has failed with `error`; `then` is what the process does about it.

        Where it is a fault of ours, not of the system, the first of its kind comes with its traceback. Raises nothing,
        also where no memory is left for the line.
        """
        self.count += 1
        with contextlib.suppress(Exception):
            self._note(what, error, then, level)

    def sweep(self) -> None:
        """Say what is over; to be called now and then."""
        if not self._running:
            return
        now = self._clock()
        for kind in [kind for kind, run in self._running.items() if now >= run.last + _QUIET]:
            run = self._running.pop(kind)
            if run.times > 1:
                log.info("%s: over; it failed %d times in %.1f s", kind[0], run.times, run.last - run.began)

    def _note(self, what: str, error: Exception, then: str, level: int) -> None:
        now = self._clock()
        kind = (what, type(error), error.errno if isinstance(error, OSError) else None)
        run = self._running.get(kind)
        if run is not None:
            run.last = now
            run.times += 1
            return
        if len(self._running) >= _MOST_KINDS:
            return
        self._running[kind] = _Run(now, now)
        is_new = kind not in self._traced and len(self._traced) < _MOST_KINDS
        if is_new:
            self._traced.add(kind)
        trace = error if is_new and not isinstance(error, OSError | MemoryError) else None
        log.log(level, "%s failed: %s; %s", what, describe(error), then, exc_info=trace)


def describe(error: Exception) -> str:
    """The error in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "no memory is left"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
