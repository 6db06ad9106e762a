"""The rules of a whole head, decided once for heads of one layout: with fields of the same kinds in the same order."""

from typing import Final, NamedTuple

from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.errors import ErrorCode, StreamError
from asgi_master.http.h2.field_kinds import (
    ASTERISK,
    AUTHORITY,
    CONNECT,
    CONTENT_LENGTH,
    COOKIE,
    EXPECT,
    FAULTS,
    HOST,
    METHOD,
    OTHER_SCHEME,
    PATH,
    PRIORITY,
    PROTOCOL,
    PSEUDO_KINDS,
    REGULAR_KINDS,
    SCHEME,
)


def malformed(reason: str) -> StreamError:
    """A request that breaks a rule of RFC 9113 §8.1.1."""
    return StreamError(ErrorCode.PROTOCOL_ERROR, reason)


class Details(NamedTuple):
    """Where the fields stand that say something of their own; -1 for what is not there."""

    protocol: int
    host: int
    length: int
    expects: tuple[int, ...]
    priorities: tuple[int, ...]
    cookies: tuple[int, ...]
    """Those of more than one Cookie field, which become one (RFC 9113 §8.2.3)."""
    is_asterisk: bool


_NONE: Final = Details(-1, -1, -1, (), (), (), is_asterisk=False)

Layout = tuple[int, int, int, int, int, Details | None]
"""Where a head has method, scheme, path, authority, and the first field behind the pseudo-fields.

Most heads have no `Details`.
"""

KNOWN_LAYOUTS: Final[BoundedCache[bytes, Layout]] = BoundedCache(256)
"""By their kinds."""

_LONGEST_KNOWN: Final = 64
"""Fields of a head whose layout is kept."""


def layout_of(kinds: bytes) -> Layout:
    """The layout of a head with fields of these kinds, which becomes known.

    Raises `StreamError` where it breaks a rule, and `ProtocolError` where it is not served.
    """
    faults = kinds.translate(None, PSEUDO_KINDS + REGULAR_KINDS)
    if faults:
        raise malformed(FAULTS[faults[0]])
    first = len(kinds) - len(kinds.lstrip(PSEUDO_KINDS))
    pseudo, regular = kinds[:first], kinds[first:]
    if regular.translate(None, REGULAR_KINDS):
        raise malformed("a pseudo-field comes after other fields")
    method, scheme, path, authority, protocol = (
        _place_of(pseudo, *alternatives)
        for alternatives in (
            (METHOD, CONNECT),
            (SCHEME, OTHER_SCHEME),
            (PATH, ASTERISK),
            (AUTHORITY,),
            (PROTOCOL,),
        )
    )
    host, length = _place_of(kinds, HOST), _place_of(kinds, CONTENT_LENGTH)
    if CONNECT in pseudo and protocol < 0:  # RFC 9113 §8.5
        if authority < 0 or scheme >= 0 or path >= 0:
            raise malformed("CONNECT has :authority, and neither :scheme nor :path")
        raise ProtocolError(501, "this method is not implemented")
    if method < 0 or scheme < 0 or path < 0:
        raise malformed(":method, :scheme or :path is missing")
    if protocol >= 0 and CONNECT not in pseudo:
        raise malformed(":protocol goes with CONNECT only")
    if authority < 0 and host < 0:
        raise ProtocolError(400, "neither :authority nor a Host field")
    if OTHER_SCHEME in pseudo:
        raise ProtocolError(400, "the scheme is neither http nor https")
    cookies = _places(kinds, COOKIE)
    details = Details(
        protocol,
        host,
        length,
        _places(kinds, EXPECT),
        _places(kinds, PRIORITY),
        cookies if len(cookies) > 1 else (),
        ASTERISK in pseudo,
    )
    has_details = authority < 0 or details != _NONE
    layout = (method, scheme, path, authority, first, details if has_details else None)
    if len(kinds) <= _LONGEST_KNOWN:
        KNOWN_LAYOUTS.offer(kinds, layout)
    return layout


def _place_of(kinds: bytes, *alternatives: int) -> int:
    """Where a field of one of these kinds stands, -1 if none does. Raises `StreamError` if there is more than one."""
    if sum(map(kinds.count, alternatives)) > 1:
        raise malformed("a field comes more than once that may not")
    return max(map(kinds.find, alternatives))


def _places(kinds: bytes, kind: int) -> tuple[int, ...]:
    if kind not in kinds:
        return ()
    return tuple([place for place, other in enumerate(kinds) if other == kind])
