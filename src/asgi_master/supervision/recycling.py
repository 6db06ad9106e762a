"""Which worker that asked to be replaced is replaced now: one at a time, and never at the cost of capacity.

The request changes nothing by itself: the worker serves until a successor is ready. Reload, scaling and stop take
precedence.
"""

from collections.abc import Callable, Iterable

from asgi_master.supervision.fleet import WorkerRecord


def next_to_recycle(
    candidates: Iterable[WorkerRecord], is_backing_off: Callable[[int], bool], *, can_fork: bool
) -> int | None:
    """The worker to replace: the one whose successor boots already, else the one that has waited longest.

    `is_backing_off` is true for slots that wait after a failure of an earlier successor.
    """
    serving = sorted(candidates, key=lambda worker: worker.id)
    # A worker whose successor is ready is leaving already.
    newest = {worker.slot: worker for worker in serving if worker.is_ready}
    requested = sorted(
        (worker for worker in newest.values() if worker.replacement_reason),
        key=lambda worker: (worker.replacement_requested_at, worker.id),
    )
    booting = {worker.slot for worker in serving if not worker.is_ready}
    for worker in requested:
        if worker.slot in booting:
            return worker.id
    if booting:
        # Another worker is being replaced, perhaps one that stopped first: one at a time.
        return None
    return next((worker.id for worker in requested if can_fork and not is_backing_off(worker.slot)), None)
