"""The framework contract on Litestar: see `frameworks/test_frameworks.py` for what is asked of it."""

import hashlib
import os
from typing import Annotated, Any

from holding import hold, idle
from litestar import Litestar, Request, get, post, websocket
from litestar.connection import WebSocket
from litestar.datastructures import UploadFile
from litestar.enums import MediaType, RequestEncodingType
from litestar.params import Body
from litestar.response import Stream


async def start(app: Litestar) -> None:
    app.state.started_by = os.getpid()


async def stop(app: Litestar) -> None:
    print("litestar is over", flush=True)


@get("/")
async def home() -> dict[str, Any]:
    return {"framework": "litestar", "pid": os.getpid()}


@get("/state")
async def started(request: Request) -> dict[str, Any]:
    return {"started_by": request.app.state.started_by, "pid": os.getpid()}


@get("/stream")
async def stream(request: Request) -> Stream:
    chunks = int(request.query_params["chunks"])

    async def pieces():
        for number in range(chunks):
            yield f"{number:04}".encode() * 256

    return Stream(pieces())


@get("/sse")
async def sse() -> Stream:
    async def events():
        for number in range(3):
            yield f"data: {number}\n\n"

    return Stream(events(), media_type="text/event-stream")


@get("/idle")
async def idle_stream(request: Request) -> Stream:
    return Stream(idle(request.query_params["name"]))


@get("/poll", media_type=MediaType.TEXT)
async def poll(request: Request) -> str:
    await hold(request.query_params["name"])
    return "news"


@post("/upload", status_code=200, request_max_body_size=None)
async def upload(
    data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    file = data["file"]
    body = await file.read()
    return {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "name": file.filename}


@websocket("/ws")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await socket.send_text(message["text"])
        else:
            await socket.send_bytes(message["bytes"])


app = Litestar(
    route_handlers=[home, started, stream, sse, idle_stream, poll, upload, echo],
    on_startup=[start],
    on_shutdown=[stop],
)
