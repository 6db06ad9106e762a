"""A request whose application does not answer in time is cancelled, answered, and told with the line it waited at."""

import asyncio
import gc
import logging
import weakref

import pytest

from asgi_master.worker.http.h1_connection import H1Connection
from http_apps import hello, read_body, respond
from http_client import request
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

SOON = 0.1


class Slow:
    """Waits for ever, in nested calls, and notes how it ended."""

    def __init__(self):
        self.ended = []

    async def __call__(self, scope, receive, send):
        try:
            await self.handle(scope)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise

    async def handle(self, scope):
        if scope["path"] == "/quick":
            return
        await asyncio.Event().wait()  # waits


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_request_without_a_response_is_answered_504(variant, method, caplog):
    app = Slow()
    with serve(app, request_timeout=SOON, **variant) as server:
        client = server.client()
        client.send(request(method, "/slow?cart=7"))
        response = client.response(method)
        assert (response.status, response.reason) == (504, "Gateway Timeout")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        server.wait_until(lambda: app.ended)
        stats = server.context.stats
        server.wait_until(lambda: stats.in_flight == 0)
        assert (stats.responses[5], stats.application_errors) == (1, 1)
    (line,) = lines_of(caplog)
    assert line.startswith(f"{method} /slow?cart=7: cancelled, as it had not begun to respond within 0.1 s")
    assert f"{__file__}:" in line
    assert "in Slow.handle: await asyncio.Event().wait()  # waits" in line


def test_the_connection_serves_on(variant, caplog):
    async def app(scope, receive, send):
        await (Slow()(scope, receive, send) if scope["path"] == "/slow" else hello(scope, receive, send))

    with serve(app, request_timeout=SOON, **variant) as server:
        client = server.client()
        client.send(request("GET", "/slow") + request("GET", "/"))
        assert [client.response().status, client.response().status] == [504, 200]
        client.send(request("POST", "/slow", body=b"x" * 1000))
        assert client.response().status == 504
        assert client.get("/").body == b"hello"


def test_in_time_is_in_time_each_time(variant):
    async def app(scope, receive, send):
        await asyncio.sleep(SOON)
        await respond(send, body=b"done")

    with serve(app, request_timeout=SOON * 5, **variant) as server:
        client = server.client()
        for _ in range(8):
            assert client.get().body == b"done"


def test_a_response_that_has_begun_may_take_its_time(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await asyncio.sleep(SOON * 4)
        await send({"type": "http.response.body", "body": b"last"})

    with serve(app, request_timeout=SOON, **variant) as server:
        assert server.client().get().body == b"first last"


def test_a_start_without_a_body_is_not_yet_a_response(variant, caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await asyncio.Event().wait()

    with serve(app, request_timeout=SOON, **variant) as server:
        assert server.client().get().status == 504
    assert len(lines_of(caplog)) == 1


def test_an_upload_that_trickles_in_is_included(variant, caplog):
    async def app(scope, receive, send):
        await read_body(receive)

    with serve(app, request_timeout=SOON, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", "Content-Length: 10") + b"12345")
        assert client.response().status == 504
        client.send(b"67890" + request("POST", "/", "Content-Length: 10"))
        assert client.response().status == 504
    assert "read_body: message = await receive()" in lines_of(caplog)[0]


def test_an_application_that_will_not_be_cancelled_learns_that_its_client_is_gone(variant, caplog):
    async def app(scope, receive, send):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await respond(send, body=b"at last")
            except OSError as error:
                told.append(error)
            told.append(await receive())

    told = []
    with serve(app, request_timeout=SOON, **variant) as server:
        client = server.client()
        assert client.get().status == 504
        server.wait_until(lambda: len(told) == 2)
        assert told[1] == {"type": "http.disconnect"}
    assert len(lines_of(caplog)) == 1


def test_what_else_waits_for_the_request_is_told_too(variant, caplog):
    async def child():
        await asyncio.Event().wait()  # a child waits

    async def app(scope, receive, send):
        await asyncio.gather(child(), child())

    with serve(app, request_timeout=SOON, **variant) as server:
        assert server.client().get().status == 504
    (line,) = lines_of(caplog)
    assert "await asyncio.gather(child(), child())" in line
    assert line.count("; another task at ") == 2
    assert line.count("await asyncio.Event().wait()  # a child waits") == 2


def test_it_is_off_by_default(variant, caplog):
    async def app(scope, receive, send):
        await asyncio.sleep(SOON * 4)
        await respond(send, body=b"done")

    with serve(app, **variant) as server:
        assert server.client().get().body == b"done"
    assert lines_of(caplog) == []


def test_marking_a_connection_does_not_keep_it(variant, monkeypatch):
    def remember(self, transport):
        made.append(weakref.ref(self))
        connection_made(self, transport)

    made = []
    connection_made = H1Connection.connection_made
    monkeypatch.setattr(H1Connection, "connection_made", remember)
    with serve(hello, **variant) as server:
        client = server.client()
        client.get()
        client.sock.close()
        gc.disable()
        try:
            server.wait_until(lambda: made[0]() is None)
        finally:
            gc.enable()


def test_a_request_that_is_cancelled_before_its_first_step_is_over_too(variant):
    def begin_and_cancel():
        (connection,) = server.context.connections
        connection.data_received(request("GET", "/"))
        connection.cancel()

    with serve(Slow(), **variant) as server:
        server.client()
        server.wait_until(lambda: server.context.connections)
        server.run(begin_and_cancel)
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.in_flight == 0


def test_a_request_that_the_application_cancels_before_its_first_step_is_over_too(variant):
    def begin_and_cancel():
        (connection,) = server.context.connections
        connection.data_received(request("GET", "/"))
        for task in asyncio.all_tasks():
            if task.get_coro().__qualname__ == "RequestTask._run":
                task.cancel()

    with serve(Slow(), **variant) as server:
        client = server.client()
        server.wait_until(lambda: server.context.connections)
        server.run(begin_and_cancel)
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        client.sock.close()
        server.wait_until(lambda: not server.context.connections)
