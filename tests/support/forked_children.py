"""`Children` with real processes below it, and no program in them: each does what the test says.

The test is the zygote, and forks a worker for each order; so the master's part and both ends of every channel are here.
"""

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from asgi_master.ipc.channel import Channel
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.messages import Boot, Fork, ForkService, WorkerBooted, WorkerForked, ZygoteStarted
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.master.child import InheritedFds
from asgi_master.master.children import Children
from asgi_master.master.guard import Guard
from asgi_master.settings.model import Settings
from asgi_master.supervision.events import Event, WorkerExited
from asgi_master.supervision.states import Role
from fleet import wait_until

Behaviour = Callable[[Channel, int], None]
"""What a worker does, with its end of its channel and of its stack pipe; then it waits to be ended."""


class Household:
    """Children, and everything that they told."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.scoreboard = Scoreboard.create()
        self.hand_off = HandOff.create()
        self.events: list[Event] = []
        self.zygotes: dict[int, Channel] = {}
        """Their ends, by generation."""
        self.pids: dict[int, int] = {}
        """Of the workers, by their number."""
        self.children = Children(
            self.selector, self.scoreboard, self.hand_off, self._new_zygote, self.events.append
        )
        self._next: Channel | None = None
        self.guarded = Guard()

    def _new_zygote(self) -> tuple[int, Channel]:
        ours, self._next = Channel.pair()
        ours.refuse_descriptors()
        ours.setblocking(False)
        return fork(lambda: None), ours

    def zygote(self, generation: int = 1) -> Channel:
        """Start one; returns its end of its channel."""
        self.children.start_zygote(Boot(generation, "/", Settings()))
        assert self._next is not None
        self.zygotes[generation] = self._next
        self._next.send(ZygoteStarted())
        self.turn()
        received = self._next.receive()
        assert received is not None
        for fd in received.fds:
            os.close(fd)
        return self._next

    def order(self, worker: int, generation: int = 1) -> tuple[Channel, int]:
        """Have a worker ordered; returns its ends of its channel and its stack pipe."""
        self.children.spawn_worker(worker, worker, generation, InheritedFds(), Role.WORKER)
        received = self.zygotes[generation].receive()
        assert received is not None
        assert isinstance(received.message, Fork)
        put, take, channel, stack = received.fds
        os.close(put)
        os.close(take)
        return Channel.of_fd(channel), stack

    def worker(self, worker: int, behave: Behaviour | None = None, generation: int = 1) -> int:
        """A worker that became ready, and then follows its script; returns its pid."""
        channel, stack = self.order(worker, generation)

        def live() -> None:
            channel.send(WorkerForked(os.getpid()))
            channel.send(WorkerBooted())
            if behave is not None:
                behave(channel, stack)

        self.pids[worker] = fork(live, channel.fileno(), stack)
        channel.close()
        os.close(stack)
        self.until(
            lambda: worker in self.children.worker_pids() or worker in self.exits(), "its pid is known"
        )
        return self.pids[worker]

    def service(self, worker: int, live: Callable[[Channel], None], *kept: Channel) -> int:
        """A process for a service, which follows its script and has these channels too; returns its pid."""
        self.children.spawn_service(worker, "beat", 1)
        received = self.zygotes[1].receive()
        assert received is not None
        assert received.message == ForkService(worker, "beat")
        channel_fd, stack = received.fds
        channel = Channel.of_fd(channel_fd)
        self.pids[worker] = fork(lambda: live(channel), channel.fileno(), *(each.fileno() for each in kept))
        channel.close()
        os.close(stack)
        return self.pids[worker]

    def turn(self, wait: float = 0.0) -> None:
        """One turn of the master's loop."""
        for key, _events in self.selector.select(wait):
            self.guarded(key.data)
        self.guarded(self.children.reap)
        self.children.disposal.sweep()

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Turn until something is so."""

        def turned() -> Any:
            self.turn(0.01)
            return condition()

        wait_until(turned, what)

    def exits(self) -> dict[int, int]:
        """The status of each worker that was told to be gone."""
        return {event.worker: event.status for event in self.events if isinstance(event, WorkerExited)}

    def close(self) -> None:
        """End everybody."""
        self.children.close()
        for channel in self.zygotes.values():
            channel.close()
        for pid in [*self.children.zygote_pids(), *self.pids.values()]:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self.hand_off.close()
        self.scoreboard.close()
        self.selector.close()


@contextlib.contextmanager
def household() -> Iterator[Household]:
    """One with a zygote of generation 1."""
    made = Household()
    try:
        made.zygote()
        yield made
    finally:
        made.close()


def fork(live: Callable[[], None], *kept: int) -> int:
    """A child that does something and then waits to be killed; returns its pid.

    It has these descriptors and the standard streams: as in a program of its own, no other end of anything.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        first = 3
        for fd in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
            os.closerange(first, fd)
            first = fd + 1
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        live()
        time.sleep(60)
    finally:
        os._exit(0)
