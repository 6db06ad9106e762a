"""The messages between master, zygotes and workers, and their form on the wire.

A message is one datagram of JSON, `["Name", {fields}]`. JSON because the two ends may be different versions of this
program (a reload starts a new interpreter): unknown messages and fields are ignored, missing ones take their defaults.

What children send is bounded: the annotations `Line`, `Text`, `Names`, `Lines`, `Object` and `Groups` cut to size, on
both ends, what is longer.
"""

import json
import math
import re
import signal
from dataclasses import dataclass, field
from typing import Annotated, Any, NoReturn

from asgi_master import codec
from asgi_master.settings.model import Settings

_NAME = re.compile(r"[A-Z][A-Za-z]{2,39}")
_SHOWN = 100
"""Bytes of a datagram that is no message, for the log."""

# Characters; each may take twelve bytes, and a whole message must fit a datagram.
_LINE = 1000
_TEXT = 12 * 1024
_LONG_TEXT = 32 * 1024
_OBJECT = 32 * 1024
_MOST_NAMES = 10
_MOST_LINES = 100
_MOST_GROUPS = 1000


def _beginning(value: str) -> str:
    return value if len(value) <= _LINE else f"{value[:_LINE]}..."


def _end(value: str) -> str:
    return value if len(value) <= _TEXT else f"...{value[-_TEXT:]}"


def _ascii(value: str) -> str:
    """Characters that take two bytes at most."""
    return value[:_LONG_TEXT].encode("ascii", "backslashreplace")[:_LONG_TEXT].decode()


def _small(value: dict[str, Any]) -> dict[str, Any]:
    """An object, or an empty one for what is too large."""
    return value if len(json.dumps(value)) <= _OBJECT else {}


def _few_names(value: list[str]) -> list[str]:
    return [_beginning(item) for item in value[:_MOST_NAMES]]


def _few_lines(value: list[str]) -> list[str]:
    return [_beginning(item) for item in value[:_MOST_LINES]]


Line = Annotated[str, _beginning]
"""Its beginning says most."""
Text = Annotated[str, _end]
"""A traceback: its end says most."""
Names = Annotated[list[str], _few_names]
Lines = Annotated[list[str], _few_lines]
Object = Annotated[dict[str, Any], _small]

STACKS_SIGNAL = signal.SIGUSR1
"""Makes a worker write all its stacks to its stack pipe, from C, whatever the interpreter is doing.

Only for a worker that is about to be killed: to look at the frames of a thread that runs may crash the process.
"""
STACK_SIGNAL = signal.SIGURG
"""The same, of the thread alone that is interrupted, the loop's: that is safe. Without a handler it does nothing."""


@dataclass(frozen=True, slots=True)
class BootWanted:
    """Zygote: I live, and wait for `Boot`. Said again after it replaced itself to drop a harmful import."""


@dataclass(frozen=True, slots=True)
class ApplicationImported:
    """Zygote: I can fork. `hazards` name what makes forking unsafe, if anything does."""

    hazards: Names = field(default_factory=list)
    directory: Line = ""
    """Where the zygote is, links resolved."""


@dataclass(frozen=True, slots=True)
class ImportFailed:
    """Zygote: the application does not import. `reason` is a line, `traceback` the user's frames."""

    reason: Line
    traceback: Text = ""
    exception: Object = field(default_factory=dict)
    """The same for machines; empty if nothing was raised."""


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """Zygote: the kernel refused the fork of this worker."""

    worker: int
    reason: Line


@dataclass(frozen=True, slots=True)
class Forked:
    """Worker: I live, my parent is the master."""

    pid: int


@dataclass(frozen=True, slots=True)
class BecameReady:
    """Worker: the lifespan started, I accept."""


@dataclass(frozen=True, slots=True)
class BootFailed:
    """Worker: I cannot serve, and leave. `reason` is a line, `traceback` the user's frames."""

    reason: Line
    traceback: Text = ""
    exception: Object = field(default_factory=dict)
    """The same for machines; empty if nothing was raised."""


@dataclass(frozen=True, slots=True)
class BeganLeaving:
    """Worker: I drain without an order."""

    reason: Line


@dataclass(frozen=True, slots=True)
class StoppedAccepting:
    """Worker: I drain, and hold no listener any more."""


@dataclass(frozen=True, slots=True)
class WantsToLeave:
    """Worker: replace me, please. I serve until I am told to leave."""

    reason: Line


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Tasks of one coroutine that wait at one location. The field names are also the keys of the control API."""

    count: int = 0
    coroutine: Line = ""
    """Its qualified name."""
    names: Lines = field(default_factory=list)
    """The first few names that the application gave to its tasks."""
    serves: Lines = field(default_factory=list)
    """The requests that most of them serve."""
    more_served: int = 0
    """Number of other requests that they serve."""
    stack: Lines = field(default_factory=list)
    """Where they wait, innermost first: `file:line in function: source`."""


def _few_groups(value: list[TaskGroup]) -> list[TaskGroup]:
    return value[:_MOST_GROUPS]


Groups = Annotated[list[TaskGroup], _few_groups]


@dataclass(frozen=True, slots=True)
class TasksTold:
    """Worker: my asyncio tasks and threads, as far as there was room; the answer to the `TellTasks` of that number."""

    number: int
    total: int = 0
    """How many tasks there are, shown or not."""
    groups: Groups = field(default_factory=list)
    threads: Annotated[str, _ascii] = ""
    """The stacks of the threads."""


@dataclass(frozen=True, slots=True)
class Boot:
    """Master to zygote: what to import and how to serve it.

    With it ride the descriptors of the scoreboard and of its roster.
    """

    generation: int
    directory: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Fork:
    """Master to zygote: fork this worker.

    With it ride both ends of the hand-off queue, its channel, its stack pipe, the certificates, the access log and its
    listeners. The zygote keeps none of them: a listener may outlive the bind, and would hold the port open.
    """

    worker: int
    slot: int
    row: int
    standby: bool = False
    """Accept only after `Accept`: a spare."""
    secure: list[int] = field(default_factory=list)
    """The places of those of the listeners where TLS is spoken. Without any, no certificates ride along."""
    access_log: bool = False
    """Whether the file of the access log rides along, behind the certificates."""


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """Master to zygote: the worker that was this process is dead, and reaped. Clear away what it left in files."""

    pid: int


@dataclass(frozen=True, slots=True)
class Accept:
    """Master to worker: accept from now on; you are a spare no more."""


@dataclass(frozen=True, slots=True)
class TakeAccessLog:
    """Master to worker: write the access log to the file that rides along, and no longer to the one you have."""


@dataclass(frozen=True, slots=True)
class TakeCertificates:
    """Master to worker: serve new connections with what rides along, `asgi_master.tls.bundle` in a file in memory."""


@dataclass(frozen=True, slots=True)
class TakeHandOff:
    """Master to worker: the hand-off queue whose ends ride along takes the place of the one you have."""


@dataclass(frozen=True, slots=True)
class TakeListeners:
    """Master to worker: accept from the listeners that ride along, and no longer from those you have."""

    secure: list[int] = field(default_factory=list)
    """As in `Fork`."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Master to worker: finish and leave within `timeout` seconds."""

    timeout: float
    hand_off: bool


@dataclass(frozen=True, slots=True)
class TellTasks:
    """Master to worker: answer with `TasksTold`, whose groups take `limit` bytes of JSON at most."""

    number: int
    limit: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """What another version of this program says, and this one does not know: heard, and passed over."""

    name: str


Message = (
    BootWanted
    | ApplicationImported
    | ImportFailed
    | ForkFailed
    | Forked
    | BecameReady
    | BootFailed
    | BeganLeaving
    | StoppedAccepting
    | WantsToLeave
    | TasksTold
    | Boot
    | Fork
    | WorkerGone
    | Accept
    | TakeAccessLog
    | TakeCertificates
    | TakeHandOff
    | TakeListeners
    | Drain
    | TellTasks
)

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in Message.__args__}


def dump(message: Message) -> bytes:
    """The datagram of a message."""
    return json.dumps([type(message).__name__, codec.dump(message)]).encode()


def load(datagram: bytes) -> Message | Unknown:
    """The message of a datagram. Raises `ValueError` for what no version of this program sends."""
    try:
        data = json.loads(datagram, parse_float=_finite, parse_constant=_refuse)
    except RecursionError:
        data = None
    match data:
        case [str(name), dict(values)] if name in _KINDS:
            return codec.load(_KINDS[name], values)
        case [str(name), dict()] if _NAME.fullmatch(name):
            return Unknown(name)
    raise ValueError(f"no message of ours: {datagram[:_SHOWN]!r}")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"{number[:_SHOWN]} is no number")
