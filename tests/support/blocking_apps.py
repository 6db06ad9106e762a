"""Requests that hold the loop, and what others of the same turn get to see meanwhile."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from asgi_master.worker.http.h1_connection import H1Connection
from http_apps import respond
from http_client import Client, request
from serving import TIMEOUT, Server


class BlockingApp:
    """An application of which `/block` holds the loop for a while, and `/hold` until the test lets go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/block":
            time.sleep(0.05)  # noqa: ASYNC251 -- to hold the loop is the point
        elif scope["path"] == "/hold":
            assert self.let_go.wait(TIMEOUT)
        await respond(send, body=scope["path"].encode())


def http_connections(server: Server) -> set[H1Connection]:
    return {connection for connection in server.context.connections if isinstance(connection, H1Connection)}


def is_answered_while_another_holds_the_loop(
    app: BlockingApp, server: Server, connect: Callable[[], socket.socket]
) -> bool:
    """Whether that is so, once the worker has seen that requests hold the loop. `connect` makes a client's socket."""
    clients = [Client(connect())]
    (first,) = server.wait_until(lambda: http_connections(server))
    clients.append(Client(connect()))
    (second,) = server.wait_until(lambda: http_connections(server) - {first})

    def ask(*targets: str) -> None:
        """In one turn, and in this order."""

        def receive() -> None:
            for connection, target in zip((first, second), targets, strict=True):
                connection.data_received(request("GET", target))

        server.loop.call_soon_threadsafe(receive)

    ask("/", "/block")
    for client in clients:
        client.response()
    ask("/", "/hold")
    try:
        return clients[0].response().body == b"/"
    finally:
        app.let_go.set()
        assert clients[1].response().body == b"/hold"
