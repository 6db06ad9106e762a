"""The words master, zygotes and workers say to each other, and their form on the wire.

A message is one datagram of JSON, `["Name", {fields}]`. JSON because the two ends may be different versions of this
program (a reload starts a new interpreter): unknown messages and fields are ignored, missing ones take their defaults.

What children say is bounded: the annotations `Line`, `Text`, `Names` and `Object` cut to size, on both ends,
what is longer.
"""

import json
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, NoReturn, get_args, get_origin

_NAME = re.compile(r"[A-Z][A-Za-z]{2,39}")
_SHOWN = 100
"""Bytes of a datagram that is no message, for the log."""
_LARGEST = 1 << 63
"""Integers are less, and not less than minus that: words of the machine."""


def _short(value: str) -> str:
    """A line: its beginning says most."""
    return value if len(value) <= _LINE else f"{value[:_LINE]}..."


def _tail(value: str) -> str:
    """A traceback: its end says most."""
    return value if len(value) <= _TEXT else f"...{value[-_TEXT:]}"


def _very_few(value: list[str]) -> list[str]:
    """A few names. Raises `ValueError` if something else is in it."""
    return _few(value[:_MOST_NAMES])


def _few(value: list[str]) -> list[str]:
    """A list of lines. Raises `ValueError` if something else is in it."""
    if not all(isinstance(item, str) for item in value):
        raise ValueError("it is no list of lines")
    return [_short(item) for item in value[:_MOST_LINES]]


def _small(value: dict[str, Any]) -> dict[str, Any]:
    """An object, or an empty one for what is too large."""
    return value if len(json.dumps(value)) <= _OBJECT else {}


def _ascii(value: str) -> str:
    """The beginning of a long text, of characters that take two bytes at most."""
    return value[:_LONG_TEXT].encode("ascii", "backslashreplace")[:_LONG_TEXT].decode()


_LONG_TEXT = 32 * 1024
# Characters; each may take twelve bytes, and a whole message must fit a datagram.
_LINE = 1000
_TEXT = 12 * 1024
_OBJECT = 32 * 1024
_MOST_LINES = 100
_MOST_NAMES = 10

Line = Annotated[str, _short]
Text = Annotated[str, _tail]
Names = Annotated[list[str], _very_few]
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


def _groups(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of tasks as they are shown. Raises `ValueError` for what is none."""
    return [_group(item) for item in value[:_MOST_GROUPS]]


def _group(value: object) -> dict[str, Any]:
    known = value if isinstance(value, dict) else {}
    group: dict[str, Any] = {}
    for name, kind in _GROUP.items():
        told = known.get(name, kind())
        if not _is_a(told, kind):
            raise ValueError(f"{name} of a group of tasks is no {kind.__name__}")
        group[name] = _few(told) if kind is list else _short(told) if kind is str else told
    return group


_MOST_GROUPS = 1000
_GROUP = {"count": int, "coroutine": str, "names": list, "serves": list, "more_served": int, "stack": list}
"""`asgi_master.worker.diagnostics.task_dump.TaskGroup`."""


@dataclass(frozen=True, slots=True)
class TasksTold:
    """Worker: my asyncio tasks and threads, as far as there was room; the answer to the `TellTasks` of that number."""

    number: int
    total: int = 0
    """How many tasks there are, shown or not."""
    groups: Annotated[list[dict[str, Any]], _groups] = field(default_factory=list)
    """`asgi_master.worker.diagnostics.task_dump.TaskGroup`, as dictionaries."""
    threads: Annotated[str, _ascii] = ""
    """The stacks of the threads."""


@dataclass(frozen=True, slots=True)
class Boot:
    """Master to zygote: what to import and how to serve it.

    With it ride the descriptors of the scoreboard and of its roster.
    """

    generation: int
    directory: str
    settings: dict[str, Any]


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


def _plain(kind: Any) -> type:
    """The type without what is said of its bound, and of its parts."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) or kind  # type: ignore[no-any-return]


_TYPES: dict[type[Message], dict[str, Any]] = {
    kind: {f.name: _plain(f.type) for f in fields(kind)} for kind in _KINDS.values()
}
_BOUNDS: dict[type[Message], dict[str, Callable[[Any], Any]]] = {
    kind: {f.name: get_args(f.type)[1] for f in fields(kind) if get_origin(f.type) is Annotated}
    for kind in _KINDS.values()
}


def encode(message: Message) -> bytes:
    """The datagram of a message."""
    kind = type(message)
    values = {name: getattr(message, name) for name in _TYPES[kind]}
    for name, bound in _BOUNDS[kind].items():
        values[name] = bound(values[name])
    return json.dumps([kind.__name__, values]).encode()


def decode(datagram: bytes) -> Message | Unknown:
    """The message of a datagram. Raises `ValueError` for what no version of ours says."""
    try:
        said = json.loads(datagram, parse_constant=_refuse)
    except RecursionError:
        said = None
    match said:
        case [str(name), dict(values)] if name in _KINDS:
            kind = _KINDS[name]
        case [str(name), dict()] if _NAME.fullmatch(name):
            return Unknown(name)
        case _:
            raise ValueError(f"no message of ours: {datagram[:_SHOWN]!r}")
    types, bounds = _TYPES[kind], _BOUNDS[kind]
    known = {key: value for key, value in values.items() if key in types}
    for key, value in known.items():
        if not _is_a(value, types[key]):
            raise ValueError(f"{name}: {key} is no {types[key].__name__}")
        if key in bounds:
            known[key] = bounds[key](value)
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _is_a(value: object, kind: type) -> bool:
    """Whether a value of JSON is of this type; what applications run beside can write to our channels."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value < _LARGEST
    return isinstance(value, kind)
