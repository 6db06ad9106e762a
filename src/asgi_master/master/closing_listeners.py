"""Listeners that a reload removed: clients that had connected are served, later ones are refused.

The workers of the old generation stop accepting before the reload is committed, and those of the new one do not have
these sockets. What waits in their queues meanwhile reaches the new workers through the hand-off queue; with the
sockets it would be reset.
"""

import contextlib
import logging
import select
import socket

from asgi_master.control.component import Component
from asgi_master.errors import BindError
from asgi_master.ipc.descriptors import close_at_once
from asgi_master.ipc.hand_off import HandOff
from asgi_master.master.listeners import Listeners
from asgi_master.master.open_listener import Listener
from asgi_master.master.running_settings import RunningSettings
from asgi_master.supervision.notices import MasterReady, Notice, ReloadCommitted, ReloadFailed, ScaledTo

log = logging.getLogger("asgi_master")


class ClosingListeners(Component):
    """Closes what the committed settings do not ask for once a rollout has ended."""

    def __init__(self, settings: RunningSettings, listeners: Listeners, hand_off: HandOff) -> None:
        self._settings = settings
        self._listeners = listeners
        self._hand_off = hand_off
        self._closing: list[Listener] = []
        self._accepted: socket.socket | None = None
        """Accepted, and not moved yet: the hand-off queue was full."""

    def add(self, listener: Listener) -> None:
        """Close it as soon as its queue is empty. Its file, if it has one, goes at once."""
        if listener.is_passed:
            log.warning(
                "no longer listening on %s, which was passed to us and stays open: unless somebody else serves it, "
                "clients wait there until a bind names it again",
                listener.url,
            )
        elif listener.is_announced:
            log.info("no longer listening on %s", listener.url)
        listener.remove_file()
        self._closing.append(listener)
        self.sweep()

    @property
    def is_done(self) -> bool:
        """Whether none is left to close."""
        return not self._closing

    def note(self, notice: Notice) -> None:
        """Close what a rollout that ended, or fewer workers, leave open; open what more workers need."""
        committed = self._settings.committed
        if isinstance(notice, ScaledTo):
            self._listeners.slots = notice.workers
            try:
                self._listeners.open(committed.sockets)
            except (BindError, ValueError) as error:
                log.error("a worker has no address of its own: %s", error)
        elif isinstance(notice, MasterReady | ReloadCommitted):
            self._listeners.slots = notice.workers
        if isinstance(notice, ReloadFailed | MasterReady | ReloadCommitted | ScaledTo):
            for listener in self._listeners.keep_only(self._settings.committed.sockets):
                self.add(listener)

    def sweep(self) -> None:
        """Move what waits to the hand-off queue, as far as that accepts it; close listeners whose queue is empty."""
        while self._closing and self._empty(self._closing[0]):
            self._closing.pop(0).sock.close()

    def close(self) -> None:
        """Close all."""
        for listener in self._closing:
            listener.sock.close()
        self._closing.clear()
        if self._accepted is not None:
            close_at_once(self._accepted)

    def _empty(self, listener: Listener) -> bool:
        """Whether nothing waits there any more."""
        with contextlib.suppress(OSError):  # nothing there, or nothing that could be accepted
            while True:
                if self._accepted is None:
                    self._accepted = _accept(listener.sock)
                if not self._hand_off.put_new(self._accepted, is_tls=listener.is_tls):
                    return False
                close_at_once(self._accepted)
                self._accepted = None
        return True


def _accept(sock: socket.socket) -> socket.socket:
    """The next that waits there. Raises `OSError`: `BlockingIOError` if there is none."""
    # Workers share this socket, and each process that has it can make it block.
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(0):
        raise BlockingIOError
    sock.setblocking(False)
    return sock.accept()[0]
