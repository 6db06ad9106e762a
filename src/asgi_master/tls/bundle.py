"""Everything secret and public that a TLS server needs, as one value: read from files, passed on in memory.

The master reads the files, as whoever it runs as; workers get the bundle in a sealed file in memory. So they need no
right to read the key, and all of them have the same.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from asgi_master.errors import SettingsError
from asgi_master.ipc.memory import content_of, frozen_file
from asgi_master.settings.model import TlsSettings
from asgi_master.settings.values import show

_LIMIT = 16 * 1024 * 1024
"""Bytes that one file may have; more is not a certificate, whatever it is."""


@dataclass(frozen=True, slots=True, repr=False)
class Pair:
    """A certificate with its chain, and its key: PEM, and the names of the files for messages."""

    certificate: str
    key: str
    certfile: str
    keyfile: str


@dataclass(frozen=True, slots=True, repr=False)
class Bundle:
    """The contents of all files. It has no `repr`: keys and passwords belong in no log."""

    pairs: tuple[Pair, ...]
    password: str = ""
    authorities: str = ""
    """The certificates that clients' certificates are verified with: PEM."""

    def to_memory(self) -> int:
        """The bundle in a file in memory that nobody can change; the caller owns the descriptor. Raises `OSError`."""
        return frozen_file("asgi-master-tls", json.dumps(asdict(self)).encode())

    @classmethod
    def of_memory(cls, fd: int) -> "Bundle":
        """The bundle in the file behind the descriptor, which stays the caller's. Raises `OSError`."""
        known = json.loads(content_of(fd))
        return cls(tuple(Pair(**pair) for pair in known["pairs"]), known["password"], known["authorities"])


def files_of(tls: TlsSettings) -> list[str]:
    """The files that a bundle is read from."""
    named = [*tls.certfile, *tls.keyfile, tls.keyfile_password_file, tls.ca_certs]
    return [name for name in dict.fromkeys(named) if name]


def read_bundle(tls: TlsSettings, directory: Path) -> Bundle:
    """Read the files. Raises `SettingsError` with a line for each that cannot be read."""
    errors: list[str] = []

    def read(setting: str, name: str) -> str:
        try:
            with (directory / name).open("rb") as file:
                data = file.read(_LIMIT + 1)
        except OSError as error:
            errors.append(f"{setting}: {show(name)} cannot be read: {error.strerror}")
            return ""
        if len(data) > _LIMIT:
            errors.append(f"{setting}: {show(name)} is larger than {_LIMIT // 1024 // 1024} MiB")
            return ""
        # PEM is ASCII; comments between its blocks may be anything.
        return data.decode("latin-1")

    pairs = []
    for place, certfile in enumerate(tls.certfile):
        certificate = read("certfile", certfile)
        keyfile = tls.keyfile[place] if tls.keyfile else certfile
        key = read("keyfile", keyfile) if tls.keyfile else certificate
        pairs.append(Pair(certificate, key, certfile, keyfile))
    password = tls.keyfile_password
    if tls.keyfile_password_file:
        password = read("keyfile-password-file", tls.keyfile_password_file).partition("\n")[0].rstrip("\r")
        password = password.encode("latin-1").decode(errors="surrogateescape")
    authorities = read("ca-certs", tls.ca_certs) if tls.ca_certs else ""
    if errors:
        raise SettingsError(errors)
    return Bundle(tuple(pairs), password, authorities)


@contextlib.contextmanager
def as_file(text: str) -> Iterator[str]:
    """A path that holds the text, for OpenSSL, which reads keys from files alone. Raises `OSError`."""
    fd = frozen_file("asgi-master-pem", text.encode("latin-1"))
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
