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
from dataclasses import field
from typing import Annotated, Any, NoReturn

from asgi_master import codec
from asgi_master.records import record
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


@record
class ZygoteStarted:
    """From a zygote: it has started and waits for `Boot`. Sent again if it starts anew without the import."""


@record
class ApplicationImported:
    """From a zygote: it can fork. `hazards` name what makes forks unsafe, if anything does."""

    hazards: Names = field(default_factory=list)
    directory: Line = ""
    """The working directory of the zygote, links resolved."""
    manner: Line = ""
    """In development: `warm`, or `cold`, with the reason after a colon if there is one."""


@record
class ZygoteForked:
    """From a zygote that a warm base forked, on the base's channel: its process has started."""

    pid: int


@record
class WarmedUp:
    """From a warm base: it has imported so many modules and can fork; or why it cannot, in a line."""

    modules: int
    refusal: Line = ""
    limit: int = -1
    """With a refusal: another base can take so many steps; -1 if none can."""


@record
class ApplicationImportFailed:
    """From a zygote: the application cannot be imported. `reason` is a line, `traceback` its own frames."""

    reason: Line
    traceback: Text = ""
    exception: Object = field(default_factory=dict)
    """The same as data; empty if nothing was raised."""
    is_answered: bool = False
    """Whether it goes on, with an error page in the place of the application (in development)."""


@record
class ForkFailed:
    """From a zygote: the kernel refused the fork of this worker."""

    worker: int
    reason: Line


@record
class WorkerForked:
    """From a worker: its process has started, and its parent is the master."""

    pid: int


@record
class WorkerBooted:
    """From a worker: the lifespan has started. It accepts, unless it is a spare."""


@record
class WorkerBootFailed:
    """From a worker: it cannot serve and exits. `reason` is a line, `traceback` the frames of the application."""

    reason: Line
    traceback: Text = ""
    exception: Object = field(default_factory=dict)
    """The same as data; empty if nothing was raised."""
    is_answered: bool = False
    """Whether it goes on, with an error page in the place of the application (in development)."""


@record
class WorkerDrainStarted:
    """From a worker: it drains without an order."""

    reason: Line


@record
class AcceptingStopped:
    """From a worker that drains: it has closed its listeners."""


@record
class ReplacementRequested:
    """From a worker: the master should replace it. It serves until it receives `Drain`."""

    reason: Line


def _duration(value: float | None) -> float | None:
    """Seconds, for JSON: no infinity, and nothing that is not a number."""
    return value if value is not None and 0 <= value < 1e9 else None


@record
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
    oldest: Annotated[float | None, _duration] = None
    """Seconds since the oldest of the requests began; `None` if they are not timed."""
    oldest_request: Line = ""
    """That request."""


def _few_groups(value: list[TaskGroup]) -> list[TaskGroup]:
    return value[:_MOST_GROUPS]


Groups = Annotated[list[TaskGroup], _few_groups]


@record
class TasksReported:
    """From a worker: its asyncio tasks and threads, as far as they fit; the response to `ReportTasks`."""

    number: int
    total: int = 0
    """Number of tasks, shown or not."""
    groups: Groups = field(default_factory=list)
    threads: Annotated[str, _ascii] = ""
    """The stacks of the threads."""


@record
class Boot:
    """To a zygote: what to import and how to serve it.

    The descriptors of the scoreboard and its roster come along and, in development, a file for what the import shows.
    """

    generation: int
    directory: str
    settings: Settings
    changed: Names = field(default_factory=list)
    """In development: the files that changed."""


@record
class WarmUp:
    """To a warm base: import what an import of the application showed; the file with that comes along."""

    directory: str
    settings: Settings
    limit: int = -1
    """Take so many steps of it only; -1 for all."""


@record
class ForkZygote:
    """To a warm base: fork a zygote, whose channel comes along."""


@record
class Fork:
    """To a zygote: fork this worker.

    Descriptors that come along: both ends of the hand-off queue, its channel, its stack pipe, the certificates, the
    access log and its listeners. The zygote closes all of them: a listener would keep its port open for ever.
    """

    worker: int
    slot: int
    row: int
    standby: bool = False
    """Whether it is a spare: it accepts only after `StartAccepting`."""
    secure: list[int] = field(default_factory=list)
    """The indexes of the listeners that speak TLS. Without any, no certificates come along."""
    access_log: bool = False
    """Whether the file of the access log comes along, after the certificates."""
    own: list[int] = field(default_factory=list)
    """The indexes of the listeners of this slot alone."""


@record
class ForkService:
    """To a zygote: fork a process for the service of this name. Its channel and its stack pipe come along."""

    worker: int
    service: str


@record
class StartService:
    """To the process of a service: run it. Until then it runs no code of the service, and the master may drop it."""


@record
class WorkerReaped:
    """To a zygote: the worker with this process ID has ended. Remove the files that it left."""

    pid: int


@record
class StartAccepting:
    """To a spare: accept from now on."""


@record
class UseAccessLog:
    """To a worker: write the access log to the file that comes along, and close the previous one."""


@record
class UseCertificates:
    """To a worker: serve new connections with the `asgi_master.tls.bundle` that comes along, in a file in memory."""


@record
class UseHandOff:
    """To a worker: use the hand-off queue whose ends come along, instead of the previous one."""


@record
class UseListeners:
    """To a worker: accept from the listeners that come along, and from no others."""

    secure: list[int] = field(default_factory=list)
    """As in `Fork`."""
    own: list[int] = field(default_factory=list)
    """As in `Fork`."""


@record
class UsePlace:
    """To a worker: keep sessions here. The stick table and both ends of the place's queue come along."""

    place: int
    """The number of its place, which it may have inherited."""
    secret: str
    """In hexadecimal: what keys of sessions are hashed with."""


@record
class UsePlaces:
    """To a worker: where sessions are kept. The put ends of the queues of `new` come along."""

    places: list[int]
    slots: list[int]
    """For each place the slot that it serves, or -1 if it takes no new sessions."""
    new: list[int] = field(default_factory=list)


@record
class TakePlace:
    """To a worker: serve what is left in the queue whose ends come along, of a place that is given up."""


@record
class Drain:
    """To a worker: finish and exit within `timeout` seconds. To a service, before SIGTERM: the same."""

    timeout: float
    hand_off: bool
    sessions: float = 0.0
    """Seconds, before those of `timeout`, for which it may go on with the sessions that it has."""


@record
class ReportTasks:
    """To a worker: respond with `TasksReported`, whose groups take at most `limit` bytes of JSON."""

    number: int
    limit: int


@record
class Unknown:
    """A message of another version of this program, which this version ignores."""

    name: str


Message = (
    ZygoteStarted
    | ApplicationImported
    | ApplicationImportFailed
    | ZygoteForked
    | WarmedUp
    | ForkFailed
    | WorkerForked
    | WorkerBooted
    | WorkerBootFailed
    | WorkerDrainStarted
    | AcceptingStopped
    | ReplacementRequested
    | TasksReported
    | Boot
    | WarmUp
    | ForkZygote
    | Fork
    | ForkService
    | StartService
    | WorkerReaped
    | StartAccepting
    | UseAccessLog
    | UseCertificates
    | UseHandOff
    | UseListeners
    | UsePlace
    | UsePlaces
    | TakePlace
    | Drain
    | ReportTasks
)

_WIRE_NAMES: dict[type[Message], str] = {
    ZygoteStarted: "BootWanted",
    ApplicationImportFailed: "ImportFailed",
    WorkerForked: "Forked",
    WorkerBooted: "BecameReady",
    WorkerBootFailed: "BootFailed",
    WorkerDrainStarted: "BeganLeaving",
    AcceptingStopped: "StoppedAccepting",
    ReplacementRequested: "WantsToLeave",
    TasksReported: "TasksTold",
    WorkerReaped: "WorkerGone",
    StartAccepting: "Accept",
    UseAccessLog: "TakeAccessLog",
    UseCertificates: "TakeCertificates",
    UseHandOff: "TakeHandOff",
    UseListeners: "TakeListeners",
    ReportTasks: "TellTasks",
}
"""Names that other versions know; a message that is not listed has its own."""

_KINDS: dict[str, type[Message]] = {_WIRE_NAMES.get(kind, kind.__name__): kind for kind in Message.__args__}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def dump(message: Message) -> bytes:
    """The datagram of a message."""
    return json.dumps([_NAMES[type(message)], codec.dump(message)]).encode()


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
