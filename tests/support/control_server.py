"""A control server in a selector loop of its own, over a real Unix socket, and a fleet that obeys on paper."""

import contextlib
import json
import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgi_master.control.commands import show_status
from asgi_master.control.health import HealthState
from asgi_master.control.http_server import Limits
from asgi_master.control.live_feed import LiveFeed
from asgi_master.control.reloads import Reloads
from asgi_master.control.server import ControlServer
from asgi_master.control.socket_paths import open_control_socket
from asgi_master.control.stack_dumps import StackDumpRequest, WorkerStacks
from asgi_master.control.status import FleetStatus, SlotWaiting, Totals, WorkerStatus
from asgi_master.ipc.messages import TaskGroup
from asgi_master.supervision.notices import Notice
from live_samples import PaperSource

PATIENCE = 10.0

STATUS = FleetStatus(
    version="1.2.3",
    pid=42,
    name="shop",
    app="shop:app",
    uptime=3700.0,
    phase="steady",
    listening=["http://127.0.0.1:8000"],
    held_generation=2,
    workers_wanted=2,
    spares_wanted=0,
    totals=Totals(requests=1200, responses_5xx=8, application_errors=1),
    workers=[
        WorkerStatus(
            slot=0,
            generation=3,
            state="ready",
            role="worker",
            standby=False,
            pid=43,
            age=12.0,
            heartbeat_age=0.1,
            loop_lag=0.002,
            connections=5,
            websockets=1,
            in_flight=2,
            requests=1000,
            responses_5xx=7,
            application_errors=1,
        )
    ],
    waiting=[SlotWaiting(slot=1, retry_in=2.5, failures=3)],
)


STACKS = WorkerStacks(
    slot=0,
    generation=3,
    pid=43,
    task_count=10_007,
    tasks=[
        TaskGroup(
            count=10_000,
            coroutine="RequestTask._run",
            names=["feed"],
            serves=["GET /feed?user=1", "GET /feed?user=2"],
            more_served=9998,
            stack=["/srv/shop/feed.py:7 in events: await changes.wait()"],
        )
    ],
    tasks_left_out=7,
    threads='Current thread 0x1 (most recent call first):\n  File "/srv/shop/feed.py", line 9 in work\n',
    note="",
)


class PaperRequest(StackDumpRequest):
    """A question that workers answer as soon as the test says so."""

    def poll(self, _now: float) -> bool:
        return self.is_over

    def results(self) -> list[WorkerStacks]:
        return [STACKS]


class Recorder:
    """A `MasterControl` that obeys by writing down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.errors: list[str] = []
        self.stopping = False
        self.fails = False
        self.shown = STATUS
        self.health = HealthState(started=True, leaving="", quorum=0, workers=())
        self.can_roll_back = True
        self.stack_dumps = PaperRequest(number=1, begun_at=0.0, workers={}, limit=0, is_over=True)

    def status(self) -> FleetStatus:
        if self.fails:
            raise RuntimeError("no status today")
        return self.shown

    def health_state(self) -> HealthState:
        return self.health

    def reload(self) -> list[str]:
        self.asked.append(("reload",))
        return self.errors

    def rollback(self) -> bool:
        self.asked.append(("rollback",))
        return self.can_roll_back

    def scale(self, workers: int) -> None:
        self.asked.append(("scale", workers))

    def drain(self, slot: int) -> bool:
        self.asked.append(("drain", slot))
        return slot == 0

    def stacks(self, slot: int | None) -> StackDumpRequest | None:
        self.asked.append(("stacks", slot))
        return self.stack_dumps if slot in {None, 0} else None

    def stop(self, *, quick: bool) -> None:
        self.asked.append(("stop", quick))


class Served:
    """A control server that runs in a thread, as the master would run it. What it is made of is used there alone."""

    def __init__(self, directory: Path, limits: Limits, *, uid: int) -> None:
        control = open_control_socket(str(directory / "control.sock"), {})
        assert control is not None
        self.control = control
        self.path = control.path
        self.steering = Recorder()
        self.live = PaperSource(show_status(STATUS, Reloads()))
        self.now = 1000.0
        self.turns = 0
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._woken)
        self._calls: list[Callable[[], None]] = []
        self._ended = False
        self._failure: BaseException | None = None
        self.server = ControlServer(
            control.sock,
            self._selector,
            self.steering,
            LiveFeed(self.live),
            settle=lambda: None,
            uid=uid,
            limits=limits,
            clock=lambda: self.now,
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ended:
                for key, _events in self._selector.select(0.1):
                    key.data()
                self.server.sweep()
                self.turns += 1
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the test must fail with it
            self._failure = error

    def _woken(self) -> None:
        self._wake_in.recv(100)
        calls, self._calls = self._calls, []
        for call in calls:
            call()

    def call(self, what: Callable[[], None]) -> None:
        """Have the loop call this, and wait until it did."""
        done = threading.Event()

        def run() -> None:
            what()
            done.set()

        self._calls.append(run)
        self._wake_out.send(b"x")
        assert done.wait(PATIENCE)

    def note(self, notice: Notice) -> None:
        self.call(lambda: self.server.note(notice))

    def wait(self, seconds: float) -> None:
        """Let time pass, and let the server notice."""
        self.now += seconds
        self.turn()

    def turn(self) -> None:
        """Until everything that came before was handled: accepted, read, obeyed, answered."""
        for _ in range(5):
            self.call(lambda: None)

    def descriptors(self) -> int:
        """How many sockets the loop watches."""
        return len(self._selector.get_map())

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.path))
        return sock

    def close(self) -> None:
        self._ended = True
        self._wake_out.send(b"x")
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        self.server.close()
        self.control.close()
        assert list(self._selector.get_map().values()) == [self._selector.get_key(self._wake_in)]
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side closes; what it throws away of ours resets the connection after its answer."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            received += chunk
    return received


def parse(response: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of a response."""
    head, _, body = response.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status == 100:
        return parse(body)
    return status, json.loads(body)
