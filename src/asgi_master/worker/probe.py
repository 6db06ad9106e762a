"""Health probe of a worker's own application: a request through the application, without a socket.

A worker probes after the lifespan startup and before it reports that it is ready (`--health-path`).
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

from asgi_master.asgi.http_exchange import HttpExchange
from asgi_master.asgi.scope import HttpScopes
from asgi_master.asgi.types import Message
from asgi_master.errors import ApplicationError
from asgi_master.http.h1.request_head import read_request_line
from asgi_master.http.message import Request
from asgi_master.telemetry.failures import describe

_PAUSE = 0.25
"""Seconds between an answer that is not good and the next attempt."""
_UNWIND = 1.0
"""Seconds for a cancelled attempt to unwind."""

_HEADERS = [(b"host", b"localhost"), (b"user-agent", b"asgi-master"), (b"accept", b"*/*")]
_CLIENT = ("127.0.0.1", 0)

App = Callable[..., Any]


class Attempt(Protocol):
    """One request to the application."""

    error: BaseException | None
    """What the application raised."""

    def __init__(self, scopes: HttpScopes, request: Request, state: dict[str, Any]) -> None: ...

    @property
    def is_healthy(self) -> bool:
        """Whether the response was complete, with a status of 2xx or 3xx."""

    def outcome(self) -> str:
        """The result in a few words."""

    async def run(self, app: App, limit: float) -> None:
        """Call the application; give it up after `limit` seconds."""


class AsgiAttempt:
    """One request, from its scope to the end of its response."""

    def __init__(self, scopes: HttpScopes, request: Request, state: dict[str, Any]) -> None:
        self.scope = scopes.scope(request, state.copy())
        self.error: BaseException | None = None
        self._exchange = HttpExchange("GET", has_body=False)
        self._over = asyncio.Event()
        self._status = 0

    @property
    def is_healthy(self) -> bool:
        good = HTTPStatus.OK <= self._status < HTTPStatus.BAD_REQUEST
        return good and self._exchange.is_complete and self.error is None

    def outcome(self) -> str:
        if self.error is not None:
            return f"raised {describe(self.error)},"
        return str(self._status) if self._exchange.is_complete else "no complete response"

    async def run(self, app: App, limit: float) -> None:
        """Call the application; cancel it after `limit` seconds."""
        task = asyncio.create_task(self._call(app), name="health probe")
        try:
            await asyncio.wait({task}, timeout=limit)
        finally:
            if not task.done():
                self._exchange.peer_disconnected()
                self._over.set()
                task.cancel()
                await asyncio.wait({task}, timeout=_UNWIND)

    async def _call(self, app: App) -> None:
        try:
            await app(self.scope, self._receive, self._send)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 -- whatever it raises, it is not well
            if not self._exchange.disconnected:
                self.error = error
        finally:
            self._over.set()

    async def _receive(self) -> Message:
        while (message := self._exchange.next_message()) is None:
            await self._over.wait()
            if not self._exchange.is_complete:
                return {"type": "http.disconnect"}
        return message

    async def _send(self, message: Message) -> None:
        part = self._exchange.interpret(message)
        head = part[0] if isinstance(part, tuple) else None
        if head is not None:
            self._status = head.status
        if self._exchange.is_complete:
            self._over.set()


async def probe(
    app: App,
    path: str,
    *,
    root_path: str,
    state: dict[str, Any],
    limit: float,
    new_attempt: type[Attempt] = AsgiAttempt,
) -> None:
    """Repeat the request until the response is 2xx or 3xx.

    Raises `ApplicationError`, with the application's exception as its cause, unless that happens within `limit`
    seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit
    while True:
        scopes = HttpScopes(client=_CLIENT, server=None, scheme="http", root_path=root_path)
        request = read_request_line(b"GET %b HTTP/1.1" % path.encode("ascii"))
        request.headers = list(_HEADERS)
        attempt = new_attempt(scopes, request, state)
        await attempt.run(app, deadline - loop.time())
        if attempt.is_healthy:
            return
        if loop.time() + _PAUSE >= deadline:
            shown = path.partition("?")[0]
            failure = ApplicationError(f"health probe GET {shown}: {attempt.outcome()} for {limit:g} s")
            raise failure from attempt.error
        await asyncio.sleep(_PAUSE)
