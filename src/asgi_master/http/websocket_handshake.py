"""The opening handshake (RFC 6455 §4.2): what makes a request one, and how it is accepted."""

import binascii
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1
from typing import Final

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import FIELD_TEXT, is_token
from asgi_master.http.request import Request
from asgi_master.http.websocket_deflate import DeflateParameters

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = b"13"
_KEY_BYTES: Final = 16
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

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Handshake:
    """A valid opening handshake of a client."""

    key: bytes
    subprotocols: list[str]
    """In the client's order of preference."""
    deflate: DeflateParameters | None
    """The first permessage-deflate offer that can be met; `None` if there is none or it is switched off."""


def read_handshake(request: Request, *, per_message_deflate: bool) -> Handshake:
    """Check a request by RFC 6455 §4.2.1. Raises `ProtocolError`: 426 for another version, else 400."""
    upgrade = _items([request.upgrade or b""])
    if request.method != "GET" or request.http_version != "1.1" or b"websocket" not in upgrade:
        raise ProtocolError(400, "not a WebSocket handshake")
    if request.body_length != 0:
        raise ProtocolError(400, "a WebSocket handshake has no body")
    fields: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        if name.startswith(b"sec-websocket-"):
            fields.setdefault(name, []).append(value)
    if fields.get(b"sec-websocket-version") != [_VERSION]:
        raise ProtocolError(426, "only version 13 of the WebSocket protocol is spoken here")
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        raise ProtocolError(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return Handshake(
        keys[0],
        [item.decode("latin-1") for item in _items(fields.get(b"sec-websocket-protocol", []))],
        _choose_deflate(fields.get(b"sec-websocket-extensions", [])) if per_message_deflate else None,
    )


def _is_key(text: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(text, strict_mode=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _items(values: list[bytes]) -> list[bytes]:
    """The members of a comma-separated list field (RFC 9110 §5.6.1)."""
    return [item for value in values for piece in value.split(b",") if (item := piece.strip(b" \t"))]


def _choose_deflate(values: list[bytes]) -> DeflateParameters | None:
    for offer in _items(values):
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
    # The client may say no number: then it only tells that it would understand one. We read any window.
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


def accept_token(key: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept (RFC 6455 §4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def accept_head(
    handshake: Handshake,
    *,
    subprotocol: str | None,
    headers: Headers,
    defaults: dict[bytes, bytes],
) -> bytes:
    """The answer that opens the connection. `defaults` are the server's header lines by lower-case name.

    A default stands back where the application sets the same header.

    Raises `ValueError` for a subprotocol that was not offered, and for headers that cannot stand here.
    """
    lines = [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n",
        b"sec-websocket-accept: %b\r\n" % accept_token(handshake.key),
    ]
    if subprotocol is not None:
        if subprotocol not in handshake.subprotocols:
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        lines.append(b"sec-websocket-protocol: %b\r\n" % subprotocol.encode("latin-1"))
    if handshake.deflate is not None:
        lines.append(b"sec-websocket-extensions: %b\r\n" % handshake.deflate.header())
    names = set()
    for name, value in headers:
        names.add(name.lower())
        lines.append(_line(name, value))
    if names & _OURS:
        taken = b", ".join(sorted(names & _OURS)).decode()
        raise ValueError(f"the application cannot set {taken} when it accepts a WebSocket")
    lines += [line for name, line in defaults.items() if name not in names]
    lines.append(b"\r\n")
    return b"".join(lines)


def upgrade_required() -> tuple[tuple[bytes, bytes], ...]:
    """What a 426 must say besides (RFC 6455 §4.2.2, RFC 9110 §15.5.22)."""
    return ((b"sec-websocket-version", _VERSION), (b"upgrade", b"websocket"))


def _line(name: bytes, value: bytes) -> bytes:
    if not is_token(name) or value.translate(None, FIELD_TEXT):
        raise ValueError(f"the header {name!r}: {value!r} is not well-formed")
    return b"%b: %b\r\n" % (name, value)
