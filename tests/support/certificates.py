"""Certificates for tests: an authority, and files as an operator has them."""

import datetime as dt
import ssl
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from asgi_master.settings.model import TlsSettings


class Authority:
    """An authority that signs for servers and clients. Keys are elliptic, so this is quick."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @property
    def pem(self) -> str:
        return self._ca.cert_pem.bytes().decode()

    def issue(self, *names: str, common_name: str | None = None, days: int | None = None) -> trustme.LeafCert:
        """A certificate for these names that expires in `days` days."""
        until = None
        if days is not None:
            until = dt.datetime.now(dt.UTC) + dt.timedelta(days=days, hours=1)
        return self._ca.issue_cert(
            *names,
            common_name=common_name,
            not_before=dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if until else None,
            not_after=until,
        )

    def child(self) -> "Authority":
        """An intermediate authority."""
        other = Authority.__new__(Authority)
        other._ca = self._ca.create_child_ca()
        return other

    def write(
        self, directory: Path, name: str, *hosts: str, password: str = "", days: int | None = None
    ) -> TlsSettings:
        """`name.pem` and `name.key` in the directory, each whole at once; returns settings that name them."""
        leaf = self.issue(*(hosts or ("localhost", "127.0.0.1", "::1")), days=days)
        put(directory / f"{name}.pem", chain_of(leaf))
        put(directory / f"{name}.key", key_of(leaf, password))
        return TlsSettings(certfile=(f"{name}.pem",), keyfile=(f"{name}.key",), keyfile_password=password)

    def client(self, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """What a client that trusts this authority connects with, and with which certificate."""
        context = ssl.create_default_context(cadata=self.pem)
        if leaf is not None:
            leaf.configure_cert(context)
        return context


def chain_of(leaf: trustme.LeafCert) -> str:
    return "".join(pem.bytes().decode() for pem in leaf.cert_chain_pems)


def key_of(leaf: trustme.LeafCert, password: str = "") -> str:
    pem = leaf.private_key_pem.bytes()
    if not password:
        return pem.decode()
    return (
        serialization.load_pem_private_key(pem, None)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
        .decode()
    )


def der_of(leaf: trustme.LeafCert) -> bytes:
    return parsed(leaf).public_bytes(serialization.Encoding.DER)


def parsed(leaf: trustme.LeafCert) -> x509.Certificate:
    """As another reader of certificates understands it."""
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())


def put(path: Path, text: str) -> None:
    """The file, whole at once, as a careful program renews it."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.rename(path)
