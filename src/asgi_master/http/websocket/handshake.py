"""The part of the opening handshake that is the same in every version of HTTP (RFC 6455 §4.2, RFC 8441)."""

from collections.abc import Iterable
from typing import Final

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import FIELD_TEXT, is_token
from asgi_master.http.message import Field, Fields, Request
from asgi_master.http.websocket.deflate import DeflateParameters
from asgi_master.records import record

_VERSION: Final = b"13"
_WINDOW_BITS: Final = frozenset(b"%d" % bits for bits in range(8, 16))

_OURS: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields of the answer that the application cannot set: the handshake says them, or has no body for them."""


@record
class Handshake:
    """What a client offers in a valid handshake."""

    subprotocols: list[str]
    """In the client's order of preference."""
    deflate: DeflateParameters | None
    """The first permessage-deflate offer that can be met; `None` if there is none or it is switched off."""


def read_handshake(request: Request, *, per_message_deflate: bool) -> Handshake:
    """Check what a handshake says in every version of HTTP.

    Raises `ProtocolError`: 426 for another version of WebSocket, else 400.
    """
    if request.body_length != 0 and request.method != "CONNECT":  # whose stream goes on instead
        raise ProtocolError(400, "a WebSocket handshake has no body")
    if values_of(request, b"sec-websocket-version") != [_VERSION]:
        raise ProtocolError(426, "only version 13 of the WebSocket protocol is spoken here")
    return Handshake(
        [item.decode("latin-1") for item in items(values_of(request, b"sec-websocket-protocol"))],
        _choose_deflate(values_of(request, b"sec-websocket-extensions")) if per_message_deflate else None,
    )


def values_of(request: Request, name: bytes) -> list[bytes]:
    """The values of the fields with this name, in lower case."""
    return [value for other, value in request.headers if other == name]


def items(values: list[bytes]) -> list[bytes]:
    """The members of a comma-separated list field (RFC 9110 §5.6.1)."""
    return [item for value in values for piece in value.split(b",") if (item := piece.strip(b" \t"))]


def _choose_deflate(values: list[bytes]) -> DeflateParameters | None:
    for offer in items(values):
        name, *parameters = [piece.strip(b" \t") for piece in offer.split(b";")]
        if name.lower() == b"permessage-deflate":
            agreed = _read_deflate(parameters)
            if agreed is not None:
                return agreed
    return None


def _read_deflate(parameters: list[bytes]) -> DeflateParameters | None:
    """One offer; `None` declines it, as RFC 7692 §7 asks for any unknown, repeated or invalid parameter."""
    given: dict[bytes, bytes] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition(b"=")
        name = name.rstrip(b" \t").lower()
        value = value.lstrip(b" \t")
        if len(value) >= 2 and value[:1] == value[-1:] == b'"':
            value = value[1:-1]
        if name in given or bool(equals) != bool(value):
            return None
        given[name] = value
    server_no_context = given.pop(b"server_no_context_takeover", None)
    client_no_context = given.pop(b"client_no_context_takeover", None)
    server_bits = given.pop(b"server_max_window_bits", None)
    client_bits = given.pop(b"client_max_window_bits", None)
    if given or server_no_context or client_no_context:
        return None
    # Without a number the client only says that it understands the parameter. We read any window.
    if client_bits and client_bits not in _WINDOW_BITS:
        return None
    # zlib cannot write a window of 8 bits.
    if server_bits is not None and (server_bits not in _WINDOW_BITS or server_bits == b"8"):
        return None
    return DeflateParameters(
        server_no_context_takeover=server_no_context is not None,
        client_no_context_takeover=client_no_context is not None,
        server_max_window_bits=None if server_bits is None else int(server_bits),
    )


def accept_fields(handshake: Handshake, *, subprotocol: str | None, headers: Iterable[Field]) -> Fields:
    """The fields of an answer that accepts, in every version of HTTP: the server's, then those of the application.

    Raises `ValueError` for a subprotocol that was not offered, and for headers that cannot stand here.
    """
    fields = []
    if subprotocol is not None:
        if subprotocol not in handshake.subprotocols:
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        fields.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    if handshake.deflate is not None:
        fields.append((b"sec-websocket-extensions", handshake.deflate.header()))
    names = set()
    for name, value in headers:
        if not is_token(name) or value.translate(None, FIELD_TEXT):
            raise ValueError(f"the header {name!r}: {value!r} is not well-formed")
        names.add(name.lower())
        fields.append((name, value))
    if names & _OURS:
        taken = b", ".join(sorted(names & _OURS)).decode()
        raise ValueError(f"the application cannot set {taken} when it accepts a WebSocket")
    return tuple(fields)


def upgrade_required() -> tuple[tuple[bytes, bytes], ...]:
    """What a 426 must say besides (RFC 6455 §4.2.2, RFC 9110 §15.5.22)."""
    return ((b"sec-websocket-version", _VERSION), (b"upgrade", b"websocket"))
