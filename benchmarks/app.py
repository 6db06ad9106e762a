"""The application that every server serves: the least that each row of the benchmark needs."""

TINY = b"Hello, World!"
PAGE = b"0123456789" * 1024
CHUNK = b"x" * 512
CHUNKS = 20

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_ANSWERS = {
    "/": (TINY, [_TEXT, (b"content-length", str(len(TINY)).encode())]),
    "/page": (PAGE, [_TEXT, (b"content-length", str(len(PAGE)).encode())]),
}


async def app(scope, receive, send):
    if scope["type"] == "http":
        answer = _ANSWERS.get(scope["path"])
        if answer is not None:
            body, headers = answer
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        elif scope["path"] == "/post":
            await post(receive, send)
        else:
            await stream(send)
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


async def stream(send):
    await send({"type": "http.response.start", "status": 200, "headers": [_TEXT]})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


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
