"""A WebSocket's opening handshake by upgrade from HTTP/1.1 (RFC 6455 §4.2, RFC 9110 §7.8)."""

import binascii
from base64 import b64encode
from hashlib import sha1
from typing import Final

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h1.request_head import H1Request
from asgi_master.http.message import Fields
from asgi_master.http.websocket.handshake import items, values_of

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16


def read_key(request: H1Request) -> bytes:
    """The key of a handshake by upgrade from HTTP/1.1 (RFC 6455 §4.2.1). Raises `ProtocolError`."""
    if request.method != "GET" or request.http_version != "1.1" or not is_websocket_upgrade(request):
        raise ProtocolError(400, "not a WebSocket handshake")
    keys = values_of(request, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise ProtocolError(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return keys[0]


def is_websocket_upgrade(request: H1Request) -> bool:
    """Whether WebSocket is among the protocols that a request would upgrade to (RFC 9110 §7.8)."""
    return b"websocket" in items([request.upgrade or b""])


def _is_key(text: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(text, strict_mode=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def accept_token(key: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept (RFC 6455 §4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def switching_protocols(key: bytes, fields: Fields, defaults: dict[bytes, bytes]) -> bytes:
    """The head that accepts an upgrade from HTTP/1.1 (RFC 6455 §4.2.2).

    `defaults` are the server's header lines by lower-case name; one stands back where `fields` have the same name.
    """
    names = {name.lower() for name, _ in fields}
    return b"".join(
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n",
            b"sec-websocket-accept: %b\r\n" % accept_token(key),
            *(b"%b: %b\r\n" % field for field in fields),
            *(line for name, line in defaults.items() if name not in names),
            b"\r\n",
        )
    )
