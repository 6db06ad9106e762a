"""What an application raises, or sends out of turn, when its client has left and when it has not."""

import asyncio
import contextlib
import socket
import struct

import pytest

from asgi_master.worker.transport import write_batch
from http_apps import respond
from http_client import request
from serving import VARIANTS, serve
from websocket_peer import Peer, close_frame

START = {"type": "http.response.start", "status": 200, "headers": []}
PART = {"type": "http.response.body", "body": b"x", "more_body": True}
NOTHING_YET = {"type": "http.response.body", "body": b"", "more_body": True}


class ClientDisconnect(Exception):  # noqa: N818
    """By its name what frameworks raise."""


async def until_told(receive):
    while not (await receive())["type"].endswith(".disconnect"):
        pass


async def stream_until_it_fails(send):
    while True:
        await send(PART)
        await asyncio.sleep(0.001)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def end_sending(sock):
    sock.shutdown(socket.SHUT_WR)


async def mistake_in_finally(receive, send):
    try:
        await stream_until_it_fails(send)
    finally:
        {}["what was open"]


async def mistake_while_handling(receive, send):
    try:
        await stream_until_it_fails(send)
    except OSError:
        raise AssertionError("what was open") from None


async def error_of_the_system(receive, send):
    try:
        await stream_until_it_fails(send)
    finally:
        raise ConnectionResetError("what was open")


async def mistake_far_down(receive, send):
    async def clean_up():
        try:
            raise LookupError
        finally:
            await asyncio.sleep(0)
            {}["what was open"]

    try:
        await stream_until_it_fails(send)
    finally:
        await clean_up()


async def mistake_of_a_cancelled_task(receive, send):
    async def watch():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            {}["what was open"]

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        tasks.create_task(stream_until_it_fails(send))


async def mistake_after_being_told(receive, send):
    await until_told(receive)
    {}["what was open"]


CLEANUPS = [
    mistake_in_finally,
    mistake_while_handling,
    error_of_the_system,
    mistake_far_down,
    mistake_of_a_cancelled_task,
    mistake_after_being_told,
]


@pytest.mark.parametrize("cleanup", CLEANUPS)
def test_a_mistake_after_the_client_left_is_told(cleanup, caplog):
    async def app(scope, receive, send):
        await send(START)
        await send(PART)
        await cleanup(receive, send)

    with serve(app) as server:
        client = server.client()
        client.send(request("GET", "/"))
        client.read_until(b"x\r\n")
        reset(client.sock)
        server.wait_until(lambda: not server.context.connections)
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors) == (1, 0), "no client saw it"
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "what was open" in record.getMessage() + caplog.text
    assert record.exc_info


@pytest.mark.parametrize("leaves", ["reset", "close frame"])
@pytest.mark.parametrize("cleanup", CLEANUPS)
def test_a_mistake_after_the_client_of_a_websocket_left_is_told(cleanup, leaves, caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

        async def send_text(_message):
            await send({"type": "websocket.send", "text": "x"})

        await cleanup(receive, send_text)

    with serve(app) as server:
        with Peer(server.connect()) as peer:
            peer.open()
            if leaves == "reset":
                peer.reset()
            else:
                peer.send(close_frame(1000))
                peer.read_to_end()
        server.wait_until(lambda: not server.context.connections)
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors) == (1, 0)
    (record,) = caplog.records
    assert "what was open" in record.getMessage() + caplog.text
    assert record.exc_info


async def as_it_is(error):
    raise error


async def by_name(error):
    raise ClientDisconnect


async def as_a_cause(error):
    raise LookupError("nobody listens") from error


async def in_a_group(error):
    raise ExceptionGroup("of tasks", [error, ClientDisconnect()])


@pytest.mark.parametrize("leave", [reset, end_sending])
@pytest.mark.parametrize("says", [as_it_is, by_name, as_a_cause, in_a_group])
def test_who_only_says_that_its_client_left_makes_no_mistake(says, leave, caplog):
    async def app(scope, receive, send):
        await until_told(receive)
        await send(START)
        try:
            await send(START)
            await stream_until_it_fails(send)
        except OSError as error:
            await says(error)

    with serve(app) as server:
        client = server.client()
        client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight)
        leave(client.sock)
        server.wait_until(lambda: not server.context.connections)
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors) == (0, 0)
    assert not caplog.records


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("leave", [reset, end_sending])
def test_an_upload_that_was_broken_off_is_no_mistake(variant, leave, caplog):
    async def app(scope, receive, send):
        while (await receive())["type"] == "http.request":
            pass
        raise ClientDisconnect

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", "Content-Length: 10") + b"12345")
        server.wait_until(lambda: server.context.stats.in_flight)
        leave(client.sock)
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.application_errors == 0
    assert not caplog.records


@pytest.mark.parametrize("begun", [False, True])
def test_a_disconnect_of_somebody_else_is_a_mistake(begun, caplog):
    async def app(scope, receive, send):
        if begun:
            await send(START)
            await send(PART)
            await asyncio.sleep(0)
        raise ClientDisconnect("of another one")

    with serve(app) as server:
        client = server.client()
        client.send(request("GET", "/"))
        if begun:
            with pytest.raises((EOFError, ConnectionResetError)):
                client.response()
        else:
            assert client.response().status == 500
        assert server.context.stats.application_errors == 1
        assert server.context.stats.late_errors == begun
    assert "ClientDisconnect: of another one" in caplog.text


def test_a_disconnect_of_another_websocket_is_a_mistake(caplog):
    """As in a room whose members are told by the one who speaks."""
    members = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if not members:
            members.append(send)
            await until_told(receive)
        else:
            await receive()
            for member in members:
                await member({"type": "websocket.send", "text": "hello"})

    with serve(app) as server:
        Peer(server.connect()).open().reset()
        server.wait_until(lambda: not server.context.connections)
        with Peer(server.connect()) as speaker:
            speaker.open()
            speaker.send(b"\x81\x80\0\0\0\0")
            assert speaker.read_close()[0] == 1011
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.late_errors == 1
    assert "ClientDisconnectedError" in caplog.text


# -- once more, after the end ----------------------------------------------------------------------

ONCE_MORE = {
    "a response": [START, {"type": "http.response.body", "body": b""}],
    "a body": [{"type": "http.response.body", "body": b"more"}] * 2,
    "trailers": [{"type": "http.response.trailers", "headers": []}],
}


@pytest.mark.parametrize("leave", [reset, end_sending])
@pytest.mark.parametrize("what", ONCE_MORE)
def test_who_answers_once_more_after_a_disconnect_makes_no_mistake(what, leave, caplog):
    async def app(scope, receive, send):
        await send(START)
        await send(PART)
        await until_told(receive)
        for message in ONCE_MORE[what]:
            await send(message)

    with serve(app) as server:
        client = server.client()
        client.send(request("GET", "/"))
        client.read_until(b"x\r\n")
        leave(client.sock)
        server.wait_until(lambda: not server.context.connections)
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors, stats.responses[5]) == (0, 0, 0)
    assert not caplog.records


def test_who_answers_once_more_when_the_drain_told_it_to_end_makes_no_mistake(caplog):
    async def app(scope, receive, send):
        await send(START)
        await send(PART)
        await until_told(receive)
        await respond(send)

    with serve(app) as server:
        client = server.client()
        client.send(request("GET", "/"))
        client.read_until(b"x\r\n")
        server.run(lambda: [connection.signal_disconnect() for connection in server.context.connections])
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.application_errors == 0
    assert not caplog.records


def test_a_second_response_to_a_client_that_is_there_is_a_mistake(caplog):
    async def app(scope, receive, send):
        await respond(send, body=b"first")
        await respond(send, body=b"second")

    with serve(app) as server:
        client = server.client()
        assert client.get().body == b"first"
        server.wait_until(lambda: server.context.stats.application_errors)
        assert server.context.stats.late_errors == 0, "the client has its response"
        assert client.get().body == b"first"
    assert "the response is complete" in caplog.text


@pytest.mark.parametrize("closes", ["the application", "the client", "both"])
@pytest.mark.parametrize("kind", ["websocket.send", "websocket.close", "websocket.accept"])
def test_who_sends_once_more_after_a_close_makes_no_mistake(closes, kind, caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if closes != "the client":
            await send({"type": "websocket.close"})
        await until_told(receive)
        await send({"type": kind, "text": "more"})

    with serve(app) as server:
        with Peer(server.connect()) as peer:
            peer.open()
            if closes != "the application":
                peer.send(close_frame(1000))
            peer.read_close()
        server.wait_until(lambda: not server.context.connections)
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors) == (0, 0)
    assert not caplog.records


# -- before anything has left ----------------------------------------------------------------------


class Log:
    """An access log that keeps what it is told."""

    is_timed = False

    def __init__(self):
        self.statuses = []

    def of_connection(self):
        return self

    def record(self, request, scope, status, body_bytes, duration, _block):
        self.statuses.append(status)

    def flush(self):
        pass


async def fail():
    raise LookupError


async def leave_it():
    pass


async def cancel_itself():
    raise asyncio.CancelledError


@pytest.mark.parametrize("status", [200, 204, 304, 503])
@pytest.mark.parametrize("parts", [0, 1, 3])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("ends", [fail, leave_it, cancel_itself])
def test_a_failure_before_anything_has_left_is_a_500(method, status, parts, ends, monkeypatch):
    # On a host that is slow just now nothing would be held until the end of the turn, and the head would have left.
    monkeypatch.setattr(write_batch, "_MAX_DELAY_DEBT", float("inf"))

    async def app(scope, receive, send):
        if scope["path"] == "/good":
            await respond(send, body=b"good")
            return
        headers = [(b"content-length", b"5")] if scope["path"] == "/length" else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if parts:
            await send(NOTHING_YET)
        for _ in range(parts - 1):
            with contextlib.suppress(StopIteration):
                send(NOTHING_YET).send(None)  # without a turn of the loop
        await ends()

    log = Log()
    with serve(app, access_log=log) as server:
        client = server.client()
        for path in ("/", "/length"):
            client.send(request("GET", "/good") + request(method, path) + request("GET", "/good"))
            assert client.response().body == b"good"
            response = client.response(method)
            assert (response.status, response.headers["content-length"]) == (500, "21")
            assert "transfer-encoding" not in response.headers
            assert response.body == (b"" if method == "HEAD" else b"Internal Server Error")
            assert client.response().body == b"good"
        old = server.client()
        old.send(f"{method} / HTTP/1.0\r\n\r\n".encode())
        assert old.response(method).status == 500
        assert old.is_closed()
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors) == (3, 0)
        assert stats.responses == [0, 0, 4, 0, 0, 3]
        assert stats.streams == 0
    assert log.statuses == [200, 500, 200] * 2 + [500]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_failure_after_an_empty_part_that_has_left_breaks_the_response_off(variant, caplog):
    async def app(scope, receive, send):
        await send(START)
        await send(NOTHING_YET)
        await left.wait()
        raise LookupError

    log = Log()
    with serve(app, access_log=log, **variant) as server:
        left = server.run(asyncio.Event)
        client = server.client()
        client.send(request("GET", "/"))
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        server.run(left.set)
        with pytest.raises((EOFError, ConnectionResetError)):
            client.read(1)
        assert server.context.stats.late_errors == 1
    assert log.statuses == [200]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_who_returns_when_it_is_cancelled_makes_no_mistake(variant, begun, caplog):
    async def app(scope, receive, send):
        await send(START)
        if begun:
            await send(PART)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight)
        if begun:
            client.read_until(b"x\r\n")
        server.run(lambda: [connection.cancel() for connection in list(server.context.connections)])
        server.wait_until(lambda: not server.context.connections)
        stats = server.context.stats
        assert (stats.application_errors, stats.late_errors) == (0, 0)
    assert not caplog.records


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_cancelled_before_anything_has_left_ends_as_if_it_had_not_begun(variant, caplog):
    async def app(scope, receive, send):
        if scope["path"] == "/held":
            await send(START)
        await asyncio.Event().wait()

    log = Log()
    with serve(app, access_log=log, **variant) as server:
        clients = [server.client(), server.client()]
        for client, path in zip(clients, ("/held", "/silent"), strict=True):
            client.send(request("GET", path))
        server.wait_until(lambda: server.context.stats.in_flight == 2)
        server.run(lambda: [connection.cancel() for connection in list(server.context.connections)])
        for client in clients:
            with pytest.raises((EOFError, ConnectionResetError)):
                client.response()
        server.wait_until(lambda: not server.context.connections)
    assert log.statuses == [499, 499]
    assert not caplog.records
