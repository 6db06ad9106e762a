"""TLS on accepted connections: the handshake, and what the application is told of it.

After the handshake a connection is like any other, except that it cannot move to another worker: its keys live here.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from asgi_master.errors import SettingsError
from asgi_master.settings.model import TlsSettings
from asgi_master.tls.bundle import Bundle
from asgi_master.tls.contexts import Contexts, ServerContext, make_contexts
from asgi_master.tls.x509 import read_certificate

log = logging.getLogger("asgi_master")

_SHUTDOWN_TIMEOUT = 2.0
"""Seconds that a peer may take to answer the end of TLS; most that are idle do not look before they ask again."""
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class TlsServer:
    """What new connections are served with. Those that are open keep what they began with."""

    def __init__(self, settings: TlsSettings, certificates_fd: int) -> None:
        """Make the contexts of the bundle behind the descriptor, which stays the caller's. Raises `SettingsError`."""
        self._settings = settings
        self._contexts = self._made(certificates_fd)

    def renew(self, certificates_fd: int) -> None:
        """Serve those who come from now on with this bundle."""
        try:
            self._contexts = self._made(certificates_fd)
        except SettingsError as error:
            log.error("TLS: the new certificates cannot be used, the old ones stay: %s", error)

    async def shake_hands(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        """Do the handshake; the protocol begins after it. Raises `OSError`, and is over within the time-out."""
        await loop.connect_accepted_socket(
            protocol,
            sock,
            ssl=self._contexts.first,
            ssl_handshake_timeout=self._settings.tls_handshake_timeout,
            ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
        )

    def _made(self, certificates_fd: int) -> Contexts:
        try:
            bundle = Bundle.of_memory(certificates_fd)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError([f"the certificates cannot be read from memory: {error}"]) from None
        return make_contexts(bundle, self._settings)


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
