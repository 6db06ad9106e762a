"""An admin server over real sockets, turned by hand as the master's loop would turn it, and a fleet on paper."""

import contextlib
import selectors
import socket
from collections.abc import Callable

from asgi_master.control.admin import Actions, AdminServer
from asgi_master.control.commands import show_status
from asgi_master.control.health import HealthState, WorkerHealth
from asgi_master.control.http_server import Limits
from asgi_master.control.live_feed import LiveFeed
from asgi_master.control.metrics import Snapshot
from asgi_master.control.reloads import Reloads
from control_server import STATUS, Recorder
from live_samples import PaperSource
from metrics_samples import SNAPSHOT

PATIENCE = 10.0
GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"
WIDE = Limits()


class PaperObserver:
    """A `MasterView` of a fleet on paper."""

    def __init__(self) -> None:
        self.age = 0.1
        self.fails = False
        self.numbers = SNAPSHOT

    def health_state(self) -> HealthState:
        worker = WorkerHealth(slot=0, generation=1, state="ready", heartbeat_age=self.age)
        return HealthState(started=True, leaving="", quorum=1, workers=(worker,))

    def snapshot(self) -> Snapshot:
        if self.fails:
            raise RuntimeError("no numbers today")
        return self.numbers


class Admin:
    """An admin server on two addresses."""

    def __init__(
        self,
        limits: Limits | None = WIDE,
        actions: Callable[[Callable[[], float]], Actions] | None = None,
    ) -> None:
        """`limits`: `None` for those that it has by itself. `actions` are made with its clock."""
        self.observer = PaperObserver()
        self.recorder = Recorder()
        self.live = PaperSource(show_status(STATUS, Reloads()))
        self.now = 1000.0
        self.selector = selectors.DefaultSelector()
        self.sockets = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))]
        for sock in self.sockets:
            sock.setblocking(False)
        self.server = AdminServer(
            self.sockets,
            self.selector,
            self.observer,
            LiveFeed(self.live),
            actions(lambda: self.now) if actions is not None else None,
            limits=limits,
            clock=lambda: self.now,
        )

    def turn(self) -> None:
        """A few turns of the loop: all that came is accepted, read and answered."""
        for _ in range(6):
            for key, _events in self.selector.select(0.01):
                key.data()
            self.server.sweep()

    def connect(self, address: int = 0) -> socket.socket:
        sock = socket.create_connection(self.sockets[address].getsockname(), PATIENCE)
        sock.settimeout(PATIENCE)
        return sock

    def exchange(self, request: bytes, address: int = 0) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        with self.connect(address) as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(request)
            self.turn()
            return read(sock)

    def get(self, target: str) -> tuple[int, str]:
        status, _head, body = self.exchange(GET % target.encode())
        return status, body.decode()

    def close(self) -> None:
        self.server.close()
        assert not self.selector.get_map()
        self.selector.close()
        for sock in self.sockets:
            sock.close()


def read(sock: socket.socket) -> tuple[int, bytes, bytes]:
    """Status, head in lower case and body of a response."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body
