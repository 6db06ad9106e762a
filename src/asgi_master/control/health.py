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
class Condition:
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
class Verdict:
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


def judge(question: str, condition: Condition) -> Verdict:
    """The answer to `livez`, `readyz` or `startupz`."""
    match question:
        case "livez":
            return is_live()
        case "startupz":
            return is_started(condition)
        case _:
            return is_ready(condition)


def is_live() -> Verdict:
    """Whether the master's loop turns: it does, as it is asked."""
    return Verdict("livez", (Check("master"),))


def is_started(condition: Condition) -> Verdict:
    """Whether the first generation came up."""
    return Verdict("startupz", (_started(condition),))


def is_ready(condition: Condition) -> Verdict:
    """Whether requests should be sent here."""
    leaving = (condition.leaving,) if condition.leaving else ()
    checks = [_started(condition), Check("staying", leaving), _workers(condition)]
    if condition.silent:
        checks.append(_listeners(condition))
    return Verdict("readyz", tuple(checks))


def _started(condition: Condition) -> Check:
    reasons = () if condition.started else ("the first workers are not ready yet",)
    return Check("started", reasons)


def _listeners(condition: Condition) -> Check:
    return Check("listeners", tuple(f"{url} does not listen: it was shut down" for url in condition.silent))


def _workers(condition: Condition) -> Check:
    serving = sum(worker.serves for worker in condition.workers)
    if serving >= condition.quorum:
        return Check("workers")
    have = f"{serving} of {len(condition.workers)} workers serve, {condition.quorum} must"
    return Check("workers", (have, *(str(worker) for worker in condition.workers if not worker.serves)))
