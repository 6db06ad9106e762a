"""The secrets and certificates of a TLS server as one value: read from files, passed on in memory.

The master reads the files with its own rights; workers get the bundle as a sealed memory file. So workers need no right
to read the key, and all of them have the same version.
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
"""Maximum number of bytes of one file."""


@dataclass(frozen=True, slots=True, repr=False)
class Pair:
    """A certificate with its chain, and its key: PEM, and the names of the files for messages."""

    certificate: str
    key: str
    certfile: str
    keyfile: str


@dataclass(frozen=True, slots=True, repr=False)
class Bundle:
    """The contents of all files. Without `repr`: keys and passwords must not appear in a log."""

    pairs: tuple[Pair, ...]
    password: str = ""
    authorities: str = ""
    """The CA certificates that verify client certificates: PEM."""

    def to_memory(self) -> int:
        """Write the bundle to a sealed memory file; the caller owns the descriptor. Raises `OSError`."""
        return frozen_file("asgi-master-tls", json.dumps(asdict(self)).encode())

    @classmethod
    def of_memory(cls, fd: int) -> "Bundle":
        """Read the bundle from a descriptor, which stays the caller's. Raises `OSError`."""
        known = json.loads(content_of(fd))
        return cls(tuple(Pair(**pair) for pair in known["pairs"]), known["password"], known["authorities"])


def files_of(tls: TlsSettings) -> list[str]:
    """The files that make up a bundle."""
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
        # PEM is ASCII; text between its blocks may be anything.
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
    """A path with the text as its content, for OpenSSL, which reads keys only from files. Raises `OSError`."""
    fd = frozen_file("asgi-master-pem", text.encode("latin-1"))
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
