"""What a child may say to the master, in which order, and how much of it. Pure.

Whoever runs in a child can write to its channel. What none of our versions does there is no mistake to be lenient with.
"""

from dataclasses import dataclass, field

from asgi_master.ipc.messages import (
    ApplicationImported,
    BecameReady,
    BeganLeaving,
    BootFailed,
    BootWanted,
    Forked,
    ForkFailed,
    ImportFailed,
    Message,
    StoppedAccepting,
    TasksTold,
    Unknown,
    WantsToLeave,
)

_AT_ONCE = 32.0
"""Messages that a child may say without being asked, before it must pause."""
_A_SECOND = 4.0
"""Messages that it may say in the long run."""


class BreachError(Exception):
    """A child said what it may not; what that was, to follow its name."""


@dataclass(frozen=True, slots=True)
class Role:
    """What one kind of child says."""

    first: type[Message]
    """Its first word: before it, nobody knows who it is."""
    once: frozenset[type[Message]]
    """Said at most once, the first word among them if it is."""
    often: frozenset[type[Message]]


ZYGOTE = Role(
    BootWanted,
    once=frozenset({ApplicationImported, ImportFailed}),
    often=frozenset({BootWanted, ForkFailed}),
)
WORKER = Role(
    Forked,
    once=frozenset({Forked, BecameReady, BootFailed, StoppedAccepting}),
    often=frozenset({BeganLeaving, WantsToLeave, TasksTold}),
)


@dataclass(slots=True)
class Conduct:
    """How one child has behaved so far. Times are in seconds on one monotonic clock."""

    role: Role
    _said: set[type[Message | Unknown]] = field(default_factory=set)
    _credit: float = _AT_ONCE
    _counted_at: float = 0.0

    def asked(self) -> None:
        """It was asked for something, and may answer."""
        self._credit += 1

    def settle(self) -> None:
        """It said its first word to a master before this one; what else it said is not known."""
        self._said.add(self.role.first)

    def judge(self, message: Message | Unknown, now: float) -> None:
        """Take note of what it said. Raises `BreachError` if it may not. A newer version may have more words."""
        kind, role = type(message), self.role
        if kind not in role.once and kind not in role.often and kind is not Unknown:
            raise BreachError(f"sent {kind.__name__}, which it never sends")
        if role.first not in self._said and kind is not role.first:
            raise BreachError(f"said {kind.__name__} before {role.first.__name__}")
        if kind in role.once and kind in self._said:
            raise BreachError(f"said {kind.__name__} twice")
        self._said.add(kind)
        self._credit = max(self._credit, min(_AT_ONCE, self._credit + _A_SECOND * (now - self._counted_at)))
        self._counted_at = now
        if self._credit < 1:
            raise BreachError("talks without end")
        self._credit -= 1
