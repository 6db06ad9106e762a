"""The application for the benchmarks of whole fleets: who answers, what blocks, and streams that do not end.

`/` answers with the worker's process id, `/block` does so after it has held the event loop for 50 ms, and `/events`
sends a server-sent event each second until the client goes.
"""

import asyncio
import os
import time

from marks import STARTED, STARTING, mark

BLOCK_SECONDS = 0.05
EVENT_SECONDS = 1.0
EVENT = b"data: 0123456789012345678901234567890123456789\n\n"

_TEXT = (b"content-type", b"text/plain")
_EVENTS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/events":
        await events(receive, send)
    else:
        if scope["path"] == "/block":
            time.sleep(BLOCK_SECONDS)  # noqa: ASYNC251 -- to block the loop is what is measured
        body = str(os.getpid()).encode()
        headers = [_TEXT, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def events(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        while not gone.done():
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
            await asyncio.wait([gone], timeout=EVENT_SECONDS)
        await send({"type": "http.response.body", "body": b""})
    except OSError:
        pass  # the client is gone
    finally:
        gone.cancel()


async def disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def lifespan(receive, send):
    await receive()
    mark(STARTING)
    mark(STARTED)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
