"""A transport of our own on an accepted socket, TCP or Unix (ADR 21).

Rules of this file:
  - A socket is read once when it is accepted, and watched only if the connection is open after that: a short connection
    never meets the poller.
  - One read a turn: what a peer sends fast comes in pieces, and the others' events come in between.
"""

import asyncio
import contextvars
import errno
import os
import socket
from collections import deque
from itertools import islice

from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.poller import BROKEN, READABLE, WRITABLE, Poller
from asgi_master.worker.transport.stream_transport import NO_PROTOCOL, StreamProtocol, StreamTransport

READ_SIZE = 64 * 1024
"""Bytes of one read. The allocator serves sizes from 128 KiB on by a new mapping each time."""
HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024
"""Unsent bytes above which the protocol should pause, and down to which it may go on."""
_MOST_PIECES = 64
"""That are sent by one call."""
_DO_NOT_WAIT = socket.MSG_DONTWAIT
_FILE_ERRORS = (errno.EINVAL, errno.EIO, errno.EOVERFLOW)
"""What `sendfile` fails with because of the file."""
_NOTHING_YET = -1
"""Of a socket that the poller does not know."""


class SocketTransport(StreamTransport):
    """Owns a socket, and never waits for it: each call says so, which saves setting its mode.

    The protocol is called in one context, whatever code paused or wrote.
    """

    sends_files = True

    __slots__ = (
        "_buffer",
        "_ends_writing",
        "_eof",
        "_fd",
        "_is_closing",
        "_is_read_paused",
        "_is_starting",
        "_is_write_paused",
        "_loop",
        "_poller",
        "_protocol",
        "_sock",
        "_unsent",
        "_watched_for",
        "context",
        "endpoints",
        "read_size",
        "tls",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, poller: Poller, sock: socket.SocketType, endpoints: Endpoints
    ) -> None:
        """A copy of the present context is that of the protocol's calls. `start` begins to read."""
        self._loop = loop
        self._poller = poller
        self._sock = sock
        self._fd = sock.fileno()
        self.context = contextvars.copy_context()
        self.endpoints = endpoints
        self.tls = None
        self.read_size = READ_SIZE
        """Bytes that one turn reads at most; the protocol may lower it."""
        self._buffer: deque[memoryview | bytes] | None = None  # made when something cannot be sent at once
        self._unsent = 0
        self._watched_for = _NOTHING_YET  # the poller's events
        self._is_read_paused = False
        self._is_write_paused = False  # whether the protocol was asked to pause
        self._ends_writing = False
        self._eof = False
        self._is_closing = False
        self._is_starting = True

    def start(self, protocol: StreamProtocol) -> None:
        """Read what has arrived, and then what arrives. Called in `context`."""
        self._protocol = protocol
        protocol.connection_made(self)
        if not (self._is_closing or self._is_read_paused):
            self._receive()
        self._is_starting = False
        if not self._is_closing or self._unsent:
            self._watch()
        elif self._protocol is not NO_PROTOCOL:
            self._finish()  # at once, as a callback for each short connection would cost 1.5 % of it

    def set_protocol(self, protocol: StreamProtocol) -> None:
        self._protocol = protocol

    # -- the poller --------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        if events & WRITABLE:
            if self._unsent:
                self._send()
            elif self._is_write_paused:
                self._resume_writing()
                self._watch()
        if self._is_closing or self._is_read_paused or self._eof:
            if events & BROKEN:
                self.abort()
            else:
                self._watch()
        elif events & ~WRITABLE:
            self._receive()

    def _watch(self) -> None:
        """Have the poller call for what is waited for now."""
        if self._is_closing and not self._unsent:
            return
        events = 0 if self._is_read_paused or self._eof or self._is_closing else READABLE
        if self._unsent or self._is_write_paused:
            events |= WRITABLE
        if events == self._watched_for:
            return
        try:
            if self._watched_for == _NOTHING_YET:
                self._poller.watch(self._fd, self, events)
            else:
                self._poller.change(self._fd, events)
        except OSError:
            self.abort()  # the kernel watches no more descriptors for this user
        else:
            self._watched_for = events

    # -- reading -----------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        # The poller learns of it at the next event: most pauses are over by then.
        self._is_read_paused = True

    def resume_reading(self) -> None:
        self._is_read_paused = False
        if self._watched_for != _NOTHING_YET:
            self._watch()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(self.read_size, _DO_NOT_WAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        try:
            if data:
                self._protocol.data_received(data)
                return
            self._eof = True
            if not self._protocol.eof_received():
                self.close()
            elif self._watched_for != _NOTHING_YET:
                self._watch()
        except Exception as error:  # noqa: BLE001 -- one connection's trouble must not be that of the loop
            self._loop.call_exception_handler(
                {"message": "a connection could not handle what it received", "exception": error}
            )
            self.abort()

    def has_unread_bytes(self) -> bool:
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK | _DO_NOT_WAIT))
        except OSError:
            return False

    # -- writing -----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._is_closing or self._ends_writing:
            return
        if self._unsent:
            self._keep(data)
            return
        try:
            sent = self._sock.send(data, _DO_NOT_WAIT)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.abort()
            return
        if sent != len(data):
            self._keep(memoryview(data)[sent:] if sent else data)

    def _keep(self, data: memoryview | bytes) -> None:
        """Send it when the socket takes more."""
        if self._buffer is None:
            self._buffer = deque()
        self._buffer.append(data)
        self._unsent += len(data)
        if self._watched_for != _NOTHING_YET:
            self._watch()
        if self._unsent > HIGH_WATER:
            self._pause_writing()

    def _send(self) -> None:
        buffer = self._buffer
        assert buffer is not None
        try:
            sent = self._sock.sendmsg(islice(buffer, _MOST_PIECES), (), _DO_NOT_WAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        self._unsent -= sent
        while sent:
            piece = buffer.popleft()
            if sent < len(piece):
                buffer.appendleft(memoryview(piece)[sent:])
                break
            sent -= len(piece)
        if not self._unsent:
            self._buffer = None
            if self._is_closing:
                self._finish()
                return
            if self._ends_writing:
                self._shut_down()
        if self._is_write_paused and self._unsent <= LOW_WATER:
            self._resume_writing()
        if not self._unsent:
            self._watch()

    def _resume_writing(self) -> None:
        self._is_write_paused = False
        self._protocol.resume_writing()

    def send_file(self, fd: int, offset: int, count: int) -> int | None:
        if self._is_closing or self._ends_writing:
            return None
        if not self._unsent:
            try:
                if self._sock.gettimeout() is None:
                    self._sock.setblocking(False)  # no flag of the call says that it must not wait
                return os.sendfile(self._fd, fd, offset, count)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                if error.errno in _FILE_ERRORS:
                    raise
                self.abort()
                return None
        self._pause_writing()
        if self._watched_for != _NOTHING_YET:
            self._watch()
        return None

    def _pause_writing(self) -> None:
        if not self._is_write_paused:
            self._is_write_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def write_eof(self) -> None:
        if not (self._ends_writing or self._is_closing):
            self._ends_writing = True
            if not self._unsent:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()  # the peer reset the connection while nothing was read

    # -- the end -----------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        if not self._unsent:
            self._finish_soon()
        elif self._watched_for != _NOTHING_YET:
            self._watch()

    def abort(self) -> None:
        is_finishing = self._is_closing and not self._unsent
        self._is_closing = True
        self._unsent = 0
        self._buffer = None
        if not is_finishing:
            self._finish_soon()

    def _finish_soon(self) -> None:
        if not self._is_starting:  # `start` does it itself
            self._loop.call_soon(self._finish, context=self.context)

    def _finish(self) -> None:
        if self._watched_for != _NOTHING_YET:
            self._poller.forget(self._fd)
        protocol, self._protocol = self._protocol, NO_PROTOCOL
        try:  # noqa: SIM105 -- each connection comes here
            self._sock.close()
        except OSError:
            pass  # the application closed a descriptor that is not its own
        protocol.connection_lost()

    def move(self, transfer: TransferConnection, state: ConnectionState) -> bool:
        if self._is_closing or self._unsent or self._eof or not transfer(self._sock, state):
            return False
        self._is_closing = True
        if self._watched_for != _NOTHING_YET:
            self._poller.forget(self._fd)
        self._sock.close()
        self._protocol = NO_PROTOCOL
        return True
