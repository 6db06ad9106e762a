"""What the master holds of each zygote and worker, and how that crosses a live upgrade."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from asgi_master.ipc.channel import Channel
from asgi_master.ipc.conduct import WORKER, ZYGOTE, Conduct
from asgi_master.ipc.messages import Boot, decode, encode
from asgi_master.ipc.scoreboard import Row, Scoreboard
from asgi_master.master.process import Process
from asgi_master.master.upgrade_state import StateSection

_WORKER = {"worker", "slot", "generation", "pid", "row", "channel", "stack"}
"""What is written down of a worker."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a worker accepts: descriptors, to be lent for the fork."""

    listeners: tuple[int, ...] = ()
    secure: tuple[int, ...] = ()
    """Which of the listeners speak TLS, by their place."""
    certificates: tuple[int, ...] = ()
    """If any does: the bundle in memory that they begin with."""
    access_log: tuple[int, ...] = ()
    """If it goes to a file, that."""


@dataclass(slots=True)
class Zygote:
    """A zygote's process."""

    generation: int
    process: Process
    channel: Channel
    boot: Boot
    directory: str = ""
    """Where it really is, once it said so."""
    conduct: Conduct = field(default_factory=lambda: Conduct(ZYGOTE))

    def __str__(self) -> str:
        return f"zygote gen {self.generation} [{self.process.pid}]"


@dataclass(slots=True)
class Worker:
    """A worker's process, from the order to fork it."""

    worker: int
    slot: int
    generation: int
    row: Row
    channel: Channel
    stack_fd: int
    """Read end of the pipe its stacks come through; -1 once it is closed."""
    process: Process | None = None
    """Known once it said `Forked`."""
    conduct: Conduct = field(default_factory=lambda: Conduct(WORKER))

    def __str__(self) -> str:
        return f"worker {self.slot} gen {self.generation} [{self.pid or 'not begun'}]"

    @property
    def pid(self) -> int | None:
        """The number of its process, once it is known."""
        return self.process.pid if self.process is not None else None


Child = Zygote | Worker


def export_state(zygotes: Iterable[Zygote], workers: Iterable[Worker]) -> StateSection:
    """All of them as a section. Those whose channel is closed have the descriptor -1."""
    section = StateSection(
        {
            "zygotes": [
                {
                    "generation": zygote.generation,
                    "pid": zygote.process.pid,
                    "boot": encode(zygote.boot).decode(),
                    "channel": zygote.channel.fileno(),
                    "directory": zygote.directory,
                }
                for zygote in zygotes
            ],
            "workers": [
                {
                    "worker": worker.worker,
                    "slot": worker.slot,
                    "generation": worker.generation,
                    "pid": worker.pid,
                    "row": worker.row.index,
                    "channel": worker.channel.fileno(),
                    "stack": worker.stack_fd,
                }
                for worker in workers
            ],
        }
    )
    known = [*section.values["zygotes"], *section.values["workers"]]
    fds = [child[name] for child in known for name in ("channel", "stack") if name in child]
    section.fds = {str(fd): fd for fd in fds if fd >= 0}
    return section


def zygotes_of(section: StateSection) -> list[Zygote]:
    """The zygotes of a section."""
    zygotes = [
        Zygote(
            known["generation"],
            Process(known["pid"]),
            _channel(known["channel"]),
            _boot(known),
            known.get("directory", ""),
        )
        for known in section.values["zygotes"]
    ]
    for zygote in zygotes:
        zygote.conduct.settle()
    return zygotes


def workers_of(section: StateSection, scoreboard: Scoreboard) -> list[Worker]:
    """The workers of a section."""
    workers = [
        Worker(
            worker=known["worker"],
            slot=known["slot"],
            generation=known["generation"],
            row=scoreboard.claim(known["row"]),
            channel=_channel(known["channel"]),
            stack_fd=known["stack"],
            process=None if known["pid"] is None else Process(known["pid"]),
        )
        for known in section.values["workers"]
    ]
    for worker in workers:
        if worker.process is not None:
            worker.conduct.settle()
    return workers


def check(section: StateSection) -> None:
    """See whether a section can be read, without its descriptors. Raises `ValueError`, `TypeError` or `KeyError`."""
    for known in section.values["zygotes"]:
        _boot(known)
    if not all(known.keys() >= _WORKER for known in section.values["workers"]):
        raise KeyError("workers")


def _boot(known: dict[str, Any]) -> Boot:
    message = decode(known["boot"].encode())
    if not isinstance(message, Boot):
        raise TypeError(f"{type(message).__name__} is not what a zygote is booted with")
    return message


def _channel(fd: int) -> Channel:
    """The channel behind the descriptor; one that was closed stays so."""
    if fd < 0:
        channel, other = Channel.pair()
        channel.close()
        other.close()
        return channel
    channel = Channel.of_fd(fd)
    channel.refuse_descriptors()
    channel.setblocking(False)
    return channel
