"""The methods of requests, and which of them are served (RFC 9110 §9)."""

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import is_token

COMMON_METHODS = frozenset(("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))
"""The methods of RFC 9110 §9 and PATCH, without CONNECT."""

METHOD_NAMES = {name.encode(): name for name in COMMON_METHODS}


def other_method(method: bytes) -> str:
    """The name of a method that is not in `METHOD_NAMES`. Raises `ProtocolError`."""
    if not is_token(method):
        raise ProtocolError(400, "the method is not a token")
    # ASGI has methods in upper case; `get` is not GET (RFC 9110 §9.1), and must not become it.
    if method == b"CONNECT" or method != method.upper():
        raise ProtocolError(501, "this method is not implemented")
    return method.decode("ascii")
