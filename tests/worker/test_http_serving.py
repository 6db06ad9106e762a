"""Requests and responses over real sockets: what every client and every application may rely on."""

import asyncio
import json
import logging

import pytest

from asgi_master.asgi.errors import ClientDisconnectedError
from asgi_master.http.server_fields import ServerFields
from http_apps import echo, hello, mirror, read_body, respond
from http_client import request
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)


def test_a_small_response(variant):
    with serve(hello, **variant) as server:
        client = server.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_until(b"hello") == (
            b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 00:00:00 GMT\r\nserver: asgi-master\r\n"
            b"content-length: 5\r\n\r\nhello"
        )


def test_keep_alive_serves_many_requests_on_one_connection(variant):
    with serve(echo, **variant) as server:
        client = server.client()
        for number in range(20):
            client.send(request("POST", "/", body=b"%d" % number * 100))
            assert client.response().body == b"%d" % number * 100
        stats = server.context.stats
        server.wait_until(lambda: stats.in_flight == 0)
        assert (stats.requests, stats.responses[2], stats.connections) == (20, 20, 1)


def test_the_scope(variant):
    with serve(mirror, root_path="/mount", **variant) as server:
        client = server.client()
        client.send(request("POST", "/a%20b/%C3%A9?x=%201&y", "X-Twice: 1", "x-twice: 2", body=b"data"))
        seen = json.loads(client.response().body)
        assert seen == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/mount/a b/é",
            "raw_path": "/mount/a%20b/%C3%A9",
            "query_string": "x=%201&y",
            "root_path": "/mount",
            "headers": [["host", "localhost"], ["x-twice", "1"], ["x-twice", "2"], ["content-length", "4"]],
            "client": list(client.sock.getsockname()),
            "server": ["127.0.0.1", server.port],
            "body": "data",
            "extensions": {"http.response.pathsend": {}, "http.response.zerocopysend": {}},
        }


def test_a_unix_socket_has_a_path_and_no_client(variant, tmp_path):
    path = str(tmp_path / "s")
    with serve(mirror, path=path, **variant) as server:
        seen = json.loads(server.client().get("/").body)
        assert (seen["client"], seen["server"]) == (None, [path, None])


def test_state_is_copied_for_each_request(variant):
    async def app(scope, receive, send):
        count = scope["state"]["shared"]
        count.append(1)
        scope["state"]["own"] = True
        await respond(send, body=b"%d" % len(count))

    state = {"shared": []}
    with serve(app, state=state, **variant) as server:
        client = server.client()
        assert client.get().body == b"1"
        assert client.get().body == b"2"
        assert state == {"shared": [1, 1]}


def test_pipelined_requests_are_answered_in_order(variant):
    async def app(scope, receive, send):
        # The first ones take longest.
        for _ in range(20 - int(scope["query_string"])):
            await asyncio.sleep(0)
        await respond(send, body=scope["query_string"])

    with serve(app, **variant) as server:
        client = server.client()
        client.send(b"".join(request("GET", f"/?{number}") for number in range(20)))
        assert [client.response().body for _ in range(20)] == [b"%d" % number for number in range(20)]


def test_thousands_of_pipelined_requests_do_not_recurse(variant):
    with serve(hello, **variant) as server:
        client = server.client()
        client.send(request("GET", "/") * 2000)
        for _ in range(2000):
            assert client.response().body == b"hello"


def test_the_next_request_does_not_wait_for_background_work(variant):
    async def app(scope, receive, send):
        await respond(send, body=scope["path"].encode())
        if scope["path"] == "/first":
            assert (await receive())["type"] == "http.disconnect"
            await released.wait()

    with serve(app, **variant) as server:
        released = server.run(asyncio.Event)
        client = server.client()
        assert client.get("/first").body == b"/first"
        assert client.get("/second").body == b"/second"
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        client.sock.close()
        server.wait_until(lambda: server.context.stats.connections == 0)
        assert len(server.context.connections) == 1, "the drain waits for background work"
        server.run(released.set)
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.in_flight == 0


def test_requests_of_a_connection_share_no_context_variables(variant):
    from contextvars import ContextVar

    seen = ContextVar("seen", default=b"nothing")

    async def app(scope, receive, send):
        before = seen.get()
        seen.set(scope["path"].encode())
        await read_body(receive)
        await asyncio.sleep(0)
        await respond(send, body=before)

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("POST", "/1", body=b"x" * 300_000) + request("GET", "/2") + request("GET", "/3"))
        assert [client.response().body for _ in range(3)] == [b"nothing"] * 3
        assert client.get("/4").body == b"nothing"


def test_each_request_runs_in_a_task_of_its_own(variant):
    tasks = []

    async def app(scope, receive, send):
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        await respond(send)

    with serve(app, **variant) as server:
        client = server.client()
        client.get()
        client.get()
        assert None not in tasks
        assert len(set(tasks)) == 2


@pytest.mark.parametrize("length", [0, 1, 10, 70_000, 1_000_000])
def test_bodies_of_any_size_both_ways(variant, length):
    body = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    with serve(echo, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", f"Content-Length: {length}") + body)
        assert client.response().body == body
        chunks = (
            b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in _pieces(body, 1000)) + b"0\r\n\r\n"
        )
        client.send(request("PUT", "/", "Transfer-Encoding: chunked") + chunks)
        assert client.response().body == body


def _pieces(body, size):
    return [body[start : start + size] for start in range(0, len(body), size)]


def test_request_trailers_are_dropped(variant):
    with serve(mirror, **variant) as server:
        client = server.client()
        client.send(
            request("POST", "/", "Transfer-Encoding: chunked")
            + b"3;ext=1\r\nabc\r\n0\r\nHost: evil\r\nAuthorization: evil\r\n\r\n"
        )
        seen = json.loads(client.response().body)
        assert seen["headers"] == [["host", "localhost"], ["transfer-encoding", "chunked"]]
        assert seen["body"] == "abc"


def test_a_streamed_response_is_chunked_and_not_held_back(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        await send({"type": "http.response.body"})

    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = server.client()
        client.send(request("GET", "/"))
        assert b"transfer-encoding: chunked" in client.read_until(b"\r\n\r\n")
        server.run(go_on.set)
        assert client.chunks() == [b"one", b"two"]
        client.send(request("GET", "/"))
        assert client.response().body == b"onetwo"


def test_http_1_0_closes_and_is_never_chunked(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    with serve(app, **variant) as server:
        client = server.client()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        response = client.response()
        assert (response.version, response.body) == ("HTTP/1.1", b"onetwo")
        assert "transfer-encoding" not in response.headers
        assert client.is_closed()


def test_http_1_0_keeps_alive_when_asked_and_possible(variant):
    with serve(hello, **variant) as server:
        client = server.client()
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            response = client.response()
            assert response.headers["connection"] == "keep-alive"
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().headers["connection"] == "close"
        assert client.is_closed()


def test_connection_close_is_obeyed_both_ways(variant):
    async def app(scope, receive, send):
        headers = [(b"Connection", b"close")] if scope["path"] == "/close" else []
        await respond(send, headers=headers)

    with serve(app, **variant) as server:
        client = server.client()
        response = client.get("/", "Connection: close")
        assert response.headers["connection"] == "close"
        assert client.is_closed()
        client = server.client()
        response = client.get("/close")
        assert [value for name, value in response.fields if name == "connection"] == ["close"]
        assert client.is_closed()


@pytest.mark.parametrize(
    ("method", "status", "length"), [("HEAD", 200, "5"), ("GET", 304, "5"), ("GET", 204, None)]
)
def test_responses_without_a_body(variant, method, status, length):
    async def app(scope, receive, send):
        headers = [] if scope["path"] == "/unknown" else [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"he", "more_body": True})
        await send({"type": "http.response.body", "body": b"llo"})

    with serve(app, **variant) as server:
        client = server.client()
        for target in ("/", "/unknown", "/"):
            client.send(request(method, target))
            response = client.response(method)
            assert response.status == status
            assert response.headers.get("content-length") == (None if target == "/unknown" else length)
            assert "transfer-encoding" not in response.headers


def test_a_head_response_tells_the_length_it_knows(variant):
    async def app(scope, receive, send):
        await respond(send, body=b"hello")

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("HEAD", "/") + request("GET", "/"))
        assert client.response("HEAD").headers["content-length"] == "5"
        assert client.response().body == b"hello"


def test_default_headers_and_their_switches(variant):
    async def app(scope, receive, send):
        own = [(b"Date", b"now"), (b"Server", b"mine"), (b"X-Default", b"own")]
        await respond(send, headers=own if scope["path"] == "/own" else [])

    extra = ((b"X-Default", b"1"), (b"x-default", b"2"))
    with serve(app, server_fields=ServerFields(extra_headers=extra), **variant) as server:
        client = server.client()
        assert [value for name, value in client.get("/").fields if name.lower() == "x-default"] == ["1", "2"]
        fields = client.get("/own").fields
        assert fields == [("Date", "now"), ("Server", "mine"), ("X-Default", "own"), ("content-length", "0")]
    with serve(app, server_fields=ServerFields(server_header=False, date_header=False), **variant) as server:
        assert server.client().get("/").fields == [("content-length", "0")]


def test_100_continue_is_sent_when_the_body_is_wanted_and_only_then(variant):
    async def app(scope, receive, send):
        if scope["path"] == "/refuse":
            await respond(send, 403)
        else:
            await echo(scope, receive, send)

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", "Expect: 100-Continue", "Content-Length: 3"))
        assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.response().body == b"abc"
        # Who does not wait is not told.
        client.send(request("POST", "/", "Expect: 100-continue", body=b"abc"))
        assert client.response().status == 200
        client.send(request("POST", "/refuse", "Expect: 100-continue", "Content-Length: 3"))
        response = client.response()
        assert (response.status, response.headers["connection"]) == (403, "close")
        assert client.is_closed()
        assert server.context.stats.responses[1] == 1


def test_http_1_0_is_never_told_to_continue(variant):
    with serve(echo, **variant) as server:
        client = server.client()
        client.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        client.send(b"abc")
        assert client.response().body == b"abc"


def test_an_upgrade_that_nobody_knows_is_plain_http(variant):
    with serve(hello, **variant) as server:
        client = server.client()
        for _ in range(2):
            assert client.get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c").body == b"hello"


def test_too_many_active_requests_are_told_to_come_back(variant):
    async def app(scope, receive, send):
        await released.wait()
        await respond(send)

    with serve(app, max_active_requests=2, **variant) as server:
        released = server.run(asyncio.Event)
        idle = server.client()
        busy = [server.client() for _ in range(2)]
        for client in busy:
            client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight == 2)
        for _ in range(2):
            response = idle.get()
            assert (response.status, response.headers["retry-after"]) == (503, "1")
        server.run(released.set)
        assert [client.response().status for client in busy] == [200, 200]
        assert idle.get().status == 200


def test_the_access_log_is_told_of_every_request(variant):
    records = []

    class Log:
        is_timed = True

        def of_connection(self):
            return self

        def record(self, request, scope, status, body_bytes, duration, _block):
            records.append((request.method, scope["path"], status, body_bytes, duration >= 0))

    async def app(scope, receive, send):
        if scope["path"] == "/gone":
            await receive()
            await receive()
            return
        await respond(send, body=b"12345")

    with serve(app, access_log=Log(), **variant) as server:
        client = server.client()
        client.get("/a")
        client.send(request("HEAD", "/b"))
        client.response("HEAD")
        client.send(request("GET", "/gone"))
        server.wait_until(lambda: server.context.stats.in_flight)
        client.sock.close()
        server.wait_until(lambda: not server.context.stats.in_flight)
    assert records == [
        ("GET", "/a", 200, 5, True),
        ("HEAD", "/b", 200, 0, True),
        ("GET", "/gone", 499, 0, True),
    ]


# -- applications that fail ------------------------------------------------------------------------


def test_an_exception_before_the_response_is_a_500_and_in_the_log(variant, caplog):
    async def app(scope, receive, send):
        if scope["path"] == "/held":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/exit":
            raise SystemExit(3)
        raise LookupError("what happened")

    with serve(app, **variant) as server:
        client = server.client()
        for target in ("/boom?q", "/held", "/exit"):
            response = client.get(target)
            assert (response.status, response.body) == (500, b"Internal Server Error")
        assert server.context.stats.application_errors == 3
        assert server.context.stats.late_errors == 0, "each is counted as a 5xx"
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    first = caplog.records[0].getMessage()
    assert "GET /boom?q" in first
    assert "LookupError: what happened" in first
    assert "http_request.py" not in first


def test_an_exception_after_the_response_began_breaks_the_connection(variant, caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await asyncio.sleep(0)
        if scope["path"] == "/raise":
            raise LookupError

    with serve(app, **variant) as server:
        for target in ("/raise", "/return"):
            client = server.client()
            client.send(request("GET", target))
            with pytest.raises((EOFError, ConnectionResetError)):
                client.response()
        assert server.context.stats.late_errors == 2
    assert len(caplog.records) == 2


def test_returning_without_a_response_to_a_client_that_left_is_no_error(variant, caplog):
    """Such clients come in crowds: a line for each would bury the others."""

    async def app(scope, receive, send):
        await go_on.wait()

    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = server.client()
        client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight == 1)
        client.sock.close()
        server.wait_until(lambda: all(connection._eof for connection in server.context.connections))
        server.run(go_on.set)
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.application_errors == 0
    assert not caplog.records


def test_returning_without_a_response_is_a_500(variant, caplog):
    async def app(scope, receive, send):
        if scope["path"] == "/held":
            await send({"type": "http.response.start", "status": 200})

    with serve(app, **variant) as server:
        client = server.client()
        assert client.get("/").status == 500
        assert client.get("/held").status == 500
    assert "GET /held: the application returned without completing its response" in caplog.text


@pytest.mark.parametrize(
    ("length", "bodies"),
    [(3, [b"long"]), (3, [b"lo", b"ng"]), (9, [b"short"]), (9, [b"sh", b"ort"])],
    ids=["long", "long in pieces", "short", "short in pieces"],
)
def test_the_content_length_is_enforced(variant, caplog, length, bodies):
    async def app(scope, receive, send):
        headers = [(b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for body in bodies[:-1]:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        with pytest.raises(RuntimeError, match="content-length"):
            await send({"type": "http.response.body", "body": bodies[-1]})

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("GET", "/") * 2)
        if len(bodies) == 1:
            assert client.response().status == 500
        else:
            with pytest.raises((EOFError, ConnectionResetError)):
                client.response()


@pytest.mark.parametrize(
    "headers",
    [
        [(b"a", b"b\r\nc: d")],
        [(b"a\r\nb", b"c")],
        [(b"a", b"\0")],
        [(b"a b", b"c")],
        [(b"", b"c")],
        [("a", "b")],
        [(b"content-length", b"-1")],
    ],
)
def test_headers_that_would_break_the_response_are_refused(variant, caplog, headers):
    async def app(scope, receive, send):
        await respond(send, headers=headers)

    with serve(app, **variant) as server:
        assert server.client().get().status == 500


def test_an_exception_after_the_response_is_only_logged(variant, caplog):
    async def app(scope, receive, send):
        await respond(send, body=b"fine")
        raise LookupError("too late")

    with serve(app, **variant) as server:
        client = server.client()
        assert client.get().body == b"fine"
        assert client.get().body == b"fine"
        server.wait_until(lambda: server.context.stats.application_errors == 2)
        assert server.context.stats.late_errors == 0, "no client saw it"
    told = "GET /: the application raised LookupError: too late"
    assert [record.getMessage() for record in caplog.records] == [told, told]
    assert "http_request.py" not in caplog.text.replace("asgi_master:http_request.py", ""), (
        "as others format it"
    )


# -- peers that leave ------------------------------------------------------------------------------


def test_a_disconnect_wakes_receive_and_fails_send(variant):
    seen = []

    async def app(scope, receive, send):
        await receive()
        seen.append(await receive())
        seen.append(await receive())
        await lost.wait()
        with pytest.raises(OSError) as caught:
            await respond(send)
        seen.append(type(caught.value))

    with serve(app, **variant) as server:
        lost = server.run(asyncio.Event)
        client = server.client()
        client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight)
        _reset(client.sock)
        server.wait_until(lambda: server.context.stats.connections == 0)
        server.run(lost.set)
        server.wait_until(lambda: not server.context.connections)
    assert seen == [{"type": "http.disconnect"}, {"type": "http.disconnect"}, ClientDisconnectedError]


def _reset(sock):
    """Close with a reset."""
    import struct

    sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
    sock.close()


def test_who_sends_without_a_pause_is_told_that_the_peer_is_gone(variant):
    """An application that never waits for anything else keeps the loop from noticing."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go_on.wait()
        try:
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        except OSError:
            told.append(True)
            raise

    told = []
    with serve(app, **variant) as server:
        go_on = server.run(asyncio.Event)
        client = server.client()
        client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight)

        def leave_and_go_on():  # in one turn of the loop
            _reset(client.sock)
            go_on.set()

        server.run(leave_and_go_on)
        server.wait_until(lambda: not server.context.connections)
    assert told


class Unusual(BaseException):
    """Not an `Exception`, as those of some frameworks that end a test run."""


@pytest.mark.parametrize("error", [Unusual("what happened"), BaseExceptionGroup("several", [Unusual()])])
def test_whatever_an_application_raises_ends_its_request(variant, caplog, error):
    async def app(scope, receive, send):
        raise error

    with serve(app, **variant) as server:
        assert server.client().get().status == 500
        assert server.context.stats.in_flight == 0
    assert type(error).__name__ in caplog.text


def test_errors_that_follow_from_a_disconnect_are_not_logged(variant, caplog):
    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        while True:
            await asyncio.sleep(0.001)
            try:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})
                    await asyncio.sleep(0.001)
            except OSError as error:
                wrapped = LookupError("wrapped")
                wrapped.__cause__ = error
                raise ExceptionGroup("as task groups do", [wrapped]) from None

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight)
        client.sock.close()
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.application_errors == 0
    assert not caplog.records


def test_the_application_is_not_cancelled_by_a_disconnect(variant):
    async def app(scope, receive, send):
        server.run_count = 0
        await released.wait()
        finished.append(True)

    finished = []
    with serve(app, **variant) as server:
        released = server.run(asyncio.Event)
        client = server.client()
        client.send(request("GET", "/"))
        server.wait_until(lambda: server.context.stats.in_flight)
        _reset(client.sock)
        server.wait_until(lambda: server.context.stats.connections == 0)
        server.run(released.set)
        server.wait_until(lambda: finished)


def test_a_client_that_closes_its_half_still_gets_its_responses(variant):
    async def app(scope, receive, send):
        await read_body(receive)
        await asyncio.sleep(0.02)
        await respond(send, body=scope["path"].encode())

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("GET", "/1") + request("GET", "/2"))
        client.sock.shutdown(1)
        assert [client.response().body for _ in range(2)] == [b"/1", b"/2"]
        assert client.is_closed()


def test_a_disconnect_in_the_middle_of_a_body(variant):
    seen = []

    async def app(scope, receive, send):
        while True:
            seen.append(await receive())
            if seen[-1]["type"] == "http.disconnect":
                return

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", "Content-Length: 10") + b"12345")
        server.wait_until(lambda: seen)
        client.sock.close()
        server.wait_until(lambda: not server.context.connections)
    assert seen == [
        {"type": "http.request", "body": b"12345", "more_body": True},
        {"type": "http.disconnect"},
    ]
