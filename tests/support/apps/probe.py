"""A plain ASGI application with an endpoint for everything the process tests want to see or provoke."""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from typing import Any
from urllib.parse import parse_qs

from holding import arrive, hold

CHUNK = b"0123456789abcdef" * 64


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await echo_messages(receive, send)
    else:
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        await ENDPOINTS.get(scope["path"], not_found)(scope, receive, send, query)


async def lifespan(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["started"] = time.time()
    scope["state"]["pid"] = os.getpid()
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    print(f"lifespan of {os.getpid()} is over", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send, body, status=200, content_type=b"text/plain"):
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send, value):
    await answer(send, json.dumps(value).encode(), content_type=b"application/json")


async def body_of(receive):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        yield message["body"]
        if not message["more_body"]:
            return


async def not_found(scope, receive, send, query):
    await answer(send, b"not found\n", 404)


async def hello(scope, receive, send, query):
    await answer(send, b"hello\n")


async def who(scope, receive, send, query):
    await answer_json(
        send,
        {
            "pid": os.getpid(),
            "worker": os.environ.get("ASGI_MASTER_WORKER"),
            "generation": os.environ.get("ASGI_MASTER_GENERATION"),
        },
    )


async def seen(scope, receive, send, query):
    plain = {
        name: value for name, value in scope.items() if isinstance(value, str | int | list | tuple | None)
    }
    await answer(send, json.dumps(plain, default=lambda value: value.decode("latin-1")).encode())


async def state(scope, receive, send, query):
    await answer_json(send, scope["state"])


async def echo(scope, receive, send, query):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async for piece in body_of(receive):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def upload(scope, receive, send, query):
    digest, size = hashlib.sha256(), 0
    async for piece in body_of(receive):
        digest.update(piece)
        size += len(piece)
    await answer_json(send, {"sha256": digest.hexdigest(), "bytes": size})


async def hold_request(scope, receive, send, query):
    await hold(query["name"])
    await answer(send, f"released in {os.getpid()}\n".encode())


async def sleep(scope, receive, send, query):
    await asyncio.sleep(float(query["seconds"]))
    await answer(send, b"slept\n")


async def stream(scope, receive, send, query):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for _ in range(int(query.get("chunks", "20"))):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def sse(scope, receive, send, query):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )
    for number in range(int(query.get("events", "3"))):
        await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b""})


async def crash(scope, receive, send, query):
    if query.get("how") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(int(query.get("status", "7")))


async def block(scope, receive, send, query):
    """Hold the event loop, as a forgotten blocking call does: for some seconds, or until the test opens the gate."""
    if "seconds" in query:
        arrive("block")
        time.sleep(float(query["seconds"]))  # noqa: ASYNC251 -- that is the fault under test; this line is looked for
    else:
        os.mkfifo("block.gate")
        arrive("block")
        os.close(os.open("block.gate", os.O_RDONLY))  # this line is looked for
    await answer(send, b"unblocked\n")


async def fail(scope, receive, send, query):
    raise RuntimeError("failed on purpose")


async def versions(scope, receive, send, query):
    await answer_json(send, {"python": sys.version_info[:2]})


async def echo_messages(receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "who":
            await send({"type": "websocket.send", "text": str(os.getpid())})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


ENDPOINTS = {
    "/": hello,
    "/who": who,
    "/seen": seen,
    "/state": state,
    "/echo": echo,
    "/upload": upload,
    "/hold": hold_request,
    "/sleep": sleep,
    "/stream": stream,
    "/sse": sse,
    "/crash": crash,
    "/block": block,
    "/fail": fail,
    "/versions": versions,
}
