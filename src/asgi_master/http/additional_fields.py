"""Fields of a response that are not in its head: those of interim responses and of its end (RFC 9110 §6.5, §15.2)."""

from collections.abc import Iterable
from typing import Final

from asgi_master.http.grammar import FIELD_TEXT, is_token
from asgi_master.http.message import Field, Fields, field_bytes

_LINK: Final = b"link"

_FORBIDDEN_TRAILERS: Final = frozenset(
    (
        # message framing, the connection, and routing
        b"connection", b"content-length", b"host", b"keep-alive", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
        # how the content is to be processed
        b"content-encoding", b"content-range", b"content-type",
        # authentication, cookies included
        b"authorization", b"cookie", b"proxy-authenticate", b"proxy-authorization", b"set-cookie",
        b"www-authenticate",
        # what a request modifies, and what controls a response
        b"age", b"cache-control", b"date", b"expect", b"expires", b"if-match", b"if-modified-since",
        b"if-none-match", b"if-range", b"if-unmodified-since", b"location", b"max-forwards", b"pragma",
        b"range", b"retry-after", b"vary", b"warning",
    )
)  # fmt: skip
"""What its recipient needs before the content, or for more than reading it (RFC 9110 §6.5.1)."""


def trailers(fields: Iterable[Iterable[bytes]]) -> Fields:
    """Trailer fields, checked, with their names in lower case.

    Raises `ValueError` for one that may not come there or is malformed, `TypeError` for what is not bytes.
    """
    return tuple(_trailer(name, value) for name, value in fields)


def links(values: Iterable[bytes]) -> Fields:
    """The Link fields with these values (RFC 8288 §3), checked. Raises `ValueError` or `TypeError`."""
    return tuple((_LINK, _checked(_LINK, value)) for value in values)


def _trailer(name: bytes, value: bytes) -> Field:
    lower = field_bytes(name, name).lower()
    if not is_token(lower):
        raise ValueError(f"trailer name {name!r} is not a token")
    if lower in _FORBIDDEN_TRAILERS:
        raise ValueError(f"{name!r} may not be a trailer (RFC 9110 §6.5.1)")
    return lower, _checked(name, value)


def _checked(name: bytes, value: object) -> bytes:
    text = field_bytes(name, value)
    if text.translate(None, FIELD_TEXT):
        raise ValueError(f"field {name!r} holds a control character: {text!r}")
    return text
