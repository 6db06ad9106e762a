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
def status_page() -> Response:
    """The page, with a policy that lets only its own script and style run. Raises `OSError` at the first call."""
    page = _FILE.read_bytes()
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
