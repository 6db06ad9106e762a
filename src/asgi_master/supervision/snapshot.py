"""The state of a supervisor as data: after a live upgrade, the new master's goes on from there.

Only ever made in `Phase.STEADY`, between two facts: no rollout is under way, no order waits to be taken. The clock must
be the same on both sides; what passes between them counts as time in which the master itself did not run.
"""

from collections.abc import Callable
from typing import Any

from asgi_master import codec
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import Phase, Role
from asgi_master.supervision.supervisor import Supervisor

Snapshot = dict[str, Any]
"""JSON, infinities included."""

_IS_SPARE = "spare"
"""What a version without roles has instead of `role`."""


class SnapshotError(Exception):
    """The snapshot cannot be loaded; why not, in one line."""


def dump(supervisor: Supervisor) -> Snapshot:
    """All that is needed to go on. `supervisor` must be in `Phase.STEADY`."""
    assert supervisor.phase is Phase.STEADY
    snapshot: Snapshot = codec.dump(supervisor.state)
    for _, worker in snapshot["fleet"]["workers"]:
        worker[_IS_SPARE] = worker["role"] == Role.SPARE
    return snapshot


def load(snapshot: Snapshot, jitter: Callable[[], float]) -> Supervisor:
    """A supervisor in the state of the one that was dumped. Raises `SnapshotError`."""
    try:
        for _, worker in snapshot["fleet"]["workers"]:
            worker.setdefault("role", Role.SPARE if worker.get(_IS_SPARE) else Role.WORKER)
        state = codec.load(SupervisorState, snapshot)
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"the state of the running master cannot be read ({error!r})") from None
    if state.desired.phase is not Phase.STEADY:
        raise SnapshotError(f"the running master is {state.desired.phase}")
    return Supervisor(state.desired.policy, state.clock.now, jitter, state=state)
