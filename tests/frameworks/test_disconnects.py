"""What frameworks make of a client that leaves: no error, unless the application makes a mistake of its own meanwhile."""

import asyncio
import gc
import socket
import struct

import pytest

from http_client import request
from serving import serve
from websocket_peer import Peer, close_frame

WEBSOCKETS = ["starlette", "fastapi", "litestar", "quart"]
ALL = [*WEBSOCKETS, "middleware", "django"]


async def pieces():
    while True:
        yield b"x"
        await asyncio.sleep(0.001)


async def nothing():
    pass


async def waits(websocket):
    while True:
        await websocket.receive_text()


async def sends(websocket):
    while True:
        await websocket.send_text("x")
        await asyncio.sleep(0.001)


async def careless(websocket):
    try:
        await sends(websocket)
    finally:
        {}["what was open"]


CONVERSATIONS = {"/waits": waits, "/sends": sends, "/careless": careless}


def starlette(go_on=nothing, middleware=()):
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def upload(request):
        return PlainTextResponse(str(len(await request.body())))

    async def careless(request):
        try:
            await go_on()
        finally:
            {}["what was open"]

    def conversation(talk):
        async def run(websocket):
            await websocket.accept()
            await talk(websocket)

        return run

    return Starlette(
        routes=[
            Route("/stream", lambda request: StreamingResponse(pieces())),
            Route("/careless", careless),
            Route("/upload", upload, methods=["POST"]),
            *[WebSocketRoute(path, conversation(talk)) for path, talk in CONVERSATIONS.items()],
        ],
        middleware=middleware,
    )


def with_middleware(go_on=nothing):
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware

    async def pass_on(request, call_next):
        return await call_next(request)

    return starlette(go_on, [Middleware(BaseHTTPMiddleware, dispatch=pass_on)] * 2)


def fastapi(go_on=nothing):
    from fastapi import FastAPI, Request, WebSocket
    from fastapi.responses import StreamingResponse

    app = FastAPI()
    app.get("/stream")(lambda: StreamingResponse(pieces()))

    @app.get("/careless")
    async def careless():
        try:
            await go_on()
        finally:
            {}["what was open"]

    @app.post("/upload")
    async def upload(request: Request):
        return len(await request.body())

    def conversation(talk):
        async def run(websocket: WebSocket):
            await websocket.accept()
            await talk(websocket)

        return run

    for path, talk in CONVERSATIONS.items():
        app.websocket(path)(conversation(talk))
    return app


def litestar():
    from litestar import Litestar, Request, get, post, websocket
    from litestar.connection import WebSocket
    from litestar.response import Stream

    @get("/stream")
    async def stream() -> Stream:
        return Stream(pieces())

    @post("/upload")
    async def upload(request: Request) -> str:
        return str(len(await request.body()))

    def conversation(path, talk):
        @websocket(path)
        async def run(socket: WebSocket) -> None:
            await socket.accept()
            await talk(socket)

        return run

    conversations = [conversation(path, talk) for path, talk in CONVERSATIONS.items()]
    return Litestar([stream, upload, *conversations], logging_config=None)


def quart():
    from quart import Quart, request, websocket

    class Socket:
        """With the names of the others."""

        async def receive_text(self):
            return await websocket.receive()

        async def send_text(self, text):
            await websocket.send(text)

    app = Quart(__name__)

    @app.get("/stream")
    async def stream():
        return pieces()

    @app.post("/upload")
    async def upload():
        return str(len(await request.get_data()))

    def conversation(path, talk):
        async def run():
            await websocket.accept()
            await talk(Socket())

        app.add_websocket(path, path, view_func=run)

    for path, talk in CONVERSATIONS.items():
        conversation(path, talk)
    return app


def django():
    from django import setup
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    if not settings.configured:
        settings.configure(SECRET_KEY="only for tests", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
        setup()

    async def stream(request):
        return StreamingHttpResponse(pieces())

    async def upload(request):
        return HttpResponse(str(len(request.body)))

    urlpatterns[:] = [
        path("stream", stream),
        path("upload", csrf_exempt(upload)),
    ]
    return get_asgi_application()


urlpatterns = []
"""Django's."""

MAKERS = {
    "starlette": starlette,
    "middleware": with_middleware,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "django": django,
}


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ours(caplog):
    """What asgi-master logged. Django leaves the file of an upload open, which Python may find in a later test."""
    messages = [record.getMessage() for record in caplog.records if record.name == "asgi_master"]
    return [message for message in messages if "SpooledTemporaryFile.__del__" not in message]


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
@pytest.mark.parametrize("framework", ALL)
def test_the_client_of_a_stream_leaves(framework, leave, caplog):
    with serve(MAKERS[framework]()) as server:
        client = server.client()
        client.send(request("GET", "/stream"))
        client.read_until(b"\r\n\r\n1\r\nx\r\n")
        leave(client.sock)
        server.wait_until(lambda: not server.context.connections)
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors, stats.responses[5]) == (0, 0, 0)
    assert ours(caplog) == []


# See `ours`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("leave", [reset, socket.socket.close])
@pytest.mark.parametrize("framework", ALL)
def test_the_client_of_an_upload_leaves(framework, leave, caplog):
    with serve(MAKERS[framework]()) as server:
        client = server.client()
        client.send(request("POST", "/upload", "Content-Length: 10") + b"12345")
        server.wait_until(lambda: server.context.stats.in_flight)
        leave(client.sock)
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.application_errors == 0
    assert ours(caplog) == []
    gc.collect()


@pytest.mark.parametrize("leaves", ["reset", "close", "close frame"])
@pytest.mark.parametrize("path", ["/waits", "/sends"])
@pytest.mark.parametrize("framework", WEBSOCKETS)
def test_the_client_of_a_websocket_leaves(framework, path, leaves, caplog):
    with serve(MAKERS[framework]()) as server:
        with Peer(server.connect()) as peer:
            peer.open(target=path.encode())
            if leaves == "reset":
                peer.reset()
            elif leaves == "close frame":
                peer.send(close_frame(1001))
                peer.read_to_end()
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.application_errors == 0
    assert ours(caplog) == []


# The others keep it to themselves: Django and Quart, which cancel the view, log it, and Litestar where that is configured.
@pytest.mark.parametrize("framework", ["starlette", "middleware", "fastapi"])
def test_a_mistake_when_the_client_of_a_request_has_left(framework, caplog):
    async def go_on():
        await left.wait()

    with serve(MAKERS[framework](go_on)) as server:
        left = server.run(asyncio.Event)
        client = server.client()
        client.send(request("GET", "/careless"))
        server.wait_until(lambda: server.context.stats.in_flight)
        reset(client.sock)
        server.wait_until(lambda: not server.context.stats.connections)
        server.run(left.set)
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.application_errors == 1
    assert "what was open" in caplog.text


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "quart"])
def test_a_mistake_when_the_client_of_a_websocket_has_left(framework, caplog):
    with serve(MAKERS[framework]()) as server:
        Peer(server.connect()).open(target=b"/careless").reset()
        server.wait_until(lambda: not server.context.connections)
    assert "what was open" in caplog.text


def test_a_response_after_a_stream_of_server_sent_events(caplog):
    """As the MCP SDK has its users do it."""
    from starlette.applications import Starlette
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def events(request):
        await StreamingResponse(pieces())(request.scope, request.receive, request._send)
        return Response()

    with serve(Starlette(routes=[Route("/", events)])) as server:
        for leave in (reset, socket.socket.close):
            client = server.client()
            client.send(request("GET", "/"))
            client.read_until(b"\r\n\r\n1\r\nx\r\n")
            leave(client.sock)
            server.wait_until(lambda: not server.context.connections)
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors) == (0, 0)
    assert ours(caplog) == []
