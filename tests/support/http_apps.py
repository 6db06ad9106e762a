"""Small applications that several tests serve."""

import json
from typing import Any


async def read_body(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client left before its body was complete")
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def respond(send: Any, status: int = 200, body: bytes = b"", headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, body=b"hello", headers=[(b"content-length", b"5")])


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body."""
    await respond(send, body=await read_body(receive))


async def mirror(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what the application sees of the request, as JSON."""
    seen = {key: value for key, value in scope.items() if key != "state"}
    seen["body"] = await read_body(receive)
    body = json.dumps(seen, default=lambda value: value.decode("latin-1")).encode()
    await respond(send, body=body)
