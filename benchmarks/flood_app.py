"""The application of benchmarks/flood.py: it never waits for anything but its client."""

import asyncio

PART = b"x" * 100
LARGE_PART = b"x" * 1_000_000

_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


async def app(scope, receive, send):
    if scope["type"] == "http":
        await _ANSWERS.get(scope["path"], answer)(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


async def answer(receive, send):
    await send(_START)
    await send({"type": "http.response.body", "body": b"ok"})


async def read(receive, send):
    """Take the whole body, however long, then answer."""
    while (await receive()).get("more_body"):
        pass
    await answer(receive, send)


async def small_parts(receive, send):
    """A response without an end."""
    await send(_START)
    while True:
        await send({"type": "http.response.body", "body": PART, "more_body": True})


async def large_parts(receive, send):
    await send(_START)
    while True:
        await send({"type": "http.response.body", "body": LARGE_PART, "more_body": True})


async def idle(receive, send):
    await asyncio.sleep(3600)


async def deaf(receive, send):
    """Asks on and on, also when there is nothing to hear any more: a fault that is seen in the wild."""
    while (await receive())["type"] != "http.never":
        pass


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        size = len(message.get("text") or message.get("bytes") or b"")
        await send({"type": "websocket.send", "text": str(size)})


_ANSWERS = {"/read": read, "/small": small_parts, "/large": large_parts, "/idle": idle, "/deaf": deaf}
