"""The PROXY protocol, versions 1 and 2: a header before the first byte of a connection that says whose it is.

Specification: haproxy's `doc/proxy-protocol.txt`. The header is required where it is read at all: to guess whether
there is one would let clients write their own.
"""

import ipaddress
import re

from asgi_master.http.addresses import unmapped
from asgi_master.records import record

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_PREFIX = b"PROXY "
_V1_MOST_BYTES = 107
_V2_FIXED_BYTES = 16
_V2_MOST_BYTES = 4096
"""After the fixed part: addresses and TLVs. The specification lets a receiver set a bound; senders stay far below."""

_LOCAL, _PROXY = 0x20, 0x21
"""Version 2, and the command."""
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_MOST_FAMILY, _MOST_TRANSPORT = _UNIX, 2
_ADDRESS_BYTES = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}

_TLV_SSL = 0x20
_CLIENT_SSL = 0x01

_V1 = re.compile(
    rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?", re.DOTALL)
_MOST_PORT = 65535

Address = tuple[str, int]


class ProxyHeaderError(Exception):
    """What came is no PROXY header. The connection is closed without an answer."""


@record
class ProxyHeader:
    """A complete header."""

    size: int
    """Bytes of the header; what follows is the connection's."""
    is_proxied: bool = False
    """Whether the header names a client; a LOCAL connection is the proxy's own, and its socket's addresses count."""
    source: Address | None = None
    """Of the client; `None` if it came through a Unix socket."""
    destination: Address | None = None
    """Where the client connected to; `None` likewise."""
    is_tls: bool = False
    """Whether the client spoke TLS to the proxy; only version 2 of the protocol says so."""


def read_header(data: bytes | bytearray) -> ProxyHeader | None:
    """The header that `data`, the first bytes of a connection, begins with; `None` while it is incomplete.

    Raises `ProxyHeaderError` as soon as the bytes can be no header.
    """
    if data.startswith(_SIGNATURE):
        return _read_v2(data)
    if data.startswith(_V1_PREFIX):
        return _read_v1(data)
    if data in (_SIGNATURE[: len(data)], _V1_PREFIX[: len(data)]):
        return None
    raise ProxyHeaderError("no PROXY header came first")


def _read_v1(data: bytes | bytearray) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_MOST_BYTES)
    if end < 0:
        if len(data) >= _V1_MOST_BYTES:
            raise ProxyHeaderError(f"a PROXY header of version 1 is longer than {_V1_MOST_BYTES} bytes")
        return None
    line, size = data[:end], end + 2
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(size)
    found = _V1.fullmatch(line)
    if found is None:
        raise ProxyHeaderError("a PROXY header of version 1 is malformed")
    family: type[ipaddress.IPv4Address | ipaddress.IPv6Address] = (
        ipaddress.IPv4Address if found[1] == b"TCP4" else ipaddress.IPv6Address
    )
    ports = int(found[4]), int(found[5])
    try:
        hosts = [str(unmapped(family(text.decode("ascii")))) for text in (found[2], found[3])]
    except ValueError:
        raise ProxyHeaderError("a PROXY header of version 1 has a malformed address") from None
    if max(ports) > _MOST_PORT:
        raise ProxyHeaderError("a PROXY header of version 1 has a port that does not exist")
    return ProxyHeader(size, True, (hosts[0], ports[0]), (hosts[1], ports[1]))


def _read_v2(data: bytes | bytearray) -> ProxyHeader | None:
    # Each field is judged once it is there: no more is read of a header that is wrong.
    command = data[12:13]
    if command and command[0] not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("a PROXY header of version 2 has an unknown version or command")
    family_and_transport = data[13:14]
    if not family_and_transport:
        return None
    family, transport = family_and_transport[0] >> 4, family_and_transport[0] & 0xF
    if family > _MOST_FAMILY or transport > _MOST_TRANSPORT:
        raise ProxyHeaderError("a PROXY header of version 2 has an unknown address family or transport")
    if len(data) < _V2_FIXED_BYTES:
        return None
    length = int.from_bytes(data[14:16], "big")
    if length > _V2_MOST_BYTES:
        raise ProxyHeaderError(f"a PROXY header of version 2 is longer than {_V2_MOST_BYTES} bytes")
    is_local = command[0] == _LOCAL
    if not is_local and length < _ADDRESS_BYTES[family]:
        raise ProxyHeaderError("a PROXY header of version 2 is too short for its addresses")
    size = _V2_FIXED_BYTES + length
    if len(data) < size:
        return None
    # LOCAL is the proxy itself, such as its health check; of UNSPEC the proxy knows no more than we see.
    if is_local or family == _UNSPEC or transport == 0:
        return ProxyHeader(size)
    addresses = bytes(data[_V2_FIXED_BYTES : _V2_FIXED_BYTES + _ADDRESS_BYTES[family]])
    is_tls = _says_tls(data[_V2_FIXED_BYTES + len(addresses) : size])
    if family == _UNIX:
        return ProxyHeader(size, True, is_tls=is_tls)
    source, destination = _endpoints(addresses)
    return ProxyHeader(size, True, source, destination, is_tls)


def _endpoints(data: bytes) -> tuple[Address, Address]:
    """Source and destination: two addresses, then two ports."""
    length = (len(data) - 4) // 2
    hosts = [str(unmapped(ipaddress.ip_address(data[start : start + length]))) for start in (0, length)]
    ports = [int.from_bytes(data[start : start + 2], "big") for start in (2 * length, 2 * length + 2)]
    return (hosts[0], ports[0]), (hosts[1], ports[1])


def _says_tls(vectors: bytes | bytearray) -> bool:
    """Whether PP2_TYPE_SSL is among the type-length-values and says that the client spoke TLS; others are skipped."""
    position, is_tls = 0, False
    while position < len(vectors):
        length = int.from_bytes(vectors[position + 1 : position + 3], "big")
        value = vectors[position + 3 : position + 3 + length]
        if position + 3 > len(vectors) or len(value) < length:
            raise ProxyHeaderError("a PROXY header of version 2 has a malformed TLV")
        if vectors[position] == _TLV_SSL and value and value[0] & _CLIENT_SSL:
            is_tls = True
        position += 3 + length
    return is_tls
