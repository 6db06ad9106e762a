"""The edge: control connections in the master's selector. One request each, then the connection closes."""

import contextlib
import json
import logging
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from asgi_master.control.api import (
    Answer,
    Command,
    Refusal,
    ShowStatus,
    Steering,
    answer_of,
    carry_out,
    read_request,
    refuse,
)
from asgi_master.control.connection import Connection, Peer, Request, encode_refusal
from asgi_master.control.reloads import Reloads, Ticket
from asgi_master.supervision.notices import Notice

log = logging.getLogger("asgi_master")

_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take of the master. Times are in seconds."""

    connections: int = 32
    request_bytes: int = 64 * 1024
    """Of a whole request."""
    request_time: float = 5.0
    """For a request to arrive, and again for its answer to be read."""
    accept_pause: float = 1.0
    """After `accept` failed, for want of descriptors."""


class ControlServer:
    """Answers on `sock` (`None`: only follows the notices) until closed; its owner calls `obey` and `sweep`."""

    def __init__(
        self,
        sock: socket.socket | None,
        selector: selectors.BaseSelector,
        steering: Steering,
        *,
        uid: int,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = sock
        self._selector = selector
        self._steering = steering
        self._uid = uid
        self._limits = limits if limits is not None else Limits()
        self._clock = clock
        self._reloads = Reloads()
        self._connections: set[Connection] = set()
        self._commands: deque[tuple[Connection, Command]] = deque()
        self._tickets: dict[Ticket, Connection] = {}
        self._accepts_again: float | None = None
        if sock is not None:
            selector.register(sock, selectors.EVENT_READ, self._accept)

    def obey(self) -> bool:
        """Carry out the next command that came, if any. One at a time: each sees what the last one caused."""
        if not self._commands:
            return False
        connection, command = self._commands.popleft()
        if not isinstance(command, ShowStatus):
            log.info("control: %s, asked by %s", command, connection.peer)
        try:
            result = carry_out(command, self._steering, self._reloads)
        except Refusal as refusal:
            result = refuse(refusal)
        except Exception:
            # A question must not end the service, whatever is wrong with the answer.
            log.exception("control: %s failed", command)
            result = Answer(500, {"error": "failed; the log says why"})
        if isinstance(result, Ticket):
            self._tickets[result] = connection
        else:
            self._answer(connection, result)
        return True

    def note(self, notice: Notice) -> None:
        """The supervisor announced something."""
        for ticket, outcome in self._reloads.note(notice, time.time()):
            connection = self._tickets.pop(ticket, None)
            if connection is not None:
                self._answer(connection, answer_of(outcome))

    def refused(self, errors: list[str]) -> None:
        """A reload was asked for, and the settings are wrong."""
        self._reloads.refuse(errors, time.time())

    def sweep(self) -> None:
        """End what takes too long; call it about once a second or more often."""
        now = self._clock()
        for connection in [c for c in self._connections if c.deadline is not None and c.deadline <= now]:
            self._close(connection)
        if self._accepts_again is not None and self._accepts_again <= now and self._socket is not None:
            self._accepts_again = None
            self._selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Tell those who wait that it is over, and let go."""
        for connection in list(self._tickets.values()):
            self._answer(connection, refuse(Refusal(503, "the master has stopped")))
        for connection in list(self._connections):
            self._close(connection)
        if self._socket is not None and self._accepts_again is None:
            self._selector.unregister(self._socket)
        self._socket = None

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            sock, _address = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("control: cannot accept: %s", error.strerror)
            self._selector.unregister(self._socket)
            self._accepts_again = self._clock() + self._limits.accept_pause
            return
        sock.setblocking(False)
        peer = Peer(*_CREDENTIALS.unpack(_credentials(sock))[:2])
        if peer.uid not in {0, self._uid}:
            log.warning("control: refused %s", peer)
            _turn_away(sock, Refusal(403, "only root and the master's own user may steer it"))
        elif len(self._connections) >= self._limits.connections:
            _turn_away(sock, Refusal(503, "too many control connections"))
        else:
            connection = Connection(sock, peer, self._limits.request_bytes)
            connection.deadline = self._clock() + self._limits.request_time
            self._connections.add(connection)
            self._selector.register(sock, selectors.EVENT_READ, lambda: self._on_ready(connection))

    def _on_ready(self, connection: Connection) -> None:
        if connection not in self._connections:
            # Closed by what was handled a moment ago.
            return
        try:
            request = connection.turn()
        except Refusal as refusal:
            self._answer(connection, refuse(refusal))
            return
        except Exception:
            log.exception("control: a connection failed")
            self._close(connection)
            return
        if request is not None:
            self._take(connection, request)
        self._arrange(connection)

    def _take(self, connection: Connection, request: Request) -> None:
        connection.deadline = None
        try:
            self._commands.append((connection, read_request(request.method, request.target, request.body)))
        except Refusal as refusal:
            self._answer(connection, refuse(refusal))

    def _answer(self, connection: Connection, answer: Answer) -> None:
        if connection not in self._connections or connection.is_answered:
            return
        connection.deadline = self._clock() + self._limits.request_time
        try:
            connection.answer(
                answer.status, json.dumps(answer.body, indent=2).encode() + b"\n", answer.headers
            )
            connection.flush()
        except Exception:
            log.exception("control: cannot answer")
            connection.is_done = True
        self._arrange(connection)

    def _arrange(self, connection: Connection) -> None:
        """Wait for what the connection waits for; let go of one that is done."""
        if connection.is_done:
            self._close(connection)
        elif connection in self._connections:
            wanted = selectors.EVENT_WRITE if connection.is_answered else selectors.EVENT_READ
            self._selector.modify(connection.sock, wanted, lambda: self._on_ready(connection))

    def _close(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        for ticket in [ticket for ticket, waiting in self._tickets.items() if waiting is connection]:
            del self._tickets[ticket]
            self._reloads.forget(ticket)
        self._selector.unregister(connection.sock)
        connection.sock.close()


def _credentials(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)


def _turn_away(sock: socket.socket, refusal: Refusal) -> None:
    """Say so without reading a word, as far as that goes at once."""
    with sock, contextlib.suppress(OSError):
        sock.send(encode_refusal(refusal.status, str(refusal)))
