"""Whether a worker gets on while its event loop does not turn: busy is not stuck. Seen by a thread beside the loop.

What the loop runs in one turn is a row of calls: callbacks, and steps of tasks. Another call than at the last look, or
another request begun or answered, is progress. One call that lasts is none, whatever it computes.
"""

import asyncio
import time
from types import CodeType, FrameType

from asgi_master.ipc.counters import Field, Stats
from asgi_master.ipc.scoreboard import Row
from asgi_master.worker.code_location import outwards


class Progress:
    """Leaves the time of the last progress in the worker's row, for the master."""

    def __init__(self, row: Row, stats: Stats) -> None:
        self._row = row
        self._stats = stats
        self._caller: CodeType | None = None
        self._stamp = 0.0
        self._call: FrameType | None = None
        self._count = 0

    def begin(self) -> None:
        """Learn from where the loop calls. Called in a task of the loop."""
        task = asyncio.current_task()
        frame: FrameType | None = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
        self._caller = frame.f_back.f_code if frame is not None and frame.f_back is not None else None

    def look(self, stamp: float, frame: FrameType | None) -> None:
        """Note progress. `stamp` is when the loop turned last, `frame` the innermost of its thread."""
        stats = self._stats
        count = stats.requests + sum(stats.responses)
        # While the loop turns there is no need to hold a frame, and with it what its variables hold.
        call = self._called(frame) if stamp == self._stamp else None
        moved = stamp != self._stamp or count != self._count or call is not self._call
        # The frame is held until the next look: its address may not become that of another call.
        self._stamp, self._count, self._call = stamp, count, call
        if moved:
            self._row[Field.PROGRESS_NS] = time.monotonic_ns()

    def _called(self, frame: FrameType | None) -> FrameType | None:
        """What the loop has called and not come back from; `None` if that is nothing, or cannot be told."""
        found: FrameType | None = None
        for each in outwards(frame):
            if each.f_back is not None and each.f_back.f_code is self._caller:
                found = each
        return found
