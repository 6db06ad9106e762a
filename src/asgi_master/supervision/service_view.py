"""The services as they are at one moment, for status and metrics."""

from collections.abc import Iterator
from enum import StrEnum

from asgi_master.records import record
from asgi_master.supervision.fleet import WorkerRecord
from asgi_master.supervision.state import SupervisorState
from asgi_master.supervision.states import WorkerState


class ServiceState(StrEnum):
    """What a service does."""

    STARTING = "starting"
    """Its process was ordered; the function does not run yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    """It was told to stop, or could not start and exits."""
    KILLED = "killed"
    """SIGKILL was sent."""
    WAITING = "waiting"
    """It has no process: it waits after a failure, for a predecessor to end, or for a zygote to fork from."""
    COMPLETED = "completed"
    """It returned."""


_STATES = {
    WorkerState.BOOTING: ServiceState.STARTING,
    WorkerState.READY: ServiceState.RUNNING,
    WorkerState.FAILED: ServiceState.STOPPING,
    WorkerState.DRAINING: ServiceState.STOPPING,
    WorkerState.KILLED: ServiceState.KILLED,
}


@record
class ServiceView:
    """A process of a service, or a service without one."""

    name: str
    state: ServiceState
    process: WorkerRecord | None
    failures: int
    """Consecutive failures."""
    retry_in: float | None
    """Seconds until it is started again; `None` if it does not wait for that."""


def view_services(state: SupervisorState, now: float) -> Iterator[ServiceView]:
    """Every service of the committed generation, and others that still have a process; each process by itself."""
    living = state.fleet.services()
    names = [] if state.desired.committed is None else list(state.desired.committed_policy.services)
    names += [name for name in dict.fromkeys(service.service for service in living) if name not in names]
    for name in names:
        backoff = state.services.backoffs.get(name)
        failures = 0 if backoff is None else backoff.strikes
        processes = [service for service in living if service.service == name]
        for process in processes:
            yield ServiceView(name, _STATES[process.state], process, failures, None)
        if processes:
            continue
        if name in state.services.completed:
            yield ServiceView(name, ServiceState.COMPLETED, None, failures, None)
        else:
            waits = backoff is not None and backoff.until > now
            retry_in = backoff.until - now if backoff is not None and waits else None
            yield ServiceView(name, ServiceState.WAITING, None, failures, retry_in)
