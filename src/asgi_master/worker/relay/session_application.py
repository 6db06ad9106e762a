"""The application as the server calls it where sessions have places: here, or in the worker that has the session."""

import os
from typing import Any

from asgi_master.asgi.types import Message, Receive, Scope, Send
from asgi_master.worker.affinity.router import SessionRouter
from asgi_master.worker.relay.caller import Relays

EXTENSION = "asgi_master.session"
"""Of the scope: `{"state": "new" | "kept" | "lost"}`."""

_HEADS = frozenset({"http.response.start", "websocket.accept"})
_SECURE = frozenset({"https", "wss"})
_ID_SIZE = 16


class SessionApplication:
    """An ASGI application."""

    def __init__(self, app: Any, router: SessionRouter, relays: Relays) -> None:
        self._app = app
        self._router = router
        self._relays = relays

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or WebSocket where its session is."""
        router = self._router
        key = router.keys.read(scope["headers"], scope["raw_path"], scope["query_string"], scope["client"])
        while (place := router.elsewhere(key)) is not None:
            if await self._relays.relay(place, scope, receive, send):
                return
            router.forget(place)
            self._relays.forget(place)
        await self._serve(key, scope, receive, send)

    async def serve_here(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what another worker relays."""
        key = self._router.keys.read(
            scope["headers"], scope["raw_path"], scope["query_string"], scope["client"]
        )
        await self._serve(key, scope, receive, send)

    async def _serve(self, key: int | None, scope: Scope, receive: Receive, send: Send) -> None:
        router = self._router
        keys = router.keys
        if key is None and keys.sets_cookie:
            key, cookie = keys.issue(os.urandom(_ID_SIZE), is_secure=scope["scheme"] in _SECURE)
            send = _with_cookie(cookie, send)
        if keys.learns:
            send = _learning(router, send)
        if key is None:
            await self._app(scope, receive, send)
            return
        scope["extensions"][EXTENSION] = {"state": str(router.begin(key))}
        try:
            await self._app(scope, receive, send)
        finally:
            router.end(key)


def _with_cookie(cookie: bytes, send: Send) -> Send:
    async def with_cookie(message: Message) -> None:
        if message["type"] in _HEADS:
            fields = [*message.get("headers", ()), (b"set-cookie", cookie)]
            message = {**message, "headers": fields}
        await send(message)

    return with_cookie


def _learning(router: SessionRouter, send: Send) -> Send:
    async def learning(message: Message) -> None:
        if message["type"] in _HEADS:
            # Before the response leaves: its client may ask another worker at once.
            for key in router.keys.learned(message.get("headers", ())):
                router.learned(key)
        await send(message)

    return learning
