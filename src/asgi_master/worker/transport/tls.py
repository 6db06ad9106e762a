"""What accepted connections speak TLS with, and the ASGI extension that describes it."""

import logging
import os
import ssl
from collections.abc import Sequence
from typing import Any, cast

from asgi_master.errors import SettingsError
from asgi_master.settings.model import TlsSettings
from asgi_master.tls.bundle import Bundle
from asgi_master.tls.contexts import HTTP_1, Contexts, ServerContext, make_contexts
from asgi_master.tls.x509 import read_certificate

log = logging.getLogger("asgi_master")

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class TlsServer:
    """What new connections are served with. Those that are open keep what they began with."""

    def __init__(
        self, settings: TlsSettings, certificates_fd: int, protocols: Sequence[str] = HTTP_1
    ) -> None:
        """Make the contexts of the bundle behind the descriptor, which stays the caller's. Raises `SettingsError`.

        They offer `protocols` by ALPN.

        A context has ticket keys of its own (RFC 8446 §4.6.1): processes that are forked after this resume each
        other's sessions, until one of them renews.
        """
        self._settings = settings
        self._protocols = protocols
        self._bundle = os.fstat(certificates_fd).st_ino
        self._contexts = self._made(certificates_fd)

    def is_of(self, certificates_fd: int) -> bool:
        """Whether the contexts were made of the bundle behind this descriptor."""
        return self._bundle == os.fstat(certificates_fd).st_ino

    def renew(self, certificates_fd: int) -> bool:
        """Serve those who come from now on with this bundle; false if that is not possible now."""
        try:
            self._contexts = self._made(certificates_fd)
        except SettingsError as error:
            log.error("TLS: the new certificates cannot be used, the old ones stay: %s", error)
            return False
        return True

    @property
    def handshake_timeout(self) -> float:
        """Seconds that a peer has for its handshake."""
        return self._settings.tls_handshake_timeout

    def accept(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """The server's side of a new connection, its handshake to be done."""
        return self._contexts.first.wrap_bio(incoming, outgoing, server_side=True)

    def _made(self, certificates_fd: int) -> Contexts:
        try:
            bundle = Bundle.of_memory(certificates_fd)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError([f"the certificates cannot be read from memory: {error}"]) from None
        return make_contexts(bundle, self._settings, self._protocols)


def tls_extension(connection: ssl.SSLObject) -> dict[str, Any]:
    """What the ASGI `tls` extension says of a connection (version 0.2)."""
    context = cast("ServerContext", connection.context)
    cipher = connection.cipher()
    leaf = connection.getpeercert(True)
    return {
        "server_cert": context.certificate_pem,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in _client_chain(connection, leaf)],
        "client_cert_name": None if leaf is None else _subject(leaf),
        # Who has a certificate that cannot be verified does not come as far as here.
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version() or ""),
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
