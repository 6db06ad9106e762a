"""Detects progress of a worker whose loop does not turn: busy is not stuck. Runs in a thread beside the loop.

A turn of the loop is a sequence of calls: callbacks, and steps of tasks. A different call than at the last check, or a
request begun or answered since, is progress. One call that lasts is not, whatever it computes.
"""

import asyncio
import time
from types import CodeType, FrameType

from asgi_master.ipc.counters import Field, Stats
from asgi_master.ipc.scoreboard import Row
from asgi_master.worker.diagnostics.code_location import outwards


class Progress:
    """Writes the time of the last progress to the worker's row, for the master."""

    def __init__(self, row: Row, stats: Stats) -> None:
        self._row = row
        self._stats = stats
        self._caller: CodeType | None = None
        self._stamp = 0.0
        self._call: FrameType | None = None
        self._count = 0

    def begin(self) -> None:
        """Find the frame from which the loop calls. Called in a task of the loop."""
        task = asyncio.current_task()
        frame: FrameType | None = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
        self._caller = frame.f_back.f_code if frame is not None and frame.f_back is not None else None

    def look(self, stamp: float, frame: FrameType | None) -> None:
        """Record progress. `stamp` is when the loop last ran, `frame` the innermost frame of its thread."""
        stats = self._stats
        count = stats.requests + sum(stats.responses)
        # While the loop runs, no frame need be referenced, and with it its variables.
        call = self._called(frame) if stamp == self._stamp else None
        moved = stamp != self._stamp or count != self._count or call is not self._call
        # Referenced until the next check: its address must not be reused by another call.
        self._stamp, self._count, self._call = stamp, count, call
        if moved:
            self._row[Field.PROGRESS_NS] = time.monotonic_ns()

    def _called(self, frame: FrameType | None) -> FrameType | None:
        """The loop's current call; `None` if there is none, or it cannot be found."""
        found: FrameType | None = None
        for each in outwards(frame):
            if each.f_back is not None and each.f_back.f_code is self._caller:
                found = each
        return found
