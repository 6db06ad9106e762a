"""IP addresses as proxies write them."""

import ipaddress
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Host = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)
def read_host(text: str) -> Host | None:
    """The address that `text` is, without brackets and zone; `None` if it is none."""
    try:
        return unmapped(ipaddress.ip_address(text))
    except ValueError:
        return None


def unmapped(host: Host) -> Host:
    """An address of IPv4 that is mapped into IPv6 (RFC 4291 §2.5.5.2) is one of IPv4."""
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        return host.ipv4_mapped
    return host
