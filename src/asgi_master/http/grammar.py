"""The characters and forms that RFC 9110 and 9112 allow, as tables that C code can apply."""

import re

from asgi_master.http.bounded_cache import BoundedCache

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""tchar, RFC 9110 §5.6.2. `text.translate(None, TOKEN)` leaves what is not allowed."""

FIELD_TEXT = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
"""What a field value may hold, RFC 9110 §5.5: no control character but the tab."""

HEAD_TEXT = FIELD_TEXT + b"\r\n"
"""What a whole header section may hold; where CR and LF may stand is checked apart."""

TARGET_TEXT = bytes(range(0x21, 0x7F)).replace(b"#", b"")
"""What a request target may hold: visible ASCII, without the fragment that never travels (RFC 9110 §7.1)."""

HEX_DIGITS = b"0123456789abcdefABCDEF"

# uri-host [":" port] of RFC 3986 §3.2.2, without userinfo.
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-fvV:.]+\])(?::[0-9]{0,5})?")


def is_token(text: bytes | bytearray) -> bool:
    """Whether this is a token: a method, a field name, an option."""
    return bool(text) and not text.translate(None, TOKEN)


def is_any_host(text: bytes) -> bool:
    """Whether this may stand in a Host field. It may be empty (RFC 9112 §3.2)."""
    return _HOST.fullmatch(text) is not None


LONGEST_NAME = 253
"""Bytes of a host's name in the DNS (RFC 1035 §2.3.4)."""

KNOWN_HOSTS: BoundedCache[bytes, None] = BoundedCache(256)
"""Some that are valid: look here before `is_host` is called, which is true of each."""


def is_host(text: bytes) -> bool:
    """The same, and remembered: up to `LONGEST_NAME`, as a client must not fill memory with longer ones."""
    if not is_any_host(text):
        return False
    if len(text) <= LONGEST_NAME:
        KNOWN_HOSTS.offer(text, None)
    return True
