"""The connection scopes: what the application is told about a request before it begins."""

from typing import Any
from urllib.parse import unquote

from asgi_master.http.request import Request

Scope = dict[str, Any]
Address = tuple[str, int | None]


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
    raw_path = request.raw_path
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)
    if root_path:
        path = root_path + path
        raw_path = root_path.encode() + raw_path
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.http_version,
        "server": server,
        "client": client,
        "scheme": scheme,
        "root_path": root_path,
        "headers": request.headers,
        "state": state,
        "method": request.method,
        "path": path,
        "raw_path": raw_path,
        "query_string": request.query_string,
    }


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
