"""Where requests name their session: a cookie, a header, a parameter, a part of the path, the client."""

import re

from asgi_master.records import record

COOKIE, HEADER, QUERY, PATH, CLIENT_IP = "cookie", "header", "query", "path", "client-ip"
OWN = "@"
"""In place of a cookie's name: a cookie of the server's own."""

# RFC 9110 §5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}", re.ASCII)
# As it stands in a query, percent-encoded.
_PARAMETER = re.compile(r"[!$'()*+,./:;?@_~0-9A-Za-z%\[\]-]{1,200}", re.ASCII)


@record
class SessionSource:
    """Where in a request its session is named."""

    kind: str
    name: str = ""
    """A name or, for a path, the regular expression."""


def parse_sticky(text: str) -> SessionSource:
    """The source that `text` names. Raises `ValueError`, whose text completes `<text> ...`."""
    kind, colon, name = text.partition(":")
    kind = kind.strip().lower()
    if kind == CLIENT_IP:
        if colon:
            raise ValueError("has a name: client-ip takes none")
        return SessionSource(kind)
    if kind not in (COOKIE, HEADER, QUERY, PATH):
        raise ValueError("is not cookie:NAME, cookie:@, header:NAME, query:NAME, path:REGEX or client-ip")
    if kind == PATH:
        return SessionSource(kind, _expression(name))
    if kind == COOKIE and name == OWN:
        return SessionSource(kind, name)
    if not (_PARAMETER if kind == QUERY else _TOKEN).fullmatch(name):
        raise ValueError(f"names no {kind}: write {kind}:NAME")
    return SessionSource(kind, name.lower() if kind == HEADER else name)


def _expression(text: str) -> str:
    try:
        groups = re.compile(text.encode("ascii")).groups
    except (re.error, UnicodeEncodeError) as error:
        raise ValueError(f"is no regular expression in ASCII: {error}") from None
    if groups != 1:
        raise ValueError("must have one group, in parentheses: what it matches names the session")
    return text
