"""Who of those that asked to leave is exchanged now: one at a time, and never at the price of capacity.

A wish changes nothing by itself: its worker serves until a successor is ready. Reload, scaling and stop
overtake it.
"""

from collections.abc import Callable, Iterable

from asgi_master.supervision.fleet import Worker


def next_to_recycle(
    candidates: Iterable[Worker], held: Callable[[int], bool], *, can_fork: bool
) -> int | None:
    """The worker to exchange: whose successor boots already, else the one that waits longest and may.

    `held` tells which slots wait for their back-off, since an earlier successor failed.
    """
    serving = sorted(candidates, key=lambda worker: worker.id)
    # Whose successor is ready already is on its way out.
    newest = {worker.slot: worker for worker in serving if worker.is_ready}
    wishes = sorted((w for w in newest.values() if w.wish), key=lambda w: (w.wished_at, w.id))
    booting = {worker.slot for worker in serving if not worker.is_ready}
    for worker in wishes:
        if worker.slot in booting:
            return worker.id
    if booting:
        # Somebody is being replaced, perhaps one that made room by itself: one exchange at a time.
        return None
    return next((worker.id for worker in wishes if can_fork and not held(worker.slot)), None)
