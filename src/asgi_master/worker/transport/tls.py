"""TLS on accepted connections: the handshake, and the ASGI extension that describes it.

After the handshake a connection is like any other, except that it cannot move to another worker: its keys live here.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from asgi_master.errors import SettingsError
from asgi_master.settings.model import TlsSettings
from asgi_master.tls.bundle import Bundle
from asgi_master.tls.contexts import Contexts, ServerContext, make_contexts, on_failed_handshake
from asgi_master.tls.x509 import read_certificate
from asgi_master.worker.diagnostics.current_request import LateOwner, RequestOwner
from asgi_master.worker.transport.tls_refusal import Opening, linger, send_last
from asgi_master.worker.transport.turns import TakesTurns, Turns

log = logging.getLogger("asgi_master")

_SHUTDOWN_TIMEOUT = 2.0
"""Seconds that a peer may take to answer the end of TLS; most that are idle do not look before they ask again."""
_LOOK_PERIOD = 0.05
"""Seconds between two looks at whether all is sent that has to be before the end."""
_MOST_READ = 64 * 1024
_FIRST_READ = 16 * 1024
_LEAST_READ = 4 * 1024
"""Bytes that are read and decrypted at once: where it goes fast, at first, and where records are so tiny that it takes
long."""
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class TlsServer:
    """What new connections are served with. Those that are open keep what they began with."""

    def __init__(self, settings: TlsSettings, certificates_fd: int) -> None:
        """Make the contexts of the bundle behind the descriptor, which stays the caller's. Raises `SettingsError`."""
        self._settings = settings
        self._contexts = self._made(certificates_fd)

    def renew(self, certificates_fd: int) -> bool:
        """Serve those who come from now on with this bundle; false if that is not possible now."""
        try:
            self._contexts = self._made(certificates_fd)
        except SettingsError as error:
            log.error("TLS: the new certificates cannot be used, the old ones stay: %s", error)
            return False
        return True

    async def shake_hands(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        turns: Turns,
        protocol_of: Callable[[str | None], asyncio.Protocol],
    ) -> Callable[[], None]:
        """Do the handshake, within the time-out; returns what lets the protocol begin, to be called in the same turn.

        `protocol_of` makes it of the name that ALPN agreed on.

        Takes the socket. Raises `OSError`; a peer whose handshake fails has its alert by then.
        """
        # The transports' callbacks will run in the context of now, for what is not made yet.
        owner = LateOwner()
        below, early = await loop.connect_accepted_socket(_BufferingProtocol, sock)
        below.pause_reading()
        # A plain task, whatever the application made of the loop's: its first step comes in the next turn.
        starting = asyncio.Task(self._start_tls(loop, below), loop=loop)
        shaking: _HandshakeProtocol | None = None
        try:
            if early.has_ended or below.is_closing():
                raise ConnectionResetError("the peer left before the handshake")
            await asyncio.sleep(0)  # TLS takes over
            await asyncio.sleep(0)  # and learns of its transport, but has read nothing
            if not starting.done():
                shaking = _HandshakeProtocol(below)
                below.set_protocol(shaking)
                _pass_on(early.received, shaking)
            tls, meanwhile = await starting
            assert shaking is not None  # nothing was read before
            if meanwhile.is_lost:
                raise ConnectionResetError("the peer left after the handshake")
        except BaseException:
            starting.cancel()
            below.abort()
            if shaking is not None and shaking.refused is not None:
                await linger(loop, shaking.refused)
            raise

        connection = protocol_of(tls.get_extra_info("ssl_object").selected_alpn_protocol())
        owner.settle(cast("RequestOwner", connection))

        def begin() -> None:
            below.set_protocol(_Reader(below, shaking.tls, turns))
            tls.set_protocol(connection)
            connection.connection_made(cast("asyncio.Transport", TlsTransport(tls, below, loop)))
            if meanwhile.received:
                connection.data_received(meanwhile.received)
            if meanwhile.has_ended:
                connection.eof_received()

        return begin

    async def _start_tls(
        self, loop: asyncio.AbstractEventLoop, below: asyncio.Transport
    ) -> tuple[asyncio.Transport, "_BufferingProtocol"]:
        """Speak TLS on a transport; what arrives before the next protocol is set is kept."""
        early = _BufferingProtocol()
        tls = await loop.start_tls(
            below,
            early,
            self._contexts.first,
            server_side=True,
            ssl_handshake_timeout=self._settings.tls_handshake_timeout,
            ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
        )
        assert tls is not None
        return tls, early

    def _made(self, certificates_fd: int) -> Contexts:
        try:
            bundle = Bundle.of_memory(certificates_fd)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError([f"the certificates cannot be read from memory: {error}"]) from None
        return make_contexts(bundle, self._settings)


class TlsTransport:
    """TLS on a transport below, where most of what a slow peer has yet to take waits.

    The loop's own transport does not count that: it would call such a peer idle, and cut it off when it closes.
    """

    def __init__(
        self, tls: asyncio.Transport, below: asyncio.Transport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._tls = tls
        self._below = below
        self._loop = loop
        self._closes = False
        self.write = tls.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)

    def get_write_buffer_size(self) -> int:
        """Bytes that are not sent yet."""
        return self._tls.get_write_buffer_size() + self._below.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Whether it was closed, or the peer is gone."""
        return self._closes or self._tls.is_closing()

    def close(self) -> None:
        """End TLS and close, once all is sent. How long that may take is for who has the transport to say."""
        if not self._closes:
            self._closes = True
            self._close_when_sent()

    def _close_when_sent(self) -> None:
        if self.get_write_buffer_size() and not self._below.is_closing():
            self._loop.call_later(_LOOK_PERIOD, self._close_when_sent)
        else:
            self._tls.close()


class _OnTls(asyncio.BufferedProtocol):
    """Stands between the transport below and TLS, which does all that a subclass does not do."""

    __slots__ = ()

    tls: asyncio.BufferedProtocol

    def eof_received(self) -> bool | None:
        return self.tls.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.tls.connection_lost(exc)

    def pause_writing(self) -> None:
        self.tls.pause_writing()

    def resume_writing(self) -> None:
        self.tls.resume_writing()


class _HandshakeProtocol(_OnTls):
    """The protocol during the handshake: sends the peer an alert if it fails."""

    __slots__ = ("_below", "_buffer", "_opening", "refused", "tls")

    def __init__(self, below: asyncio.Transport) -> None:
        self.tls = cast("asyncio.BufferedProtocol", below.get_protocol())
        self._below = below
        self._buffer = memoryview(b"")
        self._opening = Opening()
        self.refused: socket.socket | None = None
        """The socket of a connection whose handshake failed, to be closed once the peer knows."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        self._buffer = memoryview(self.tls.get_buffer(sizehint))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Go on with the handshake."""
        self._opening.feed(self._buffer[:nbytes])
        # Set here, not where TLS begins: uvloop runs what follows in no context of ours.
        token = on_failed_handshake.set(self._refuse)
        try:
            self.tls.buffer_updated(nbytes)
        finally:
            on_failed_handshake.reset(token)

    def _refuse(self, alert: bytes) -> None:
        last = self._opening.refusal(alert)
        # Behind what the peer has yet to take, it would come in the middle of another record.
        if last and self.refused is None and not self._below.get_write_buffer_size():
            self.refused = send_last(self._below.get_extra_info("socket").fileno(), last)


class _Reader(TakesTurns, _OnTls):
    """Bounds what is decrypted in a turn.

    A record may hold a single byte, and the loop's TLS goes on until it has decrypted all that was read.
    """

    __slots__ = ("_is_paused", "_most", "tls")

    def __init__(self, below: asyncio.Transport, tls: asyncio.BufferedProtocol, turns: Turns) -> None:
        super().__init__(turns)
        self._transport = below
        self.tls = tls
        self._most = _FIRST_READ
        self._is_paused = False

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go; that many at most are read."""
        buffer = memoryview(self.tls.get_buffer(sizehint))
        return buffer[: _LEAST_READ if self._turns.is_spent else self._most]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes were read. Few of them are no matter."""
        if nbytes < _LEAST_READ:
            self.tls.buffer_updated(nbytes)
            return
        until = self._turns.slice()
        self.tls.buffer_updated(nbytes)
        if self._turns.is_over(until):
            self._most = max(_LEAST_READ, self._most >> 2)
            self._queue_up()
        elif nbytes == self._most:
            self._most = min(_MOST_READ, nbytes << 1)

    def _go_on(self) -> None:
        self._turns.set_aside()  # for what is read next

    def _hold(self, reason: int) -> None:
        # TLS pauses the same transport for its own reasons: those are not ours to end.
        self.holds |= reason
        self._is_paused = not self._transport.is_closing() and self._transport.is_reading()
        if self._is_paused:
            self._transport.pause_reading()

    def _release(self, reason: int) -> None:
        self.holds &= ~reason
        if self._is_paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self._is_paused = False


class _BufferingProtocol(asyncio.Protocol):
    """Keeps what happens until the next protocol takes over."""

    def __init__(self) -> None:
        self.received = b""
        self.has_ended = False
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.has_ended = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the loop gives it
        self.is_lost = True


def _pass_on(received: bytes, following: asyncio.BufferedProtocol) -> None:
    """Give what arrived early to the protocol that follows."""
    view = memoryview(received)
    while view:
        buffer = memoryview(following.get_buffer(len(view)))
        size = min(len(view), len(buffer))
        buffer[:size] = view[:size]
        following.buffer_updated(size)
        view = view[size:]


def tls_extension(transport: asyncio.BaseTransport) -> dict[str, Any] | None:
    """What the ASGI `tls` extension says of a connection (version 0.2); `None` if it does not speak TLS."""
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return None
    context: ServerContext = connection.context
    cipher = connection.cipher()
    leaf = connection.getpeercert(True)
    return {
        "server_cert": context.certificate_pem,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in _client_chain(connection, leaf)],
        "client_cert_name": None if leaf is None else _subject(leaf),
        # Who has a certificate that cannot be verified does not come as far as here.
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version()),
        "cipher_suite": None if cipher is None else context.cipher_suites.get(cipher[0]),
    }


def _client_chain(connection: ssl.SSLObject, leaf: bytes | None) -> list[bytes]:
    """What the client sent. Before Python 3.13 no more can be seen of it than the client's own certificate."""
    if leaf is None:
        return []
    look = getattr(connection, "get_unverified_chain", None)
    chain: list[bytes] = look() if look is not None else []
    # A session that is resumed brings no chain along.
    return chain or [leaf]


def _subject(der: bytes) -> str | None:
    try:
        return read_certificate(der).subject
    except ValueError:
        return None
