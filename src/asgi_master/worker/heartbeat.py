"""The worker's one timer: it beats, copies the counters out, sweeps timeouts and renews the date.

It runs in the event loop itself, so a stuck loop stops beating. A thread would only prove that the GIL turns.
"""

import asyncio
import math
import time
from email.utils import formatdate

from asgi_master.ipc.counters import Field
from asgi_master.ipc.scoreboard import Row
from asgi_master.worker.recycling import Recycler
from asgi_master.worker.transport.context import Connection, WorkerContext

BEAT_PERIOD = 0.25
"""Seconds between two heartbeats."""

_SWEEP_EVERY = 4
"""Beats in which every connection is swept once: about a second."""
_SWEEP_SLICE = 0.002
"""Seconds of one turn of the loop for that."""


class Heartbeat:
    """Beats on a scoreboard row until stopped."""

    def __init__(self, context: WorkerContext, row: Row, recycler: Recycler) -> None:
        self._context = context
        self._recycler = recycler
        self._row = row
        self._beats = 0
        self._unswept: list[Connection] = []
        self._due_sweeps = 0  # of them, those of this beat
        self._goes_on = False  # whether they are looked at in the next turn of the loop
        self._due = context.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat now, and go on."""
        self._beat()

    def stop(self) -> None:
        """Write the last numbers and stop."""
        if self._timer is not None:
            self._timer.cancel()
        self._publish()

    def _beat(self) -> None:
        loop = self._context.loop
        now = loop.time()
        self._row[Field.LOOP_LAG_NS] = int((now - self._due) * 1e9)
        self._due = now + BEAT_PERIOD
        # First, so that what fails below does not end the beats, and with them the worker.
        self._timer = loop.call_at(self._due, self._beat)
        self._publish()
        beat = self._beats
        self._beats = (beat + 1) % _SWEEP_EVERY
        if beat == 0:
            self._each_second(now)
        self._sweep(now, _SWEEP_EVERY - beat)

    def _each_second(self, now: float) -> None:
        context = self._context
        context.server_fields.set_date(formatdate(usegmt=True))
        # While it drains, every time-out is another one.
        self._unswept = list(context.connections) if context.draining else context.sweeps.take(now)
        if context.access_log is not None:
            context.access_log.flush()
        self._recycler.tick(now)

    def _sweep(self, now: float, beats_left: int) -> None:
        """A part of the connections at each beat: thousands at once would hold up the requests of all."""
        self._due_sweeps = math.ceil(len(self._unswept) / beats_left)
        if not self._goes_on:
            self._sweep_on(now)

    def _sweep_on(self, now: float) -> None:
        """Of that part what a slice of the loop's turn allows, and then the rest: one of HTTP/2 has many requests."""
        self._goes_on = False
        context = self._context
        until = time.monotonic() + _SWEEP_SLICE
        while self._due_sweeps and self._unswept:
            self._due_sweeps -= 1
            connection = self._unswept.pop()
            if connection in context.connections:
                context.sweeps.rest(connection, connection.sweep(now), now)
            if time.monotonic() >= until:
                self._goes_on = True
                context.loop.call_soon(self._sweep_on, now)
                return

    def _publish(self) -> None:
        row = self._row
        row[Field.HEARTBEAT_NS] = time.monotonic_ns()
        row.write(self._context.stats)
