"""Whatever stands in the pages that workers can write to: the master goes on, and believes what it knows itself."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_master.control import metrics
from asgi_master.control.health import check_ready
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.counters import Field, Stats
from asgi_master.ipc.messages import ApplicationImported, Fork, WorkerBooted, WorkerForked, ZygoteStarted
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.master.executor import Executor
from asgi_master.master.fleet_control import FleetControl
from asgi_master.master.fleet_view import FleetView
from asgi_master.master.listeners import Listeners
from asgi_master.master.log_files import LogFiles
from asgi_master.master.policy import policy_of
from asgi_master.master.process import Process
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.sd_notify import Notifier
from asgi_master.master.systemd import ServiceManager
from asgi_master.master.totals import Totals
from asgi_master.master.worker_resources import WorkerResources
from asgi_master.settings.model import ApplicationSettings, ProcessSettings, Settings
from asgi_master.supervision.events import (
    Event,
    ReloadRequested,
    ScaleRequested,
    TimePassed,
    WorkerReplacementRequested,
)
from asgi_master.supervision.states import Phase
from asgi_master.supervision.supervisor import Supervisor
from asgi_master.worker.accept.acceptor import Acceptor
from fleet import wait_until
from forked_children import Household, fork

EXTREMES = [0, 1, 2, 3, 4, 5, -1, 2**31, 2**40, 2**52, 2**53, 2**62, 2**63 - 1, -(2**63), 1 - 2**63]
ROW = st.lists(st.sampled_from(EXTREMES) | st.integers(-(2**63), 2**63 - 1), min_size=64, max_size=64)
EVENTS = st.sampled_from(["nothing", "death", "reload", "scale up", "scale down", "drain", "look"])
SETTINGS = Settings(
    application=ApplicationSettings(app="a:b"),
    process=ProcessSettings(workers=2, watch_time=0.0, rollback_window=0.0),
)


class Master(Household):
    """All that the master makes of its children, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.supervisor = Supervisor(policy_of(SETTINGS), time.monotonic(), random.random)
        self.listeners = Listeners()
        running = RunningSettings(SETTINGS)
        log_files = LogFiles(self.children, running, Path("/"))
        resources = WorkerResources(self.listeners, cast("Any", None), log_files)
        self.executor = Executor(self.children, self.listeners, resources, running, "/")
        self.fleet_view = FleetView(
            self.supervisor,
            self.children,
            running,
            self.listeners,
            self.scoreboard,
            Totals(time.monotonic(), time.time()),
            list,
            is_asked=True,
        )
        self.fleet_control = FleetControl(
            self.supervisor,
            self.children,
            running,
            self.listeners,
            report=self.events.append,
            reload=list,
            started_at=0.0,
            totals=self.scoreboard.totals,
            service_restarts=dict,
            health_state=self.fleet_view.health_state,
        )
        self.service_manager = ServiceManager(Notifier({}), self.supervisor, self.children.rows, {})
        self.followed: list[tuple[int, Channel]] = []

    def _new_zygote(self) -> tuple[int, Channel]:
        ours, theirs = Channel.pair()
        ours.refuse_descriptors()
        ours.setblocking(False)
        theirs.setblocking(False)
        pid = fork(lambda: None)
        self.followed.append((pid, theirs))
        theirs.send(ZygoteStarted())
        theirs.send(ApplicationImported())
        return pid, ours

    def judge(self, event: Event) -> None:
        self.events.append(event)
        while self.events:
            for action in self.supervisor.handle(self.events.pop(0), time.monotonic()):
                self.executor.execute(action)

    def settle(self) -> None:
        """Turns, until nothing is under way."""

        def calm() -> bool:
            self.turn(0.005)
            self.judge(TimePassed())
            for pid, channel in list(self.followed):
                self._follow(pid, channel)
            fleet = self.supervisor.fleet
            return (
                self.supervisor.phase is Phase.STEADY
                and len(fleet.living()) == self.supervisor.policy.workers
                and all(worker.is_ready for worker in fleet.living())
            )

        wait_until(calm, "the fleet is complete")

    def _follow(self, pid: int, channel: Channel) -> None:
        """Be the zygote."""
        try:
            received = channel.receive()
        except BlockingIOError:
            return
        if received is None:
            if pid in self.children.zygote_pids():
                os.kill(pid, signal.SIGKILL)
            channel.close()
            self.followed.remove((pid, channel))
            return
        if isinstance(received.message, Fork):
            end = Channel.of_fd(received.fds[2])
            self.pids[received.message.worker] = fork(lambda: _serve(end), end.fileno())
            end.close()
            received.fds.pop(2)
        for fd in received.fds:
            os.close(fd)

    def ask(self) -> None:
        """Whatever may be asked of it."""
        assert metrics.render(self.fleet_view.snapshot()).count("\n") > 50
        status = self.fleet_control.status()
        assert {worker.pid for worker in status.workers} == set(self.children.worker_pids().values())
        assert all(0 <= worker.requests <= 2**52 for worker in status.workers)
        assert all(worker.heartbeat_age is None or worker.heartbeat_age >= 0 for worker in status.workers)
        check_ready(self.fleet_view.health_state())
        self.fleet_view.sweep()
        self.service_manager.sweep()
        self.judge(self.children.read_heartbeats())

    def close(self) -> None:
        super().close()
        for pid, channel in self.followed:
            channel.close()
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _serve(channel: Channel) -> None:
    channel.send(WorkerForked(os.getpid()))
    channel.send(WorkerBooted())
    channel.receive()
    os._exit(0)


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    send = Process.signal

    def checked(process: Process, signum: signal.Signals) -> None:
        assert not process._is_reaped
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(stat[1]) == os.getpid(), "it is no child of the master"
        send(process, signum)

    monkeypatch.setattr(Process, "signal", checked)
    made = Master()
    made.judge(TimePassed())
    made.settle()
    yield made
    made.close()


def spoil(board: Scoreboard, row: list[int]) -> None:
    """The header, and each row that is or may soon be somebody's."""
    words = memoryview(board._map).cast("q")
    pattern = memoryview(b"".join(word.to_bytes(8, "little", signed=True) for word in row)).cast("q")
    for index in range(12):
        words[64 * index : 64 * (index + 1)] = pattern
    words.release()


def defers(board: Scoreboard, index: int) -> None:
    """A sibling takes a connection in the end, whatever load the others report."""
    reader = Scoreboard(os.dup(board.fd), board.roster_for_reading())
    context = cast("Any", SimpleNamespace(loop=None, stats=Stats(connections=5)))
    acceptor = Acceptor(context, [], cast("Any", None), reader, reader.row(index), max_connections=0)
    wait_until(lambda: not acceptor._defers(), "it takes a connection", 1.0)
    reader.close()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(row=ROW, events=st.lists(EVENTS, min_size=1, max_size=3))
def test_any_words_and_any_event(master: Master, row: list[int], events: list[str]) -> None:
    for event in events:
        spoil(master.scoreboard, row)
        master.ask()
        living = master.supervisor.fleet.living()
        match event:
            case "death":
                pid = master.children.worker_pids()[living[0].id]
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid: _is_dead(pid), "it is dead")
            case "reload":
                master.judge(ReloadRequested(policy_of(SETTINGS)))
            case "scale up" if len(living) < 4:
                master.judge(ScaleRequested(+1))
            case "scale down":
                master.judge(ScaleRequested(-1))
            case "drain":
                master.judge(WorkerReplacementRequested(living[0].id, "asked"))
            case "look":
                time_of_death = master.children.read_heartbeats()
                assert all(stamp <= time.monotonic() for stamp in time_of_death.stamps.values())
        master.settle()
        master.ask()
        assert len(master.scoreboard._taken) == len(master.children.rows())
        defers(master.scoreboard, next(iter(master.children.rows().values())).index)


def _is_dead(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_not_ready_when_all_are_dead(master: Master) -> None:
    for row in master.children.rows().values():
        row[Field.HEARTBEAT_NS] = 2**62
    assert check_ready(master.fleet_view.health_state()).passes
    for pid in master.children.worker_pids().values():
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: _is_dead(pid), "it is dead")
    spoil(master.scoreboard, [2, 0, 0, 0, 2**62] + [2**63 - 1] * 59)
    master.turn()
    for event in list(master.events):
        master.supervisor.handle(event, time.monotonic())
    assert not check_ready(master.fleet_view.health_state()).passes
