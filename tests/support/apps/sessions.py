"""Sessions in the memory of one worker: `/login` begins one, `/` counts its visits."""

import json
import os
from typing import Any

SESSIONS: dict[str, int] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
    elif scope["type"] == "websocket":
        await talk(scope, receive, send)
    else:
        await visit(scope, receive, send)


def answer(scope: Any, name: str) -> bytes:
    SESSIONS[name] = SESSIONS.get(name, 0) + 1
    return json.dumps(
        {
            "pid": os.getpid(),
            "visits": SESSIONS[name],
            "state": scope["extensions"].get("asgi_master.session", {}).get("state"),
            "http": scope["http_version"],
            "scheme": scope["scheme"],
            "client": scope["client"],
        }
    ).encode()


def session_of(scope: Any) -> str:
    headers = dict(scope["headers"])
    for pair in headers.get(b"cookie", b"").decode().split("; "):
        name, _, value = pair.partition("=")
        if name == "sid":
            return value
    return headers.get(b"x-session", b"").decode()


async def visit(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    name, fields = session_of(scope), [(b"content-type", b"application/json")]
    if scope["path"] == "/login":
        name = os.urandom(8).hex()
        fields += [(b"set-cookie", b"sid=" + name.encode()), (b"x-session", name.encode())]
    body = answer(scope, name)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [*fields, (b"x-size", str(size).encode())]}
    )
    await send({"type": "http.response.body", "body": body[:10], "more_body": True})
    await send({"type": "http.response.body", "body": body[10:]})


async def talk(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": answer(scope, session_of(scope)).decode()})
