"""The environ of a request (PEP 3333, RFC 3875 §4.1), from what the connection and its proxies say.

Text is what CGI made of bytes: each character of a native string is one byte (PEP 3333, "A Note On String Types").
"""

from typing import Any, Final
from urllib.parse import unquote_to_bytes

from asgi_master.asgi.scope import HttpScopes
from asgi_master.asgi.types import Address
from asgi_master.http.bounded_cache import BoundedCache
from asgi_master.http.message import Request

Environ = dict[str, Any]

_UNPREFIXED: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_WITHHELD: Final = frozenset((b"proxy",))
"""`HTTP_PROXY` configures the HTTP clients of many libraries ("httpoxy", CVE-2016-5385 and others)."""
_JOINTS: Final = {"HTTP_COOKIE": "; "}
"""What joins several lines of a field, if not a comma (RFC 6265 §5.4)."""
_PORTS: Final = {"http": "80", "https": "443"}
_PROTOCOLS: Final = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2.0"}

# Keys by field name: clients use few, and always the same. `None` is for fields that are left out.
_KEYS: BoundedCache[bytes, str | None] = BoundedCache(1024)


def field_key(name: bytes) -> str | None:
    """The key of a header field by its name in lower case; `None` if the field is left out.

    A name with an underscore would have the key of another field with a hyphen, and pass for it.
    """
    key = None
    if b"_" not in name and name not in _WITHHELD:
        key = _UNPREFIXED.get(name) or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    _KEYS.offer(name, key)
    return key


class Environs:
    """Makes the environs of one worker's requests."""

    def __init__(self, *, multithread: bool, multiprocess: bool, file_wrapper: Any) -> None:
        """`multithread` and `multiprocess` are whether this application may be called so at once."""
        self._common: Environ = {
            "wsgi.version": (1, 0),
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": file_wrapper,
            "SERVER_SOFTWARE": "asgi-master",
        }

    def environ(self, scopes: HttpScopes, request: Request) -> Environ:
        """The environ without `wsgi.input` and `wsgi.errors`: a dictionary of the application's own.

        May be called by several threads at once.
        """
        known = scopes.environ
        if known is not None and known[0] is request:
            return known[1].copy()
        environ = self._common.copy()
        origin = scopes.origin(request)
        environ["REQUEST_METHOD"] = request.method
        root_path = origin.root_path
        environ["SCRIPT_NAME"] = root_path.encode().decode("latin-1") if root_path else ""
        raw_path = request.raw_path
        # `OPTIONS *` asks of no path (RFC 9110 §9.3.7); its target is in REQUEST_URI.
        environ["PATH_INFO"] = _latin_1(raw_path) if raw_path[:1] == b"/" else ""
        environ["QUERY_STRING"] = request.query_string.decode("latin-1")
        environ["REQUEST_URI"] = environ["RAW_URI"] = request.target.decode("latin-1")
        environ["SERVER_PROTOCOL"] = _PROTOCOLS[request.http_version]
        environ["wsgi.url_scheme"] = scheme = origin.scheme
        environ["SERVER_NAME"], environ["SERVER_PORT"] = _name_and_port(origin.server, scheme)
        client = origin.client
        environ["REMOTE_ADDR"] = "" if client is None else client[0]
        if client is not None:
            environ["REMOTE_PORT"] = str(client[1] or 0)
        keys = _KEYS
        for name, value in request.headers:
            key = keys[name] if name in keys else field_key(name)
            if key is None:
                continue
            text = value.decode("latin-1")
            if key in environ:
                if key == "CONTENT_LENGTH":
                    continue  # the same number (RFC 9110 §8.6): another was refused
                text = f"{environ[key]}{_JOINTS.get(key, ',')}{text}"
            environ[key] = text
        # One assignment: another request of the connection may be doing the same.
        scopes.environ = request, environ.copy()
        return environ


def _latin_1(raw_path: bytes) -> str:
    return (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("latin-1")


def _name_and_port(server: Address | None, scheme: str) -> tuple[str, str]:
    """Where the listener is bound. A Unix socket has neither name nor port: an application may use them unasked."""
    if server is None or server[1] is None:
        return "localhost", _PORTS[scheme]
    host, port = server
    return f"[{host}]" if ":" in host else host, str(port)
