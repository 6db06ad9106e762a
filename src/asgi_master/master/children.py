"""The zygotes and workers that live: their processes, channels and scoreboard rows.

For each started zygote exactly one `ZygoteExited` is reported, and for each spawned worker exactly one
`WorkerExited`, whatever becomes of the process.
"""

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable

from asgi_master import faults
from asgi_master.control.stacks import Asked, Inquiries, Inquiry
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.messages import (
    STACK_SIGNAL,
    Accept,
    ApplicationImported,
    BecameReady,
    BeganLeaving,
    Boot,
    BootFailed,
    BootWanted,
    Drain,
    Fork,
    Forked,
    ForkFailed,
    ImportFailed,
    Message,
    TakeCertificates,
    TasksTold,
    TellTasks,
    WantsToLeave,
)
from asgi_master.ipc.scoreboard import Field, Row, Scoreboard
from asgi_master.master.carried import Carried
from asgi_master.master.child import Places, Worker, Zygote, carry, workers_of, zygotes_of
from asgi_master.master.oom import OomKills
from asgi_master.master.reaper import is_child, next_dead_child, reap
from asgi_master.supervision.error_watch import Tally
from asgi_master.supervision.events import (
    Event,
    HeartbeatsRead,
    WorkerExited,
    WorkerFailed,
    WorkerLeaving,
    WorkerReady,
    WorkerWantsToLeave,
    ZygoteExited,
    ZygoteFailed,
    ZygoteReady,
)

log = logging.getLogger("asgi_master")

_STACK_CHUNK = 65536
_ANSWERS = (
    Field.RESPONSES_1XX,
    Field.RESPONSES_2XX,
    Field.RESPONSES_3XX,
    Field.RESPONSES_4XX,
    Field.RESPONSES_5XX,
)
_NEVER_STARTED = 1
"""The status reported for a process that never came to life."""


class Children:
    """All child processes. What they do is told to `tell`, in the order in which it happened."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        scoreboard: Scoreboard,
        hand_off: HandOff,
        new_zygote: Callable[[], tuple[int, Channel]],
        tell: Callable[[Event], None],
    ) -> None:
        self._selector = selector
        self._scoreboard = scoreboard
        self._hand_off = hand_off
        self._new_zygote = new_zygote
        self._tell = tell
        self._zygotes: dict[int, Zygote] = {}
        self._workers: dict[int, Worker] = {}
        self._others: dict[int, Callable[[int], None]] = {}
        self._inquiries = Inquiries()
        self._tracebacks: set[str] = set()
        self.oom_kills = OomKills()
        """To be looked at also while nobody dies."""

    # Orders

    def start_zygote(self, boot: Boot) -> None:
        """Start the zygote of `boot.generation`."""
        try:
            faults.point("before_zygote", generation=boot.generation)
            pid, channel = self._new_zygote()
        except OSError as error:
            self._tell(ZygoteFailed(boot.generation, f"cannot start a zygote: {error.strerror}"))
            self._tell(ZygoteExited(boot.generation, _NEVER_STARTED))
            return
        self._add_zygote(Zygote(boot.generation, pid, channel, boot))

    def retire_zygote(self, generation: int) -> None:
        """Close its channel: a zygote exits at the end of file."""
        zygote = self._zygotes.get(generation)
        if zygote is not None:
            self._hang_up(zygote.channel)

    def kill_zygote(self, generation: int) -> None:
        """SIGKILL it."""
        zygote = self._zygotes.get(generation)
        if zygote is not None:
            _signal(zygote.pid, signal.SIGKILL)

    def boot_of(self, generation: int) -> Boot | None:
        """What the zygote of `generation` was told, if it lives."""
        zygote = self._zygotes.get(generation)
        return zygote.boot if zygote is not None else None

    def boots(self) -> list[Boot]:
        """What the zygotes that live were told."""
        return [zygote.boot for zygote in self._zygotes.values()]

    def spawn_worker(self, worker: int, slot: int, generation: int, places: Places, *, standby: bool) -> None:
        """Have the zygote of `generation` fork a worker that accepts there.

        One that stands by accepts only once it is admitted.
        """
        zygote = self._zygotes.get(generation)
        try:
            faults.point("before_spawn_order", generation=generation, slot=slot)
            stack_read, stack_write = os.pipe()
            ours, theirs = Channel.pair()
        except OSError as error:
            self._tell(WorkerFailed(worker, f"no channel for it: {error.strerror}"))
            self._tell(WorkerExited(worker, _NEVER_STARTED))
            return
        ours.setblocking(False)
        os.set_blocking(stack_read, False)
        row = self._scoreboard.allocate()
        child = Worker(worker, slot, generation, row, ours, stack_read)
        self._add_worker(child)
        asked = zygote is not None and zygote.channel.send(
            Fork(worker, slot, row.index, standby, list(places.secure)),
            (theirs.fileno(), stack_write, *places.certificates, *places.listeners),
        )
        theirs.close()
        os.close(stack_write)
        faults.point("after_spawn_order", generation=generation, slot=slot)
        if not asked:
            self._tell(WorkerFailed(worker, "its zygote is gone"))
            self._forget(child, _NEVER_STARTED)

    def admit_worker(self, worker: int) -> None:
        """Have a spare accept."""
        child = self._workers.get(worker)
        if child is not None:
            child.channel.send(Accept())

    def give_certificates(self, generations: set[int], certificates_fd: int) -> None:
        """Have the workers of these generations serve new connections with the bundle behind the descriptor."""
        for child in self._workers.values():
            if child.generation in generations and not child.channel.send(
                TakeCertificates(), (certificates_fd,)
            ):
                log.warning("worker %d could not be given the new certificates", child.slot)

    def drain_worker(self, worker: int, timeout: float, *, hand_off: bool) -> None:
        """Order it to finish and leave."""
        child = self._workers.get(worker)
        if child is not None:
            faults.point("before_drain_order", generation=child.generation, slot=child.slot)
        if child is None or child.channel.send(Drain(timeout, hand_off)):
            return
        if child.pid is not None:
            # It lost its channel (an application that closes descriptors it does not know); TERM means the same.
            _signal(child.pid, signal.SIGTERM)

    def dump_stacks(self, worker: int) -> None:
        """Have its stacks written to the log."""
        child = self._workers.get(worker)
        if child is not None and child.pid is not None:
            self._inquiries.ordered_for_log(worker, time.monotonic())
            _signal(child.pid, STACK_SIGNAL)

    def inquire(self, workers: list[int]) -> Inquiry:
        """Ask workers for their tasks and stacks; the answers gather in what is returned."""
        children = [self._workers[worker] for worker in workers if worker in self._workers]
        for child in children:
            # What was written before is not the answer.
            self._read_stack(child)
        asked = [Asked(child.worker, child.slot, child.generation, child.pid) for child in children]
        inquiry = self._inquiries.begin(asked, time.monotonic())
        for child in children:
            if child.pid is not None:
                _signal(child.pid, STACK_SIGNAL)
                child.channel.send(TellTasks(inquiry.number, inquiry.limit))
        return inquiry

    def kill_worker(self, worker: int) -> None:
        """SIGKILL it. One that was never heard of is given up: it leaves by itself if it ever comes to life."""
        child = self._workers.get(worker)
        if child is None:
            return
        if child.pid is not None:
            _signal(child.pid, signal.SIGKILL)
        else:
            self._forget(child, -signal.SIGKILL)

    # Facts

    def read_heartbeats(self) -> HeartbeatsRead:
        """The newest heartbeat of each worker that ever beat."""
        return HeartbeatsRead(
            {
                child.worker: stamp / 1e9
                for child in self._workers.values()
                if (stamp := child.row[Field.HEARTBEAT_NS])
            },
            {child.worker: _tally(child.row) for child in self._workers.values()},
        )

    def rows(self) -> dict[int, Row]:
        """The scoreboard row of each worker, by its number."""
        return {child.worker: child.row for child in self._workers.values()}

    def zygote_pids(self) -> list[int]:
        """The processes of the zygotes."""
        return [zygote.pid for zygote in self._zygotes.values()]

    def reap(self) -> None:
        """Report and reap every child that has died; what it said last is told before."""
        while (pid := next_dead_child()) is not None:
            # Whoever died may still have sent its pid or the reason a moment ago.
            for worker in list(self._workers.values()):
                self._read_worker(worker)
            for zygote in list(self._zygotes.values()):
                self._read_zygote(zygote)
            status = reap(pid)
            out_of_memory = self.oom_kills.claim(status)
            if (told := self._others.pop(pid, None)) is not None:
                told(status)
            for zygote in [z for z in self._zygotes.values() if z.pid == pid]:
                self._hang_up(zygote.channel)
                del self._zygotes[zygote.generation]
                self._tell(ZygoteExited(zygote.generation, status))
            for worker in [w for w in self._workers.values() if w.pid == pid]:
                self._forget(worker, status, out_of_memory=out_of_memory)

    def expect_exit(self, pid: int, told: Callable[[int], None]) -> None:
        """Have `told` called with the status of a child that is neither zygote nor worker, once it is reaped."""
        self._others[pid] = told

    # Upgrade

    def carry(self) -> Carried:
        """All of them, for a live upgrade."""
        return carry(self._zygotes.values(), self._workers.values())

    def adopt(self, carried: Carried) -> None:
        """Go on with those that the program before this one had. Some may have died since: `reap` tells."""
        for zygote in zygotes_of(carried):
            self._add_zygote(zygote)
        for worker in workers_of(carried, self._scoreboard):
            self._add_worker(worker)

    def _add_zygote(self, zygote: Zygote) -> None:
        self._zygotes[zygote.generation] = zygote
        if zygote.channel.fileno() >= 0:
            self._selector.register(zygote.channel, selectors.EVENT_READ, lambda: self._read_zygote(zygote))

    def _add_worker(self, child: Worker) -> None:
        self._workers[child.worker] = child
        if child.channel.fileno() >= 0:
            self._selector.register(child.channel, selectors.EVENT_READ, lambda: self._read_worker(child))
        if child.stack_fd >= 0:
            self._selector.register(child.stack_fd, selectors.EVENT_READ, lambda: self._read_stack(child))

    def close(self) -> None:
        """Let go of every channel; for a master that leaves on an error: children see the end of file and leave too."""
        for zygote in self._zygotes.values():
            self._hang_up(zygote.channel)
        for worker in self._workers.values():
            self._hang_up(worker.channel)

    def _read_zygote(self, zygote: Zygote) -> None:
        for message, fds in self._messages(zygote.channel):
            for fd in fds:
                os.close(fd)
            match message:
                case BootWanted():
                    zygote.channel.send(zygote.boot, (self._scoreboard.fd, *self._hand_off.fds))
                case ApplicationImported():
                    self._tell(ZygoteReady(zygote.generation))
                case ImportFailed(reason, traceback):
                    self._show_traceback(reason, traceback)
                    self._tell(ZygoteFailed(zygote.generation, reason))
                case ForkFailed(worker, reason) if worker in self._workers:
                    self._tell(WorkerFailed(worker, reason))
                    self._forget(self._workers[worker], _NEVER_STARTED)
                case _:
                    log.warning("a zygote said %r, which is not its word", type(message).__name__)

    def _read_worker(self, child: Worker) -> None:
        for message, fds in self._messages(child.channel):
            for fd in fds:
                os.close(fd)
            match message:
                case Forked(pid):
                    self._take_pid(child, pid)
                case BecameReady():
                    self._tell(WorkerReady(child.worker))
                case BootFailed(reason, traceback):
                    self._show_traceback(reason, traceback)
                    self._tell(WorkerFailed(child.worker, reason))
                case BeganLeaving(reason):
                    self._tell(WorkerLeaving(child.worker, reason))
                case WantsToLeave(reason):
                    self._tell(WorkerWantsToLeave(child.worker, reason))
                case TasksTold():
                    # Its stacks were written before: the signal interrupts whatever waits for messages.
                    self._read_stack(child)
                    self._inquiries.tasks_told(child.worker, message, time.monotonic())
                case _:
                    log.warning("a worker said %r, which is not its word", type(message).__name__)
        if child.pid is None and child.channel.fileno() < 0 and child.worker in self._workers:
            # The zygote died with the order in its queue, or the child before it could say its pid.
            self._forget(child, _NEVER_STARTED)

    def _take_pid(self, child: Worker, pid: int) -> None:
        """Signals will go there, perhaps of root, and the application can write to the channel: it must be a child."""
        others = [*(zygote.pid for zygote in self._zygotes.values()), *self._others]
        others += [worker.pid for worker in self._workers.values() if worker.pid is not None]
        if child.pid is None and pid > 0 and pid not in others and is_child(pid):
            child.pid = pid
        else:
            log.warning("worker %d says that it is process %d, which is not so", child.slot, pid)

    def _messages(self, channel: Channel) -> list[tuple[Message, list[int]]]:
        """What can be read now; hangs up at the end of file."""
        messages: list[tuple[Message, list[int]]] = []
        with contextlib.suppress(BlockingIOError):
            while channel.fileno() >= 0:
                try:
                    received = channel.receive()
                except ValueError as error:
                    log.warning("a child said what no version of this program says: %s", error)
                    continue
                if received is None:
                    self._hang_up(channel)
                else:
                    messages.append((received.message, received.fds))
        return messages

    def _read_stack(self, child: Worker) -> None:
        if child.stack_fd < 0:
            return
        try:
            text = os.read(child.stack_fd, _STACK_CHUNK)
        except BlockingIOError:
            return
        if not text:
            self._close_stack(child)
            return
        if self._inquiries.threads_told(child.worker, text.decode(errors="replace"), time.monotonic()):
            return
        where = f"worker {child.slot} gen {child.generation} [{child.pid}]"
        for line in text.decode(errors="replace").splitlines():
            log.warning("%s stack: %s", where, line)

    def _close_stack(self, child: Worker) -> None:
        if child.stack_fd >= 0:
            self._selector.unregister(child.stack_fd)
            os.close(child.stack_fd)
            child.stack_fd = -1

    def _show_traceback(self, reason: str, traceback: str) -> None:
        """Once: all workers of a bad generation fail in the same way."""
        if traceback and traceback not in self._tracebacks:
            self._tracebacks.add(traceback)
            log.error("%s", reason, extra={"detail": traceback})

    def _forget(self, child: Worker, status: int, *, out_of_memory: bool = False) -> None:
        self._read_stack(child)
        self._close_stack(child)
        self._inquiries.gone(child.worker, time.monotonic())
        self._hang_up(child.channel)
        child.row.clear()
        del self._workers[child.worker]
        self._tell(WorkerExited(child.worker, status, out_of_memory))

    def _hang_up(self, channel: Channel) -> None:
        if channel.fileno() >= 0:
            self._selector.unregister(channel)
            channel.close()


def _tally(row: Row) -> Tally:
    return Tally(
        answered=sum(row[field] for field in _ANSWERS),
        failed=row[Field.RESPONSES_5XX] + row[Field.LATE_ERRORS],
    )


def _signal(pid: int, signum: signal.Signals) -> None:
    # Dead but not reaped children still hold their pid, so this reaches the right process or nobody.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
