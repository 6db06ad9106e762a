"""What becomes of children, whatever they say and write."""

import contextlib
import logging
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_master.ipc import descriptors
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import (
    Drain,
    ForkFailed,
    Message,
    ReplacementRequested,
    StartService,
    TasksReported,
    Unknown,
    WorkerBooted,
    WorkerBootFailed,
    WorkerForked,
)
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.supervision.events import WorkerExited, WorkerFailed, WorkerReady, ZygoteExited
from fleet import wait_until
from forked_children import Household, fork, household


@pytest.fixture
def home() -> Iterator[Household]:
    with household() as made:
        yield made


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_ordinary_life(home: Household, caplog: pytest.LogCaptureFixture) -> None:
    pid = home.worker(3)
    home.until(lambda: WorkerReady(3) in home.events, "it is ready")
    assert home.children.worker_pids() == {3: pid}
    home.children.kill_worker(3)
    home.until(lambda: home.exits() == {3: -signal.SIGKILL}, "it is gone")
    assert home.children.rows() == {}
    assert errors(caplog) == []


def say(*datagrams: bytes) -> Callable[[Channel, int], None]:
    def behave(channel: Channel, _stack: int) -> None:
        with socket.socket(fileno=os.dup(channel.fileno())) as sock:
            for datagram in datagrams:
                sock.send(datagram)

    return behave


def flood(datagram: bytes) -> Callable[[Channel, int], None]:
    def behave(channel: Channel, _stack: int) -> None:
        with socket.socket(fileno=os.dup(channel.fileno())) as sock, contextlib.suppress(OSError):
            for _ in range(1_000_000):
                sock.send(datagram)

    return behave


BREACHES = {
    "no message": (say(b"5"), "said what no version of this program says: no message of ours: b'5'"),
    "nested": (say(b"[" * 90_000), "said what no version of this program says"),
    "digits": (
        say(b'["Forked", {"pid": ' + b"9" * 5000 + b"}]"),
        "said what no version of this program says",
    ),
    "not its word": (say(b'["ApplicationImported", {}]'), "sent ApplicationImported, which it never sends"),
    "the master's word": (say(b'["Drain", {"timeout": 1, "hand_off": true}]'), "which it never sends"),
    "another pid": (say(b'["Forked", {"pid": 1}]'), "sent WorkerForked twice"),
    "ready twice": (say(b'["BecameReady", {}]'), "sent WorkerBooted twice"),
    "leaves for ever": (flood(b'["WantsToLeave", {"reason": "x"}]'), "sends too many messages"),
    "nonsense for ever": (flood(b"nonsense"), "said what no version of this program says"),
    "words of a newer version for ever": (flood(b'["SaysMore", {"x": 1}]'), "sends too many messages"),
    "reasons for ever": (
        flood(b'["BeganLeaving", {"reason": "' + b"x" * 60_000 + b'"}]'),
        "sends too many messages",
    ),
    "unrequested tasks": (flood(b'["TasksTold", {"number": 1}]'), "sends too many messages"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_violation_of_the_protocol_kills_and_is_logged_once(
    home: Household, caplog: pytest.LogCaptureFixture, breach: str
) -> None:
    behave, why = BREACHES[breach]
    pid = home.worker(2, behave)
    home.until(lambda: home.exits() == {2: -signal.SIGKILL}, "it is killed")
    (line,) = errors(caplog)
    assert line.startswith(f"worker 2 gen 1 [{pid}] ")
    assert why in line
    assert line.endswith("; it is killed")
    assert len(line) < 500


def test_floods_do_not_delay_other_children(home: Household) -> None:
    for worker in range(4):
        home.worker(worker, flood(b"5" * 1000))
    longest = 0.0

    def all_gone() -> bool:
        return len(home.exits()) == 4

    while not all_gone():
        began = time.process_time()
        home.turn(0.01)
        longest = max(longest, time.process_time() - began)
    assert longest < 1.0


@pytest.mark.parametrize("lie", [-1, 0, 1, 2**31, 2**62])
def test_a_worker_whose_pid_is_a_lie_is_given_up(
    home: Household, caplog: pytest.LogCaptureFixture, lie: int
) -> None:
    channel, stack = home.order(1)
    channel.send(WorkerForked(lie))
    home.until(lambda: 1 in home.exits(), "it is given up")
    assert any(isinstance(event, WorkerFailed) for event in home.events)
    assert f"reported pid {lie}, which is not its process" in caplog.text
    with contextlib.suppress(ConnectionResetError):
        assert channel.receive() is None
    channel.close()
    os.close(stack)


def test_no_child_takes_the_pid_of_another(home: Household, caplog: pytest.LogCaptureFixture) -> None:
    other = home.worker(0)
    channel, stack = home.order(1)
    channel.send(WorkerForked(other))
    home.until(lambda: 1 in home.exits(), "it is given up")
    assert home.children.worker_pids() == {0: other}
    assert f"reported pid {other}, which is not its process" in caplog.text
    channel.close()
    os.close(stack)


def test_no_child_speaks_for_one_that_is_not_known_yet(
    home: Household, caplog: pytest.LogCaptureFixture
) -> None:
    other = fork(lambda: None)
    channel, stack = home.order(1)
    channel.send(WorkerForked(other))
    home.until(lambda: 1 in home.exits(), "it is given up")
    assert f"reported pid {other}, which is not its process" in caplog.text
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    channel.close()
    os.close(stack)


def test_who_says_something_before_its_name_is_given_up(home: Household) -> None:
    channel, stack = home.order(1)
    channel.send(WorkerBooted())
    home.until(lambda: 1 in home.exits(), "it is given up")
    assert WorkerReady(1) not in home.events
    channel.close()
    os.close(stack)


class TestZygotes:
    def test_it_speaks_of_its_own_workers_only(
        self, home: Household, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = home.worker(0)
        evil = home.zygote(2)
        evil.send(ForkFailed(0, "no"))
        home.until(lambda: ZygoteExited(2, -signal.SIGKILL) in home.events, "it is killed")
        assert "which it was not asked for; it is killed" in caplog.text
        assert home.children.worker_pids() == {0: good}
        assert home.exits() == {}

    def test_it_cannot_take_back_who_lives(self, home: Household) -> None:
        pid = home.worker(0)
        home.zygotes[1].send(ForkFailed(0, "no"))
        home.turn()
        assert home.children.worker_pids() == {0: pid}
        assert home.exits() == {}

    def test_a_fork_that_failed(self, home: Household) -> None:
        channel, stack = home.order(1)
        home.zygotes[1].send(ForkFailed(1, "out of processes"))
        home.until(lambda: 1 in home.exits(), "it is given up")
        assert WorkerFailed(1, "out of processes") in home.events
        channel.close()
        os.close(stack)

    def test_many_forks_may_fail(self, home: Household) -> None:
        ends = [home.order(worker) for worker in range(100)]
        for worker in range(100):
            home.zygotes[1].send(ForkFailed(worker, "out of processes"))
        home.until(lambda: len(home.exits()) == 100, "all are given up")
        assert not any(isinstance(event, ZygoteExited) for event in home.events)
        for channel, stack in ends:
            channel.close()
            os.close(stack)

    def test_one_that_floods_is_killed(self, home: Household, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(100):
            home.zygotes[1].send(ForkFailed(999, "x"))
        home.until(lambda: ZygoteExited(1, -signal.SIGKILL) in home.events, "it is killed")
        (line,) = errors(caplog)
        assert line.startswith("zygote gen 1 [")
        assert "sends too many messages" in line


class TestBookkeepingThatFails:
    """The pid of a process that has exited may be in use again."""

    @pytest.mark.parametrize("fails", ["release", "close", "unregister", "claim"])
    def test_does_not_keep_the_fleet_from_knowing(
        self, home: Household, monkeypatch: pytest.MonkeyPatch, fails: str
    ) -> None:
        pid = home.worker(0)

        close = Channel.close

        def fail(*arguments: object) -> None:
            if fails == "close":
                close(*arguments)  # type: ignore[arg-type]
            raise OSError("injected")

        with monkeypatch.context() as patch:
            if fails == "release":
                patch.setattr(Scoreboard, "release", fail)
            elif fails == "close":
                patch.setattr(Channel, "close", fail)
            elif fails == "unregister":
                patch.setattr(selectors.EpollSelector, "unregister", fail)
            else:
                patch.setattr(home.children.oom_kills, "claim", fail)
            os.kill(pid, signal.SIGKILL)
            home.until(lambda: 0 in home.exits(), "it is told")
        assert home.exits() == {0: -signal.SIGKILL}
        assert home.children.worker_pids() == {}
        signalled: list[int] = []
        monkeypatch.setattr(os, "kill", lambda pid, _signum: signalled.append(pid))
        home.children.kill_worker(0)
        home.children.dump_stacks(0)
        home.children.drain_worker(0, 1.0, hand_off=True)
        assert signalled == []

    def test_a_word_that_fails_does_not_keep_it_from_being_reaped(
        self, home: Household, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pid = home.worker(0)
        monkeypatch.setattr(
            home.children, "_read_worker", lambda *_arguments: (_ for _ in ()).throw(ValueError("injected"))
        )
        os.kill(pid, signal.SIGKILL)
        home.until(lambda: 0 in home.exits(), "it is told")


@pytest.fixture
def unread_address() -> Iterator[Any]:
    """An address that accepts connections and is never read from."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()


def lingering(address: Any) -> socket.socket:
    """A connection whose last close waits for a quarter of an hour."""
    sock = socket.create_connection(address)
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 900))
    return sock


@pytest.mark.parametrize("kernel", ["of today", "that cannot refuse"])
@pytest.mark.parametrize("said", [b'["WantsToLeave", {"reason": "x"}]', b"5", b""])
def test_a_lingering_descriptor_does_not_block_the_master(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unread_address: Any,
    kernel: str,
    said: bytes,
) -> None:
    if kernel != "of today":
        monkeypatch.setattr(descriptors, "_SO_PASSRIGHTS", 0x7FFF)

    with household() as home:
        channel, stack = home.order(0)

        def live() -> None:
            channel.send(WorkerForked(os.getpid()))
            sock = lingering(unread_address)
            with contextlib.suppress(PermissionError), socket.socket(fileno=channel.fileno()) as end:
                for _ in range(3):
                    descriptors.send(end, said, [sock.fileno()])
            os._exit(0)

        pid = home.pids[0] = fork(live, channel.fileno(), stack)
        channel.close()
        os.close(stack)
        wait_until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT), "nobody else has them")
        home.until(lambda: 0 in home.exits(), "it is gone")
        assert home.children.rows() == {}
    if kernel != "of today":
        assert "a message with descriptors; it is killed" in caplog.text


def test_a_zygotes_channel_is_let_go_the_same_way(
    monkeypatch: pytest.MonkeyPatch, unread_address: Any
) -> None:
    monkeypatch.setattr(descriptors, "_SO_PASSRIGHTS", 0x7FFF)
    with household() as home:
        sock = lingering(unread_address)
        home.zygotes[1].send(WorkerBootFailed("x"), (sock.fileno(),))
        os.close(sock.detach())
        home.children.retire_zygote(1)
        assert home.children._zygotes[1].channel.fileno() < 0


class TestStacks:
    def test_what_was_asked_for_goes_to_the_log(
        self, home: Household, caplog: pytest.LogCaptureFixture
    ) -> None:
        pid = home.worker(0, lambda _channel, stack: os.write(stack, b"line one\nline two\n") and None)
        home.until(lambda: "line two" in caplog.text, "they are in the log")
        assert f"worker 0 gen 1 [{pid}] stack: line one" in caplog.text

    @pytest.mark.parametrize("text", [b"x" * 4096, b"\n" * 4096, b"x\n" * 2048, b"\xff\x00" * 2048])
    def test_a_pipe_that_is_flooded_fills_no_disk(
        self, home: Household, caplog: pytest.LogCaptureFixture, text: bytes
    ) -> None:
        def behave(_channel: Channel, stack: int) -> None:
            with contextlib.suppress(OSError):
                while True:
                    os.write(stack, text)

        pid = home.worker(0, behave)
        home.until(lambda: "writes stacks without end" in caplog.text, "it is no longer read")
        assert len(caplog.text) < 1024 * 1024
        told = len(caplog.records)
        for _ in range(50):
            home.turn()
        assert len(caplog.records) == told
        assert home.children.worker_pids() == {0: pid}
        assert home.exits() == {}


def test_an_answer_is_no_breach_however_often_it_is_asked_for(home: Household) -> None:
    def behave(channel: Channel, _stack: int) -> None:
        channel.setblocking(True)
        while (received := channel.receive()) is not None:
            channel.send(TasksReported(received.message.number, 1))  # type: ignore[union-attr]

    pid = home.worker(0, behave)
    for _ in range(100):
        request = home.children.request_stack_dumps([0])
        home.until(lambda request=request: request.workers[0].tasks is not None, "it answered")
    assert home.children.worker_pids() == {0: pid}


def test_all_that_was_said_before_the_end_is_heard(home: Household) -> None:
    def behave(channel: Channel, _stack: int) -> None:
        channel.send(ReplacementRequested("first"))
        channel.send(ReplacementRequested("last"))
        os._exit(7)

    home.worker(0, behave)
    home.until(lambda: 0 in home.exits(), "it is gone")
    reasons = [getattr(event, "reason", "") for event in home.events]
    assert reasons[-3:] == ["first", "last", ""]
    assert home.events[-1] == WorkerExited(0, 7)


def report_messages(channel: Channel, answer: Channel) -> None:
    """As the process of a service does: say its pid, and pass on what the master says next."""
    answer.send(WorkerForked(os.getpid() if channel.send(WorkerForked(os.getpid())) else 0))
    while (received := channel.receive()) is not None:
        answer.send(received.message)


@pytest.fixture
def answers() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        yield ours, theirs


def heard(channel: Channel) -> Message | Unknown:
    received = channel.receive()
    assert received is not None
    return received.message


def test_a_service_starts_once_the_master_knows_its_process(
    home: Household, answers: tuple[Channel, Channel]
) -> None:
    ours, theirs = answers
    pid = home.service(3, lambda channel: report_messages(channel, Channel.of_fd(theirs.fileno())), theirs)
    home.until(lambda: home.children.worker_pids() == {3: pid}, "its pid is known")
    assert heard(ours) == WorkerForked(pid)
    assert heard(ours) == StartService()
    assert home.children.rows() == home.children.generations() == {}, "it is no worker"
    home.children.stop_service(3, 2.0)
    home.until(lambda: home.exits() == {3: -signal.SIGTERM}, "it is gone")


def test_a_service_that_is_stopped_before_its_process_is_known_never_starts(
    home: Household, answers: tuple[Channel, Channel]
) -> None:
    ours, theirs = answers
    pid = home.service(3, lambda channel: report_messages(channel, Channel.of_fd(theirs.fileno())), theirs)
    home.children.stop_service(3, 2.0)
    assert heard(ours) == WorkerForked(pid)
    assert heard(ours) == Drain(2.0, hand_off=False)


def test_a_service_that_was_given_up_finds_its_channel_closed(
    home: Household, answers: tuple[Channel, Channel]
) -> None:
    ours, theirs = answers
    forks_late, go = Channel.pair()

    def live(channel: Channel) -> None:
        forks_late.receive()
        report_messages(channel, Channel.of_fd(theirs.fileno()))

    home.service(3, live, theirs, forks_late)
    home.children.kill_worker(3)
    assert home.exits() == {3: -signal.SIGKILL}
    go.send(StartService())
    assert heard(ours) == WorkerForked(0), "it cannot say its pid, and exits"
    forks_late.close()
    go.close()
    os.kill(home.pids[3], signal.SIGKILL)


def test_a_service_without_its_zygote_has_failed(home: Household) -> None:
    home.children.retire_zygote(1)
    home.children.spawn_service(3, "beat", 1)
    home.children.spawn_service(4, "beat", 9)
    home.children.stop_service(9, 1.0)
    assert [event for event in home.events if isinstance(event, WorkerFailed)] == [
        WorkerFailed(3, "its zygote is gone"),
        WorkerFailed(4, "its zygote is gone"),
    ]
    assert home.exits() == {3: 1, 4: 1}
