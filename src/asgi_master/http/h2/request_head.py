"""The head of an HTTP/2 request: every rule it must obey (RFC 9113 §8.1 to §8.3, RFC 8441 §4).

What a field breaks by itself is judged in `field_kinds`, when it is decoded; what the fields' kinds and order break, in
`layouts`. Here is what depends on their values.
"""

import sys
from itertools import chain
from typing import Final

from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.errors import ProtocolError
from asgi_master.http.h2 import huffman
from asgi_master.http.h2.engine import H2Request
from asgi_master.http.h2.field_kinds import PATH, REGULAR_KINDS, kind_of_path
from asgi_master.http.h2.hpack import FieldDecoder
from asgi_master.http.h2.layouts import KNOWN_LAYOUTS, Details, Layout, layout_of, malformed
from asgi_master.http.h2.priority import DEFAULT_URGENCY, read_priority
from asgi_master.http.limits import HttpLimits
from asgi_master.http.message import Field, Headers
from asgi_master.http.methods import METHOD_NAMES, other_method

_FIELD_OVERHEAD: Final = 32
"""Of each field in the size of a header section, beside its name and its value (RFC 9113 §6.5.2)."""

_MOST_BYTES: Final = 1024
"""Larger heads are not kept, so that ten thousand idle connections do not hold much."""
_LONGEST_PATH: Final = 126
"""Bytes of a coded path whose length is one byte (RFC 7541 §5.1)."""

_MOST_MISSES: Final = 4
"""Heads in a row that repeat nothing of the one before, after which a connection's heads are not kept."""
_NEXT_TRY: Final = 64
"""One of this many is kept then, in case that they repeat themselves again."""


_paths: BoundedCache[bytes, tuple[bytes, bytes, bytes]] = BoundedCache(1024)
_LONGEST_KEPT_PATH: Final = 64


def _path_of(string: bytes) -> tuple[bytes, bytes, bytes] | None:
    """The path of this HPACK string of less than 128 bytes, its target and its query; `None` if it is none."""
    path = string[1:]
    if string[0] & 0x80:
        try:
            path = huffman.decode(path)
        except ValueError:
            return None
    if kind_of_path(path) != PATH:
        return None
    target, _, query = path.partition(b"?")
    parts = (path, target, query)
    if len(string) <= _LONGEST_KEPT_PATH:
        _paths.offer(string, parts)
    return parts


class RequestDecoder:
    """Decodes the heads and trailers of one connection's requests, in the order in which they came.

    All of them must come here, also those of streams that are closed, as each may change HPACK's table.

    A head is kept with its request while it and the next ones leave the table alone: a client that has sent its fields
    once repeats the whole head in its next request, or all but the path.
    """

    __slots__ = (
        "_after",
        "_before",
        "_block",
        "_count_limit",
        "_ends",
        "_fields",
        "_misses",
        "_path_limit",
        "_request",
        "_size_limit",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._count_limit = limits.header_count or sys.maxsize
        self._size_limit = limits.header_bytes or sys.maxsize
        self._path_limit = limits.request_line or sys.maxsize
        # A list of twice as many fields as can be within the limit is decoded and refused, a longer one not decoded.
        self._fields = FieldDecoder(2 * self._size_limit // _FIELD_OVERHEAD)
        self._block: bytes | None = None  # of the request that is kept
        self._ends = False
        self._request: H2Request | None = None
        self._before = b""  # its block before the string of its path; empty if the path is in the table
        self._after = b""  # its block behind that
        self._misses = 0  # heads in a row that repeated nothing of the one before

    def decode(self, block: bytes, ends: bool) -> H2Request:
        """The request whose head is this field block; `ends` is whether it has no body and no trailers.

        Requests with the same head may be one object. Raises `ConnectionError` for what breaks HPACK and for far too
        many fields, and, with the table as it must be: `StreamError` for a malformed request (RFC 9113 §8.1.1),
        `ProtocolError` for one that is well-formed but not served.
        """
        if self._block is not None and ends is self._ends:
            if block == self._block:
                assert self._request is not None
                self._misses = 0
                return self._request
            if self._before and block.startswith(self._before) and block.endswith(self._after):
                request = self._with_other_path(block)
                if request is not None:
                    return request
        fields, kinds, is_changed = self._decoded(block)
        layout = KNOWN_LAYOUTS.get(kinds) or layout_of(kinds)
        request = self._request_of(fields, layout, ends)
        if not is_changed:
            self._misses += 1
            if self._misses < _MOST_MISSES or not self._misses % _NEXT_TRY:
                self._keep(block, ends, request)
        return request

    def decode_trailers(self, block: bytes) -> None:
        """Judge the trailer fields that are this field block, and drop them. Raises as `decode` does."""
        fields, kinds, _ = self._decoded(block)
        if len(fields) > self._count_limit:
            raise _too_large()
        if kinds.translate(None, REGULAR_KINDS):
            raise malformed("trailers hold a pseudo-field, or a malformed one")

    def _decoded(self, block: bytes) -> tuple[list[Field], bytes, bool]:
        """The fields of a block, their kinds, and whether they changed HPACK's table."""
        decoder = self._fields
        fields, kinds = decoder.decode(block)
        is_changed = decoder.is_changed
        if is_changed:
            decoder.is_changed = False
            self._block = None
        # Most heads are small, whatever is in the table; only of the others the size is summed up.
        count = len(fields)
        if (
            count * (decoder.largest + _FIELD_OVERHEAD) + 2 * len(block) > self._size_limit
            and sum(map(len, chain.from_iterable(fields))) + count * _FIELD_OVERHEAD > self._size_limit
        ):
            raise _too_large()
        return fields, kinds, is_changed

    def _keep(self, block: bytes, ends: bool, request: H2Request) -> None:
        """Keep this head, which did not change the table."""
        if len(block) > _MOST_BYTES:
            self._block = None
            return
        self._block, self._ends, self._request = block, ends, request
        path = self._fields.path
        self._before, self._after = (block[: path[0]], block[path[1] :]) if path else (b"", b"")

    def _with_other_path(self, block: bytes) -> H2Request | None:
        """The request of a head that differs from the one that is kept in its path, which it becomes.

        `None` if it differs in something else, or its path must be judged with the rest of it.
        """
        start = len(self._before)
        end = len(block) - len(self._after)
        size = end - start - 1
        if not 0 < size <= _LONGEST_PATH or size != block[start] & 0x7F:
            return None
        string = block[start:end]
        parts = _paths.get(string) or _path_of(string)
        if parts is None or len(parts[0]) > self._path_limit:
            return None
        path, target, query = parts
        known = self._request
        assert known is not None
        request = H2Request(
            known.method,
            path,
            target,
            query,
            known.headers,
            "2",
            known.expect_continue,
            known.body_length,
            known.scheme,
            known.protocol,
            known.urgency,
            known.is_incremental,
        )
        self._block = block
        self._request = request
        self._misses = 0
        return request

    def _request_of(self, fields: list[Field], layout: Layout, ends: bool) -> H2Request:
        method_at, scheme_at, path_at, authority_at, first, details = layout
        method = METHOD_NAMES.get(fields[method_at][1])
        if method is None:
            is_extended = details is not None and details.protocol >= 0
            method = "CONNECT" if is_extended else other_method(fields[method_at][1])
        path = fields[path_at][1]
        if len(path) > self._path_limit:
            raise ProtocolError(414, "the path is too long")
        length = 0 if ends else None
        expects = is_incremental = False
        urgency = DEFAULT_URGENCY
        protocol = None
        if details is None:
            headers = fields[first:]
            headers.insert(0, (b"host", fields[authority_at][1]))
        else:
            if details.is_asterisk and method != "OPTIONS":
                raise malformed("the path * goes with OPTIONS only")
            if details.protocol >= 0:
                protocol = fields[details.protocol][1]
            if details.length >= 0:
                length = int(fields[details.length][1])
                if ends and length:
                    raise malformed("Content-Length announces a body that does not come")
            if details.expects:
                if len(details.expects) > 1 or fields[details.expects[0]][1].lower() != b"100-continue":
                    raise ProtocolError(417, "only 100-continue can be expected")
                expects = length != 0
            if details.priorities:
                priority = b",".join([fields[place][1] for place in details.priorities])
                urgency, is_incremental = read_priority(priority)
            headers = _headers(fields, first, authority_at, details)
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
            fields[scheme_at][1],
            protocol,
            urgency,
            is_incremental,
        )


def _headers(fields: list[Field], first: int, authority_at: int, details: Details) -> Headers:
    """The fields as HTTP/1 has them: Host first if it is :authority, and one Cookie field."""
    left_out = set(details.cookies[1:])
    headers: Headers = []
    if authority_at >= 0:
        authority = fields[authority_at][1]
        headers.append((b"host", authority))
        if details.host >= 0:
            if fields[details.host][1].lower() != authority.lower():
                raise malformed("the Host field is not :authority")
            left_out.add(details.host)
    cookies = details.cookies
    for place in range(first, len(fields)):
        if cookies and place == cookies[0]:
            headers.append((b"cookie", b"; ".join([fields[cookie][1] for cookie in cookies])))
        elif place not in left_out:
            headers.append(fields[place])
    return headers


def _too_large() -> ProtocolError:
    return ProtocolError(431, "the header section is too large")
