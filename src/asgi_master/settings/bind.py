"""Addresses to listen on: `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`, `fd://N`, `systemd:NAME`.

A leading `https://` enables TLS on that address; it does not change the address. `{slot}` in a port or path, or
`{slot:02}` with leading zeros, makes an address of its own for each slot.
"""

import ipaddress
import re

from asgi_master.records import record

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)
_MAX_PORT = 65535
# sun_path of Linux, without its final NUL.
_MAX_PATH_BYTES = 107
_MAX_FD = 2**31 - 1
# The characters that systemd allows in FileDescriptorName=.
_FD_NAME = re.compile(r"[!-9;-~]{1,255}", re.ASCII)

KEPT_PREFIX = "asgi-master-bind="
"""Prefix of the names of descriptors that the master stores in systemd over a restart."""

TLS_PREFIX = "https://"

UNNAMED_FD = "unknown"
"""Name of a passed descriptor without a name (sd_listen_fds_with_names(3))."""


@record
class TcpAddress:
    """A host and port. `host` is a name, an IPv4 or an IPv6 address (without brackets)."""

    host: str
    port: int
    """0 lets the kernel choose a free one."""
    ipv6: bool = False
    """Whether it was written in brackets."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.ipv6 else f"{self.host}:{self.port}"


@record
class UnixAddress:
    """The path of a Unix stream socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@record
class InheritedFd:
    """The descriptor of a listening socket, inherited from the parent process."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


@record
class ActivatedSocket:
    """The sockets of a systemd socket unit with this `FileDescriptorName=`."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


Address = TcpAddress | UnixAddress | InheritedFd | ActivatedSocket


def speaks_tls(bind: str) -> bool:
    """Whether the address uses TLS."""
    return bind.startswith(TLS_PREFIX)


_SLOT = re.compile(r"\{slot(?::0([1-9]))?\}", re.ASCII)


def is_per_slot(bind: str) -> bool:
    """Whether it stands for an address of each slot."""
    return _SLOT.search(bind) is not None


def for_slot(bind: str, slot: int) -> str:
    """The address of a slot; any other address is the same for all slots."""
    return _SLOT.sub(lambda found: f"{slot:0{found[1] or 1}}", bind)


def parse_bind(text: str) -> Address:
    """The address `text` names, of slot 0. Raises `ValueError`, whose text completes `<text> ...`."""
    if not text.isprintable():
        raise ValueError("contains a control character")
    if is_per_slot(text):
        address = parse_bind(for_slot(text, 0))
        if not isinstance(address, TcpAddress | UnixAddress):
            raise ValueError("cannot have an address for each slot: it is passed to us")
        return address
    text = text.removeprefix(TLS_PREFIX)
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"))
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not re.fullmatch(r"[0-9]{1,10}", number, re.ASCII) or int(number) > _MAX_FD:
            raise ValueError("names no descriptor: write fd://N, such as fd://3")
        return InheritedFd(int(number))
    if text.startswith("systemd:"):
        name = text.removeprefix("systemd:")
        if not _FD_NAME.fullmatch(name) or name.startswith(KEPT_PREFIX):
            raise ValueError("names no socket: write systemd:NAME, with the unit's FileDescriptorName=")
        return ActivatedSocket(name)
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        hint = f"127.0.0.1:{text}" if text.isdecimal() else f"{text or 'HOST'}:PORT, such as 127.0.0.1:8000"
        raise ValueError(f"is not HOST:PORT: write {hint}")
    if not host:
        raise ValueError(
            f"has no host: write 0.0.0.0:{port} for all IPv4 addresses, [::]:{port} for all IPv6 ones"
        )
    bracketed = host.startswith("[") and host.endswith("]")
    if not bracketed and not _HOST.fullmatch(host):
        hint = f": an IPv6 address needs brackets, [{host}]:{port}" if _is_ipv6(host) else ""
        raise ValueError(f"is not HOST:PORT, [IPV6]:PORT, unix:PATH, fd://N or systemd:NAME{hint}")
    if bracketed and not _is_ipv6(host[1:-1]):
        raise ValueError("has no IPv6 address in its brackets")
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > _MAX_PORT:
        raise ValueError(f"has a bad port: a number from 0 to {_MAX_PORT}")
    return TcpAddress(host[1:-1] if bracketed else host, int(port), bracketed)


def _unix(path: str) -> UnixAddress:
    # unix:///run/app.sock, the form of other servers.
    path = path.removeprefix("//")
    if not path:
        raise ValueError("names no path: write unix:/path/to/socket")
    if path.startswith("@"):
        raise ValueError("is an abstract socket, which anybody on the machine could reach: give it a path")
    if len(path.encode(errors="surrogateescape")) > _MAX_PATH_BYTES:
        raise ValueError(f"is too long: the path of a Unix socket has at most {_MAX_PATH_BYTES} bytes")
    return UnixAddress(path)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
