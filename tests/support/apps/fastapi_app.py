"""The framework contract on FastAPI: see `frameworks/test_frameworks.py` for what is asked of it."""

import contextlib
import hashlib
import os

from fastapi import FastAPI, Request, UploadFile, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from holding import hold, idle


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"started_by": os.getpid()}
    print("fastapi is over", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def home():
    return {"framework": "fastapi", "pid": os.getpid()}


@app.get("/state")
async def state(request: Request):
    return {"started_by": request.state.started_by, "pid": os.getpid()}


@app.get("/stream")
async def stream(chunks: int):
    async def pieces():
        for number in range(chunks):
            yield f"{number:04}".encode() * 256

    return StreamingResponse(pieces())


@app.get("/sse")
async def sse():
    async def events():
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/idle")
async def idle_stream(name: str):
    return StreamingResponse(idle(name))


@app.get("/poll")
async def poll(name: str):
    await hold(name)
    return PlainTextResponse("news")


@app.post("/upload")
async def upload(file: UploadFile):
    body = await file.read()
    return {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "name": file.filename}


@app.websocket("/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])
