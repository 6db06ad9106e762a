"""The connection scopes: what the application is told about a request before it begins."""

from typing import Any
from urllib.parse import unquote

from asgi_master.http.request import Request

Scope = dict[str, Any]
Address = tuple[str, int | None]


class HttpScopes:
    """Makes the scopes of one connection's requests: what all of them share is put together once."""

    __slots__ = ("_common", "_raw_root_path", "_root_path")

    def __init__(
        self, *, client: Address | None, server: Address | None, scheme: str, root_path: str
    ) -> None:
        self._root_path = root_path
        self._raw_root_path = root_path.encode()
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
        }

    def scope(self, request: Request, state: dict[str, Any]) -> Scope:
        """The scope of a request. `state` becomes the application's own: give it a copy."""
        raw_path = request.raw_path
        path = raw_path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        if self._root_path:
            path = self._root_path + path
            raw_path = self._raw_root_path + raw_path
        scope = self._common.copy()
        scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
        scope["http_version"] = request.http_version
        scope["method"] = request.method
        scope["path"] = path
        scope["raw_path"] = raw_path
        scope["query_string"] = request.query_string
        scope["headers"] = request.headers
        scope["state"] = state
        return scope


def http_scope(
    request: Request,
    *,
    client: Address | None,
    server: Address | None,
    scheme: str,
    root_path: str,
    state: dict[str, Any],
) -> Scope:
    """The scope of an HTTP request. `state` becomes the application's own: give it a copy.

    `root_path` is where a proxy mounted the application and stripped it from the path: `path` and `raw_path`
    get it back, as ASGI wants them.
    """
    return HttpScopes(client=client, server=server, scheme=scheme, root_path=root_path).scope(request, state)


def websocket_scope(
    request: Request,
    *,
    client: Address | None,
    server: Address | None,
    scheme: str,
    root_path: str,
    state: dict[str, Any],
    subprotocols: list[str],
) -> Scope:
    """The scope of a WebSocket handshake. `scheme` is that of the HTTP request: `http` becomes `ws`."""
    scope = http_scope(request, client=client, server=server, scheme=scheme, root_path=root_path, state=state)
    del scope["method"]
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scheme in ("https", "wss") else "ws"
    scope["subprotocols"] = subprotocols
    scope["extensions"] = {"websocket.http.response": {}}
    return scope
