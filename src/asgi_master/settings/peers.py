"""Who may connect and be believed: addresses, networks, `unix` and `*`."""

import ipaddress

ANY = "*"
UNIX = "unix"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_peer(text: str) -> Network | str:
    """The network that `text` names (an address is one of a single host), or one of the words `ANY` and `UNIX`.

    Raises `ValueError`, whose text completes `<text> ...`.
    """
    if text in (ANY, UNIX):
        return text
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            "is no address, network, unix or *: write such as 10.0.0.7, 10.0.0.0/8 or fd00::/8"
        ) from None
    raise ValueError(f"has bits set right of its prefix: write {network}")
