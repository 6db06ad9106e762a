"""What workers told when they were asked what they do: the tasks of their loops, the stacks of their threads. Pure.

The loop tells its tasks and the stacks of all threads, if it runs. If not, the stack of its thread is written from C,
whatever that is doing. Nothing marks the end of that, so what came until time is up is all there is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from asgi_master.ipc.messages import TasksTold

PATIENCE = 1.0
"""Seconds for a worker to answer."""
_LOOP_PATIENCE = 0.2
"""Seconds for its loop to do so; then its stack is asked for past the loop."""

_MOST_BYTES = 64 * 1024
"""Of one worker's tasks, and again of its threads: fits a datagram, and what a pipe holds."""
_MOST_BYTES_OF_ALL = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerStacks:
    """One worker. The field names are the JSON's keys."""

    slot: int
    generation: int
    pid: int | None
    """`None` if its process has not begun."""
    task_count: int | None
    """How many asyncio tasks it has, shown or not; `None` if its loop did not answer."""
    tasks: list[dict[str, Any]] | None
    """The largest groups of tasks; `None` if its loop did not answer. See `asgi_master.worker.tasks.TaskGroup`."""
    tasks_left_out: int
    """How many tasks had no room in `tasks`."""
    threads: str | None
    """The stacks of all threads, or of the loop's alone if the loop did not answer; `None` if none came.

    As faulthandler writes them, innermost frame first.
    """
    note: str
    """What is missing, and why; empty if nothing is."""


@dataclass(slots=True)
class Asked:
    """A worker that was asked."""

    worker: int
    slot: int
    generation: int
    pid: int | None
    told: TasksTold | None = None
    threads: str = ""
    is_pressed: bool = False
    """Whether the stack of its loop was asked for past the loop."""
    is_gone: bool = False
    is_logged_too: bool = False
    """Whether its stacks were meanwhile ordered for the log as well."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is to come."""
        return self.is_gone or self.pid is None or self.told is not None


@dataclass(slots=True, eq=False)
class Inquiry:
    """One question to some workers, and what they answered so far."""

    number: int
    begun_at: float
    asked: dict[int, Asked]
    limit: int
    """Bytes that the tasks of each worker may take, and again its threads."""
    is_over: bool = False

    def look(self, now: float) -> bool:
        """Whether everybody has answered, or had time enough; from then on nothing is added."""
        self.is_over = (
            self.is_over
            or now >= self.begun_at + PATIENCE
            or all(one.is_complete for one in self.asked.values())
        )
        return self.is_over

    def found(self) -> list[WorkerStacks]:
        """The answers, by slot, older workers first."""
        return [_stacks(one) for one in sorted(self.asked.values(), key=lambda one: (one.slot, one.worker))]


@dataclass(slots=True)
class Inquiries:
    """All that is being asked. Times are in seconds on one monotonic clock."""

    _open: list[Inquiry] = field(default_factory=list)
    _last_number: int = 0

    def begin(self, asked: Iterable[Asked], now: float) -> Inquiry:
        """Expect answers of these workers."""
        self._last_number += 1
        workers = {one.worker: one for one in asked}
        limit = min(_MOST_BYTES, _MOST_BYTES_OF_ALL // max(1, len(workers)))
        inquiry = Inquiry(self._last_number, now, workers, limit)
        self._open.append(inquiry)
        return inquiry

    def silent(self, now: float) -> set[int]:
        """The workers whose loops do not answer, each once an inquiry: their stacks are to be had past the loop."""
        silent = set()
        for inquiry in self._open:
            if not inquiry.look(now) and now >= inquiry.begun_at + _LOOP_PATIENCE:
                for one in inquiry.asked.values():
                    if not (one.is_pressed or one.is_complete):
                        one.is_pressed = True
                        silent.add(one.worker)
        return silent

    def tasks_told(self, worker: int, told: TasksTold, now: float) -> None:
        """A worker's loop has answered."""
        for inquiry, one in self._asking(worker, now):
            if inquiry.number == told.number:
                one.told = told
                one.threads = told.threads[: inquiry.limit] or one.threads

    def threads_told(self, worker: int, text: str, now: float) -> bool:
        """What a worker wrote past its loop came; returns whether somebody asked, so that it need not go to the log."""
        asking = self._asking(worker, now)
        for inquiry, one in asking:
            one.threads += text[: inquiry.limit - len(one.threads)]
        return bool(asking) and not any(one.is_logged_too for _inquiry, one in asking)

    def ordered_for_log(self, worker: int, now: float) -> None:
        """The stacks of a worker were ordered for another reason, and belong into the log too."""
        for _inquiry, one in self._asking(worker, now):
            one.is_logged_too = True

    def gone(self, worker: int, now: float) -> None:
        """A worker has ended."""
        for _inquiry, one in self._asking(worker, now):
            one.is_gone = True

    def _asking(self, worker: int, now: float) -> list[tuple[Inquiry, Asked]]:
        self._open = [inquiry for inquiry in self._open if not inquiry.look(now)]
        return [(inquiry, inquiry.asked[worker]) for inquiry in self._open if worker in inquiry.asked]


def _stacks(one: Asked) -> WorkerStacks:
    told = one.told
    return WorkerStacks(
        slot=one.slot,
        generation=one.generation,
        pid=one.pid,
        task_count=told.total if told is not None else None,
        tasks=told.groups if told is not None else None,
        tasks_left_out=_left_out(told) if told is not None else 0,
        threads=one.threads or None,
        note=_note(one),
    )


def _left_out(told: TasksTold) -> int:
    shown = sum(int(group.get("count", 0)) for group in told.groups)
    return max(0, told.total - shown)


def _note(one: Asked) -> str:
    if one.pid is None:
        return "its process has not begun"
    if one.is_gone:
        return "it has ended meanwhile"
    missing = []
    if one.told is None:
        unknown = "its tasks and other threads are" if one.is_pressed else "its tasks are"
        missing.append(f"its event loop did not answer within {PATIENCE:g} s, so {unknown} not known")
    if not one.threads:
        missing.append("it did not write the stacks of its threads")
    return "; ".join(missing)
