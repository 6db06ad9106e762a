"""gRPC's protocol over HTTP/2, written out by hand: messages with a length before them, and a status in trailers."""

import struct
from typing import Any

_PREFIX = struct.Struct(">BI")
_HEADERS = [(b"content-type", b"application/grpc")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    message = await read_message(receive)
    match scope["path"]:
        case "/test.Echo/Unary":
            await respond(send, [message], 0)
        case "/test.Echo/Stream":
            await respond(send, [b"%s %d" % (message, number) for number in range(3)], 0)
        case _:
            await fail(send)


async def read_message(receive: Any) -> bytes:
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            compressed, size = _PREFIX.unpack_from(body)
            assert (compressed, size) == (0, len(body) - _PREFIX.size)
            return body[_PREFIX.size :]


async def respond(send: Any, messages: list[bytes], status: int) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True})
    for message in messages:
        body = _PREFIX.pack(0, len(message)) + message
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body"})
    await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"%d" % status)]})


async def fail(send: Any) -> None:
    """UNIMPLEMENTED, without a message: the status stands where the trailers would, in the only field block."""
    headers = [*_HEADERS, (b"grpc-status", b"12"), (b"grpc-message", b"not here")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})
