"""Stack dumps of workers: the tasks of their event loops and the stacks of their threads. Pure.

A running loop reports its tasks and the stacks of all threads. If it is blocked, the stack of its thread is written
from C, by faulthandler. That text has no end mark, so whatever arrives before the timeout is used.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from asgi_master.ipc.messages import TaskGroup, TasksReported
from asgi_master.records import mutable_record, record

ANSWER_TIMEOUT = 1.0
"""Seconds that a worker may take to answer."""
_LOOP_ANSWER_TIMEOUT = 0.2
"""Seconds that its loop may take; after that faulthandler is used."""

_MAX_BYTES = 64 * 1024
"""For the tasks of a worker, and again for its threads: fits a datagram, and a pipe's capacity."""
_MAX_BYTES_OF_ALL = 4 * 1024 * 1024


@record
class WorkerStacks:
    """The dump of one worker. The field names are the JSON's keys."""

    slot: int
    generation: int
    pid: int | None
    """`None` if its process has not started."""
    task_count: int | None
    """Number of asyncio tasks, shown or not; `None` if its loop did not answer."""
    tasks: list[TaskGroup] | None
    """The largest groups of tasks; `None` if its loop did not answer."""
    tasks_left_out: int
    """Number of tasks that are not in `tasks`, for lack of room."""
    threads: str | None
    """The stacks of all threads, or of the loop's thread alone if the loop did not answer; `None` if none arrived.

    In the format of faulthandler, innermost frame first.
    """
    note: str
    """What is missing, and why; empty if the dump is complete."""


@mutable_record
class PendingWorker:
    """A worker whose answer is awaited."""

    worker: int
    slot: int
    generation: int
    pid: int | None
    tasks: TasksReported | None = None
    threads: str = ""
    is_dump_requested: bool = False
    """Whether faulthandler was triggered."""
    is_gone: bool = False
    is_logged_too: bool = False
    """Whether its stacks were also ordered for the log."""

    @property
    def is_complete(self) -> bool:
        """Whether no more is awaited."""
        return self.is_gone or self.pid is None or self.tasks is not None


@dataclass(slots=True, eq=False)
class StackDumpRequest:
    """A request for the dumps of some workers, and their answers so far."""

    number: int
    begun_at: float
    workers: dict[int, PendingWorker]
    limit: int
    """Maximum number of bytes for the tasks of each worker, and again for its threads."""
    is_over: bool = False

    def poll(self, now: float) -> bool:
        """Whether all workers have answered or the time has passed; from then on nothing is added."""
        self.is_over = (
            self.is_over
            or now >= self.begun_at + ANSWER_TIMEOUT
            or all(one.is_complete for one in self.workers.values())
        )
        return self.is_over

    def results(self) -> list[WorkerStacks]:
        """The dumps, by slot, older workers first."""
        return [_stacks(one) for one in sorted(self.workers.values(), key=lambda one: (one.slot, one.worker))]


@mutable_record
class StackDumpRequests:
    """All open requests. Times are in seconds on one monotonic clock."""

    _open: list[StackDumpRequest] = field(default_factory=list)
    _last_number: int = 0

    def begin(self, pending: Iterable[PendingWorker], now: float) -> StackDumpRequest:
        """Open a request for these workers."""
        self._last_number += 1
        workers = {one.worker: one for one in pending}
        limit = min(_MAX_BYTES, _MAX_BYTES_OF_ALL // max(1, len(workers)))
        request = StackDumpRequest(self._last_number, now, workers, limit)
        self._open.append(request)
        return request

    def take_unresponsive(self, now: float) -> set[int]:
        """The workers whose loops do not answer, once per request: faulthandler must dump their stacks."""
        unresponsive = set()
        for request in self._open:
            if not request.poll(now) and now >= request.begun_at + _LOOP_ANSWER_TIMEOUT:
                for one in request.workers.values():
                    if not (one.is_dump_requested or one.is_complete):
                        one.is_dump_requested = True
                        unresponsive.add(one.worker)
        return unresponsive

    def record_tasks(self, worker: int, tasks: TasksReported, now: float) -> None:
        """Record the answer of a worker's loop."""
        for request, one in self._waiting_for(worker, now):
            if request.number == tasks.number:
                one.tasks = tasks
                one.threads = tasks.threads[: request.limit] or one.threads

    def record_threads(self, worker: int, text: str, now: float) -> bool:
        """Record faulthandler's output; returns whether a request takes it, so that it is not logged."""
        waiting = self._waiting_for(worker, now)
        for request, one in waiting:
            one.threads += text[: request.limit - len(one.threads)]
        return bool(waiting) and not any(one.is_logged_too for _request, one in waiting)

    def ordered_for_log(self, worker: int, now: float) -> None:
        """Note that the stacks of a worker were ordered for the log as well."""
        for _request, one in self._waiting_for(worker, now):
            one.is_logged_too = True

    def record_exit(self, worker: int, now: float) -> None:
        """Note that a worker has ended."""
        for _request, one in self._waiting_for(worker, now):
            one.is_gone = True

    def _waiting_for(self, worker: int, now: float) -> list[tuple[StackDumpRequest, PendingWorker]]:
        self._open = [request for request in self._open if not request.poll(now)]
        return [(request, request.workers[worker]) for request in self._open if worker in request.workers]


def _stacks(one: PendingWorker) -> WorkerStacks:
    tasks = one.tasks
    return WorkerStacks(
        slot=one.slot,
        generation=one.generation,
        pid=one.pid,
        task_count=tasks.total if tasks is not None else None,
        tasks=tasks.groups if tasks is not None else None,
        tasks_left_out=_left_out(tasks) if tasks is not None else 0,
        threads=one.threads or None,
        note=_note(one),
    )


def _left_out(tasks: TasksReported) -> int:
    shown = sum(group.count for group in tasks.groups)
    return max(0, tasks.total - shown)


def _note(one: PendingWorker) -> str:
    if one.pid is None:
        return "its process has not started"
    if one.is_gone:
        return "it has ended"
    missing = []
    if one.tasks is None:
        unknown = "its tasks and other threads are" if one.is_dump_requested else "its tasks are"
        missing.append(f"its event loop did not answer within {ANSWER_TIMEOUT:g} s, so {unknown} not known")
    if not one.threads:
        missing.append("it did not write the stacks of its threads")
    return "; ".join(missing)
