"""Health checks: is the master alive, ready, started? Pure.

The three questions of Kubernetes (`docs/howto/observe.md`):
  - `livez`: does the master's loop run? Any response proves it.
  - `readyz`: may requests be sent here? Enough workers are ready, their loops run, and the master is not stopping.
  - `startupz`: did the first generation become ready?
"""

from collections.abc import Iterator

from asgi_master.records import record

FRESH = 2.0
"""Seconds. A worker with an older heartbeat does not count as serving; heartbeats come four times a second."""


@record
class WorkerHealth:
    """A worker that should serve."""

    slot: int
    generation: int
    state: str
    """`ready`, or the state that keeps it from serving."""
    heartbeat_age: float | None
    """Seconds since its event loop last ran; `None` before the first heartbeat."""

    @property
    def serves(self) -> bool:
        """Whether it accepts requests now."""
        return self.state == "ready" and self.heartbeat_age is not None and self.heartbeat_age <= FRESH

    def __str__(self) -> str:
        who = f"worker {self.slot} (generation {self.generation})"
        if self.state != "ready":
            return f"{who} is {self.state}"
        if self.heartbeat_age is None:
            return f"{who} has sent no heartbeat yet"
        return f"{who} is blocked: its event loop has not turned for {self.heartbeat_age:.1f} s"


@record
class HealthState:
    """The input of the checks."""

    started: bool
    """Whether a generation has been committed since the master started."""
    leaving: str
    """The reason why requests should go elsewhere although workers serve; empty if there is none."""
    quorum: int
    """Number of workers that must serve."""
    workers: tuple[WorkerHealth, ...]
    """The workers that should serve, in any state."""
    silent: tuple[str, ...] = ()
    """The URLs of listeners that were shut down."""


@record
class Check:
    """One check. `reasons` are why it failed, a line each; empty if it passed."""

    name: str
    reasons: tuple[str, ...] = ()


@record
class HealthResult:
    """The result of one question."""

    question: str
    checks: tuple[Check, ...]

    @property
    def passes(self) -> bool:
        """Whether every check passed."""
        return not any(check.reasons for check in self.checks)

    def text(self, *, verbose: bool = False) -> str:
        """The response body: `ok`, or the reasons; if `verbose`, a line for each check."""
        return "".join(f"{line}\n" for line in self._lines(verbose=verbose))

    def _lines(self, *, verbose: bool) -> Iterator[str]:
        for check in self.checks:
            if verbose:
                yield f"[{'-' if check.reasons else '+'}] {check.name}"
            for reason in check.reasons:
                yield f"    {reason}" if verbose else reason
        if verbose:
            yield f"{self.question} check {'passed' if self.passes else 'failed'}"
        elif self.passes:
            yield "ok"


def check_health(question: str, state: HealthState) -> HealthResult:
    """The result for `livez`, `readyz` or `startupz`."""
    match question:
        case "livez":
            return check_live()
        case "startupz":
            return check_started(state)
        case _:
            return check_ready(state)


def check_live() -> HealthResult:
    """Whether the master's loop runs: always true when asked."""
    return HealthResult("livez", (Check("master"),))


def check_started(state: HealthState) -> HealthResult:
    """Whether the first generation became ready."""
    return HealthResult("startupz", (_started(state),))


def check_ready(state: HealthState) -> HealthResult:
    """Whether requests should be sent here."""
    leaving = (state.leaving,) if state.leaving else ()
    checks = [_started(state), Check("staying", leaving), _workers(state)]
    if state.silent:
        checks.append(_listeners(state))
    return HealthResult("readyz", tuple(checks))


def _started(state: HealthState) -> Check:
    reasons = () if state.started else ("the first workers are not ready yet",)
    return Check("started", reasons)


def _listeners(state: HealthState) -> Check:
    return Check("listeners", tuple(f"{url} does not listen: it was shut down" for url in state.silent))


def _workers(state: HealthState) -> Check:
    serving = sum(worker.serves for worker in state.workers)
    if serving >= state.quorum:
        return Check("workers")
    have = f"{serving} of {len(state.workers)} workers serve, {state.quorum} must"
    return Check("workers", (have, *(str(worker) for worker in state.workers if not worker.serves)))
