"""Whether the master lives, its service is ready, and was ever started: what probes ask. Pure.

Three questions, as Kubernetes puts them (`docs/howto/observe.md`):
  - `livez`: does the master's loop turn? Whoever gets an answer knows that it does.
  - `readyz`: may requests be sent here? Enough workers are ready and their loops turn, and nobody is leaving.
  - `startupz`: did the first generation come up?
"""

from collections.abc import Iterator
from dataclasses import dataclass

FRESH = 2.0
"""Seconds: a worker whose heartbeat is older does not serve; they come four times a second."""


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """One worker that is meant to serve now."""

    slot: int
    generation: int
    state: str
    """`ready`, or what it is instead."""
    heartbeat_age: float | None
    """Seconds since its loop last turned; `None` before the first heartbeat."""

    @property
    def serves(self) -> bool:
        """Whether it takes requests now."""
        return self.state == "ready" and self.heartbeat_age is not None and self.heartbeat_age <= FRESH

    def __str__(self) -> str:
        who = f"worker {self.slot} (generation {self.generation})"
        if self.state != "ready":
            return f"{who} is {self.state}"
        if self.heartbeat_age is None:
            return f"{who} gave no heartbeat yet"
        return f"{who} is blocked: its event loop has not turned for {self.heartbeat_age:.1f} s"


@dataclass(frozen=True, slots=True)
class HealthState:
    """What is known of the whole."""

    started: bool
    """Whether a generation was committed since the master began."""
    leaving: str
    """Why requests should go elsewhere although workers serve; empty if they should not."""
    quorum: int
    """How many workers must serve."""
    workers: tuple[WorkerHealth, ...]
    """Those that are meant to serve, whatever their state."""
    silent: tuple[str, ...] = ()
    """The URLs of listeners that clients do not reach."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `reasons` say why not, a line each; none if it is well."""

    name: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthResult:
    """The answer to one question."""

    question: str
    checks: tuple[Check, ...]

    @property
    def passes(self) -> bool:
        """Whether everything is well."""
        return not any(check.reasons for check in self.checks)

    def text(self, *, verbose: bool = False) -> str:
        """The body of the answer, lines of text: `ok`, or the reasons; verbose: each check."""
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
    """The answer to `livez`, `readyz` or `startupz`."""
    match question:
        case "livez":
            return check_live()
        case "startupz":
            return check_started(state)
        case _:
            return check_ready(state)


def check_live() -> HealthResult:
    """Whether the master's loop turns: it does, as it is asked."""
    return HealthResult("livez", (Check("master"),))


def check_started(state: HealthState) -> HealthResult:
    """Whether the first generation came up."""
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
