"""The zygotes and workers that are alive: their processes, channels and scoreboard rows.

For each started zygote exactly one `ZygoteExited` is reported, and for each spawned worker exactly one
`WorkerExited`, whatever becomes of the process.
"""

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Self

from asgi_master import faults
from asgi_master.control.stack_dumps import PendingWorker, StackDumpRequest, StackDumpRequests
from asgi_master.ipc import descriptors
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.conduct import BreachError
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.messages import (
    STACK_SIGNAL,
    STACKS_SIGNAL,
    AcceptingStopped,
    ApplicationImported,
    ApplicationImportFailed,
    Boot,
    Drain,
    Fork,
    ForkFailed,
    ForkService,
    Message,
    ReplacementRequested,
    ReportTasks,
    StartAccepting,
    StartService,
    TasksReported,
    Unknown,
    UseAccessLog,
    UseCertificates,
    UseHandOff,
    UseListeners,
    WorkerBooted,
    WorkerBootFailed,
    WorkerDrainStarted,
    WorkerForked,
    WorkerReaped,
    ZygoteStarted,
)
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.master.channel_reader import MAX_LAST_MESSAGES, MESSAGES_PER_TURN, ChannelReader
from asgi_master.master.child import (
    InheritedFds,
    WorkerHandle,
    ZygoteHandle,
    export_state,
    load,
    workers_of,
    zygotes_of,
)
from asgi_master.master.guard import Guard
from asgi_master.master.oom import OomKills
from asgi_master.master.process import Process
from asgi_master.master.process_table import ProcessTable
from asgi_master.master.reaper import is_child, next_dead_child, reap
from asgi_master.master.stack_pipes import StackPipes
from asgi_master.master.tracebacks import Tracebacks
from asgi_master.master.upgrade_state import StateSection
from asgi_master.supervision.events import (
    Event,
    WorkerExited,
    WorkerFailed,
    WorkerLeaving,
    WorkerReady,
    WorkerReplacementRequested,
    WorkerStoppedAccepting,
    ZygoteExited,
    ZygoteFailed,
    ZygoteReady,
)
from asgi_master.supervision.fleet import Fleet
from asgi_master.supervision.states import Role

log = logging.getLogger("asgi_master")

_FAILED_TO_START = "the master failed to start it"
_NEVER_STARTED = 1
"""The status reported for a process that never started."""


class Children(ProcessTable):
    """All child processes. Events are passed to `report`, in the order in which they happened."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        scoreboard: Scoreboard,
        hand_off: HandOff,
        new_zygote: Callable[[], tuple[int, Channel]],
        report: Callable[[Event], None],
        guarded: Guard | None = None,
    ) -> None:
        super().__init__()
        self._scoreboard = scoreboard
        self._hand_off = hand_off
        self._new_zygote = new_zygote
        self._report = report
        self._expected_exits: dict[int, Callable[[int], None]] = {}
        self._stack_dumps = StackDumpRequests()
        self._stacks = StackPipes(selector, self._stack_dumps)
        self.changed: Callable[[], list[str]] = list
        """In development: the files that changed."""
        self.learnt: tuple[int, ...] = ()
        """In development: the file in which zygotes write what their import shows."""
        self._guarded = guarded or Guard()
        self._reader = ChannelReader(selector)
        self.disposal = self._reader.disposal
        """Closes sockets that may hold descriptors from children."""
        self.tracebacks = Tracebacks()
        """Tracebacks of children that failed."""
        self.oom_kills = OomKills()
        """To be polled also while no child exits."""

    # Orders

    def start_zygote(self, boot: Boot) -> None:
        """Start the zygote of `boot.generation`."""
        self.tracebacks.forget()
        try:
            faults.fault_point("before_zygote", generation=boot.generation)
            pid, channel = self._new_zygote()
        except OSError as error:
            self._report(ZygoteFailed(boot.generation, _cannot_start(error)))
            self._report(ZygoteExited(boot.generation, _NEVER_STARTED))
            return
        self._add_zygote(ZygoteHandle(boot.generation, Process(pid), channel, boot))

    def retire_zygote(self, generation: int) -> None:
        """Close its channel: a zygote exits at the end of file."""
        zygote = self._zygotes.get(generation)
        if zygote is not None:
            self._reader.hang_up(zygote.channel)

    def kill_zygote(self, generation: int) -> None:
        """SIGKILL it."""
        zygote = self._zygotes.get(generation)
        if zygote is not None:
            zygote.process.signal(signal.SIGKILL)

    def spawn_worker(self, worker: int, slot: int, generation: int, places: InheritedFds, role: Role) -> None:
        """Have the zygote of `generation` fork a worker that accepts there; a spare, only once it is admitted."""
        zygote = self._zygotes.get(generation)
        with contextlib.ExitStack() as theirs:
            try:
                faults.fault_point("before_spawn_order", generation=generation, slot=slot)
                child, lent = self._prepare(worker, slot, generation, theirs)
            except (OSError, RuntimeError) as error:
                self._cannot_spawn(worker, error)
                return
            fds = (*self._hand_off.fds, *lent, *places.certificates, *places.access_log, *places.listeners)
            order = Fork(
                worker,
                slot,
                child.row.index,
                role is Role.SPARE,
                list(places.secure),
                bool(places.access_log),
                own=list(places.own),
            )
            asked = self._order_fork(zygote, child, order, fds)
        faults.fault_point("after_spawn_order", generation=generation, slot=slot)
        if not asked:
            self._never_asked(child)

    def spawn_service(self, worker: int, service: str, generation: int) -> None:
        """Have the zygote of `generation` fork a process that runs the service. It inherits no listener."""
        with contextlib.ExitStack() as theirs:
            try:
                child, lent = self._prepare(worker, -1, generation, theirs, service)
            except (OSError, RuntimeError) as error:
                self._cannot_spawn(worker, error)
                return
            zygote = self._zygotes.get(generation)
            asked = self._order_fork(zygote, child, ForkService(worker, service), lent)
        if not asked:
            self._never_asked(child)

    def _order_fork(
        self,
        zygote: ZygoteHandle | None,
        child: WorkerHandle,
        order: Fork | ForkService,
        fds: tuple[int, ...],
    ) -> bool:
        """Whether the zygote was ordered to fork it."""
        self._add_worker(child)
        if zygote is None or not zygote.channel.send(order, fds):
            return False
        zygote.conduct.asked()
        return True

    def _never_asked(self, child: WorkerHandle) -> None:
        self._report(WorkerFailed(child.worker, "its zygote is gone"))
        self._forget(child, _NEVER_STARTED)

    def _cannot_spawn(self, worker: int, error: OSError | RuntimeError) -> None:
        reason = error.strerror if isinstance(error, OSError) else error
        self._report(WorkerFailed(worker, f"no channel for it: {reason}"))
        self._report(WorkerExited(worker, _NEVER_STARTED))

    def _prepare(
        self, worker: int, slot: int, generation: int, theirs: contextlib.ExitStack, service: str = ""
    ) -> tuple[WorkerHandle, tuple[int, int]]:
        """A worker's channel, stack pipe and row, and its ends of them, which `theirs` closes. Raises `OSError`."""
        with contextlib.ExitStack() as ours:
            stack_read, stack_write = os.pipe()
            ours.callback(descriptors.close, stack_read)
            theirs.callback(descriptors.close, stack_write)
            channel, end = Channel.pair()
            ours.callback(channel.close)
            theirs.callback(end.close)
            channel.refuse_descriptors()
            channel.setblocking(False)
            os.set_blocking(stack_read, False)
            row = self._scoreboard.allocate()
            ours.pop_all()
        child = WorkerHandle(worker, slot, generation, row, channel, stack_read, service=service)
        return child, (end.fileno(), stack_write)

    def admit_worker(self, worker: int) -> None:
        """Have a spare accept."""
        child = self._workers.get(worker)
        if child is not None and not child.channel.send(StartAccepting()):
            # It would count as serving without accepting.
            self.kill_worker(worker)

    def give_certificates(self, generations: set[int], certificates_fd: int) -> bool:
        """Have the workers of these generations serve new connections with the bundle behind the descriptor.

        Returns whether all were sent it.
        """
        all_sent = True
        for child in self.serving():
            if child.generation in generations and not child.channel.send(
                UseCertificates(), (certificates_fd,)
            ):
                # A closed channel takes no message any more.
                all_sent = all_sent and child.channel.fileno() < 0
        return all_sent

    def give_access_log(self, generations: set[int], workers: set[int] | None, fd: int) -> set[int]:
        """Have workers of these generations, all or some, write to the file; returns those that were not sent it."""
        children = [
            child
            for child in self.serving()
            if child.generation in generations and (workers is None or child.worker in workers)
        ]
        not_told = self._not_sent(children, UseAccessLog(), (fd,))
        # A closed channel takes no message any more.
        return {worker for worker in not_told if self._workers[worker].channel.fileno() >= 0}

    def give_hand_off(self) -> set[int]:
        """Have all workers use the hand-off queue as it is now; returns those that could not be sent it."""
        return self._not_sent(self.serving(), UseHandOff(), self._hand_off.fds)

    def give_listeners(self, workers: Iterable[int], places: InheritedFds) -> set[int]:
        """Have these workers accept on these listeners alone; returns those that could not be sent it."""
        children = [self._workers[worker] for worker in workers if worker in self._workers]
        return self._not_sent(children, UseListeners(list(places.secure), list(places.own)), places.listeners)

    @staticmethod
    def _not_sent(children: Iterable[WorkerHandle], message: Message, fds: tuple[int, ...]) -> set[int]:
        return {child.worker for child in children if not child.channel.send(message, fds)}

    def give(self, worker: int, message: Message, fds: tuple[int, ...] = ()) -> bool:
        """Send a message to a worker; false if it is not there or takes none now."""
        child = self._workers.get(worker)
        return child is not None and child.channel.send(message, fds)

    def drain_worker(self, worker: int, timeout: float, *, hand_off: bool, sessions: float = 0.0) -> None:
        """Have the worker finish and exit."""
        child = self._workers.get(worker)
        if child is not None:
            faults.fault_point("before_drain_order", generation=child.generation, slot=child.slot)
        if child is None or child.channel.send(Drain(timeout, hand_off, sessions)):
            return
        if child.process is not None:
            # It lost its channel (an application that closes unknown descriptors); SIGTERM means the same.
            child.process.signal(signal.SIGTERM)

    def stop_service(self, worker: int, timeout: float) -> None:
        """Have the service stop: the message says that it is the master who sends SIGTERM."""
        child = self._workers.get(worker)
        if child is None:
            return
        child.channel.send(Drain(timeout, hand_off=False))
        if child.process is not None:
            child.process.signal(signal.SIGTERM)

    def dump_stacks(self, worker: int) -> None:
        """Have the stacks of the worker written to the log."""
        child = self._workers.get(worker)
        if child is not None and child.process is not None:
            self._stack_dumps.ordered_for_log(worker, time.monotonic())
            self._stacks.asked(child)
            child.process.signal(STACKS_SIGNAL)

    def request_stack_dumps(self, workers: list[int]) -> StackDumpRequest:
        """Request tasks and stacks of workers; the answers are collected in the returned object."""
        children = [self._workers[worker] for worker in workers if worker in self._workers]
        asked = [PendingWorker(child.worker, child.slot, child.generation, child.pid) for child in children]
        request = self._stack_dumps.begin(asked, time.monotonic())
        for child in children:
            if child.process is not None:
                child.conduct.asked()
                child.channel.send(ReportTasks(request.number, request.limit))
        return request

    def signal_unresponsive(self) -> None:
        """Request stacks by signal of workers whose loop did not answer; to be called each half second."""
        for worker in self._stack_dumps.take_unresponsive(time.monotonic()):
            child = self._workers.get(worker)
            if child is not None and child.process is not None:
                # Read what was written before the request.
                self._stacks.read(child)
                self._stacks.asked(child)
                child.process.signal(STACK_SIGNAL)

    def kill_worker(self, worker: int) -> None:
        """SIGKILL it. A worker that never reported a pid is given up: it exits by itself if it was forked after all."""
        child = self._workers.get(worker)
        if child is None:
            return
        if child.process is not None:
            child.process.signal(signal.SIGKILL)
        else:
            self._forget(child, -signal.SIGKILL)

    # Facts

    def reap(self) -> None:
        """Reap every child that has died and report it, after its last messages."""
        while (pid := next_dead_child()) is not None:
            # Its pid, or the reason, may have been sent just before it died.
            for worker in list(self._workers.values()):
                self._guarded(
                    self._read_worker, worker, MAX_LAST_MESSAGES if worker.pid == pid else MESSAGES_PER_TURN
                )
            for zygote in list(self._zygotes.values()):
                last = zygote.process.pid == pid
                self._guarded(self._read_zygote, zygote, MAX_LAST_MESSAGES if last else MESSAGES_PER_TURN)
            self._is_gone(pid, reap(pid))

    def _is_gone(self, pid: int, status: int) -> None:
        """Report a reaped child. Its exit is reported whatever fails of the clean-up."""
        zygotes = [zygote for zygote in self._zygotes.values() if zygote.process.pid == pid]
        workers = [worker for worker in self._workers.values() if worker.pid == pid]
        on_exit = self._expected_exits.pop(pid, None)
        out_of_memory = False
        with contextlib.suppress(OSError):
            out_of_memory = self.oom_kills.claim(status)
        for zygote in zygotes:
            zygote.process.reaped()
            del self._zygotes[zygote.generation]
            self._report(ZygoteExited(zygote.generation, status))
            self._guarded(self._reader.hang_up, zygote.channel)
        for worker in workers:
            self._forget(worker, status, out_of_memory=out_of_memory, is_reaped=True)
            self._guarded(self._notify_zygotes, WorkerReaped(pid))
        if on_exit is not None:
            self._guarded(on_exit, status)

    def _notify_zygotes(self, message: WorkerReaped) -> None:
        """Send it to all zygotes of versions that know the message: those report their directory."""
        for zygote in self._zygotes.values():
            if zygote.directory and zygote.channel.fileno() >= 0:
                zygote.channel.send(message)

    def missing(self, fleet: Fleet) -> Iterator[Event]:
        """The exit of each process of `fleet` that is not here: starting it, or reporting its exit, had failed."""
        for worker in fleet.workers.keys() - self._workers.keys():
            yield WorkerFailed(worker, _FAILED_TO_START)
            yield WorkerExited(worker, _NEVER_STARTED)
        for generation in fleet.zygotes.keys() - self._zygotes.keys():
            yield ZygoteFailed(generation, _FAILED_TO_START)
            yield ZygoteExited(generation, _NEVER_STARTED)

    def expect_exit(self, pid: int, on_exit: Callable[[int], None]) -> None:
        """Call `on_exit` with the status of a child that is neither zygote nor worker, once it is reaped."""
        self._expected_exits[pid] = on_exit

    def expect_no_exit(self, pid: int) -> None:
        """Undo `expect_exit`: it becomes a zygote."""
        self._expected_exits.pop(pid, None)

    # Upgrade

    def export_state(self) -> StateSection:
        """All of them."""
        return export_state(self._zygotes.values(), self._workers.values())

    def import_state(self, section: StateSection) -> Self:
        """Go on with those that the program before this one had. Some may have died since; `reap` reports them."""
        saved = load(section)
        for zygote in zygotes_of(saved):
            self._add_zygote(zygote)
        for worker in workers_of(saved, self._scoreboard):
            self._add_worker(worker)
        return self

    def _add_zygote(self, zygote: ZygoteHandle) -> None:
        self._zygotes[zygote.generation] = zygote
        self._reader.watch(zygote.channel, lambda: self._read_zygote(zygote))

    def _add_worker(self, child: WorkerHandle) -> None:
        self._workers[child.worker] = child
        self._reader.watch(child.channel, lambda: self._read_worker(child))
        self._stacks.watch(child)

    def close(self) -> None:
        """Let go of every channel; for a master that leaves on an error: children see the end of file and leave too."""
        for zygote in self._zygotes.values():
            self._reader.hang_up(zygote.channel)
        for worker in self._workers.values():
            self._reader.hang_up(worker.channel)

    def _read_zygote(self, zygote: ZygoteHandle, most: int = MESSAGES_PER_TURN) -> None:
        try:
            for received in self._reader.messages(zygote, most):
                self._heard_zygote(zygote, received.message)
        except BreachError as breach:
            log.error("%s %s; it is killed", zygote, breach)
            zygote.process.signal(signal.SIGKILL)
            self._reader.hang_up(zygote.channel)

    def _heard_zygote(self, zygote: ZygoteHandle, message: Message | Unknown) -> None:
        match message:
            case ZygoteStarted():
                if not self._boot(zygote):
                    self._report(ZygoteFailed(zygote.generation, "it could not be told what to import"))
            case ApplicationImported(directory=directory, manner=manner):
                zygote.directory, zygote.manner = directory, manner
                self._report(ZygoteReady(zygote.generation, is_broken=bool(zygote.problem)))
            case ApplicationImportFailed(reason, is_answered=is_answered):
                self.tracebacks.keep(message)
                if is_answered:
                    zygote.problem = reason
                else:
                    self._report(ZygoteFailed(zygote.generation, reason))
            case ForkFailed(worker, reason) if (child := self._workers.get(worker)) is not None:
                if child.generation != zygote.generation:
                    raise BreachError(f"speaks of {child}, which it was not asked for")
                if child.pid is None:
                    self._report(WorkerFailed(worker, reason))
                    self._forget(child, _NEVER_STARTED)

    def _boot(self, zygote: ZygoteHandle) -> bool:
        """Tell it what to import; false if that is not possible."""
        try:
            roster = self._scoreboard.roster_for_reading()
        except OSError:
            return False
        try:
            boot = replace(zygote.boot, changed=self.changed()) if self.learnt else zygote.boot
            return zygote.channel.send(boot, (self._scoreboard.fd, roster, *self.learnt))
        finally:
            descriptors.close(roster)

    def _read_worker(self, child: WorkerHandle, most: int = MESSAGES_PER_TURN) -> None:
        try:
            for received in self._reader.messages(child, most):
                self._heard_worker(child, received.message, received.sender)
        except BreachError as breach:
            self._end(child, breach)
        if child.pid is None and child.channel.fileno() < 0 and child.worker in self._workers:
            # The zygote died with the order in its queue, or the child before it reported its pid.
            self._forget(child, _NEVER_STARTED)

    def _heard_worker(self, child: WorkerHandle, message: Message | Unknown, sender: int) -> None:
        match message:
            case WorkerForked(pid):
                child.process = Process(self._checked(pid, sender))
                if child.service:
                    # From here on it ends by its pid alone. If the message is lost, the boot timeout ends it.
                    child.channel.send(StartService())
            case WorkerBooted():
                self._report(WorkerReady(child.worker))
            case WorkerBootFailed(reason, is_answered=is_answered):
                self.tracebacks.keep(message)
                zygote = self._zygotes.get(child.generation) if is_answered else None
                if zygote is not None:
                    zygote.problem = reason
                else:
                    self._report(WorkerFailed(child.worker, reason))
            case WorkerDrainStarted(reason):
                self._report(WorkerLeaving(child.worker, reason))
            case AcceptingStopped():
                self._report(WorkerStoppedAccepting(child.worker))
            case ReplacementRequested(reason):
                self._report(WorkerReplacementRequested(child.worker, reason))
            case TasksReported():
                # A stack asked for past its loop was written before: the signal interrupts what waits for messages.
                self._stacks.read(child)
                self._stack_dumps.record_tasks(child.worker, message, time.monotonic())

    def _checked(self, pid: int, sender: int) -> int:
        """Signals will go there, perhaps of root, and the application can write to the channel: it must be a child.

        It must also be the sender, as far as the kernel reports it: code of a zygote could name another new worker.
        """
        others = {*self.zygote_pids(), *self.worker_pids().values(), *self._expected_exits}
        if pid > 0 and sender in {0, pid} and pid not in others and is_child(pid):
            return pid
        raise BreachError(f"reported pid {pid}, which is not its process")

    def _end(self, child: WorkerHandle, breach: BreachError) -> None:
        log.error("%s %s; it is killed", child, breach)
        if child.process is not None:
            child.process.signal(signal.SIGKILL)
        else:
            # It cannot be signalled without a pid; what was forked exits at the end of its channel.
            self._report(WorkerFailed(child.worker, str(breach)))
        self._reader.hang_up(child.channel)

    def _forget(
        self, child: WorkerHandle, status: int, *, out_of_memory: bool = False, is_reaped: bool = False
    ) -> None:
        """It is gone. That is what counts: nothing after it may keep the fleet from knowing."""
        if is_reaped and child.process is not None:
            child.process.reaped()
        del self._workers[child.worker]
        self._report(WorkerExited(child.worker, status, out_of_memory))
        self._guarded(self._stacks.read, child)
        self._guarded(self._stacks.forget, child)
        self._guarded(self._stack_dumps.record_exit, child.worker, time.monotonic())
        self._guarded(self._reader.hang_up, child.channel)
        self._guarded(self._scoreboard.release, child.row)


def _cannot_start(error: OSError) -> str:
    which = f"{error.filename}: " if error.filename else ""
    return f"cannot start a zygote: {which}{error.strerror}"
