"""The rules of a request's head once more, one after the other as RFC 9113 has them, to compare the fast ones with.

`request_head` and `layouts` have the same refusals, in the same order.
"""

import re
import sys
from typing import Final

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import FIELD_TEXT, TARGET_TEXT, is_any_host, is_token
from asgi_master.http.h2.engine import H2Request
from asgi_master.http.h2.errors import ErrorCode, StreamError
from asgi_master.http.h2.priority import read_priority
from asgi_master.http.limits import HttpLimits
from asgi_master.http.message import MOST_LENGTH_DIGITS, Field, Headers
from asgi_master.http.methods import METHOD_NAMES, other_method

_PSEUDO: Final = (b":method", b":scheme", b":path", b":authority", b":protocol")
_ONCE: Final = (*_PSEUDO, b"host", b"content-length")
_OF_THE_CONNECTION: Final = (
    b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade",
)  # fmt: skip
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")


def request_of(fields: list[Field], ends: bool, limits: HttpLimits) -> H2Request:
    """The request with these fields, pseudo-fields included; `ends` is whether nothing follows its head.

    Raises `StreamError` for a malformed request (RFC 9113 §8.1.1), `ProtocolError` for one that is not served.
    """
    _check_size(fields, limits)
    for name, value in fields:
        _check_field(name, value)
    names = [name for name, _ in fields]
    if any(names.count(name) > 1 for name in _ONCE):
        raise _malformed("a field comes more than once")
    places = [place for place, name in enumerate(names) if name in _PSEUDO]
    if places != list(range(len(places))):
        raise _malformed("a pseudo-field comes after other fields")
    pseudo = dict(fields[: len(places)])
    headers = fields[len(places) :]
    _check_pseudo(pseudo, headers)
    method = pseudo[b":method"]
    is_tunnel = b":protocol" in pseudo
    method_name = "CONNECT" if is_tunnel else METHOD_NAMES.get(method) or other_method(method)
    path = pseudo[b":path"]
    if len(path) > (limits.request_line or sys.maxsize):
        raise ProtocolError(414, "the path is too long")
    if path == b"*" and method_name != "OPTIONS":
        raise _malformed("the path * goes with OPTIONS only")
    length = _length(headers, ends)
    expectations = _values(headers, b"expect")
    if expectations and (len(expectations) > 1 or expectations[0].lower() != b"100-continue"):
        raise ProtocolError(417, "only 100-continue can be expected")
    urgency, is_incremental = read_priority(b",".join(_values(headers, b"priority")))
    headers = _as_of_http_1(headers, pseudo.get(b":authority"))
    _check_count(headers, limits)
    target, _, query = path.partition(b"?")
    return H2Request(
        method=method_name,
        target=path,
        raw_path=target,
        query_string=query,
        headers=headers,
        http_version="2",
        expect_continue=bool(expectations) and length != 0,
        body_length=length,
        scheme=pseudo[b":scheme"],
        protocol=pseudo.get(b":protocol"),
        urgency=urgency,
        is_incremental=is_incremental,
    )


def check_trailers(fields: list[Field], limits: HttpLimits) -> None:
    """Judge the trailer fields of a request. Raises as `request_of`."""
    _check_size(fields, limits)
    _check_count(fields, limits)
    for name, value in fields:
        _check_field(name, value)
        if name in _PSEUDO:
            raise _malformed("a pseudo-field among the trailers")


def _malformed(reason: str) -> StreamError:
    return StreamError(ErrorCode.PROTOCOL_ERROR, reason)


def _too_large() -> ProtocolError:
    return ProtocolError(431, "the header section is too large")


def _check_size(fields: list[Field], limits: HttpLimits) -> None:
    """RFC 9113 §6.5.2: what SETTINGS_MAX_HEADER_LIST_SIZE counts."""
    if sum(len(name) + len(value) + 32 for name, value in fields) > (limits.header_bytes or sys.maxsize):
        raise _too_large()


def _check_count(fields: list[Field], limits: HttpLimits) -> None:
    if len(fields) > (limits.header_count or sys.maxsize):
        raise _too_large()


def _check_field(name: bytes, value: bytes) -> None:
    """What a field can break by itself (RFC 9113 §8.2, §8.3)."""
    if value.translate(None, FIELD_TEXT) or value != value.strip():
        raise _malformed("a field value holds a control character, or white space around it")
    if name[:1] == b":":
        if name not in _PSEUDO:
            raise _malformed("a pseudo-field that no request has")
    elif not is_token(name) or name != name.lower():
        raise _malformed("a field name is not a token in lower case")
    if name in _OF_THE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise _malformed("a field is about the connection")
    if not _is_valid(name, value):
        raise _malformed("a field value is not one of its field")


def _is_valid(name: bytes, value: bytes) -> bool:
    match name:
        case b":method" | b":protocol":
            return is_token(value)
        case b":scheme":
            return _SCHEME.fullmatch(value) is not None
        case b":path":
            return not value.translate(None, TARGET_TEXT) and (value[:1] == b"/" or value == b"*")
        case b":authority":
            return value != b"" and is_any_host(value)
        case b"host":
            return is_any_host(value)
        case b"content-length":
            return value.isdigit() and len(value) <= MOST_LENGTH_DIGITS
    return True


def _check_pseudo(pseudo: dict[bytes, bytes], headers: Headers) -> None:
    """RFC 9113 §8.3.1, §8.5; RFC 8441 §4."""
    is_connect, is_tunnel = pseudo.get(b":method") == b"CONNECT", b":protocol" in pseudo
    if is_connect and not is_tunnel:
        if b":authority" not in pseudo or b":scheme" in pseudo or b":path" in pseudo:
            raise _malformed("CONNECT has :authority, and neither :scheme nor :path")
        raise ProtocolError(501, "this method is not implemented")
    if not {b":method", b":scheme", b":path"} <= pseudo.keys():
        raise _malformed(":method, :scheme or :path is missing")
    if is_tunnel and not is_connect:
        raise _malformed(":protocol goes with CONNECT only")
    if b":authority" not in pseudo and not any(name == b"host" for name, _ in headers):
        raise ProtocolError(400, "neither :authority nor a Host field")
    if pseudo[b":scheme"] not in (b"http", b"https"):
        raise ProtocolError(400, "the scheme is neither http nor https")


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for other, value in headers if other == name]


def _length(headers: Headers, ends: bool) -> int | None:
    """Bytes of the body; `None` if it is not known."""
    lengths = _values(headers, b"content-length")
    if not lengths:
        return 0 if ends else None
    length = int(lengths[0])
    if ends and length:
        raise _malformed("Content-Length announces a body that does not come")
    return length


def _as_of_http_1(headers: Headers, authority: bytes | None) -> Headers:
    """Host first if it is :authority (RFC 9113 §8.3.1), and one Cookie field (§8.2.3)."""
    if authority is not None:
        for host in _values(headers, b"host"):
            if host.lower() != authority.lower():
                raise _malformed("the Host field is not :authority")
        headers = [(b"host", authority), *(field for field in headers if field[0] != b"host")]
    cookies = _values(headers, b"cookie")
    if len(cookies) < 2:
        return headers
    merged: Headers = []
    for name, value in headers:
        if name != b"cookie":
            merged.append((name, value))
        elif cookies:
            merged.append((name, b"; ".join(cookies)))
            cookies = []
    return merged
