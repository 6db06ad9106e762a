"""The probe, and what shows how a proxy passes things on."""

import json
from typing import Any

import probe
from holding import hold


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket" and scope["path"] == "/whose":
        await tell(scope, receive, send)
    elif scope["type"] == "http" and scope["path"] == "/events":
        await events(send)
    else:
        await probe.app(scope, receive, send)


async def tell(scope, receive, send):
    """Say first whose connection it is, then echo."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps([scope["client"], scope["scheme"]])})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


async def events(send):
    """One event at once, the other when the test has seen the first."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
    await hold("events")
    await send({"type": "http.response.body", "body": b"data: second\n\n"})
