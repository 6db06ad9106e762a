"""The client behind a proxy: X-Forwarded-For and X-Forwarded-Proto, or Forwarded (RFC 7239), read from the right.

Each proxy writes at the right end what it saw, so a list is walked from there for as long as it names trusted proxies.
The first address that is none is the client; what stands left of it is only the client's word.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from asgi_master.http.addresses import Network, read_host
from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.grammar import TOKEN
from asgi_master.http.message import Headers
from asgi_master.records import record

_MOST_BYTES = 4096
"""Maximum number of list elements that are read, from the right: it bounds what a hostile list costs."""
_MOST_HOPS = 64
_MOST_KNOWN = 1024
_MAX_CACHED_BYTES = 256
_LONGEST_NODE = 64

_LONGEST_PREFIX = 512
_PREFIX_NAME = b"x-forwarded-prefix"
# Segments as RFC 3986 has them: not empty, as `//host` is a place of its own to browsers, and no `.` or `..`.
_PREFIX = re.compile(
    rb"(?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%(?!00|2[EeFf]|5[Cc])[0-9A-Fa-f]{2})+)+"
)

_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}

_MOST_PORT = 65535
# node of RFC 7239 §6, and what X-Forwarded-For has in its place: an address, in brackets or not, and perhaps a port.
_NODE = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::(?:(?P<port>[0-9]{1,5})|_[A-Za-z0-9._-]+))?"
    r"|(?P<v6>[0-9A-Fa-f:.]+)",
    re.ASCII,
)

_NAME = rb"[" + re.escape(TOKEN) + rb"]++"
# Leniently, as proxies write it: an address with colons without quotes, and spaces around the semicolons.
_VALUE = rb'(?:"(?:[^"\\]|\\.)*+"|[:\[\]' + re.escape(TOKEN) + rb"]*+)"
_PAIR = re.compile(rb"(" + _NAME + rb")=(" + _VALUE + rb")[ \t]*+", re.DOTALL)
_BETWEEN = re.compile(rb"(?:;[ \t]*+)++")


@record
class Origin:
    """What trusted proxies said about a request."""

    has_client: bool = False
    """Whether they said who asked; the client is then `client`, else the peer."""
    client: tuple[str, int] | None = None
    """Address and port (0 if unknown); `None` if they do not know, or hide it."""
    scheme: str = ""
    """`http` or `https`; empty if nothing was said."""
    prefix: bytes = b""
    """The path that they took away from the request's, as it was sent; empty if nothing was said."""


_NOTHING = Origin()


class Trust:
    """Which peers are believed, and which addresses are proxies of ours."""

    __slots__ = ("_any_peer", "_networks", "_unix_peers")

    def __init__(
        self, networks: Iterable[Network], *, any_peer: bool = False, unix_peers: bool = False
    ) -> None:
        """`any_peer` believes every peer, but takes no address for a proxy that is not in `networks`."""
        self._networks = tuple(networks)
        self._any_peer = any_peer
        self._unix_peers = unix_peers

    def __bool__(self) -> bool:
        """Whether anybody is believed."""
        return bool(self._networks) or self._any_peer or self._unix_peers

    def trusts(self, peer: str | None) -> bool:
        """Whether to believe the peer with this address; `None` is the peer of a Unix socket."""
        if peer is None:
            return self._unix_peers
        return self._any_peer or self.is_proxy(peer)

    def is_proxy(self, address: str) -> bool:
        """Whether this is the address of a proxy of ours."""
        host = read_host(address.partition("%")[0])
        return host is not None and any(host in network for network in self._networks)


class Forwarded:
    """Reads what the proxies of one family of header fields say. The other family is not looked at.

    One family only: a proxy that writes one lets the other pass as its client sent it.
    """

    def __init__(self, trust: Trust, *, rfc7239: bool = False, prefix: bool = False) -> None:
        """`rfc7239`: read Forwarded instead of X-Forwarded-*; `prefix`: read X-Forwarded-Prefix too."""
        self.trust = trust
        self._is_rfc7239 = rfc7239
        self._chain_name = b"forwarded" if rfc7239 else b"x-forwarded-for"
        wanted = [self._chain_name] if rfc7239 else [self._chain_name, b"x-forwarded-proto"]
        self._wanted = frozenset([*wanted, _PREFIX_NAME] if prefix and not rfc7239 else wanted)
        self._known: BoundedCache[tuple[bytes, bytes], Origin] = BoundedCache(_MOST_KNOWN)

    def origin(self, headers: Headers) -> Origin:
        """What the header fields of a request from a believed peer say (lower-case names)."""
        wanted = self._wanted
        fields = [field for field in headers if field[0] in wanted]
        if not fields:
            return _NOTHING
        chain_name = self._chain_name
        chains: list[bytes] = []
        said: list[bytes] = []
        mounts: list[bytes] = []
        for name, value in fields:
            if name == chain_name:
                chains.append(value)
            elif name == _PREFIX_NAME:
                mounts.append(value)
            else:
                said.append(value)
        # Several lines of a name are one list (RFC 9110 §5.2).
        chain, schemes, prefixes = b",".join(chains), b",".join(said), b",".join(mounts)
        # No field holds a NUL.
        key = (chain, schemes + b"\0" + prefixes) if prefixes else (chain, schemes)
        known = self._known.get(key)
        if known is None:
            known = self._read(chain, schemes, prefixes)
            if len(chain) + len(schemes) + len(prefixes) <= _MAX_CACHED_BYTES:
                self._known.offer(key, known)
        return known

    def _read(self, chain: bytes, schemes: bytes, prefixes: bytes) -> Origin:
        if self._is_rfc7239:
            return self._read_forwarded(chain)
        has_client, client, hop = False, None, 0
        for hop, node in enumerate(_items(chain)):  # noqa: B007 -- how far it came is used below
            has_client, client = True, read_node(node)
            if client is None or not self.trust.is_proxy(client[0]):
                break
        said = list(_items(schemes))
        # What the proxy that saw the client said; proxies that overwrite leave fewer than there are hops.
        scheme = said[min(hop, len(said) - 1)] if said else b""
        prefix = _read_prefix(prefixes, hop + 1) if prefixes else b""
        return Origin(has_client, client, _SCHEMES.get(scheme.lower(), ""), prefix)

    def _read_forwarded(self, chain: bytes) -> Origin:
        client, scheme = None, ""
        has_client = False
        for element in _elements(chain):
            has_client = True
            client = read_node(element.get(b"for", b""))
            scheme = _SCHEMES.get(element.get(b"proto", b"").lower(), "") or scheme
            if client is None or not self.trust.is_proxy(client[0]):
                break
        return Origin(has_client, client, scheme)


def _read_prefix(prefixes: bytes, hops: int) -> bytes:
    """What the proxies took away, the outermost first; nothing if one of them did not say a path.

    Each adds its own at the right end, if it took something. More than there are proxies came from the client.
    """
    taken = [*itertools.islice(_items(prefixes), hops)]
    parts = [item.rstrip(b"/") for item in reversed(taken)]
    if not all(part == b"" or _PREFIX.fullmatch(part) for part in parts):
        return b""
    prefix = b"".join(parts)
    return prefix if len(prefix) <= _LONGEST_PREFIX else b""


def _items(text: bytes) -> Iterator[bytes]:
    """The items of a list without quoted strings, from the right; empty ones do not count (RFC 9110 §5.6.1.2)."""
    items = _right_end(text).rsplit(b",", _MOST_HOPS)
    if len(items) > _MOST_HOPS:
        items[0] = b"?"
    for item in reversed(items):
        if stripped := item.strip(b" \t"):
            yield stripped


def _right_end(text: bytes) -> bytes:
    """The end of a list that is too long, behind an item that stands for the rest and says nothing."""
    return text if len(text) <= _MOST_BYTES else b"?," + text[-_MOST_BYTES:].partition(b",")[2]


def _elements(text: bytes) -> Iterator[dict[bytes, bytes]]:
    """The elements of a Forwarded field, from the right; a malformed one is empty, and ends the list.

    Right of a comma that is inside a well-formed quoted string, the quotes do not pair. So the shortest end that reads
    as an element is one, whatever an opening quote further left, which the client may have sent, would swallow.
    """
    text = _right_end(text)
    tries = _MOST_HOPS
    end = comma = len(text)
    while end > 0:
        comma = text.rfind(b",", 0, comma)
        element = _element(text[comma + 1 : end].strip(b" \t"))
        tries -= 1
        if element is None:
            if comma < 0 or tries < 0:
                yield {}
                return
        else:
            if element:
                yield element
            end = comma


def _element(text: bytes) -> dict[bytes, bytes] | None:
    """The parameters of an element by lower-case name; `None` if it is malformed."""
    parameters: dict[bytes, bytes] = {}
    position = 0
    while position < len(text):
        pair = _PAIR.match(text, position)
        if pair is None or pair[1].lower() in parameters:
            return None
        value = pair[2]
        parameters[pair[1].lower()] = re.sub(rb"\\(.)", rb"\1", value[1:-1]) if value[:1] == b'"' else value
        position = pair.end()
        if position < len(text):
            between = _BETWEEN.match(text, position)
            if between is None:
                return None
            position = between.end()
    return parameters


def read_node(text: bytes) -> tuple[str, int] | None:
    """Address and port (0 if there is none) of a hop; `None` for `unknown`, hidden names and nonsense."""
    return _read_node(text) if len(text) <= _LONGEST_NODE else None


@lru_cache(maxsize=1024)
def _read_node(text: bytes) -> tuple[str, int] | None:
    found = _NODE.fullmatch(text.decode("latin-1"))
    if found is None:
        return None
    port = int(found["port"] or 0)
    host = read_host(found["bracketed"] or found["v4"] or found["v6"])
    if host is None or port > _MOST_PORT or (found["bracketed"] and ":" not in found["bracketed"]):
        return None
    return str(host), port
