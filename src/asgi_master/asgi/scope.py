"""The ASGI connection scopes of requests and WebSocket handshakes."""

from typing import Any, Self
from urllib.parse import unquote_to_bytes

from asgi_master.asgi.types import Address, Scope
from asgi_master.http.forwarded import Forwarded
from asgi_master.http.message import Request
from asgi_master.records import record

_HTTP_SPEC = "2.3"
"""Starlette reads it as leave to watch no more for a client that left, from 2.4 on (ADR 18)."""
_WEBSOCKET_SPEC = "2.4"
_HTTP_ASGI = {"version": "3.0", "spec_version": _HTTP_SPEC}

_ASTERISK = b"*"
"""What `OPTIONS *` asks of is the server, wherever the application is mounted (RFC 9112 §3.2.4)."""


@record
class Origin:
    """Whose a request is and where it arrived, as far as the connection and trusted proxies say."""

    client: Address | None
    server: Address | None
    scheme: str
    """`http` or `https`."""
    root_path: str
    """Where the application is mounted, decoded; empty if at the root."""


class HttpScopes:
    """Makes the scopes of one connection's requests: what all of them share is put together once.

    `root_path` is where a proxy mounted the application and stripped it from the path: `path` and `raw_path`
    get it back, as ASGI wants them.
    """

    __slots__ = (
        "_common",
        "_extensions",
        "_options",
        "_raw_root_path",
        "_request",
        "_root_path",
        "_tls",
        "environ",
    )

    def __init__(
        self,
        *,
        client: Address | None,
        server: Address | None,
        scheme: str,
        root_path: str,
        tls: dict[str, Any] | None = None,
        extensions: tuple[str, ...] = (),
    ) -> None:
        """`tls` is the content of the ASGI `tls` extension; `extensions` names those that every request here has.

        Trailers and early hints are not among these: whether they reach the peer is said by each request.
        """
        self._tls = tls
        self._options: dict[str, Any] = {}  # of extensions, of which none has any
        self._extensions: dict[str, Any] = dict.fromkeys(extensions, self._options)
        self._root_path = root_path
        self._raw_root_path = root_path.encode()
        self._request: Request | None = None
        self.environ: tuple[Request, dict[str, Any]] | None = None
        """The last request of a WSGI application with its environ, which is what its client may repeat."""
        self._common: Scope = {
            "type": "http",
            "asgi": None,
            "http_version": "1.1",
            "server": server,
            "client": client,
            "scheme": scheme,
            "root_path": root_path,
            "method": "GET",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": None,
            "state": None,
            "extensions": None,
        }

    def of_connection(self, client: Address | None, tls: dict[str, Any] | None) -> Self:
        """Those of another connection, that differs in this alone. Faster than to put together what they share."""
        other = object.__new__(type(self))
        other._tls = tls
        options: dict[str, Any] = {}
        other._options = options
        other._extensions = dict.fromkeys(self._extensions, options)
        other._root_path = self._root_path
        other._raw_root_path = self._raw_root_path
        other._request = other.environ = None
        other._common = common = self._common.copy()
        common["client"] = client
        return other

    @property
    def client(self) -> Address | None:
        """Whose connection it is, whatever a request on it says."""
        client: Address | None = self._common["client"]
        return client

    def origin(self, request: Request) -> Origin:  # noqa: ARG002 -- of which a proxy may say more
        """Whose a request is, in the words of its scope."""
        common = self._common
        return Origin(common["client"], common["server"], common["scheme"], self._root_path)

    def scope(self, request: Request, state: dict[str, Any]) -> Scope:
        """The scope of a request. `state` becomes the application's own: give it a copy."""
        common = self._common
        if request is not self._request:
            self._request = request
            common["http_version"] = request.http_version
            common["method"] = request.method
            raw_path = request.raw_path
            path = raw_path.decode()
            if "%" in path:
                path = _decoded(raw_path)
            if self._root_path and raw_path != _ASTERISK:
                path, raw_path = self._root_path + path, self._raw_root_path + raw_path
            common["path"] = path
            common["raw_path"] = raw_path
            common["query_string"] = request.query_string
        scope = common.copy()
        # What an application may change is its own.
        scope["asgi"] = _HTTP_ASGI.copy()
        scope["headers"] = request.headers.copy()
        scope["state"] = state
        if self._options or request.accepts_hints:
            # The application has written into them, or streams run side by side. Else they are made once a connection.
            extensions: dict[str, Any] = {name: {} for name in self._extensions}
        else:
            extensions = self._extensions.copy()
        scope["extensions"] = extensions
        if self._tls is not None:
            extensions["tls"] = _own(self._tls)
        if request.accepts_trailers:
            extensions["http.response.trailers"] = {}
        if request.accepts_hints:
            extensions["http.response.early_hint"] = {}
        return scope

    def websocket_scope(self, request: Request, state: dict[str, Any]) -> Scope:
        """The scope of a WebSocket handshake, without subprotocols. `state` is as for `scope`."""
        scope = self.scope(request, state)
        scope["asgi"]["spec_version"] = _WEBSOCKET_SPEC
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = []
        extensions: dict[str, Any] = {"websocket.http.response": {}}
        scope["extensions"] = extensions
        if self._tls is not None:
            extensions["tls"] = _own(self._tls)
        return scope


class ForwardedScopes(HttpScopes):
    """Scopes for a connection from a trusted proxy: client and scheme are those of its forwarding headers."""

    __slots__ = ("_forwarded",)

    def __init__(
        self,
        forwarded: Forwarded,
        *,
        client: Address | None,
        server: Address | None,
        scheme: str,
        root_path: str,
        tls: dict[str, Any] | None = None,
        extensions: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            client=client, server=server, scheme=scheme, root_path=root_path, tls=tls, extensions=extensions
        )
        self._forwarded = forwarded

    def of_connection(self, client: Address | None, tls: dict[str, Any] | None) -> Self:
        """See `HttpScopes.of_connection`."""
        other = super().of_connection(client, tls)
        other._forwarded = self._forwarded  # noqa: SLF001 -- of the same class
        return other

    def origin(self, request: Request) -> Origin:
        """See `HttpScopes.origin`; as `scope` reads it."""
        said, seen = self._forwarded.origin(request.headers), super().origin(request)
        return Origin(
            said.client if said.has_client else seen.client,
            seen.server,
            said.scheme or seen.scheme,
            _decoded(said.prefix) if said.prefix else seen.root_path,
        )

    def scope(self, request: Request, state: dict[str, Any]) -> Scope:
        """See `HttpScopes.scope`; `client`, `scheme` and `root_path` are what the peer said, if it did."""
        scope = super().scope(request, state)
        origin = self._forwarded.origin(request.headers)
        if origin.has_client:
            scope["client"] = origin.client
        if origin.scheme:
            scope["scheme"] = origin.scheme
        if origin.prefix:
            scope["root_path"] = root_path = _decoded(origin.prefix)
            if request.raw_path != _ASTERISK:
                scope["path"] = root_path + _decoded(request.raw_path)
                scope["raw_path"] = origin.prefix + request.raw_path
        return scope


def _own(extension: dict[str, Any]) -> dict[str, Any]:
    """A copy of which nothing that can be changed is shared."""
    return {name: value.copy() if isinstance(value, list) else value for name, value in extension.items()}


def _decoded(raw_path: bytes) -> str:
    return unquote_to_bytes(raw_path).decode(errors="replace")
