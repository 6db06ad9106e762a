"""The head of an HTTP/2 request: every rule it must obey (RFC 9113 §8.1 to §8.3, RFC 8441 §4).

What a field breaks by itself is judged in `field_kinds`, when it is decoded. Here are the rules of the whole head; most
of them are decided once for each layout, that is, for heads whose fields are of the same kinds in the same order.
"""

import sys
from itertools import chain
from typing import Final, NamedTuple

from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2.engine import H2Request
from asgi_master.http.h2.errors import ErrorCode, StreamError
from asgi_master.http.h2.field_kinds import (
    AUTHORITY,
    CONNECT,
    CONTENT_LENGTH,
    COOKIE,
    EXPECT,
    FAULTS,
    HOST,
    METHOD,
    PATH,
    PRIORITY,
    PROTOCOL,
    REGULAR,
    REGULAR_KINDS,
    SCHEME,
)
from asgi_master.http.h2.hpack import FieldDecoder
from asgi_master.http.h2.priority import DEFAULT_URGENCY, read_priority
from asgi_master.http.limits import HttpLimits
from asgi_master.http.message import Field, Headers
from asgi_master.http.methods import METHOD_NAMES, other_method

_FIELD_OVERHEAD: Final = 32
"""Of each field in the size of a header section, beside its name and its value (RFC 9113 §6.5.2)."""

_LONGEST_STATIC: Final = 64
"""No field of the static table is larger."""

_SCHEMES: Final = (b"https", b"http")
_NONE: Final = -1


def _malformed(reason: str) -> StreamError:
    return StreamError(ErrorCode.PROTOCOL_ERROR, reason)


class _Layout(NamedTuple):
    """Where what stands in a head; `_NONE` for what is not there."""

    method: int
    scheme: int
    path: int
    authority: int
    protocol: int
    first: int
    """The first field that is no pseudo-field."""
    is_plain: bool
    """Whether no field behind it needs to be looked at, and there is an authority."""
    host: int
    length: int
    expect: int
    priorities: tuple[int, ...]
    cookies: tuple[int, ...]
    """Those of more than one Cookie field, which become one (RFC 9113 §8.2.3)."""


_layouts: BoundedCache[bytes, _Layout] = BoundedCache(256)
_LONGEST_REMEMBERED = 64


def _layout_of(kinds: bytes) -> _Layout:
    """The layout of a head with fields of these kinds. Raises `StreamError`, or `ProtocolError` for CONNECT."""
    for kind in kinds:
        if kind in FAULTS:
            raise _malformed(FAULTS[kind])
    first = len(kinds) - len(kinds.lstrip(bytes((METHOD, CONNECT, SCHEME, PATH, AUTHORITY, PROTOCOL))))
    pseudo, regular = kinds[:first], kinds[first:]
    if regular.translate(None, REGULAR_KINDS):
        raise _malformed("a pseudo-field comes after other fields")
    if len(set(pseudo)) < first or (METHOD in pseudo and CONNECT in pseudo):
        raise _malformed("a pseudo-field comes more than once")
    if CONNECT in pseudo:
        _check_connect(pseudo)
    elif METHOD not in pseudo or SCHEME not in pseudo or PATH not in pseudo:
        raise _malformed(":method, :scheme or :path is missing")
    elif PROTOCOL in pseudo:
        raise _malformed(":protocol goes with CONNECT only")
    for kind in (HOST, CONTENT_LENGTH):
        if regular.count(kind) > 1:
            raise _malformed("Host, or Content-Length, comes more than once")
    if AUTHORITY not in pseudo and HOST not in regular:
        raise ProtocolError(400, "neither :authority nor a Host field")
    cookies = _places(kinds, COOKIE)
    return _Layout(
        method=max(kinds.find(METHOD), kinds.find(CONNECT)),
        scheme=kinds.find(SCHEME),
        path=kinds.find(PATH),
        authority=kinds.find(AUTHORITY),
        protocol=kinds.find(PROTOCOL),
        first=first,
        is_plain=AUTHORITY in pseudo
        and len(cookies) < 2
        and not regular.translate(None, bytes((REGULAR, COOKIE))),
        host=kinds.find(HOST),
        length=kinds.find(CONTENT_LENGTH),
        expect=kinds.find(EXPECT),
        priorities=_places(kinds, PRIORITY),
        cookies=cookies if len(cookies) > 1 else (),
    )


def _check_connect(pseudo: bytes) -> None:
    if PROTOCOL not in pseudo:
        if AUTHORITY not in pseudo or SCHEME in pseudo or PATH in pseudo:
            raise _malformed("CONNECT has :authority, and neither :scheme nor :path")
        raise ProtocolError(501, "this method is not implemented")
    if AUTHORITY not in pseudo or SCHEME not in pseudo or PATH not in pseudo:
        raise _malformed("extended CONNECT has :authority, :scheme and :path")


def _places(kinds: bytes, kind: int) -> tuple[int, ...]:
    return tuple([place for place, other in enumerate(kinds) if other == kind])


class RequestDecoder:
    """Decodes the heads and trailers of one connection's requests, in the order in which they came.

    All of them must come here, also those of streams that are closed, as each may change HPACK's table.
    """

    __slots__ = ("_count_limit", "_fields", "_path_limit", "_request", "_size_limit", "_source")

    def __init__(self, limits: HttpLimits) -> None:
        self._count_limit = limits.header_count or sys.maxsize
        self._size_limit = limits.header_bytes or sys.maxsize
        self._path_limit = limits.request_line or sys.maxsize
        self._fields = FieldDecoder(self._size_limit // _FIELD_OVERHEAD)
        self._source: tuple[bytes, bool] | None = None
        self._request: H2Request | None = None

    def decode(self, block: bytes, ends: bool) -> H2Request:
        """The request whose head is this field block; `ends` is whether it has no body and no trailers.

        Requests with the same head may be one object. Raises `ConnectionError` for what breaks HPACK, and, with the
        table as it must be: `StreamError` for a malformed request (RFC 9113 §8.1.1), `ProtocolError` for one that is
        well-formed but not served.
        """
        fields, kinds = self._fields.decode(block)
        self._check_size(fields, block)
        layout = _layouts.get(kinds)
        if layout is None:
            layout = _layout_of(kinds)
            if len(kinds) <= _LONGEST_REMEMBERED:
                _layouts.offer(kinds, layout)
        return self._request_of(fields, layout, ends)

    def decode_trailers(self, block: bytes) -> None:
        """Judge the trailer fields that are this field block, and drop them. Raises as `decode` does."""
        fields, kinds = self._fields.decode(block)
        self._check_size(fields, block)
        if len(fields) > self._count_limit:
            raise _too_large()
        if kinds.translate(None, REGULAR_KINDS):
            raise _malformed("trailers hold a pseudo-field, or a malformed one")

    def _check_size(self, fields: list[Field], block: bytes) -> None:
        """Most heads are small, whatever is in the table; only of the others the size is summed up."""
        count = len(fields)
        largest = max(self._fields.largest, _LONGEST_STATIC) + _FIELD_OVERHEAD
        if (
            count * largest + 2 * len(block) > self._size_limit
            and sum(map(len, chain.from_iterable(fields))) + count * _FIELD_OVERHEAD > self._size_limit
        ):
            raise _too_large()

    def _request_of(self, fields: list[Field], layout: _Layout, ends: bool) -> H2Request:
        method_name = fields[layout.method][1]
        path = fields[layout.path][1]
        scheme = fields[layout.scheme][1]
        headers = fields[layout.first :]
        protocol = None
        if layout.protocol != _NONE:
            method = "CONNECT"
            protocol = fields[layout.protocol][1]
        else:
            method = METHOD_NAMES.get(method_name) or other_method(method_name)
        if len(path) > self._path_limit:
            raise ProtocolError(414, "the path is too long")
        if path == b"*" and method != "OPTIONS":
            raise _malformed("the path * goes with OPTIONS only")
        if scheme not in _SCHEMES:
            raise ProtocolError(400, "the scheme is neither http nor https")
        length = 0 if ends else None
        expects = False
        urgency, is_incremental = DEFAULT_URGENCY, False
        if layout.is_plain:
            headers.insert(0, (b"host", fields[layout.authority][1]))
        else:
            if layout.length != _NONE:
                length = int(fields[layout.length][1])
                if ends and length:
                    raise _malformed("Content-Length announces a body that does not come")
            if layout.expect != _NONE:
                if any(value.lower() != b"100-continue" for name, value in headers if name == b"expect"):
                    raise ProtocolError(417, "only 100-continue can be expected")
                expects = length != 0
            if layout.priorities:
                priority = b",".join([fields[place][1] for place in layout.priorities])
                urgency, is_incremental = read_priority(priority)
            headers = _headers(fields, layout)
        if len(headers) > self._count_limit:
            raise _too_large()
        target, _, query = path.partition(b"?")
        return H2Request(
            method,
            path,
            target,
            query,
            headers,
            "2",
            expects,
            length,
            scheme,
            protocol,
            urgency,
            is_incremental,
        )


def _headers(fields: list[Field], layout: _Layout) -> Headers:
    """The fields as HTTP/1 has them: Host first if it is :authority, and one Cookie field."""
    left_out = set(layout.cookies[1:])
    headers: Headers = []
    if layout.authority != _NONE:
        authority = fields[layout.authority][1]
        headers.append((b"host", authority))
        if layout.host != _NONE:
            if fields[layout.host][1].lower() != authority.lower():
                raise _malformed("the Host field is not :authority")
            left_out.add(layout.host)
    headers += [
        field for place, field in enumerate(fields) if place >= layout.first and place not in left_out
    ]
    if layout.cookies:
        cookie = b"; ".join([fields[place][1] for place in layout.cookies])
        place = next(place for place, (name, _) in enumerate(headers) if name == b"cookie")
        headers[place] = (b"cookie", cookie)
    return headers


def _too_large() -> ProtocolError:
    return ProtocolError(431, "the header section is too large")
