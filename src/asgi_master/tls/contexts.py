"""TLS contexts: one for each certificate, selected by server name indication."""

import ssl
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from asgi_master import unraisable
from asgi_master.errors import SettingsError
from asgi_master.settings.model import TlsSettings
from asgi_master.settings.values import show
from asgi_master.tls.bundle import Bundle, Pair, as_file
from asgi_master.tls.x509 import Certificate, pem_certificates, read_certificate

if TYPE_CHECKING:
    import sys

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_CERTIFICATE = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
HTTP_1: Final = ("http/1.1",)
HTTP_2: Final = ("h2", "http/1.1")
"""Protocols offered by ALPN, in the server's order of preference (RFC 7301)."""


class ServerContext(ssl.SSLContext):
    """The context of one certificate."""

    certificate: Certificate
    certificate_pem: str
    """Without its chain, as the ASGI TLS extension has it."""
    cipher_suites: dict[str, int]
    """The IANA numbers by OpenSSL's names."""


class Contexts:
    """All contexts. New connections start with `first`; server name indication may select another."""

    def __init__(self, contexts: list[ServerContext]) -> None:
        self.all = contexts
        self.first = contexts[0]
        self._by_name: dict[str, ServerContext] = {}
        for context in contexts:
            for name in context.certificate.names:
                self._by_name.setdefault(name, context)
        if len(contexts) > 1:
            self.first.sni_callback = self._choose
            unraisable.add_handler(_ignore_unreadable_name)

    def of_name(self, name: str) -> ServerContext:
        """The context whose certificate matches a host name, also by a wildcard; otherwise the first."""
        name = name.lower().rstrip(".")
        exact = self._by_name.get(name)
        if exact is not None:
            return exact
        # RFC 6125 §6.4.3: the wildcard matches exactly the leftmost label.
        return self._by_name.get(f"*.{name.partition('.')[2]}", self.first)

    def _choose(
        self,
        connection: ssl.SSLSocket | ssl.SSLObject,
        name: str | None,
        _context: ssl.SSLContext,
    ) -> None:
        if name:
            connection.context = self.of_name(name)


def _ignore_unreadable_name(found: "sys.UnraisableHookArgs") -> bool:
    """Ignore server names that are not ASCII.

    CPython decodes a name before it calls `sni_callback`. If that fails, the handshake ends, which the worker counts,
    and the exception is unraisable: logged, it would let any client fill the log.
    """
    return isinstance(found.exc_value, UnicodeDecodeError) and isinstance(found.object, bytes)


def make_contexts(bundle: Bundle, tls: TlsSettings, protocols: Sequence[str] = HTTP_1) -> Contexts:
    """Create the contexts of a bundle, which offer `protocols` by ALPN.

    Raises `SettingsError` with a line for each error.
    """
    errors: list[str] = []
    contexts = []
    for pair in bundle.pairs:
        found = [*_errors_of(pair)]
        if not found:
            try:
                contexts.append(_context(pair, bundle, tls, protocols))
            except SettingsError as error:
                found = error.errors
        errors += found
    if errors:
        # An error that concerns all is reported once.
        raise SettingsError(list(dict.fromkeys(errors)))
    return Contexts(contexts)


def _errors_of(pair: Pair) -> Iterator[str]:
    """Errors that can be found without OpenSSL, and described more clearly."""
    if "-----BEGIN CERTIFICATE-----" not in pair.certificate:
        yield f"certfile: {show(pair.certfile)} holds no certificate in PEM"
    if "PRIVATE KEY-----" not in pair.key:
        where = "has no private key beside it: name it with keyfile"
        if pair.keyfile == pair.certfile:
            yield f"certfile: {show(pair.certfile)} {where}"
        else:
            yield f"keyfile: {show(pair.keyfile)} holds no private key in PEM"


def _context(pair: Pair, bundle: Bundle, tls: TlsSettings, protocols: Sequence[str]) -> ServerContext:
    try:
        der = pem_certificates(pair.certificate)[0]
        certificate = read_certificate(der)
    except (ValueError, IndexError):
        raise SettingsError(
            [f"certfile: {show(pair.certfile)} holds a certificate that cannot be read"]
        ) from None
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.certificate = certificate
    context.certificate_pem = ssl.DER_cert_to_PEM_cert(der)
    context.minimum_version = _VERSIONS[tls.tls_min_version]
    # A client could make the server generate keys again and again.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(protocols)
    _set_ciphers(context, tls)
    _load_pair(context, pair, bundle.password)
    _set_client_verification(context, bundle, tls)
    context.cipher_suites = {
        str(cipher["name"]): int(cipher["id"]) & 0xFFFF for cipher in context.get_ciphers()
    }
    return context


def _set_ciphers(context: ServerContext, tls: TlsSettings) -> None:
    if not tls.ciphers:
        return
    try:
        context.set_ciphers(tls.ciphers)
    except ssl.SSLError:
        raise SettingsError(
            [f"ciphers: {show(tls.ciphers)} selects none that OpenSSL has (see `openssl ciphers`)"]
        ) from None


def _load_pair(context: ServerContext, pair: Pair, password: str) -> None:
    is_encrypted = False

    def answer() -> bytes:
        nonlocal is_encrypted
        is_encrypted = True
        return password.encode(errors="surrogateescape")

    key = f"keyfile: {show(pair.keyfile)}"
    try:
        with as_file(pair.certificate) as certificate_path, as_file(pair.key) as key_path:
            # A password is always given, if only as a function: otherwise OpenSSL asks for it at the terminal.
            context.load_cert_chain(certificate_path, key_path, answer)
    except ssl.SSLError as error:
        if is_encrypted and not password:
            line = f"{key} is encrypted: give its password with keyfile-password-file"
        elif is_encrypted:
            line = f"keyfile-password: it does not open {show(pair.keyfile)}"
        elif error.reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}:
            line = f"{key} does not belong to the certificate in {show(pair.certfile)}"
        else:
            line = f"certfile: {show(pair.certfile)} with its key cannot be used: {_reason(error)}"
        raise SettingsError([line]) from None
    except ValueError as error:
        # A password that is longer than OpenSSL accepts.
        raise SettingsError([f"keyfile-password: {error}"]) from None
    except OSError as error:
        raise SettingsError(
            [f"{key} cannot be loaded through /proc: {error.strerror}; is it mounted?"]
        ) from None


def _set_client_verification(context: ServerContext, bundle: Bundle, tls: TlsSettings) -> None:
    if tls.client_cert == "none":
        return
    try:
        authorities = b"".join(pem_certificates(bundle.authorities))
        context.load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError) as error:
        reason = (
            _reason(error)
            if isinstance(error, ssl.SSLError) and bundle.authorities
            else "it holds none in PEM"
        )
        raise SettingsError([f"ca-certs: {show(tls.ca_certs)} gives no certificates: {reason}"]) from None
    context.verify_mode = _CLIENT_CERTIFICATE[tls.client_cert]


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
