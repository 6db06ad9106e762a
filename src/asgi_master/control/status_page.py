"""The status page: one file without requests to elsewhere, which `/events` keeps up to date."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from asgi_master.control.connection import Response

_FILE = Path(__file__).with_name("status_page.html")
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def status_page(*, has_actions: bool) -> Response:
    """The page; its policy (CSP) lets nothing run but its own script and style. Raises `OSError` at the first call.

    `has_actions`: with buttons.
    """
    page = _FILE.read_bytes()
    if has_actions:
        page = page.replace(b'<meta name="actions" content="off">', b'<meta name="actions" content="on">')
    sources = {name.decode(): _source(text) for name, text in _INLINE.findall(page)}
    policy = (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = [
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ]
    return Response(200, page, "text/html; charset=utf-8", headers)


def _source(text: bytes) -> str:
    """An inline script or style as a source expression of CSP (level 3, §6.7.2.3)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
