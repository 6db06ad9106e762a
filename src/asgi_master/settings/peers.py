"""Peers that may connect or are trusted: addresses, networks, `unix` and `*`."""

import ipaddress

ANY = "*"
UNIX = "unix"

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_peer(text: str) -> Network | str:
    """The network that `text` names (for an address, of one host), or one of the words `ANY` and `UNIX`.

    IPv4 peers are known by their IPv4 address, so an IPv4-mapped address (`::ffff:10.0.0.7`) is converted. Raises
    `ValueError`, whose text completes `<text> ...`.
    """
    if text in (ANY, UNIX):
        return text
    if "%" in text:
        raise ValueError("has a zone, which is not looked at: leave it out")
    try:
        return _unmapped(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        network = _unmapped(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(
            "is no address, network, unix or *: write such as 10.0.0.7, 10.0.0.0/8 or fd00::/8"
        ) from None
    raise ValueError(f"has bits set right of its prefix: write {network}")


def _unmapped(network: Network) -> Network:
    if network.version == 4 or not network.subnet_of(_MAPPED):
        return network
    first = int(network.network_address) - int(_MAPPED.network_address)
    return ipaddress.IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
