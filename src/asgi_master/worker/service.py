"""The process of a service: it runs one function of the application, outside of any worker.

Rules of this file:
  - It runs no code of the service before the master has answered with `StartService`: until then the master does not
    know its pid, and may have given it up for a successor.
  - SIGTERM stops the service: a coroutine is cancelled, and in a plain function `SystemExit` is raised, once each. A
    function that handles SIGTERM itself is left to do so.
  - A SIGTERM that the master did not announce is passed on to the master, which decides: it may be meant for all
    processes of a group, and services leave after the workers.
"""

import asyncio
import atexit
import inspect
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import uvloop

from asgi_master.errors import AsgiMasterError, ExitCode
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import (
    Drain,
    ForkService,
    ReplacementRequested,
    StartService,
    WorkerBooted,
    WorkerBootFailed,
    WorkerForked,
)
from asgi_master.records import mutable_record
from asgi_master.settings.services import parse_service
from asgi_master.telemetry.code_ownership import ownership
from asgi_master.telemetry.failures import describe
from asgi_master.telemetry.process_identity import configure_process_identity
from asgi_master.telemetry.tracebacks import for_another_process
from asgi_master.worker import child_processes, process_signals, unhandled_errors
from asgi_master.worker.application import load_callable
from asgi_master.worker.exit_watch import Deadline, ExitWatch
from asgi_master.worker.loop_shutdown import leave_at_once, run_and_end
from asgi_master.worker.main import Inheritance
from asgi_master.worker.prometheus import forget_this_process
from asgi_master.worker.randomness import make_different

log = logging.getLogger("asgi_master")

NAME_VARIABLE = "ASGI_MASTER_SERVICE_NAME"
"""The environment variable of a service's process with its name."""

_PAUSE = 0.05
"""Seconds between two attempts to reach the master while the kernel lacks a resource."""
_ATTEMPTS = 40
_MOST_STATUS = 255


@mutable_record
class ServiceAssignment:
    """The resources that the process of a service was forked with."""

    inheritance: Inheritance
    order: ForkService
    channel: Channel
    stack_fd: int
    master_pid: int


def load_services(inheritance: Inheritance) -> None:
    """Import the functions of all services, for the processes that will be forked. Raises `ApplicationError`."""
    for text in inheritance.settings.services.service:
        service = parse_service(text)
        inheritance.services[service.name] = load_callable(service.target)


def run_service(assignment: ServiceAssignment) -> NoReturn:
    """Run the service, from the first line after the fork, and exit. Its signals are blocked on entry."""
    settings, channel = assignment.inheritance.settings, assignment.channel
    stop_timeout = settings.services.service_stop_timeout
    process_signals.take_over(assignment.stack_fd, assignment.master_pid, stop_timeout)
    if not channel.send(WorkerForked(os.getpid())):
        # The master gave this process up before it started, or is gone.
        sys.exit(ExitCode.MASTER_LOST)
    _wait_for_start(channel)
    # `atexit` handlers run in reverse order of registration.
    atexit.register(forget_this_process)
    deadline, ended = Deadline(), True
    try:
        function = _prepare_process(assignment)
    except AsgiMasterError as error:
        traceback, exception = for_another_process(error.__cause__, full=settings.logging.traceback == "full")
        channel.send(WorkerBootFailed(str(error), traceback, exception))
        code: int = ExitCode.BOOT_FAILED
    else:
        channel.setblocking(False)
        _report_ready(channel)
        service = RunningService(function, channel, deadline, stop_timeout)
        code, ended = service.run(settings.loop.implementation)
    atexit.register(child_processes.end_children)
    deadline.set_in(stop_timeout)
    ExitWatch(channel, deadline.time, settings.process.kill_grace, ExitCode.OK).start()
    if not ended:
        leave_at_once(code)
    # The ordinary exit of an interpreter: `atexit` handlers of the application run.
    sys.exit(code)


def _wait_for_start(channel: Channel) -> None:
    while True:
        try:
            received = channel.receive()
        except ValueError:
            continue  # of a master of a newer version
        except (OSError, MemoryError):
            time.sleep(_PAUSE)
            continue
        match received and received.message:
            case StartService():
                return
            case Drain():
                sys.exit(ExitCode.OK)
            case None:
                sys.exit(ExitCode.MASTER_LOST)


def _prepare_process(assignment: ServiceAssignment) -> Callable[[], Any]:
    """Set environment, title and log of this process; the function to run. Raises `AsgiMasterError`."""
    inheritance, name = assignment.inheritance, assignment.order.service
    settings = inheritance.settings
    os.environ[NAME_VARIABLE] = name
    configure_process_identity("service", settings, service=name, generation=inheritance.generation)
    if inheritance.application is not None:
        make_different(inheritance.generators)
    service = next(s for s in map(parse_service, settings.services.service) if s.name == name)
    function = inheritance.services.get(name) or load_callable(service.target)
    ownership.set_application(settings.application.app.partition(":")[0])
    return function


def _report_ready(channel: Channel) -> None:
    for _ in range(_ATTEMPTS):
        if channel.send(WorkerBooted()):
            return
        time.sleep(_PAUSE)
    sys.exit(ExitCode.MASTER_LOST)


class RunningService:
    """A service that runs in this process."""

    def __init__(
        self, function: Callable[[], Any], channel: Channel, deadline: Deadline, stop_timeout: float
    ) -> None:
        self._function = function
        self._channel = channel
        self._deadline = deadline
        self._stop_timeout = stop_timeout
        self._is_stopping = False
        self._was_terminated = False
        self._exit_code = ExitCode.OK
        self._runs_loop = False
        """Whether the function is a coroutine. An exception of a signal handler could then be lost in the loop."""
        self._task: asyncio.Task[ExitCode] | None = None
        """In which the coroutine runs."""

    def run(self, loop_name: str) -> tuple[int, bool]:
        """Run the function to its end; returns the exit status, and whether the event loop could be closed."""
        child_processes.handle(signal.SIGTERM, lambda _signum, _frame: self._on_terminate())
        child_processes.handle(process_signals.ORPHAN_SIGNAL, lambda _signum, _frame: self._on_orphaned())
        ended = True
        try:
            result = self._function()
            if inspect.isawaitable(result):
                self._runs_loop = True
                factory = uvloop.new_event_loop if loop_name == "uvloop" else asyncio.new_event_loop
                _code, ended = run_and_end(self._run_coroutine(result), factory)
        except SystemExit as error:
            return self._status(_status_of(error)), ended
        except BaseException as error:
            log.error("the service failed: %s", describe(error), exc_info=error)
            return ExitCode.FAILURE, ended
        finally:
            # The exit is not broken off either.
            self._is_stopping = True
        return self._status(ExitCode.OK), ended

    def _status(self, code: int) -> int:
        return code or self._exit_code

    async def _run_coroutine(self, result: Awaitable[Any]) -> ExitCode:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unhandled_errors.log_failure)
        self._task = task = asyncio.current_task()
        assert task is not None
        for signum, handler in (
            (signal.SIGTERM, self._on_terminate),
            (process_signals.ORPHAN_SIGNAL, self._on_orphaned),
        ):
            loop.add_signal_handler(signum, handler)
            child_processes.mark_own(signum)
        # An order is seen here too: the signal that follows it may have come before these handlers.
        loop.add_reader(self._channel.fileno(), self._on_channel)
        if self._is_stopping:
            task.cancel()
        try:
            await result
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
        return ExitCode.OK

    def _on_channel(self) -> None:
        if self._is_ordered():
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._stop()

    def _on_terminate(self) -> None:
        """Stop, if it is an order of the master or the second such signal; else ask the master."""
        if self._is_stopping:
            return
        if not (self._is_ordered() or self._was_terminated):
            self._was_terminated = True
            if self._channel.send(ReplacementRequested("SIGTERM")):
                return
        self._stop()

    def _is_ordered(self) -> bool:
        while True:
            try:
                received = self._channel.receive()
            except (OSError, MemoryError):  # also where there is no message
                return False
            except ValueError:
                continue  # of a master of a newer version
            if received is None:
                self._lose_master()
                return True
            if isinstance(received.message, Drain):
                self._deadline.set_in(received.message.timeout)
                return True

    def _on_orphaned(self) -> None:
        process_signals.bound_orphan(self._stop_timeout)
        self._lose_master()
        self._stop()

    def _lose_master(self) -> None:
        if self._exit_code != ExitCode.MASTER_LOST:
            self._exit_code = ExitCode.MASTER_LOST
            log.warning("stopping: the master is gone")

    def _stop(self) -> None:
        """End the function; a second time would break off its clean-up."""
        if self._is_stopping:
            return
        self._is_stopping = True
        if self._task is not None:
            self._task.cancel()
        elif not self._runs_loop:
            raise SystemExit


def _status_of(error: SystemExit) -> int:
    """The exit status that the interpreter makes of it."""
    if error.code is None:
        return ExitCode.OK
    if isinstance(error.code, int):
        return error.code & _MOST_STATUS
    log.error("the service exits: %s", error.code)
    return ExitCode.FAILURE
