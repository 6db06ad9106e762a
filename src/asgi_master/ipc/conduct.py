"""Which messages a child may send to the master, in which order, and how many. Pure.

All code in a child can write to its channel, so a message that no version of this program would send is an attack.
"""

from dataclasses import field

from asgi_master.ipc.messages import (
    AcceptingStopped,
    ApplicationImported,
    ApplicationImportFailed,
    ForkFailed,
    Message,
    ReplacementRequested,
    TasksReported,
    Unknown,
    WarmedUp,
    WorkerBooted,
    WorkerBootFailed,
    WorkerDrainStarted,
    WorkerForked,
    ZygoteForked,
    ZygoteStarted,
)
from asgi_master.records import mutable_record, record

_AT_ONCE = 32.0
"""Messages that a child may send in a burst, responses not counted."""
_A_SECOND = 4.0
"""Messages per second that it may send in the long run."""


class BreachError(Exception):
    """A child sent a message that it may not send. The text follows the name of the child."""


@record
class Sender:
    """The messages of one kind of child."""

    first: type[Message]
    """The first one, which identifies the process."""
    once: frozenset[type[Message]]
    """Sent at most once; `first` may be one of them."""
    often: frozenset[type[Message]]


ZYGOTE = Sender(
    ZygoteStarted,
    once=frozenset({ApplicationImported, ApplicationImportFailed}),
    often=frozenset({ZygoteStarted, ForkFailed}),
)
BASE = Sender(
    WarmedUp,
    once=frozenset(),
    often=frozenset({WarmedUp, ZygoteForked}),
)
WORKER = Sender(
    WorkerForked,
    once=frozenset({WorkerForked, WorkerBooted, WorkerBootFailed, AcceptingStopped}),
    often=frozenset({WorkerDrainStarted, ReplacementRequested, TasksReported}),
)
SERVICE = Sender(
    WorkerForked,
    once=frozenset({WorkerForked, WorkerBooted, WorkerBootFailed}),
    often=frozenset({ReplacementRequested}),
)


@mutable_record
class Conduct:
    """The messages of one child so far. Times are in seconds on one monotonic clock."""

    sender: Sender
    _sent: set[type[Message | Unknown]] = field(default_factory=set)
    _credit: float = _AT_ONCE
    _counted_at: float = 0.0

    def asked(self) -> None:
        """A request was sent to it, so that it may send one message more."""
        self._credit += 1

    def settle(self) -> None:
        """It sent `first` to the program before this one; which others, is not known."""
        self._sent.add(self.sender.first)

    def judge(self, message: Message | Unknown, now: float) -> None:
        """Record a message. Raises `BreachError` if it may not be sent. Unknown ones, of a newer version, may be."""
        kind, sender = type(message), self.sender
        if kind not in sender.once and kind not in sender.often and kind is not Unknown:
            raise BreachError(f"sent {kind.__name__}, which it never sends")
        if sender.first not in self._sent and kind is not sender.first:
            raise BreachError(f"sent {kind.__name__} before {sender.first.__name__}")
        if kind in sender.once and kind in self._sent:
            raise BreachError(f"sent {kind.__name__} twice")
        self._sent.add(kind)
        self._credit = max(self._credit, min(_AT_ONCE, self._credit + _A_SECOND * (now - self._counted_at)))
        self._counted_at = now
        if self._credit < 1:
            raise BreachError("sends too many messages")
        self._credit -= 1
