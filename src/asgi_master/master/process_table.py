"""The zygotes, workers and services of the master, and what can be read of them."""

import time

from asgi_master.ipc.scoreboard import Row
from asgi_master.master.child import WorkerHandle, ZygoteHandle
from asgi_master.settings.model import Settings
from asgi_master.supervision.error_watch import Tally
from asgi_master.supervision.events import HeartbeatsRead


class ProcessTable:
    """All zygotes, workers and services."""

    def __init__(self) -> None:
        self._zygotes: dict[int, ZygoteHandle] = {}
        """By generation."""
        self._workers: dict[int, WorkerHandle] = {}
        """By the worker's number; those of services are among them."""
        self.no_base_because = ""
        """In development: why there is no warm base, if it could not import."""

    def serving(self) -> list[WorkerHandle]:
        """The workers, without services: they have connections, listeners and numbers on the scoreboard."""
        return [child for child in self._workers.values() if not child.service]

    def settings_of(self, generation: int) -> Settings | None:
        """The settings of the generation; `None` if its zygote is gone."""
        zygote = self._zygotes.get(generation)
        return zygote.boot.settings if zygote is not None else None

    def settings_by_generation(self) -> dict[int, Settings]:
        """The settings of all generations whose zygote is there."""
        return {generation: zygote.boot.settings for generation, zygote in self._zygotes.items()}

    def directory_of(self, generation: int) -> str:
        """The real working directory of the generation's zygote; empty if it is not known."""
        zygote = self._zygotes.get(generation)
        return zygote.directory if zygote is not None else ""

    def problem_of(self, generation: int) -> str:
        """In development: why the generation serves an error page; empty if it serves the application."""
        zygote = self._zygotes.get(generation)
        return zygote.problem if zygote is not None else ""

    def manner_of(self, generation: int) -> str:
        """How the generation's zygote imported, in development: `warm` or `cold`; empty if it is not known."""
        zygote = self._zygotes.get(generation)
        manner = zygote.manner if zygote is not None else ""
        return f"cold: {self.no_base_because}" if manner == "cold" and self.no_base_because else manner

    def read_heartbeats(self) -> HeartbeatsRead:
        """The newest heartbeat, tally and progress of each worker."""
        now = time.monotonic()
        return HeartbeatsRead(
            {
                child.worker: stamp
                for child in self.serving()
                if (stamp := child.row.heartbeat(now)) is not None
            },
            {child.worker: _tally(child.row) for child in self.serving()},
            {child.worker: child.row.progress(now) for child in self.serving()},
        )

    def rows(self) -> dict[int, Row]:
        """The scoreboard row of each worker, by its number."""
        return {child.worker: child.row for child in self.serving()}

    def zygote_pids(self) -> list[int]:
        """The pids of the zygotes."""
        return [zygote.process.pid for zygote in self._zygotes.values()]

    def worker_pids(self) -> dict[int, int]:
        """The pids of the workers and services that reported them, by the worker's number."""
        return {child.worker: child.pid for child in self._workers.values() if child.pid is not None}

    def generations(self) -> dict[int, int]:
        """The generation of each worker, by its number."""
        return {child.worker: child.generation for child in self.serving()}

    def slots(self) -> dict[int, int]:
        """The slot of each worker, by its number."""
        return {child.worker: child.slot for child in self.serving()}


def _tally(row: Row) -> Tally:
    stats = row.read()
    return Tally(
        answered=sum(stats.responses),
        failed=stats.responses[5] + stats.late_errors,
        broken_off=stats.late_errors,
    )
