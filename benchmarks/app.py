"""The application that every server serves: the least that each workload of the benchmark needs."""

TINY = b"Hello, World!"
PAGE = b"0123456789" * 1024
CHUNK = b"x" * 512
CHUNKS = 20
PIECE = bytes(64 * 1024)
DOWNLOAD = 10 * 1024 * 1024

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_TINY = (TINY, [_TEXT, (b"content-length", str(len(TINY)).encode())])
_ANSWERS = {
    "/": _TINY,
    "/page": (PAGE, [_TEXT, (b"content-length", str(len(PAGE)).encode())]),
}


async def app(scope, receive, send):
    if scope["type"] == "http":
        other = _OTHERS.get(scope["path"])
        if other is None:
            body, headers = _ANSWERS.get(scope["path"], _TINY)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await other(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await lifespan(receive, send)


async def post(receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    headers = [_TEXT, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(_receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [_TEXT]})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def download(_receive, send):
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(DOWNLOAD).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(DOWNLOAD // len(PIECE)):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


_OTHERS = {"/post": post, "/stream": stream, "/download": download}


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
