"""The words master, zygotes and workers say to each other, and their form on the wire.

A message is one datagram of JSON, `["Name", {fields}]`. JSON because the two ends may be different versions of this
program (a reload starts a new interpreter): unknown fields are ignored, missing ones take their defaults.
"""

import json
import signal
from dataclasses import dataclass, field, fields
from typing import Any, get_origin

_SHOWN = 100
"""Bytes of a datagram that is no message, for the log."""

STACK_SIGNAL = signal.SIGUSR1
"""Makes a worker write all its stacks to its stack pipe, from C, whatever the interpreter is doing."""


@dataclass(frozen=True, slots=True)
class BootWanted:
    """Zygote: I live, and wait for `Boot`. Said again after it replaced itself to drop a harmful import."""


@dataclass(frozen=True, slots=True)
class ApplicationImported:
    """Zygote: I can fork. `hazards` name what makes forking unsafe (threads), if anything does."""

    hazards: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ImportFailed:
    """Zygote: the application does not import. `reason` is a line, `traceback` the user's frames."""

    reason: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """Zygote: the kernel refused the fork of this worker."""

    worker: int
    reason: str


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

    reason: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class BeganLeaving:
    """Worker: I drain without an order."""

    reason: str


@dataclass(frozen=True, slots=True)
class WantsToLeave:
    """Worker: replace me, please. I serve until I am told to leave."""

    reason: str


@dataclass(frozen=True, slots=True)
class TasksTold:
    """Worker: my asyncio tasks, as far as there was room; the answer to the `TellTasks` of the same number."""

    number: int
    total: int = 0
    """How many there are, shown or not."""
    groups: list[dict[str, Any]] = field(default_factory=list)
    """`asgi_master.worker.tasks.TaskGroup`, as dictionaries."""


@dataclass(frozen=True, slots=True)
class Boot:
    """Master to zygote: what to import and how to serve it.

    With it ride the descriptors of the scoreboard and of both ends of the hand-off queue.
    """

    generation: int
    directory: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fork:
    """Master to zygote: fork this worker. With it ride its channel, its stack pipe, the certificates and its listeners.

    The zygote keeps no listener: it may outlive the bind, and would hold the port open.
    """

    worker: int
    slot: int
    row: int
    standby: bool = False
    """A spare: it accepts only when told to."""
    secure: list[int] = field(default_factory=list)
    """The places of those of the listeners where TLS is spoken. Without any, no certificates ride along."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Master to worker: accept from now on; you are a spare no more."""


@dataclass(frozen=True, slots=True)
class TakeCertificates:
    """Master to worker: serve new connections with what rides along, `asgi_master.tls.bundle` in a file in memory."""


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


Message = (
    BootWanted
    | ApplicationImported
    | ImportFailed
    | ForkFailed
    | Forked
    | BecameReady
    | BootFailed
    | BeganLeaving
    | WantsToLeave
    | TasksTold
    | Boot
    | Fork
    | Accept
    | TakeCertificates
    | Drain
    | TellTasks
)

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in Message.__args__}
_TYPES: dict[type[Message], dict[str, Any]] = {
    kind: {f.name: get_origin(f.type) or f.type for f in fields(kind)} for kind in _KINDS.values()
}


def encode(message: Message) -> bytes:
    """The datagram of a message."""
    kind = type(message)
    return json.dumps([kind.__name__, {name: getattr(message, name) for name in _TYPES[kind]}]).encode()


def decode(datagram: bytes) -> Message:
    """The message of a datagram. Raises `ValueError` for what no version of ours says."""
    try:
        said = json.loads(datagram)
    except RecursionError:
        said = None
    match said:
        case [str(name), dict(values)] if name in _KINDS:
            kind = _KINDS[name]
        case _:
            raise ValueError(f"no message of ours: {datagram[:_SHOWN]!r}")
    types = _TYPES[kind]
    known = {key: value for key, value in values.items() if key in types}
    for key, value in known.items():
        if not _is_a(value, types[key]):
            raise ValueError(f"{name}: {key} is no {types[key].__name__}")
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None


def _is_a(value: object, kind: type) -> bool:
    """Whether a value of JSON is of this type; what applications run beside can write to our channels."""
    if kind is float:
        return isinstance(value, int | float)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
