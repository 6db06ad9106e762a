"""TLS after its handshake: a transport for the protocol above, and the protocol of the transport below (ADR 21).

Rules of this file:
  - What is written is encrypted only as far as the transport below takes it: a large message is not held twice.
  - What is decrypted or encrypted in a turn is bounded: a record may hold a single byte, and a peer may read as fast as
    is written.
  - Each direction has its own end, as in TLS 1.3 (RFC 8446 §6.1): a peer that ended its own still gets its responses.
"""

import contextlib
import logging
import ssl
from collections import deque
from typing import Any, Final

from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.socket_transport import READ_SIZE, SocketTransport
from asgi_master.worker.transport.stream_transport import NO_PROTOCOL, StreamProtocol, StreamTransport
from asgi_master.worker.transport.turns import AHEAD, CREDIT, TakesTurns, Turns

log = logging.getLogger("asgi_master")

_RECORD: Final = 16 * 1024
"""Bytes that a record holds at most (RFC 8446 §5.1)."""
_FIRST_READ: Final = 16 * 1024
_LEAST_READ: Final = 4 * 1024
"""Bytes that are read at once at first, and of a peer whose records take long for their size."""
_DELIVERY: Final = 64 * 1024
"""Bytes that are given to the protocol together."""
_ENCRYPTED_AHEAD: Final = 64 * 1024
"""Bytes that are encrypted for one write to the transport below, by one call: OpenSSL makes records of them.

They take a twentieth of a millisecond; who writes them lets the loop turn after some.
"""


class TlsTransport(TakesTurns, StreamTransport, StreamProtocol):
    """Speaks TLS on the transport below by an `ssl.SSLObject` over two memory BIOs."""

    __slots__ = (
        "_eof",
        "_has_peer_ended",
        "_incoming",
        "_is_below_full",
        "_is_closing",
        "_is_end_sent",
        "_is_ended",
        "_is_write_paused",
        "_object",
        "_outgoing",
        "_plain",
        "_plain_size",
        "_protocol",
        "context",
        "endpoints",
        "tls",
    )

    _transport: SocketTransport

    def __init__(
        self,
        below: SocketTransport,
        secure: ssl.SSLObject,
        bios: tuple[ssl.MemoryBIO, ssl.MemoryBIO],
        tls: dict[str, Any],
        turns: Turns,
    ) -> None:
        """The handshake of `secure` is complete.

        The first of its `bios` has what arrived, the second what is to be sent.
        """
        super().__init__(turns)
        self._transport = below
        below.read_size = _FIRST_READ
        self._object = secure
        self._incoming, self._outgoing = bios
        self.context = below.context
        self.endpoints = below.endpoints
        self.tls = tls
        self._plain: deque[memoryview] | None = None  # what is to be encrypted
        self._plain_size = 0
        self._is_below_full = False
        self._is_write_paused = False  # whether the protocol was asked to pause
        self._has_peer_ended = False
        self._eof = False  # whether the protocol knows that
        self._is_ended = False  # whether the protocol sends no more
        self._is_end_sent = False
        self._is_closing = False

    def start(self, protocol: StreamProtocol) -> None:
        """Decrypt what has arrived, and then what arrives."""
        self._protocol = protocol
        self._transport.set_protocol(self)
        protocol.connection_made(self)
        self._decrypt()
        self._flush()  # what the handshake has left to send; a response took it along

    def set_protocol(self, protocol: StreamProtocol) -> None:
        self._protocol = protocol

    # -- called by the transport below -------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_ended or self._is_closing:
            return  # the protocol only waits for the end
        self._incoming.write(data)
        size = len(data)
        if size < _LEAST_READ:
            self._decrypt()
            return
        until = self._turns.slice()
        self._decrypt()
        below = self._transport
        if self._turns.is_over(until):
            below.read_size = max(_LEAST_READ, below.read_size >> 2)
            self._queue_up()
        elif size == below.read_size:
            below.read_size = min(READ_SIZE, size << 1)

    def eof_received(self) -> bool:
        if self._is_ended or self._is_closing:
            return False
        self._incoming.write_eof()
        self._decrypt()
        return True

    def pause_writing(self) -> None:
        self._is_below_full = True
        self._pause()

    def resume_writing(self) -> None:
        self._is_below_full = False
        self._encrypt()

    def connection_lost(self) -> None:
        self._is_closing = True
        self._drop()
        protocol, self._protocol = self._protocol, NO_PROTOCOL
        protocol.connection_lost()

    # -- reading -----------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._hold(AHEAD)

    def resume_reading(self) -> None:
        self._release(AHEAD)
        if self._has_more():
            self._queue_up()

    def has_unread_bytes(self) -> bool:
        return self._has_more() or self._transport.has_unread_bytes()

    def _has_more(self) -> bool:
        if self._eof:
            return False
        return self._has_peer_ended or self._incoming.pending > 0 or self._incoming.eof

    def _go_on(self) -> None:
        self._decrypt()
        if self._plain_size:
            self._encrypt()

    def _decrypt(self) -> None:
        """Give the protocol what has arrived, as much of it as this turn allows."""
        until = 0.0
        incoming = self._incoming
        while (incoming.pending or self._has_more()) and not (
            self._is_closing or self._is_queued or self.holds & AHEAD
        ):
            data = self._read()
            if data:
                self._protocol.data_received(data)
                if incoming.pending:
                    until = until or self._turns.slice()
                    if self._turns.is_over(until):
                        self._queue_up()
                elif not (self._has_peer_ended or incoming.eof):
                    break
            elif self._has_peer_ended:
                self._eof = True
                if not self._protocol.eof_received():
                    self.close()
            else:
                break  # of a record that is not complete
        if self._outgoing.pending:
            self._flush()  # the answer to a key update

    def _read(self) -> bytes:
        """What some records hold, about `_DELIVERY` at most; nothing if none is complete, or at the end."""
        read, incoming = self._object.read, self._incoming
        pieces: list[bytes] = []
        size = 0
        try:
            while size < _DELIVERY and len(pieces) < CREDIT and (incoming.pending or incoming.eof):
                piece = read(_RECORD)
                if not piece:
                    self._has_peer_ended = True
                    break
                if not (pieces or incoming.pending):
                    return piece  # a request is mostly one record
                pieces.append(piece)
                size += len(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            self._has_peer_ended = True  # without an end of TLS: HTTP knows itself what is incomplete
        except ssl.SSLError as error:
            self._fail(error)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._is_ended or self._is_closing:
            return
        if len(data) > _ENCRYPTED_AHEAD or self._plain_size or self._is_below_full:
            self._keep(data)
        elif data:
            try:
                self._object.write(data)
            except ssl.SSLError as error:
                self._fail(error)
            else:
                self._transport.write(self._outgoing.read())

    def _keep(self, data: bytes) -> None:
        """Encrypt it as far as the transport below takes it, and later the rest."""
        if self._plain is None:
            self._plain = deque()
        self._plain.append(memoryview(data))
        self._plain_size += len(data)
        self._encrypt()
        if self._plain_size:
            self._pause()

    def _encrypt(self) -> None:
        """Go on with what was written."""
        plain, outgoing, write = self._plain, self._outgoing, self._object.write
        until = 0.0
        try:
            while plain and not self._is_below_full:
                while plain and outgoing.pending < _ENCRYPTED_AHEAD:
                    piece = plain[0]
                    sent = write(piece[:_ENCRYPTED_AHEAD]) if piece else 0
                    self._plain_size -= sent
                    if sent < len(piece):
                        plain[0] = piece[sent:]
                    else:
                        plain.popleft()
                self._flush()
                until = until or self._turns.slice()
                if plain and self._turns.is_over(until):
                    self._queue_up()
                    return
        except ssl.SSLError as error:
            self._fail(error)
            return
        if not (plain or self._is_below_full):
            self._plain = None
            if self._is_ended or self._is_closing:
                self._end()
            elif self._is_write_paused:
                self._is_write_paused = False
                self._protocol.resume_writing()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._transport.write(data)

    def _pause(self) -> None:
        if not (self._is_write_paused or self._is_closing):
            self._is_write_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._plain_size + self._transport.get_write_buffer_size()

    def write_eof(self) -> None:
        if not self._is_closing:
            self._is_ended = True
            self._end()

    # -- the end -----------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._hold(AHEAD)
            self._end()

    def _end(self) -> None:
        """End our direction (RFC 8446 §6.1), once all that was written is encrypted."""
        if self._plain_size:
            return
        if not self._is_end_sent:
            self._is_end_sent = True
            with contextlib.suppress(ssl.SSLError):
                self._object.unwrap()  # it would wait for the peer's end, which does not matter
            self._flush()
        if self._is_closing:
            self._transport.close()
        else:
            self._transport.write_eof()

    def _fail(self, error: ssl.SSLError) -> None:
        """The peer broke TLS, and is sent the alert that OpenSSL has for it."""
        log.debug("TLS: a connection is closed: %s", error)
        self._is_closing = self._is_end_sent = True
        self._drop()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._is_closing = True
        self._drop()
        self._transport.abort()

    def _drop(self) -> None:
        self._plain = None
        self._plain_size = 0

    def move(self, transfer: TransferConnection, state: ConnectionState) -> bool:  # noqa: ARG002 -- the keys live here
        return False
