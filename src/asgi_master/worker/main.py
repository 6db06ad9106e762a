"""The life of a worker: from the fork to its exit status."""

import asyncio
import atexit
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import field
from typing import TYPE_CHECKING, Any, NoReturn

import uvloop

from asgi_master import faults
from asgi_master.errors import ApplicationError, AsgiMasterError, ExitCode
from asgi_master.ipc import descriptors
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.counters import Field
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.messages import (
    AcceptingStopped,
    Drain,
    Fork,
    Message,
    ReplacementRequested,
    ReportTasks,
    StartAccepting,
    TakePlace,
    TasksReported,
    UseAccessLog,
    UseCertificates,
    UseHandOff,
    UseListeners,
    UsePlace,
    UsePlaces,
    WorkerBooted,
    WorkerBootFailed,
    WorkerDrainStarted,
    WorkerForked,
)
from asgi_master.ipc.scoreboard import Row, RowState, Scoreboard
from asgi_master.records import mutable_record
from asgi_master.settings.access_headers import sort_access_headers
from asgi_master.settings.model import Settings
from asgi_master.telemetry.access_log import AccessLog
from asgi_master.telemetry.access_logger import AccessLogger, is_configured
from asgi_master.telemetry.code_ownership import ownership
from asgi_master.telemetry.failure_log import FailureLog
from asgi_master.telemetry.failures import describe
from asgi_master.telemetry.process_identity import configure_process_identity
from asgi_master.telemetry.tracebacks import for_another_process
from asgi_master.worker import child_processes, process_signals, unhandled_errors
from asgi_master.worker.accept.acceptor import Acceptor
from asgi_master.worker.application import load_application
from asgi_master.worker.diagnostics.progress import Progress
from asgi_master.worker.diagnostics.stall_watch import StallWatch
from asgi_master.worker.diagnostics.task_dump import dump_tasks, stacks_of_threads
from asgi_master.worker.drain import drain
from asgi_master.worker.exit_watch import Deadline, ExitWatch
from asgi_master.worker.heartbeat import Heartbeat
from asgi_master.worker.hooks import Hooks, call_worker_exit, call_worker_start, load_hooks
from asgi_master.worker.interface import Interface, choose_interface
from asgi_master.worker.lifespan import Lifespan
from asgi_master.worker.loop_shutdown import leave_at_once, run_and_end
from asgi_master.worker.probe import AsgiAttempt, probe
from asgi_master.worker.prometheus import forget_this_process
from asgi_master.worker.randomness import make_different
from asgi_master.worker.recycling import Recycler, limits_of
from asgi_master.worker.serving import NewContext, tls_server
from asgi_master.worker.sessions import Sessions
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.tls import TlsServer
from asgi_master.worker.wsgi.pool import ThreadPool, call_by_wsgi
from asgi_master.worker.wsgi.probe import WsgiAttempt
from asgi_master.worker.wsgi.thread_watch import ThreadWatch

if TYPE_CHECKING:
    from asgi_master.worker.error_page import Problem

log = logging.getLogger("asgi_master")

REPLACEMENT_TIMEOUT = 5.0
"""Seconds that a worker, terminated by a signal, waits for its replacement before it leaves anyway."""

_PAUSE = 0.05
"""Seconds between two attempts to reach the master while the kernel lacks a resource."""
_RENEW_AGAIN_AFTER = 30.0
"""Seconds between two attempts to use new certificates."""


@mutable_record
class Inheritance:
    """The objects that workers inherit from their zygote."""

    generation: int
    settings: Settings
    scoreboard: Scoreboard
    application: Callable[..., Any] | None
    """`None` if each worker imports for itself."""
    new_context: NewContext
    generators: list[Any] = field(default_factory=list)
    """Random generators created by the import."""
    services: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """The functions of the services, by name; empty if each process imports for itself."""
    hooks: Hooks | None = None
    """`None` if each worker imports for itself."""
    problem: "Problem | None" = None
    """In development: why the application could not be imported; it is answered in its place."""
    changed: list[str] = field(default_factory=list)
    """In development: the files that changed."""
    tls: TlsServer | None = None
    """Of the certificates that the next worker begins with; `None` without TLS, or if they cannot be used now."""


@mutable_record
class Assignment:
    """The resources that a worker was forked with."""

    inheritance: Inheritance
    order: Fork
    channel: Channel
    stack_fd: int
    hand_off: HandOff
    listeners: list[socket.socket]
    master_pid: int
    certificates_fd: int = -1
    """The memory file with the certificates; -1 without TLS."""
    access_log_fd: int = -1
    """The file of the access log; -1 without one."""


def work(assignment: Assignment) -> NoReturn:
    """Run the worker, from the first line after the fork, and exit. Its signals are blocked on entry."""
    child_processes.close_in_children(assignment.listeners)
    process_signals.take_over(
        assignment.stack_fd, assignment.master_pid, assignment.inheritance.settings.process.drain_timeout
    )
    faults.set_location(slot=assignment.order.slot)
    faults.fault_point("after_fork")
    if not assignment.channel.send(WorkerForked(os.getpid())):
        # The master gave this worker up before it started, or is gone.
        sys.exit(ExitCode.MASTER_LOST)
    faults.fault_point("after_forked")
    # `atexit` handlers run in reverse order of registration.
    atexit.register(forget_this_process)
    process = assignment.inheritance.settings.process
    deadline = Deadline()
    try:
        _prepare_process(assignment)
        loop_name = assignment.inheritance.settings.loop.implementation
        loop_factory = uvloop.new_event_loop if loop_name == "uvloop" else asyncio.new_event_loop
        code, ended = run_and_end(Worker(assignment, deadline).run(), loop_factory)
        faults.fault_point("before_exit")
    except AsgiMasterError as error:
        traceback, exception = for_another_process(
            error.__cause__, full=assignment.inheritance.settings.logging.traceback == "full"
        )
        assignment.channel.send(WorkerBootFailed(str(error), traceback, exception))
        code, ended = ExitCode.BOOT_FAILED, True
    except OSError as error:
        log.error("leaving: the event loop cannot run: %s", error.strerror or error)
        code, ended = ExitCode.FAILURE, False
    except (SystemExit, KeyboardInterrupt) as error:
        # Not from a request: for example from a signal handler of the application, in the middle of the server's code.
        log.error("leaving: the application raised %s", describe(error), exc_info=error)
        code, ended = ExitCode.FAILURE, True
    # `atexit` handlers run in reverse order of registration.
    atexit.register(child_processes.end_children)
    # A worker that failed to start has the time that the master then gives it.
    deadline.set_in(process.drain_timeout if code != ExitCode.BOOT_FAILED else process.shutdown_timeout)
    ExitWatch(assignment.channel, deadline.time, process.kill_grace, code).start()
    if not ended:
        leave_at_once(code)
    _let_go(assignment)
    # The ordinary exit of an interpreter: `atexit` handlers of the application run.
    sys.exit(code)


def _let_go(assignment: Assignment) -> None:
    """Close the sockets before the interpreter reports them as unclosed (`-X dev`)."""
    for listener in assignment.listeners:
        listener.close()
    assignment.hand_off.close()


def _prepare_process(assignment: Assignment) -> None:
    """Set environment, title and log of this worker. Raises `AsgiMasterError`."""
    settings, slot = assignment.inheritance.settings, assignment.order.slot
    generation = assignment.inheritance.generation
    os.environ["ASGI_MASTER_WORKER"] = str(slot)
    configure_process_identity("worker", settings, worker=slot, generation=generation)
    if assignment.inheritance.application is not None:
        make_different(assignment.inheritance.generators)


_GROUP_SIGNALLED = 0.3
"""Seconds after which a master that received the same signal has sent its order."""


class Worker:
    """One worker with its loop running."""

    def __init__(self, assignment: Assignment, deadline: Deadline) -> None:
        self._deadline = deadline
        self._inheritance = assignment.inheritance
        self._slot = assignment.order.slot
        self._hand_off = assignment.hand_off
        self._listeners = assignment.listeners
        self._secure = [assignment.listeners[place] for place in assignment.order.secure]
        self._own = [assignment.listeners[place] for place in assignment.order.own]
        self._settings = assignment.inheritance.settings
        self._channel = assignment.channel
        self._row: Row = assignment.inheritance.scoreboard.row(assignment.order.row)
        self._state = RowState.BOOTING
        """The state in its row, to which siblings could write too."""
        self._orders: asyncio.Queue[Drain] = asyncio.Queue()
        self._sending: set[asyncio.Task[None]] = set()
        self._failures = FailureLog()
        self._exit_code = ExitCode.OK
        self._was_terminated = False
        self._has_orders = False
        self._is_admitted = not assignment.order.standby
        self._acceptor: Acceptor | None = None
        self._tls: TlsServer | None = None
        self._threads: ThreadPool | None = None
        """Those that call a WSGI application."""
        affinity = self._settings.affinity
        self._sessions = Sessions(affinity) if affinity.sticky else None
        self._thread_watch: ThreadWatch | None = None
        self._access_log: AccessLog | AccessLogger | None = None
        self._access_log_fd = assignment.access_log_fd
        """Until the access log owns it."""
        self._new_certificates = -1
        """A descriptor, until the certificates are in use."""
        if self._secure:
            self._tls = self._inheritance.tls or tls_server(self._settings, assignment.certificates_fd)
            descriptors.close(assignment.certificates_fd)

    async def run(self) -> ExitCode:
        """Start, serve until ordered or forced to leave, drain; returns the exit status. Raises `ApplicationError`."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unhandled_errors.log_failure)
        self._channel.setblocking(False)
        self._listen()
        loop.add_signal_handler(signal.SIGTERM, self._on_terminate)
        child_processes.mark_own(signal.SIGTERM)
        lifespan = await self._unless_ordered_to_leave(self._boot())
        if lifespan is None:
            return self._exit_code
        context = self._context(lifespan)
        if self._sessions is not None:
            await self._sessions.install(context)
        recycler = Recycler(
            limits_of(self._settings.process, random.SystemRandom().random),
            context.stats,
            lambda reason: self._send(ReplacementRequested(reason)),
            self._leave_without_order,
            loop.time(),
        )
        heartbeat = Heartbeat(context, self._row, recycler)
        acceptor = Acceptor(
            context,
            self._listeners,
            self._hand_off,
            self._inheritance.scoreboard,
            self._row,
            max_connections=self._settings.http.max_connections,
            secure=self._secure,
            own=self._own,
            tls=self._tls,
        )
        stall_watch = StallWatch(
            context.loop,
            threshold=self._settings.process.stall_warn,
            progress=Progress(self._row, context.stats),
        )
        heartbeat.start()
        stall_watch.start()
        self._acceptor = acceptor
        self._accept_if_admitted()
        faults.fault_point("before_ready")
        await self._report_ready()
        faults.fault_point("after_ready")
        order = await self._orders.get()
        self._become(RowState.DRAINING)
        if not order.hand_off and order.timeout:
            # No sibling stays to accept waiting connections.
            await acceptor.take_the_rest()
        await acceptor.stop()
        self._send(AcceptingStopped())
        if self._sessions is not None:
            order = await self._sessions.linger(order, self._orders)
        faults.fault_point("drain_start")
        shutdown_slice = self._settings.process.shutdown_timeout if lifespan.supported else 0.0
        await drain(
            context,
            order=order,
            harsher=self._orders,
            reserved=shutdown_slice,
            hand_off=self._hand_off,
        )
        if self._threads is not None and self._thread_watch is not None:
            self._thread_watch.stop()
            self._threads.stop()
        stall_watch.stop()
        faults.fault_point("drain_end")
        await lifespan.stop()
        if self._sessions is not None:
            await self._sessions.close()
        heartbeat.stop()
        context.poller.close()
        return self._exit_code

    async def _unless_ordered_to_leave(self, boot: Coroutine[Any, Any, Lifespan]) -> Lifespan | None:
        """The started lifespan; `None` if the order to leave came first."""
        booting = asyncio.create_task(boot)
        order = asyncio.create_task(self._orders.get())
        await asyncio.wait({booting, order}, return_when=asyncio.FIRST_COMPLETED)
        if order.done() and not booting.done():
            booting.cancel()
            await asyncio.wait({booting})
            return None
        if order.done():
            self._orders.put_nowait(order.result())
        order.cancel()
        return await booting

    async def _boot(self) -> Lifespan:
        if not self._settings.development.reload:
            return await self._start_application()
        problem = self._inheritance.problem
        if problem is None:
            try:
                return await self._start_application()
            except ApplicationError as error:
                problem = self._report_problem(error)
        return await self._start_error_page(problem)

    def _report_problem(self, error: ApplicationError) -> "Problem":
        from asgi_master.worker.error_page import problem_of  # noqa: PLC0415 -- development alone needs it

        full = self._settings.logging.traceback == "full"
        traceback, exception = for_another_process(error.__cause__, full=full)
        self._send(WorkerBootFailed(str(error), traceback, exception, is_answered=True))
        return problem_of(error.__cause__ or error, str(error), self._inheritance.changed)

    async def _start_error_page(self, problem: "Problem") -> Lifespan:
        """Serve the problem in the place of the application."""
        from asgi_master.worker.error_page import ErrorPage, shows_details  # noqa: PLC0415

        page: Callable[..., Any] = ErrorPage(problem, shows_details=shows_details(self._settings))
        self._app, self._interface = page, Interface.ASGI
        return Lifespan(page, "off", startup_timeout=0, shutdown_timeout=0)

    async def _start_application(self) -> Lifespan:
        app: Callable[..., Any] | None = self._inheritance.application
        if app is None:
            application = self._settings.application
            app = load_application(
                application.app, factory=application.factory, interface=application.interface
            )
        self._app = app
        self._interface = self._choose_interface(app)
        ownership.set_application(self._settings.application.app.partition(":")[0])
        # For applications that divide work among the workers.
        place = {"worker": self._slot, "generation": self._inheritance.generation}
        hooks = self._inheritance.hooks or load_hooks(self._settings.lifespan)
        if hooks.worker_start is not None:
            call_worker_start(hooks.worker_start, place)
        if hooks.worker_exit is not None:
            atexit.register(call_worker_exit, hooks.worker_exit, place)
        lifespan = Lifespan(
            app,
            "off" if self._interface is Interface.WSGI else self._settings.lifespan.mode,
            startup_timeout=self._settings.lifespan.startup_timeout,
            shutdown_timeout=self._settings.process.shutdown_timeout,
        )
        # The prefix of the key avoids collisions.
        lifespan.state["asgi_master"] = dict(place)
        faults.fault_point("before_lifespan")
        await lifespan.start()
        try:
            await self._probe(lifespan)
        except BaseException:
            await lifespan.stop()
            raise
        return lifespan

    def _choose_interface(self, app: Callable[..., Any]) -> Interface:
        """How the application is called. The first worker of a generation logs it."""
        name, wanted = self._settings.application.app, self._settings.application.interface
        choice = choose_interface(app, wanted)
        if choice.interface is Interface.WSGI and self._settings.lifespan.mode == "on":
            raise ApplicationError(f'"{name}" is served by WSGI, which has no lifespan, but lifespan is on')
        if choice.interface is Interface.WSGI and self._sessions is not None:
            raise ApplicationError(f'"{name}" is served by WSGI, which cannot be sticky: leave out --sticky')
        level = logging.INFO if choice.interface is Interface.WSGI else logging.DEBUG
        if self._slot == 0:
            log.log(level, "%s is served by %s: %s", name, choice.interface.upper(), choice.reason)
        return choice.interface

    async def _probe(self, lifespan: Lifespan) -> None:
        process = self._settings.process
        if process.health_path:
            await probe(
                self._app,
                process.health_path,
                root_path=self._settings.http.root_path,
                state=lifespan.state,
                limit=process.health_timeout,
                new_attempt=WsgiAttempt if self._interface is Interface.WSGI else AsgiAttempt,
            )

    def _accept_if_admitted(self) -> None:
        """Spares wait for `StartAccepting`, which may arrive as soon as they are ready."""
        if self._acceptor is None:
            return
        if self._is_admitted:
            self._acceptor.start()
            if self._sessions is not None:
                self._sessions.start()
        self._become(RowState.READY if self._is_admitted else RowState.STANDBY)

    def _become(self, state: RowState) -> None:
        self._state = state
        self._row[Field.STATE] = state

    async def _report_ready(self) -> None:
        """From here on the master relies on this worker. A lost master is an order to leave."""
        while self._orders.empty():
            if self._send(WorkerBooted()):
                return
            await asyncio.sleep(_PAUSE)

    def _context(self, lifespan: Lifespan) -> WorkerContext:
        context = self._inheritance.new_context(
            app=self._app,
            loop=asyncio.get_running_loop(),
            state=lifespan.state,
            access_log=self._open_access_log(),
        )
        if self._interface is Interface.WSGI:
            self._threads = ThreadPool(
                context.app,
                context.loop,
                size=self._settings.application.threads,
                multiprocess=self._settings.process.workers > 1,
            )
            call_by_wsgi(context, self._threads)
            self._thread_watch = ThreadWatch(
                self._threads,
                context,
                stall_warn=self._settings.process.stall_warn,
                hang_timeout=self._settings.process.hang_timeout,
                replace=lambda reason: self._send(ReplacementRequested(reason)),
            )
            self._thread_watch.start()
        return context

    def _open_access_log(self) -> AccessLog | AccessLogger | None:
        logging_settings = self._settings.logging
        if not logging_settings.logs_requests:
            return None
        chosen = sort_access_headers(logging_settings.access_log_header)
        exclude, path = logging_settings.access_log_exclude, logging_settings.access_log_path
        fd, self._access_log_fd = self._access_log_fd, -1
        if is_configured():
            if fd >= 0:
                descriptors.close(fd)
                log.warning("%s stays empty: the application asked for the logger asgi_master.access", path)
            self._access_log = AccessLogger(
                logging_settings.access_log_format, exclude=exclude, chosen=chosen
            )
        else:
            self._access_log = AccessLog(
                logging_settings.access_log_format,
                form=logging_settings.log_format,
                exclude=exclude,
                chosen=chosen,
                file=(fd, path) if fd >= 0 else None,
            )
        return self._access_log

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(self._channel.fileno(), self._on_channel)
        except OSError as error:
            self._failures.failed("watching the channel of the master", error, "it is retried")
            loop.call_later(_PAUSE, self._listen)

    def _on_channel(self) -> None:
        try:
            received = self._channel.receive()
        except BlockingIOError:
            return
        except OSError as error:
            # The message stays in the channel.
            self._failures.failed("receiving a message of the master", error, "it is retried")
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._channel.fileno())
            loop.call_later(_PAUSE, self._listen)
            return
        except ValueError as error:
            # From a master of a newer version, after a live upgrade; for anything essential it uses known messages.
            log.warning("unknown message from the master ignored: %s", error)
            return
        if received is None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._leave("the master is gone", ExitCode.MASTER_LOST)
            return
        match received.message:
            case Drain() as order:
                self._has_orders = True
                self._take_order(order)
            case StartAccepting():
                self._is_admitted = True
                if self._state == RowState.STANDBY:
                    self._accept_if_admitted()
            case UseAccessLog():
                self._take_access_log(received.fds)
            case UseCertificates():
                self._take_certificates(received.fds)
            case UseHandOff():
                self._take_hand_off(received.fds)
            case UseListeners(secure, own):
                self._take_listeners(received.fds, secure, own)
            case UsePlace() | UsePlaces() | TakePlace():
                self._use_places(received.message, received.fds)
            case ReportTasks() as request:
                sending = asyncio.create_task(self._send_tasks(request))
                self._sending.add(sending)
                sending.add_done_callback(self._sending.discard)

    def _take_hand_off(self, fds: list[int]) -> None:
        put_fd, take_fd = fds
        renewed = HandOff.of_fds(put_fd, take_fd)
        if self._acceptor is not None:
            self._acceptor.renew_hand_off(renewed)
        else:
            self._hand_off.become(renewed).close()

    def _use_places(self, message: UsePlace | UsePlaces | TakePlace, fds: list[int]) -> None:
        sessions = self._sessions
        if sessions is None:
            for fd in fds:
                descriptors.close(fd)
            return
        match message:
            case UsePlace():
                sessions.use_place(message, fds)
            case UsePlaces():
                sessions.use_places(message, fds)
            case TakePlace():
                sessions.take_place(fds)

    def _take_listeners(self, fds: list[int], secure: list[int], own: list[int]) -> None:
        listeners = [socket.socket(fileno=fd) for fd in fds]
        child_processes.close_in_children(listeners)
        self._secure = [listeners[place] for place in secure]
        self._own = [listeners[place] for place in own]
        if self._acceptor is not None:
            self._acceptor.renew_listeners(listeners, self._secure, self._own)
            return
        for listener in self._listeners:
            listener.close()
        self._listeners = listeners

    def _take_access_log(self, fds: list[int]) -> None:
        for fd in fds:
            if self._access_log is not None:
                self._access_log.renew(fd)
            else:
                if self._access_log_fd >= 0:
                    descriptors.close(self._access_log_fd)
                self._access_log_fd = fd

    def _take_certificates(self, fds: list[int]) -> None:
        for fd in fds:
            if self._new_certificates >= 0:
                descriptors.close(self._new_certificates)
            self._new_certificates = fd
        self._renew_certificates()

    def _renew_certificates(self) -> None:
        fd = self._new_certificates
        if fd < 0:
            return
        if self._tls is not None and not self._tls.renew(fd):
            # The master has checked them: this process lacks a resource.
            asyncio.get_running_loop().call_later(_RENEW_AGAIN_AFTER, self._renew_certificates)
            return
        descriptors.close(fd)
        self._new_certificates = -1

    async def _send_tasks(self, request: ReportTasks) -> None:
        total, groups = await dump_tasks(asyncio.get_running_loop(), request.limit)
        self._send(TasksReported(request.number, total, groups, stacks_of_threads()))

    def _on_terminate(self) -> None:
        """Ask to be replaced, so that a successor is ready first; at a second signal, or while starting, leave.

        A signal to the whole process group is meant for the master, and needs no successor.
        """
        if self._was_terminated:
            self._leave_without_order("SIGTERM")
            return
        self._was_terminated = True
        asyncio.get_running_loop().call_later(_GROUP_SIGNALLED, self._follow_terminate)

    def _follow_terminate(self) -> None:
        if self._has_orders or self._state == RowState.DRAINING:
            return
        if self._state in (RowState.READY, RowState.STANDBY) and self._send(ReplacementRequested("SIGTERM")):
            log.info("SIGTERM: serving until the master has a replacement, or for %g s", REPLACEMENT_TIMEOUT)
            asyncio.get_running_loop().call_later(
                REPLACEMENT_TIMEOUT,
                self._leave_without_order,
                f"SIGTERM, and no order within {REPLACEMENT_TIMEOUT:g} s",
            )
        else:
            self._leave("SIGTERM", ExitCode.OK)

    def _send(self, message: Message) -> bool:
        """Send a message to the master; false if that fails."""
        try:
            return self._channel.send(message)
        except OSError:
            # The application closed descriptors that it does not own.
            return False

    def _leave_without_order(self, reason: str) -> None:
        if self._state != RowState.DRAINING:
            self._leave(reason, ExitCode.OK)

    def _leave(self, reason: str, code: ExitCode) -> None:
        """Drain without an order."""
        log.warning("leaving: %s", reason)
        self._exit_code = code
        self._send(WorkerDrainStarted(reason))
        # Without a master there is no sibling to take connections over.
        self._take_order(Drain(self._settings.process.drain_timeout, code == ExitCode.OK))

    def _take_order(self, order: Drain) -> None:
        self._deadline.set_in(order.sessions + order.timeout)
        self._orders.put_nowait(order)
