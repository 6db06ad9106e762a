"""The framework contract on Starlette: see `frameworks/test_frameworks.py` for what is asked of it."""

import contextlib
import hashlib
import os
import time

from holding import hold, idle
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"started_by": os.getpid()}
    print("starlette is over", flush=True)


async def home(request):
    return JSONResponse({"framework": "starlette", "pid": os.getpid()})


async def state(request):
    return JSONResponse({"started_by": request.state.started_by, "pid": os.getpid()})


async def chunks(count):
    for number in range(count):
        yield f"{number:04}".encode() * 256


async def stream(request):
    return StreamingResponse(chunks(int(request.query_params["chunks"])))


async def events():
    for number in range(3):
        yield f"data: {number}\n\n"


async def sse(request):
    return StreamingResponse(events(), media_type="text/event-stream")


async def idle_stream(request):
    return StreamingResponse(idle(request.query_params["name"]))


async def poll(request):
    began = time.monotonic()
    await hold(request.query_params["name"])
    return PlainTextResponse(f"news after {time.monotonic() - began:.3f} s")


async def upload(request):
    async with request.form() as form:
        body = await form["file"].read()
        name = form["file"].filename
    return JSONResponse({"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "name": name})


async def echo(websocket):
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])


app = Starlette(
    routes=[
        Route("/", home),
        Route("/state", state),
        Route("/stream", stream),
        Route("/sse", sse),
        Route("/idle", idle_stream),
        Route("/poll", poll),
        Route("/upload", upload, methods=["POST"]),
        WebSocketRoute("/ws", echo),
    ],
    lifespan=lifespan,
)
