"""What a supervisor knows, as plain data: a live upgrade's new master goes on where the old one was.

Only ever made in `Phase.STEADY`, between two facts: no rollout is under way, no order waits to be taken. The clock must
be the same on both sides; what passes between them counts as time in which the master itself did not run.
"""

from collections.abc import Callable
from typing import Any

from asgi_master.supervision.plain import from_plain, to_plain
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import Phase, Role
from asgi_master.supervision.supervisor import Supervisor

Memory = dict[str, Any]
"""JSON, infinities included."""

_IS_SPARE = "spare"
"""What a version without roles has instead of `role`."""


class MementoError(Exception):
    """The memory cannot be recalled; why not, in one line."""


def remember(supervisor: Supervisor) -> Memory:
    """All that is needed to go on. `supervisor` must be in `Phase.STEADY`."""
    assert supervisor.phase is Phase.STEADY
    memory: Memory = to_plain(supervisor.state)
    for _, worker in memory["fleet"]["workers"]:
        worker[_IS_SPARE] = worker["role"] == Role.SPARE
    return memory


def recall(memory: Memory, jitter: Callable[[], float]) -> Supervisor:
    """A supervisor that knows what the other one knew. Raises `MementoError`."""
    try:
        for _, worker in memory["fleet"]["workers"]:
            worker.setdefault("role", Role.SPARE if worker.get(_IS_SPARE) else Role.WORKER)
        state: SupervisorState = from_plain(SupervisorState, memory)
    except (KeyError, TypeError, ValueError) as error:
        raise MementoError(f"the memory of the running master cannot be read ({error!r})") from None
    if state.desired.phase is not Phase.STEADY:
        raise MementoError(f"the running master is {state.desired.phase}")
    return Supervisor(state.desired.policy, state.clock.now, jitter, state=state)
