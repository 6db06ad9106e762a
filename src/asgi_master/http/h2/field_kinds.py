"""What each field of a request is, and which rule it breaks by itself (RFC 9113 §8.2, §8.3).

A field is judged once, when it is decoded, and kept in HPACK's table with the result: its kind, which is one byte. So
the kinds of a whole head are a byte string, made by one `bytes.translate`, and heads with equal ones are of one layout.
"""

import re
from typing import Final

from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.grammar import FIELD_TEXT, TARGET_TEXT, TOKEN, is_any_host, is_token
from asgi_master.http.message import MOST_LENGTH_DIGITS

METHOD: Final = ord("m")
CONNECT: Final = ord("k")
"""`:method` with this value: it has rules of its own (RFC 9113 §8.5, RFC 8441 §4)."""
SCHEME: Final = ord("s")
OTHER_SCHEME: Final = ord("t")
"""`:scheme`, neither http nor https."""
AUTHORITY: Final = ord("a")
PATH: Final = ord("p")
ASTERISK: Final = ord("*")
"""`:path` with this value, which goes with OPTIONS (RFC 9113 §8.3.1)."""
PROTOCOL: Final = ord("o")

PSEUDO_KINDS: Final = bytes((METHOD, CONNECT, SCHEME, OTHER_SCHEME, AUTHORITY, PATH, ASTERISK, PROTOCOL))
"""Those of pseudo-fields that are in order."""

REGULAR: Final = ord("f")
COOKIE: Final = ord("c")
HOST: Final = ord("h")
CONTENT_LENGTH: Final = ord("l")
EXPECT: Final = ord("e")
PRIORITY: Final = ord("r")

REGULAR_KINDS: Final = bytes((REGULAR, COOKIE, HOST, CONTENT_LENGTH, EXPECT, PRIORITY))
"""Those of other fields that are in order."""

_BAD_NAME: Final = ord("0")
_BAD_VALUE: Final = ord("1")
_CONNECTION: Final = ord("2")
_TE: Final = ord("3")
_UNKNOWN: Final = ord("4")
_BAD_METHOD: Final = ord("5")
_BAD_SCHEME: Final = ord("6")
_BAD_HOST: Final = ord("7")
_BAD_PATH: Final = ord("8")
_BAD_LENGTH: Final = ord("9")

FAULTS: Final = {
    _BAD_NAME: "a field name is not a token in lower case",
    _BAD_VALUE: "a field value holds a control character, or white space around it",
    _CONNECTION: "a field is about the connection",
    _TE: "the TE field says more than trailers",
    _UNKNOWN: "a pseudo-field is not one of a request",
    _BAD_METHOD: "the method, or the protocol, is not a token",
    _BAD_SCHEME: "the scheme is not one",
    _BAD_HOST: "the authority, or the Host field, is not a host",
    _BAD_PATH: "the path is not one, or holds a character that must be percent-encoded",
    _BAD_LENGTH: "Content-Length is not a number, or out of bounds",
}
"""The kinds of malformed fields, and what is wrong with them."""

CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
"""Those that HTTP/2 does not have (RFC 9113 §8.2.2)."""

_NAMES: Final = {
    b":method": METHOD,
    b":scheme": SCHEME,
    b":authority": AUTHORITY,
    b":path": PATH,
    b":protocol": PROTOCOL,
    b"cookie": COOKIE,
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"expect": EXPECT,
    b"priority": PRIORITY,
    b"te": _TE,
    **dict.fromkeys(CONNECTION_FIELDS, _CONNECTION),
}
_NOT_IN_NAME = bytes(byte not in TOKEN or chr(byte).isupper() for byte in range(256))
_NOT_IN_FIELD = bytes(byte not in FIELD_TEXT for byte in range(256))
_NOT_IN_TARGET = bytes(byte not in TARGET_TEXT for byte in range(256))
"""For each byte whether it is out of place. A table is faster here than to delete what is allowed."""

_SCHEME = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.\-]*")

_LONGEST_REMEMBERED = 64
_remembered: BoundedCache[bytes, int] = BoundedCache(1024)


def kind_of(name: bytes, value: bytes) -> int:
    """The kind of this field. It is one of `FAULTS` if the field makes its request malformed."""
    kind = _remembered.get(name)
    if kind is None:
        kind = _kind_of_name(name)
    if kind == PATH:
        return kind_of_path(value)
    if 1 in value.translate(_NOT_IN_FIELD) or value.strip() != value:
        return kind if kind in FAULTS else _BAD_VALUE
    return kind if kind in (REGULAR, COOKIE) else _judged(kind, value)


def kind_of_path(value: bytes) -> int:
    """The kind of `:path` with this value."""
    if 1 in value.translate(_NOT_IN_TARGET):
        return _BAD_PATH
    return PATH if value[:1] == b"/" else ASTERISK if value == b"*" else _BAD_PATH


def _kind_of_name(name: bytes) -> int:
    kind = _NAMES.get(name)
    if kind is None:
        if name[:1] == b":":
            kind = _UNKNOWN
        elif not name or 1 in name.translate(_NOT_IN_NAME):
            kind = _BAD_NAME
        else:
            kind = REGULAR
    if len(name) <= _LONGEST_REMEMBERED:
        _remembered.offer(name, kind)
    return kind


def _judged(kind: int, value: bytes) -> int:
    """The kind of a field whose value has rules of its own."""
    if kind == METHOD:
        return CONNECT if value == b"CONNECT" else METHOD if is_token(value) else _BAD_METHOD
    if kind == SCHEME:
        if value in (b"https", b"http"):
            return SCHEME
        return OTHER_SCHEME if _SCHEME.fullmatch(value) else _BAD_SCHEME
    if kind == AUTHORITY:
        return AUTHORITY if value and is_any_host(value) else _BAD_HOST
    if kind == HOST:
        return HOST if is_any_host(value) else _BAD_HOST
    if kind == CONTENT_LENGTH:
        return CONTENT_LENGTH if value.isdigit() and len(value) <= MOST_LENGTH_DIGITS else _BAD_LENGTH
    if kind == PROTOCOL:
        return PROTOCOL if is_token(value) else _BAD_METHOD
    if kind == _TE:
        return REGULAR if value.lower() == b"trailers" else _TE
    return kind
