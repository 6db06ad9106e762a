"""The head of an HTTP/1 request: every rule it must obey, whichever library parsed it (RFC 9112 §3, §6, §9)."""

import re
from dataclasses import dataclass

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import KNOWN_HOSTS, TARGET_TEXT, is_any_host, is_host
from asgi_master.http.message import MOST_LENGTH_DIGITS, Headers, Request
from asgi_master.http.methods import METHOD_NAMES, other_method

_VERSIONS = {b"1.1": "1.1", b"1.0": "1.0"}
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_SLASH = 0x2F
_NEW = object.__new__

_SPECIAL_FIELDS = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"expect",
        b"te",
        b"sec-fetch-mode",
    )
)


@dataclass(slots=True)
class H1Request(Request):
    """A request of HTTP/1, with what its head says about the connection (RFC 9112 §9)."""

    keep_alive: bool = True
    """Whether the peer wants to go on after this request."""
    upgrade: bytes | None = None
    """The Upgrade field in lower case, if the peer asks for an upgrade (RFC 9110 §7.8)."""
    authority: bytes | None = None
    """Of an absolute-form target; it replaced what the Host field said."""


def read_request_line(line: bytes) -> H1Request:
    """The request of which only the first line is known (RFC 9112 §3). Raises `ProtocolError`."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise ProtocolError(400, "the request line is not: method, target, version")
    method, target, protocol = parts
    if protocol[:5] != b"HTTP/":
        raise _version_error(protocol)
    if not target or target.translate(None, TARGET_TEXT):
        raise ProtocolError(400, "the target holds a character that must be percent-encoded")
    path, _, query = target.partition(b"?")
    return request_of(method, target, path, query, protocol[5:], [])


def request_of(
    method: bytes, target: bytes, path: bytes, query: bytes, version: bytes, headers: Headers
) -> H1Request:
    """The request with this first line, and these fields, which are not judged here. Raises `ProtocolError`.

    `target` is not empty and holds nothing but `TARGET_TEXT`; `path` and `query` are what is left and right of the
    first `?` in it; `version` is what follows `HTTP/`.
    """
    # What is usual is compared, which is faster than to look it up.
    http_version = "1.1" if version == b"1.1" else _VERSIONS.get(version)
    if http_version is None:
        raise _version_error(b"HTTP/" + version)
    name = "GET" if method == b"GET" else METHOD_NAMES.get(method) or other_method(method)
    authority = None
    if target[0] != _SLASH:  # not in origin-form
        if target == b"*":
            if name != "OPTIONS":
                raise ProtocolError(400, "the target * goes with OPTIONS only")
        else:
            authority, path = _absolute_form(name, path, query)
    # Python calls `__init__` of a class with slots from C, which takes as long as all of this.
    request = _NEW(H1Request)
    request.method = name
    request.target = target
    request.raw_path = path
    request.query_string = query
    request.headers = headers
    request.http_version = http_version
    request.keep_alive = http_version == "1.1"
    request.authority = authority
    request.upgrade = None
    request.body_length = 0
    request.expect_continue = request.accepts_trailers = request.accepts_hints = False
    return request


def _version_error(protocol: bytes) -> ProtocolError:
    if _VERSION.fullmatch(protocol):
        return ProtocolError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return ProtocolError(400, "the request line is not: method, target, version")


def _absolute_form(method: str, url: bytes, query: bytes) -> tuple[bytes, bytes]:
    """Authority and path of a target in absolute form (RFC 9112 §3.2.2); `url` is what is left of its query."""
    scheme, separator, rest = url.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise ProtocolError(400, "the target is neither a path nor an http URL")
    authority, slash, path = rest.partition(b"/")
    if not authority or not is_any_host(authority):
        raise ProtocolError(400, "the target has no valid host")
    path = slash + path
    if not path:
        path = b"*" if method == "OPTIONS" and not query else b"/"
    return authority, path


def judge_headers(request: H1Request) -> None:
    """Judge the header fields of a request, and take over what they say. Raises `ProtocolError`.

    They have lower-case names, and values without surrounding white space.
    """
    is_1_1 = request.http_version == "1.1"
    special = _SPECIAL_FIELDS  # of a dozen fields one or two are: to pass over the others is what this costs
    host = None
    others: Headers | None = None  # most requests have none
    for name, value in request.headers:
        if name in special:
            if name == b"host":
                if host is not None:
                    raise ProtocolError(400, "more than one Host field")
                host = value
            elif name == b"sec-fetch-mode":
                # Of browsers alone, and all that send it skip interim responses they do not use (ADR 24).
                request.accepts_hints = is_1_1 and value == b"navigate"
            elif value != b"keep-alive" or not is_1_1 or name != b"connection":
                if others is None:
                    others = []
                others.append((name, value))
    if host is not None:
        if host not in KNOWN_HOSTS and not is_host(host):
            raise ProtocolError(400, "the Host field is not valid")
    elif is_1_1:
        raise ProtocolError(400, "the Host field is missing")
    if request.authority is not None:
        _replace_host(request.headers, request.authority)
    if others:
        _take_over(request, others, is_1_1)


def _take_over(request: H1Request, special: Headers, is_1_1: bool) -> None:
    """Judge fields that most requests do not have."""
    fields = dict(special)
    if len(fields) != len(special):
        # Content-Length may come once; of the others, several of a name are one list (RFC 9110 §5.2).
        if len([name for name, _ in special if name == b"content-length"]) > 1:
            raise ProtocolError(400, "more than one Content-Length field")
        fields = {name: b",".join([value for other, value in special if other == name]) for name in fields}
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if length is not None or coding is not None:
        request.body_length = _body_length(length, coding, is_1_1)
    if (options := fields.get(b"connection")) is not None:
        _apply_connection(request, options, fields.get(b"upgrade"))
    if not is_1_1:
        return
    if (expect := fields.get(b"expect")) is not None:
        if expect.lower() != b"100-continue":
            raise ProtocolError(417, "only 100-continue can be expected")
        request.expect_continue = request.body_length != 0
    if (codings := fields.get(b"te")) is not None:
        request.accepts_trailers = b"trailers" in [item.strip(b" \t") for item in codings.lower().split(b",")]


def _replace_host(headers: Headers, authority: bytes) -> None:
    """RFC 9112 §3.2.2: the host of an absolute-form target counts, not the Host field."""
    for index, (name, _value) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, authority)
            return
    headers.insert(0, (b"host", authority))


def _body_length(length: bytes | None, coding: bytes | None, is_1_1: bool) -> int | None:
    """RFC 9112 §6.3, without the leniency that request smuggling needs."""
    if coding is not None:
        if length is not None:
            raise ProtocolError(400, "both Content-Length and Transfer-Encoding")
        if not is_1_1:
            raise ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
        if coding.lower() != b"chunked":
            raise ProtocolError(501, "chunked is the only transfer coding understood")
        return None
    assert length is not None
    if not length.isdigit():
        raise ProtocolError(400, "Content-Length is not a number")
    if len(length) > MOST_LENGTH_DIGITS:
        raise ProtocolError(400, "Content-Length is out of bounds")
    return int(length)


def _apply_connection(request: H1Request, options: bytes, upgrade: bytes | None) -> None:
    if options == b"close":
        request.keep_alive = False
        return
    tokens = [option.strip(b" \t") for option in options.lower().split(b",")]
    if b"close" in tokens:
        request.keep_alive = False
    elif b"keep-alive" in tokens:
        request.keep_alive = True
    if upgrade is not None and b"upgrade" in tokens and request.http_version == "1.1":
        request.upgrade = upgrade.lower()
