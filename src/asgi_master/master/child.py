"""The master's handles of zygotes and workers, and their form at a live upgrade."""

from collections.abc import Iterable
from dataclasses import field

from asgi_master import codec
from asgi_master.ipc import messages
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.conduct import SERVICE, WORKER, ZYGOTE, Conduct
from asgi_master.ipc.messages import Boot
from asgi_master.ipc.scoreboard import Row, Scoreboard
from asgi_master.master.process import Process
from asgi_master.master.upgrade_state import StateSection
from asgi_master.records import mutable_record, record


@record
class InheritedFds:
    """The descriptors that a worker inherits at its fork; the master keeps them."""

    listeners: tuple[int, ...] = ()
    secure: tuple[int, ...] = ()
    """The TLS listeners, by index."""
    certificates: tuple[int, ...] = ()
    """With TLS listeners: the bundle in memory that they begin with."""
    access_log: tuple[int, ...] = ()
    """The file of the access log, if there is one."""
    own: tuple[int, ...] = ()
    """The listeners of the worker's slot alone, by index."""


@mutable_record
class ZygoteHandle:
    """A zygote's process."""

    generation: int
    process: Process
    channel: Channel
    boot: Boot
    directory: str = ""
    """Its real working directory, once it was reported."""
    manner: str = ""
    """In development: how it imported (see `ApplicationImported`)."""
    problem: str = ""
    """In development: why there is an error page in the place of the application."""
    conduct: Conduct = field(default_factory=lambda: Conduct(ZYGOTE))

    def __str__(self) -> str:
        return f"zygote gen {self.generation} [{self.process.pid}]"


@mutable_record
class WorkerHandle:
    """The process of a worker or of a service, from the order to fork it."""

    worker: int
    slot: int
    """-1 for a service."""
    generation: int
    row: Row
    channel: Channel
    stack_fd: int
    """Read end of the pipe its stacks come through; -1 once it is closed."""
    process: Process | None = None
    """Known once it sent `WorkerForked`."""
    service: str = ""
    """The name of the service that it runs; empty for a worker."""
    conduct: Conduct = field(init=False)

    def __post_init__(self) -> None:
        self.conduct = Conduct(SERVICE if self.service else WORKER)

    def __str__(self) -> str:
        what = f"service {self.service}" if self.service else f"worker {self.slot}"
        return f"{what} gen {self.generation} [{self.pid or 'not begun'}]"

    @property
    def pid(self) -> int | None:
        """The number of its process, once it is known."""
        return self.process.pid if self.process is not None else None


Child = ZygoteHandle | WorkerHandle


@record
class SavedZygote:
    """What is kept of a zygote over a live upgrade."""

    generation: int
    pid: int
    boot: str
    """The message."""
    channel: int
    """Its descriptor; -1 if it is closed."""
    directory: str = ""


@record
class SavedWorker:
    """What is kept of a worker over a live upgrade."""

    worker: int
    slot: int
    generation: int
    pid: int | None
    row: int
    channel: int
    """Its descriptor, as `stack` is; -1 if it is closed."""
    stack: int
    service: str = ""


@record
class SavedChildren:
    """All of them."""

    zygotes: list[SavedZygote]
    workers: list[SavedWorker]


def export_state(zygotes: Iterable[ZygoteHandle], workers: Iterable[WorkerHandle]) -> StateSection:
    """All of them as a section."""
    saved = SavedChildren(
        [
            SavedZygote(
                zygote.generation,
                zygote.process.pid,
                messages.dump(zygote.boot).decode(),
                zygote.channel.fileno(),
                zygote.directory,
            )
            for zygote in zygotes
        ],
        [
            SavedWorker(
                worker.worker,
                worker.slot,
                worker.generation,
                worker.pid,
                worker.row.index,
                worker.channel.fileno(),
                worker.stack_fd,
                worker.service,
            )
            for worker in workers
        ],
    )
    fds = [zygote.channel for zygote in saved.zygotes]
    fds += [fd for worker in saved.workers for fd in (worker.channel, worker.stack)]
    return StateSection(codec.dump(saved), {str(fd): fd for fd in fds if fd >= 0})


def load(section: StateSection) -> SavedChildren:
    """The children of a section, whose descriptors are left alone. Raises `ValueError` or `TypeError`."""
    saved = codec.load(SavedChildren, section.values)
    for zygote in saved.zygotes:
        _boot(zygote)
    return saved


def zygotes_of(saved: SavedChildren) -> list[ZygoteHandle]:
    """The zygotes, whose descriptors are taken over."""
    zygotes = [
        ZygoteHandle(one.generation, Process(one.pid), _channel(one.channel), _boot(one), one.directory)
        for one in saved.zygotes
    ]
    for zygote in zygotes:
        zygote.conduct.settle()
    return zygotes


def workers_of(saved: SavedChildren, scoreboard: Scoreboard) -> list[WorkerHandle]:
    """The workers, whose descriptors and rows are taken over."""
    workers = [
        WorkerHandle(
            worker=one.worker,
            slot=one.slot,
            generation=one.generation,
            row=scoreboard.claim(one.row),
            channel=_channel(one.channel),
            stack_fd=one.stack,
            process=None if one.pid is None else Process(one.pid),
            service=one.service,
        )
        for one in saved.workers
    ]
    for worker in workers:
        if worker.process is not None:
            worker.conduct.settle()
    return workers


def _boot(saved: SavedZygote) -> Boot:
    message = messages.load(saved.boot.encode())
    if not isinstance(message, Boot):
        raise TypeError(f"{type(message).__name__} is not what a zygote is booted with")
    return message


def _channel(fd: int) -> Channel:
    """The channel behind the descriptor; -1 stands for a closed one."""
    if fd < 0:
        channel, other = Channel.pair()
        channel.close()
        other.close()
        return channel
    channel = Channel.of_fd(fd)
    channel.refuse_descriptors()
    channel.setblocking(False)
    return channel
