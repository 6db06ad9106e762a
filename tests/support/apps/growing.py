"""An application that leaks: each request to `/grow` keeps some memory for ever."""

import json
import os
from typing import Any

KEPT: list[bytearray] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["path"] == "/grow":
        KEPT.append(bytearray(os.urandom(1)) * (24 << 20))
    who = {
        "pid": os.getpid(),
        "generation": os.environ["ASGI_MASTER_GENERATION"],
        "state": scope["state"]["asgi_master"],
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(who).encode()})
