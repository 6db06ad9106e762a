"""Log of failures that a process survives: each kind at once, then at most once a minute with a count, and its end.

An operation that fails because the kernel is out of a resource fails again at the next attempt, many times a second.
One line each would bury the lines that matter.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Hashable

from asgi_master.records import mutable_record
from asgi_master.telemetry.rate_limit import RateLimit

log = logging.getLogger("asgi_master")

_QUIET = 5.0
"""Seconds without a failure of its kind after which it is over."""
_MAX_KINDS = 256
"""Kinds that are followed at a time, and kinds that are logged with a traceback."""

Kind = tuple[str, type[BaseException], int | None]


@mutable_record
class _Run:
    """Failures of one kind and source, not over yet."""

    what: str
    began: float
    last: float
    times: int = 0
    is_logged: bool = False


class FailureLog:
    """The failures of one process, or of one part of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self._clock = clock
        self._limit = RateLimit()
        self._traced: set[Kind] = set()
        self.count = 0
        """Number of failures so far."""
        self.running: dict[tuple[Hashable, Kind], _Run] = {}
        """Failures that are not over yet, by source and kind."""

    def failed(
        self,
        what: str,
        error: Exception,
        then: str,
        level: int = logging.WARNING,
        *,
        source: Hashable = None,
    ) -> None:
        """Record that `what` failed with `error`; `then` completes the line: what the process does about it.

        `source` distinguishes objects that fail in the same way. Errors that the system did not report are logged
        with a traceback the first time. Raises nothing, even if there is no memory left for the line.
        """
        self.count += 1
        with contextlib.suppress(Exception):
            self._record(what, error, then, level, source)

    def recovered(self, source: Hashable) -> None:
        """End the failures of `source`."""
        for key in [key for key in self.running if key[0] == source]:
            self._end(key)

    def sweep(self) -> None:
        """End the failures that have not occurred for 5 s; to be called regularly."""
        if not self.running:
            return
        now = self._clock()
        for key in [key for key, run in self.running.items() if now >= run.last + _QUIET]:
            self._end(key)

    def _record(self, what: str, error: Exception, then: str, level: int, source: Hashable) -> None:
        now = self._clock()
        kind = (what, type(error), error.errno if isinstance(error, OSError) else None)
        run = self.running.get((source, kind))
        if run is None:
            run = _Run(what, now, now)
            if len(self.running) < _MAX_KINDS:
                self.running[source, kind] = run
        run.last = now
        run.times += 1
        times = self._limit.count(kind, now)
        if not times:
            return
        run.is_logged = True
        again = f" ({times} times since the last such line)" if times > 1 else ""
        log.log(
            level,
            "%s failed%s: %s; %s",
            what,
            again,
            describe(error),
            then,
            exc_info=self._trace(kind, error),
        )

    def _trace(self, kind: Kind, error: Exception) -> Exception | None:
        if (
            isinstance(error, OSError | MemoryError)
            or kind in self._traced
            or len(self._traced) >= _MAX_KINDS
        ):
            return None
        self._traced.add(kind)
        return error

    def _end(self, key: tuple[Hashable, Kind]) -> None:
        run = self.running.pop(key)
        if run.is_logged and run.times > 1:
            log.info("%s: over; it failed %d times in %.1f s", run.what, run.times, run.last - run.began)


def describe(error: Exception) -> str:
    """A short description of the error."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "no memory is left"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
