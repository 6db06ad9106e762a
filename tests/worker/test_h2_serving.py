"""HTTP/2 over real sockets, by prior knowledge: what every client and every application may rely on."""

import asyncio
import json
import logging

import h2.settings
import pytest

from asgi_master.asgi.errors import ClientDisconnectedError
from asgi_master.http.h2.engine import PREFACE
from asgi_master.http.limits import Http2Limits
from h2_client import H2Client
from http_apps import echo, hello, mirror, read_body, respond
from http_client import request
from serving import H2_ENGINES, serve

pytestmark = pytest.mark.parametrize("variant", H2_ENGINES)

NO_ERROR, INTERNAL_ERROR, CANCEL = 0, 2, 8


def test_a_small_response(variant):
    with serve(hello, **variant) as server:
        response = H2Client(server.connect()).get("/")
        assert (response.status, response.body) == (200, b"hello")
        assert response.fields == [
            ("date", "Mon, 23 Nov 2026 00:00:00 GMT"),
            ("server", "asgi-master"),
            ("content-length", "5"),
        ]


def test_many_requests_at_once(variant):
    with serve(echo, **variant) as server:
        client = H2Client(server.connect())
        bodies = {}
        for number in range(100):
            body = b"%d" % number * 100
            bodies[client.request("POST", "/", body=body)] = body
        for stream, body in bodies.items():
            assert client.response(stream).body == body
        stats = server.context.stats
        server.wait_until(lambda: stats.in_flight == 0)
        assert (stats.requests, stats.responses[2], stats.connections) == (100, 100, 1)


def test_the_scope(variant):
    with serve(mirror, root_path="/mount", **variant) as server:
        client = H2Client(server.connect())
        fields = [("x-twice", "1"), ("x-twice", "2"), ("cookie", "a=1"), ("cookie", "b=2")]
        stream = client.request("POST", "/a%20b/%C3%A9?x=%201&y", fields, body=b"data")
        seen = json.loads(client.response(stream).body)
        extensions = seen.pop("extensions", {})
        assert "http.response.push" not in extensions
        assert seen == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "method": "POST",
            "scheme": "http",
            "path": "/mount/a b/é",
            "raw_path": "/mount/a%20b/%C3%A9",
            "query_string": "x=%201&y",
            "root_path": "/mount",
            "headers": [["host", "localhost"], ["x-twice", "1"], ["x-twice", "2"], ["cookie", "a=1; b=2"]],
            "client": list(client.sock.getsockname()),
            "server": ["127.0.0.1", server.port],
            "body": "data",
        }


def test_http_1_on_the_same_port(variant):
    with serve(hello, **variant) as server:
        assert H2Client(server.connect()).get("/").body == b"hello"
        client = server.client()
        client.send(request("GET", "/"))
        assert client.response().body == b"hello"


@pytest.mark.parametrize("size", [1, 3, 17, 23])
def test_a_preface_in_pieces(variant, size):
    with serve(hello, **variant) as server:
        sock = server.connect()

        class Slow:
            """Sends its first bytes in pieces, each of which the server sees for itself."""

            sent = 0

            def sendall(self, data):
                for start in range(0, len(data), size):
                    sock.sendall(data[start : start + size])
                    if self.sent + start < len(PREFACE) + 4:
                        server.wait_until(lambda: True)
                self.sent += len(data)

            def recv(self, size):
                return sock.recv(size)

        sock.setsockopt(6, 1, 1)
        assert H2Client(Slow()).get("/").body == b"hello"


def test_a_method_that_begins_as_the_preface_does(variant):
    with serve(mirror, **variant) as server:
        client = server.client()
        client.send(b"P")
        server.wait_until(lambda: True)
        client.send(b"RI /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert json.loads(client.response().body)["method"] == "PRI"


def test_not_where_it_is_disabled(variant):
    with serve(hello, http2=None, **variant) as server:
        client = server.client()
        client.send(PREFACE)
        assert client.response().status == 505


def test_the_applications_run_side_by_side(variant):
    together = asyncio.Event()
    waiting = set()

    async def app(scope, receive, send):
        waiting.add(scope["path"])
        if len(waiting) == 3:
            together.set()
        await together.wait()
        await respond(send, body=scope["path"].encode())

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        streams = [client.request("GET", f"/{number}") for number in range(3)]
        assert [client.response(stream).body for stream in streams] == [b"/0", b"/1", b"/2"]


def test_a_large_response_and_a_small_window(variant):
    body = bytes(range(256)) * 4096

    async def app(scope, receive, send):
        await respond(send, body=body)

    with serve(app, **variant) as server:
        client = H2Client(server.connect(), window=1000)
        assert client.get("/").body == body


def test_a_stream_of_pieces_waits_for_the_window(variant):
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        if scope["path"] == "/other":
            await respond(send, body=b"")
            return
        await send({"type": "http.response.start", "status": 200})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            sent += 10_000
        await send({"type": "http.response.body", "body": b""})

    with serve(app, **variant) as server:
        client = H2Client(server.connect(), acknowledges=False)
        stream = client.request("GET", "/")
        client.read_until(lambda: len(client.responses[stream].body) == 65535)
        assert client.get("/other").status == 200  # a round trip
        held = server.run(lambda: sent)
        assert held < 65535 + 100_000
        client.acknowledges = True
        client.h2.acknowledge_received_data(65535, stream)
        client.flush()
        assert len(client.response(stream).body) == 10_000_000


def test_a_stalled_stream_does_not_delay_another(variant):
    async def app(scope, receive, send):
        await respond(send, body=b"x" * (1_000_000 if scope["path"] == "/large" else 10))

    with serve(app, **variant) as server:
        client = H2Client(server.connect(), window=100)
        client.acknowledges = False
        large = client.request("GET", "/large")
        client.read_until(lambda: len(client.responses[large].body) == 100)
        assert client.get("/small").body == b"x" * 10


def test_a_large_upload(variant):
    body = bytes(range(256)) * 20_000

    async def app(scope, receive, send):
        received = await read_body(receive)
        await respond(send, body=b"same" if received == body else b"other")

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        stream = client.request("POST", "/", body=body)
        assert client.response(stream).body == b"same"


def test_an_upload_that_is_not_read_stops(variant):
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/go":
            go_on.set()
            await respond(send)
            return
        await go_on.wait()
        await respond(send, body=b"%d" % len(await read_body(receive)))

    with serve(app, http2=Http2Limits(stream_window=100_000), **variant) as server:
        client = H2Client(server.connect())
        stream = client.open("POST", "/", ends=False)
        client.read_until(lambda: client.h2.remote_settings.initial_window_size == 100_000)
        client.send(stream, b"x" * 100_000)
        assert client.h2.local_flow_control_window(stream) == 0
        client.get("/go")
        client.send(stream, b"y" * 100_000, ends=True)
        assert client.response(stream).body == b"200000"


def test_a_response_before_the_end_of_the_request(variant):
    with serve(hello, **variant) as server:
        client = H2Client(server.connect())
        stream = client.open("POST", "/", ends=False)
        response = client.head(stream)
        client.read_until(lambda: response.reset is not None)
        assert (response.status, response.body, response.ended, response.reset) == (
            200,
            b"hello",
            True,
            NO_ERROR,
        )
        assert client.get("/").body == b"hello"


def test_a_reset_is_a_disconnect(variant):
    seen = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        try:
            await send({"type": "http.response.body", "body": b"x"})
        except ClientDisconnectedError:
            seen.append("error")

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        stream = client.request("GET", "/")
        client.head(stream)
        client.h2.reset_stream(stream, CANCEL)
        client.flush()
        server.wait_until(lambda: len(seen) == 3)
        assert seen == ["http.request", "http.disconnect", "error"]
        assert server.run(lambda: server.context.stats.http2_resets) == 1
        server.wait_until(lambda: server.context.stats.in_flight == 0)


def test_a_request_that_is_reset_before_its_turn_is_not_run(variant):
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        await respond(send)

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        assert client.get("/first").status == 200
        stream = client.open("POST", "/reset", ends=False, flush=False)
        client.h2.send_data(stream, b"x" * 100)
        client.h2.reset_stream(stream, CANCEL)
        assert client.get("/last").status == 200  # in the same segment
        assert started == ["/first", "/last"]
        connection = server.run(lambda: next(iter(server.context.connections)))
        server.wait_until(lambda: not connection.engine.streams)


def test_a_client_that_leaves(variant):
    seen = []

    async def app(scope, receive, send):
        await receive()
        seen.append((await receive())["type"])

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        for _ in range(3):
            client.request("GET", "/")
        server.wait_until(lambda: server.context.stats.in_flight == 3)
        client.sock.close()
        server.wait_until(lambda: not server.context.connections)
        assert seen == ["http.disconnect"] * 3
        assert server.context.stats.http2_resets == 0
        assert server.context.stats.connections == 0


def test_an_application_that_fails(variant, caplog):
    async def app(scope, receive, send):
        raise LookupError("no such thing")

    with serve(app, **variant) as server:
        assert H2Client(server.connect()).get("/x").status == 500
    assert [record.getMessage() for record in caplog.records] == [
        "GET /x: the application raised LookupError: no such thing"
    ]


def test_an_application_that_fails_in_a_response(variant, caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        raise LookupError("no such thing")

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        response = client.get("/")
        assert (response.body, response.ended, response.reset) == (b"x", False, INTERNAL_ERROR)
        assert len(caplog.records) == 1


def test_a_head_alone_is_taken_back_when_the_application_fails(variant, caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        raise LookupError("no such thing")

    with serve(app, **variant) as server:
        response = H2Client(server.connect()).get("/")
        assert (response.status, response.ended) == (500, True)
        assert len(caplog.records) == 1


def test_100_continue_is_sent_when_the_body_is_asked_for(variant):
    asked = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/ask":
            asked.set()
            await respond(send)
            return
        await asked.wait()
        await respond(send, body=await read_body(receive))

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        stream = client.open("POST", "/", [("expect", "100-continue")], ends=False)
        client.get("/ask")
        response = client.responses[stream]
        client.read_until(lambda: response.interim)
        assert response.interim == [(100, [])]
        client.send(stream, b"data", ends=True)
        assert client.response(stream).body == b"data"


def test_head_and_304_have_no_body(variant):
    async def app(scope, receive, send):
        status = 304 if scope["path"] == "/304" else 200
        await respond(send, status=status, body=b"hello", headers=[(b"content-length", b"5")])

    with serve(app, **variant) as server:
        client = H2Client(server.connect())
        head = client.response(client.request("HEAD", "/"))
        assert (head.status, head.field("content-length"), head.body) == (200, "5", b"")
        assert (client.get("/304").status, client.get("/304").body) == (304, b"")


def test_too_many_active_requests(variant):
    release = asyncio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await respond(send)

    with serve(app, max_active_requests=2, **variant) as server:
        client = H2Client(server.connect())
        served = [client.request("GET", "/") for _ in range(2)]
        refused = client.get("/")
        assert (refused.status, refused.field("retry-after")) == (503, "1")
        server.run(release.set)
        assert [client.response(stream).status for stream in served] == [200, 200]
        assert client.get("/").status == 200


def test_more_streams_than_are_allowed_are_refused(variant):
    release = asyncio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await respond(send)

    with serve(app, http2=Http2Limits(max_concurrent_streams=2), **variant) as server:
        client = H2Client(server.connect())
        client.read_until(
            lambda: client.h2.remote_settings.get(h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS) == 2
        )
        client.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 100
        client.h2.remote_settings.acknowledge()
        served = [client.request("GET", "/") for _ in range(2)]
        assert client.get("/").reset == 7
        server.run(release.set)
        assert [client.response(stream).status for stream in served] == [200, 200]


def test_a_request_that_is_over_a_limit(variant):
    with serve(hello, request_line=300, **variant) as server:
        client = H2Client(server.connect())
        assert client.get("/" + "a" * 400).status == 414
        assert client.get("/").status == 200


def test_a_body_that_is_over_the_limit(variant):
    with serve(echo, body_size=1000, **variant) as server:
        client = H2Client(server.connect())
        assert client.response(client.request("POST", "/", body=b"x" * 2000)).status == 413
        assert client.response(client.request("POST", "/", body=b"x" * 1000)).status == 200


def test_a_malformed_request_ends_its_stream_only(variant):
    with serve(hello, **variant) as server:
        client = H2Client(server.connect())
        client.h2.config.validate_outbound_headers = client.h2.config.normalize_outbound_headers = False
        assert client.get("/", [("Upper", "x")]).reset == 1
        assert client.get("/").status == 200


def test_a_broken_frame_ends_the_connection(variant, caplog):
    caplog.set_level(logging.INFO, "asgi_master")
    with serve(hello, **variant) as server:
        client = H2Client(server.connect())
        assert client.get("/").status == 200
        client.sock.sendall(b"\x00\x00\x01\x06\x00\x00\x00\x00\x00x")  # a PING of one byte
        client.read_to_end()
        assert int(client.goaways[-1].error_code) == 6
        server.wait_until(lambda: not server.context.connections)
    assert caplog.records == []


def test_the_access_log(variant):
    lines = []

    class Log:
        is_timed = True

        def of_connection(self):
            return self

        def record(self, request, scope, status, body_bytes, duration, fields):
            lines.append((scope["http_version"], scope["path"], status, body_bytes))

        def refused(self, client, line, status, body_bytes):
            lines.append(("refused", status))

        def flush(self):
            pass

    with serve(hello, access_log=Log(), request_line=300, **variant) as server:
        client = H2Client(server.connect())
        client.get("/a")
        client.get("/" + "a" * 400)
        server.wait_until(lambda: len(lines) == 2)
        assert lines == [("2", "/a", 200, 5), ("refused", 414)]
