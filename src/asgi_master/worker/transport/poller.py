"""When sockets are ready: one epoll instance for the connections of a worker, which the loop watches like a socket.

It takes the place of `loop.add_reader` for two reasons (ADR 21). uvloop (libuv) forgets a socket once it has reported
an error of it: where data and a reset arrive together, only the data is seen, and the connection stays for ever. And
to watch a socket takes one system call instead of five.
"""

import asyncio
import select
from contextvars import Context
from typing import Final, Protocol

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLERR | select.EPOLLHUP
"""Reported whether it is asked for or not: the connection is reset, or both directions have ended."""

_MOST_A_TURN = 64
"""Sockets that are served together. The others are still ready in the next turn."""


class Pollable(Protocol):
    """Who is called when its socket is ready."""

    context: Context
    """In which it is called."""

    def on_ready(self, events: int) -> None:
        """The socket is ready for these: `READABLE`, `WRITABLE`, `BROKEN`. It is called again while that is so."""


class Poller:
    """The watched sockets of one worker."""

    __slots__ = ("_epoll", "_loop", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._watched: dict[int, Pollable] = {}

    def watch(self, fd: int, watching: Pollable, events: int) -> None:
        """Call `watching` when the socket is ready for one of `events`. Raises `OSError`."""
        epoll = self._epoll
        if epoll is None:
            epoll = self._epoll = select.epoll()
            self._loop.add_reader(epoll.fileno(), self._on_ready)
        epoll.register(fd, events)
        self._watched[fd] = watching

    def change(self, fd: int, events: int) -> None:
        """Watch the socket for these instead. Raises `OSError`."""
        assert self._epoll is not None
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Watch the socket no more. To be called before its descriptor is closed: another process may have a copy."""
        assert self._epoll is not None
        del self._watched[fd]
        try:  # noqa: SIM105 -- each connection comes here
            self._epoll.unregister(fd)
        except OSError:
            pass  # the application closed a descriptor that is not its own

    def close(self) -> None:
        """Watch nothing any more: the loop ends."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _on_ready(self) -> None:
        assert self._epoll is not None
        watched = self._watched
        for fd, events in self._epoll.poll(0, _MOST_A_TURN):
            # One that was called before may have closed it.
            watching = watched.get(fd)
            if watching is not None:
                watching.context.run(watching.on_ready, events)
