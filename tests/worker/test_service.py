"""The process of a service: what its function's end and a SIGTERM mean. Each runs in a process of its own."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from asgi_master.errors import ExitCode
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import Drain, ReplacementRequested
from asgi_master.worker.exit_watch import Deadline
from asgi_master.worker.service import RunningService
from fleet import wait_until

Function = Callable[[], Any]
LOOPS = ["asyncio", "uvloop"]


class Service:
    """A service that runs in a child of this process."""

    def __init__(self, function: Function, loop: str = "uvloop") -> None:
        self.channel, theirs = Channel.pair()
        self.pid = os.fork()
        if not self.pid:
            self._live(function, theirs, loop)
        theirs.close()

    def _live(self, function: Function, channel: Channel, loop: str) -> NoReturn:
        status = 99
        try:
            self.channel.close()
            channel.setblocking(False)
            status, _ended = RunningService(function, channel, Deadline(), 5.0).run(loop)
        finally:
            os._exit(status)

    def order_to_stop(self) -> None:
        assert self.channel.send(Drain(5.0, hand_off=False))
        self.terminate()

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def asks_for_its_replacement(self) -> None:
        received = self.channel.receive()
        assert received is not None
        assert received.message == ReplacementRequested("SIGTERM")

    def end(self) -> int:
        """Its exit status."""

        def gone() -> tuple[int, int] | None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (pid, status) if pid else None

        status = os.waitstatus_to_exitcode(wait_until(gone, "it ends")[1])
        self.channel.close()
        return status


def returns() -> None:
    pass


def raises() -> None:
    raise LookupError("none")


async def returns_in_a_loop() -> None:
    await asyncio.sleep(0)


async def raises_in_a_loop() -> None:
    raise LookupError("none")


async def exits_in_a_loop() -> None:
    sys.exit(3)


async def is_cancelled_by_itself() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("function", "status"),
    [
        (returns, 0),
        (raises, 1),
        (sys.exit, 0),
        (lambda: sys.exit(3), 3),
        (lambda: sys.exit(256 + 7), 7),
        (lambda: sys.exit("no queue"), 1),
        (returns_in_a_loop, 0),
        (partial(returns_in_a_loop), 0),
        (raises_in_a_loop, 1),
        (exits_in_a_loop, 3),
        (is_cancelled_by_itself, 1),
    ],
)
@pytest.mark.parametrize("loop", LOOPS)
def test_the_status_is_what_the_function_ends_with(function: Function, status: int, loop: str) -> None:
    assert Service(function, loop).end() == status


class Steps:
    """What a function in another process has done, as files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def done(self, name: str) -> None:
        (self._directory / name).touch()

    def wait(self, name: str) -> None:
        wait_until((self._directory / name).exists, name)

    def __contains__(self, name: str) -> bool:
        return (self._directory / name).exists()


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def plain(steps: Steps) -> Function:
    def run() -> None:
        try:
            steps.done("begins")
            time.sleep(30)
        finally:
            steps.done("cleans up")
            time.sleep(0.2)
            steps.done("is clean")

    return run


def in_a_loop(steps: Steps) -> Function:
    async def run() -> None:
        try:
            steps.done("begins")
            await asyncio.sleep(30)
        finally:
            steps.done("cleans up")
            await asyncio.sleep(0.2)
            steps.done("is clean")

    return run


@pytest.mark.parametrize(("kind", "loop"), [(plain, ""), (in_a_loop, "asyncio"), (in_a_loop, "uvloop")])
def test_an_order_stops_it_once(kind: Callable[[Steps], Function], loop: str, steps: Steps) -> None:
    service = Service(kind(steps), loop)
    steps.wait("begins")
    service.order_to_stop()
    steps.wait("cleans up")
    service.terminate()
    assert service.end() == ExitCode.OK
    assert "is clean" in steps, "the second signal broke nothing off"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_coroutine_stops_by_the_order_alone(loop: str, steps: Steps) -> None:
    service = Service(in_a_loop(steps), loop)
    assert service.channel.send(Drain(5.0, hand_off=False))
    assert service.end() == ExitCode.OK
    assert "is clean" in steps, "its signal may come before the loop handles signals"


@pytest.mark.parametrize("kind", [plain, in_a_loop])
def test_a_signal_from_somebody_else_is_for_the_master_to_judge(
    kind: Callable[[Steps], Function], steps: Steps
) -> None:
    service = Service(kind(steps))
    steps.wait("begins")
    service.terminate()
    service.asks_for_its_replacement()
    assert "cleans up" not in steps
    service.terminate()
    assert service.end() == ExitCode.OK
    assert "is clean" in steps


@pytest.mark.parametrize("kind", [plain, in_a_loop])
def test_without_a_master_a_signal_stops_it(kind: Callable[[Steps], Function], steps: Steps) -> None:
    service = Service(kind(steps))
    steps.wait("begins")
    service.channel.close()
    service.terminate()
    assert service.end() == ExitCode.MASTER_LOST
    assert "is clean" in steps


@pytest.mark.parametrize("kind", [plain, in_a_loop])
def test_an_orphan_stops(kind: Callable[[Steps], Function], steps: Steps) -> None:
    service = Service(kind(steps))
    steps.wait("begins")
    os.kill(service.pid, signal.SIGUSR2)
    assert service.end() == ExitCode.MASTER_LOST
    assert "is clean" in steps


def test_a_function_may_handle_the_signal_itself(steps: Steps) -> None:
    def run() -> None:
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda signum, _frame: stopped.append(signum))
        steps.done("begins")
        while not stopped:
            time.sleep(0.01)
        sys.exit(7)

    service = Service(run)
    steps.wait("begins")
    service.order_to_stop()
    assert service.end() == 7


def test_a_failure_while_it_stops_is_one(steps: Steps) -> None:
    def run() -> None:
        try:
            steps.done("begins")
            time.sleep(30)
        finally:
            raise LookupError("in the clean-up")

    service = Service(run)
    steps.wait("begins")
    service.order_to_stop()
    assert service.end() == ExitCode.FAILURE
