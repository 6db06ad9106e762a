"""The zygote: a fresh interpreter that imports the application once, and then only forks.

Started by the master as `python -m asgi_master.worker.zygote FD MASTER_PID [WORD]`, where FD is its channel. It
runs no event loop, starts no thread and accepts no connections. End of file on the channel ends it.

The words: `no-preload` leaves the import to the workers, `base` makes it a warm base (`warm.base`), `cold=REASON` is
said by a zygote that such a base forked, when it starts again in a fresh interpreter.
"""

import contextlib
import gc

# Collections during these imports find next to nothing, and take a tenth of their time.
gc.disable()

import errno
import logging
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn

from asgi_master import faults
from asgi_master.errors import ApplicationError, AsgiMasterError, ExitCode, SettingsError
from asgi_master.ipc import descriptors
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.messages import (
    ApplicationImported,
    ApplicationImportFailed,
    Boot,
    Fork,
    ForkFailed,
    ForkService,
    Message,
    WorkerReaped,
    ZygoteStarted,
)
from asgi_master.ipc.prctl import signal_when_parent_dies
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.telemetry.failure_log import FailureLog
from asgi_master.telemetry.process_identity import configure_process_identity
from asgi_master.telemetry.tracebacks import for_another_process
from asgi_master.worker import standard_output, unhandled_errors
from asgi_master.worker.application import load_application, prepare_environment
from asgi_master.worker.child_processes import ignore_signals, reset_in_children
from asgi_master.worker.fork_hazards import ForkHazards
from asgi_master.worker.hooks import load_hooks
from asgi_master.worker.main import Assignment, Inheritance, work
from asgi_master.worker.privileges import drop_privileges
from asgi_master.worker.prometheus import forget_process
from asgi_master.worker.randomness import generators
from asgi_master.worker.service import ServiceAssignment, load_services, run_service
from asgi_master.worker.serving import serving, tls_server

if TYPE_CHECKING:
    from asgi_master.worker.warm.base import Warmth

# What they made stays: the collection that would come at once, and those of the next imports, pass over it.
gc.freeze()
gc.enable()

log = logging.getLogger("asgi_master")

_NO_PRELOAD = "no-preload"
_BASE = "base"
_COLD = "cold="
_PAUSE = 0.05
"""Seconds between two attempts to reach the master while the kernel lacks a resource."""
_ATTEMPTS = 40
_HANDLED = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals that a zygote ignores, and that a worker handles."""


def main() -> None:
    """Start, then fork workers as ordered until the channel ends."""
    standard_output.line_by_line()
    environ = dict(os.environ)
    channel_fd, master_pid, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    preload_refused = _NO_PRELOAD in words
    _leave_signals_to_the_master()
    # Hazards are searched for explicitly; Python 3.12 and 3.13 mistake a nice value for a number of threads.
    warnings.filterwarnings("ignore", ".* is multi-threaded, use of fork", DeprecationWarning, "__main__")
    _die_with(master_pid)
    channel, warmth = Channel.of_fd(channel_fd), None
    if _BASE in words:
        from asgi_master.worker.warm.base import run_base  # noqa: PLC0415 -- development alone needs it

        # This returns in the zygotes that it forks.
        channel, warmth = run_base(channel, master_pid, _double_fork)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _die_with(master_pid)
    _send(channel, ZygoteStarted())
    received = channel.receive()
    if received is None or not isinstance(received.message, Boot):
        sys.exit(ExitCode.OK)
    boot = received.message
    if warmth is not None and (reason := warmth.objection(boot)):
        _start_again(channel.fileno(), master_pid, f"{_COLD}{reason}", environ)
    inheritance, learnt_fd = _inherit(boot, received.fds)
    inheritance.changed = boot.changed
    faults.set_location(generation=inheritance.generation)
    try:
        directory = _prepare_process(
            boot.directory, inheritance, begins_again=preload_refused or warmth is not None
        )
        _die_with(master_pid)
        with _following(boot, warmth, learnt_fd):
            hazards = _import(inheritance, preload_refused=preload_refused)
    except AsgiMasterError as error:
        traceback, exception = for_another_process(
            error.__cause__, full=inheritance.settings.logging.traceback == "full"
        )
        is_answered = inheritance.settings.development.reload
        _send(channel, ApplicationImportFailed(str(error), traceback, exception, is_answered))
        if not is_answered:
            sys.exit(ExitCode.BOOT_FAILED)
        from asgi_master.worker.error_page import problem_of  # noqa: PLC0415 -- development alone needs it

        inheritance.problem = problem_of(error.__cause__ or error, str(error), boot.changed)
        hazards, directory = [], boot.directory
    if hazards:
        _log_hazards(hazards, inheritance.settings.process.preload)
        if inheritance.settings.process.preload == "auto":
            # The import cannot be undone: start again in a fresh image that leaves it to the workers.
            _start_again(channel.fileno(), master_pid, _NO_PRELOAD, os.environ)
    if warmth is not None and boot.settings.development.reload_verify and inheritance.problem is None:
        from asgi_master.worker.warm.verify import Warm, verify  # noqa: PLC0415 -- development alone needs it

        verify(
            lambda state: Warm(boot.settings, boot.directory, boot.generation, state),
            lambda: _double_fork(master_pid),
            environ,
        )
    # All of this is shared by the workers; a collection in one of them must not touch, and so copy, it. Collecting once
    # more first takes time and leaves holes, which the workers would fill, and so copy (ADR 8).
    gc.freeze()
    faults.fault_point("after_import")
    if warmth is not None:
        inheritance.generators += warmth.generators
    _send(channel, ApplicationImported(hazards, directory, _manner(words, warmth)))
    _serve(channel, inheritance, master_pid)
    channel.leave_open()


def _send(channel: Channel, message: Message) -> None:
    """Send a message that the master waits for. If that fails the zygote ends, and the master starts another one."""
    for _ in range(_ATTEMPTS):
        if channel.send(message):
            return
        time.sleep(_PAUSE)
    sys.exit(ExitCode.MASTER_LOST)


def _die_with(master_pid: int) -> None:
    signal_when_parent_dies(signal.SIGKILL)
    if os.getppid() != master_pid:
        sys.exit(ExitCode.MASTER_LOST)


def _inherit(boot: Boot, fds: list[int]) -> tuple[Inheritance, int]:
    """What workers inherit, and in development the file for what the import shows, else -1."""
    board_fd, roster_fd, *learnt_fds = fds
    settings = boot.settings
    inheritance = Inheritance(
        generation=boot.generation,
        settings=settings,
        scoreboard=Scoreboard(board_fd, roster_fd),
        application=None,
        new_context=serving(settings),
    )
    return inheritance, learnt_fds[0] if learnt_fds else -1


@contextlib.contextmanager
def _following(boot: Boot, warmth: "Warmth | None", learnt_fd: int) -> Iterator[None]:
    """In development, learn from the import, for the warm base."""
    if learnt_fd < 0:
        yield
        return
    from asgi_master.worker.warm import learning  # noqa: PLC0415 -- development alone needs it
    from asgi_master.worker.warm.base import tree_of  # noqa: PLC0415

    with learning.ImportLearner(tree_of(boot.settings, boot.directory), learns=warmth is None) as learner:
        yield
    if warmth is None:
        learning.dump(learner.learnt, learnt_fd)
    descriptors.close(learnt_fd)


def _manner(words: list[str], warmth: "Warmth | None") -> str:
    reason = next((word.removeprefix(_COLD) for word in words if word.startswith(_COLD)), "")
    if warmth is not None:
        return "warm"
    return f"cold: {reason}" if reason else "cold"


def _prepare_process(directory: str, inheritance: Inheritance, *, begins_again: bool) -> str:
    """Set title, log, working directory, environment and user; returns the real working directory.

    With `begins_again` the environment comes from the previous image of this process, which may no longer be able to
    read it. Raises `AsgiMasterError`.
    """
    settings, generation = inheritance.settings, inheritance.generation
    _enter(directory)
    # Read with the master's rights: the file may contain secrets that the application's user cannot read.
    prepare_environment(settings.application, is_known=begins_again)
    os.environ["ASGI_MASTER_GENERATION"] = str(generation)
    drop_privileges(settings.privileges)
    # From here on this process has the application's user, and may run its code: a log-config can name classes of it.
    configure_process_identity("zygote", settings, generation=generation)
    unhandled_errors.install_thread_hook()
    if settings.privileges.user:
        _enter(directory)
    return os.getcwd()  # noqa: PTH109 -- a string is wanted


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
        os.environ["PWD"] = directory
    except OSError as error:
        raise ApplicationError(f"cannot enter the working directory {directory}: {error.strerror}") from None


def _import(inheritance: Inheritance, *, preload_refused: bool) -> list[str]:
    """Import the application unless that is left to the workers; returns the hazards for a fork after it."""
    settings = inheritance.settings
    if preload_refused or settings.process.preload == "off":
        return []
    with ForkHazards() as hazards:
        inheritance.application = load_application(
            settings.application.app,
            factory=settings.application.factory,
            interface=settings.application.interface,
        )
        inheritance.hooks = load_hooks(settings.lifespan)
        load_services(inheritance)
    inheritance.generators = generators()
    return hazards.found()


def _log_hazards(hazards: list[str], preload: str) -> None:
    follows = (
        "each worker imports for itself (--preload off omits the attempt, --preload on forks anyway)"
        if preload == "auto"
        else "forking anyway (--preload on)"
    )
    log.warning(
        "importing the application left behind what does not survive a fork: %s; %s",
        "; ".join(hazards),
        follows,
    )


def _leave_signals_to_the_master() -> None:
    """A terminal or a service manager signals the whole process group; the master alone decides what follows."""
    ignore_signals(_HANDLED)
    reset_in_children()
    # They were blocked from the start, so that none arrives while this program is being imported.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _start_again(channel_fd: int, master_pid: int, word: str, environ: Mapping[str, str]) -> NoReturn:
    """Execute this program in the place of this process, which keeps its channel."""
    os.set_inheritable(channel_fd, True)
    begin = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    os.execve(sys.executable, [*begin, str(channel_fd), str(master_pid), word], environ)  # noqa: S606 -- our own program


def _serve(channel: Channel, inheritance: Inheritance, master_pid: int) -> None:
    failures = FailureLog()
    while True:
        try:
            received = channel.receive()
        except (OSError, MemoryError) as error:
            # The order stays in the channel.
            failures.failed("receiving an order", error, "it is retried")
            time.sleep(_PAUSE)
            continue
        if received is None:
            return
        failures.sweep()
        match received.message:
            case Fork() as order:
                _fork(order, received.fds, channel, inheritance, master_pid)
            case ForkService() as order:
                _fork_service(order, received.fds, channel, inheritance, master_pid)
            case WorkerReaped(pid):
                forget_process(pid)


def _fork(order: Fork, fds: list[int], channel: Channel, inheritance: Inheritance, master_pid: int) -> None:
    """Fork a worker, which does not return from here."""
    put_fd, take_fd, worker_channel_fd, stack_fd, *listener_fds = fds
    certificates_fd = listener_fds.pop(0) if order.secure else -1
    access_log_fd = listener_fds.pop(0) if order.access_log else -1
    if order.secure:
        _make_contexts(inheritance, certificates_fd)
    if _is_forked(order.worker, order.slot, channel, master_pid):
        channel.close()
        listeners = [socket.socket(fileno=fd) for fd in listener_fds]
        worker_channel = Channel.of_fd(worker_channel_fd)
        hand_off = HandOff.of_fds(put_fd, take_fd)
        work(
            Assignment(
                inheritance,
                order,
                worker_channel,
                stack_fd,
                hand_off,
                listeners,
                master_pid,
                certificates_fd,
                access_log_fd,
            )
        )
    for fd in fds:
        descriptors.close(fd)


def _fork_service(
    order: ForkService, fds: list[int], channel: Channel, inheritance: Inheritance, master_pid: int
) -> None:
    """Fork the process of a service, which does not return from here."""
    channel_fd, stack_fd = fds
    if _is_forked(order.worker, None, channel, master_pid):
        channel.close()
        run_service(ServiceAssignment(inheritance, order, Channel.of_fd(channel_fd), stack_fd, master_pid))
    for fd in fds:
        descriptors.close(fd)


def _is_forked(worker: int, slot: int | None, channel: Channel, master_pid: int) -> bool:
    """Fork; true in the new process, false here, where the master is informed of a failure."""
    try:
        faults.fault_point("before_fork", slot=slot)
        return _double_fork(master_pid)
    except OSError as error:
        # If the message cannot be sent, end of file on the worker's channel reports it.
        channel.send(ForkFailed(worker, f"fork failed: {error.strerror}"))
        return False


def _make_contexts(inheritance: Inheritance, certificates_fd: int) -> None:
    """Make the TLS contexts before the fork, so that a session of one worker resumes at the others."""
    tls = inheritance.tls
    if tls is None or not tls.is_of(certificates_fd):
        inheritance.tls = None
        # The worker tries again, and reports why it cannot start.
        with contextlib.suppress(SettingsError):
            inheritance.tls = tls_server(inheritance.settings, certificates_fd)


def _double_fork(master_pid: int) -> bool:
    """Fork a grandchild whose parent becomes the master (its subreaper). True in the grandchild, false here.

    Raises `OSError`.
    """
    standard_output.flush()
    # None of these may reach a child, and be lost, between its fork and the installation of its own handlers.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    child = -1
    try:
        child = os.fork()
        if child == 0:
            try:
                _become_grandchild(master_pid)
            except BaseException:  # noqa: BLE001 -- it must not go on as a second zygote
                os._exit(errno.ENOMEM)
            return True
        _pid, status = os.waitpid(child, 0)
    finally:
        if child != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    code = os.waitstatus_to_exitcode(status)
    if code > 0:
        raise OSError(code, os.strerror(code))
    # Killed by a signal, it may have forked before, or not: the worker's channel decides, by `WorkerForked` or by end
    # of file.
    return False


def _become_grandchild(master_pid: int) -> None:
    """Return in the grandchild only, adopted by the master, with the signals still blocked."""
    try:
        grandchild = os.fork()
    except OSError as error:
        os._exit(error.errno or 1)
    if grandchild != 0:
        faults.fault_point("mid_fork")
        os._exit(0)
    while os.getppid() != master_pid:
        # The parent is between its exit and the adoption, which takes microseconds.
        if not _is_alive(master_pid):
            os._exit(ExitCode.MASTER_LOST)
        time.sleep(0.0002)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # The master is root, and this process is not any more.
        return True
    return True


if __name__ == "__main__":
    main()
