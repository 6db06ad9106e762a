"""The framework contract on Quart: see `frameworks/test_frameworks.py` for what is asked of it."""

import hashlib
import os

from holding import hold, idle
from quart import Quart, request, websocket

app = Quart(__name__)


@app.before_serving
async def start():
    app.config["STARTED_BY"] = os.getpid()


@app.after_serving
async def stop():
    print("quart is over", flush=True)


@app.get("/")
async def home():
    return {"framework": "quart", "pid": os.getpid()}


@app.get("/state")
async def state():
    return {"started_by": app.config["STARTED_BY"], "pid": os.getpid()}


@app.get("/stream")
async def stream():
    count = int(request.args["chunks"])

    async def pieces():
        for number in range(count):
            yield f"{number:04}".encode() * 256

    return pieces()


@app.get("/sse")
async def sse():
    async def events():
        for number in range(3):
            yield f"data: {number}\n\n"

    return events(), {"content-type": "text/event-stream"}


@app.get("/idle")
async def idle_stream():
    return idle(request.args["name"]), {"content-type": "text/event-stream"}


@app.get("/poll")
async def poll():
    await hold(request.args["name"])
    return "news"


@app.post("/upload")
async def upload():
    file = (await request.files)["file"]
    body = file.read()
    return {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "name": file.filename}


@app.websocket("/ws")
async def echo():
    while True:
        await websocket.send(await websocket.receive())
