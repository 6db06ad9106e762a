"""WebSockets over real sockets: what peers and applications see of each other."""

import asyncio
import contextlib
import logging
import queue
import socket
import time
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from asgi_master.http.limits import WebSocketLimits
from asgi_master.http.server_fields import ServerFields
from asgi_master.telemetry.formatters import TextFormatter
from serving import DATE, serve
from websocket_peer import BINARY, CLOSE, FIN, PING, PONG, TEXT, Peer, close_frame, frame, handshake


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request) -> str:
    return request.param


@pytest.fixture(params=["auto", "h11"])
def parser(request) -> str:
    """With it goes the WebSocket engine: the fast one, or the reference."""
    return request.param


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again, for at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.005)


def url(server, path: str = "/") -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


class App:
    """An application from a coroutine function; `told` is what it wants the test to know."""

    def __init__(self, run=None) -> None:
        self.told: queue.Queue[object] = queue.Queue()
        self._run = run

    async def __call__(self, scope, receive, send) -> None:
        assert scope["type"] == "websocket"
        message = await receive()
        assert message == {"type": "websocket.connect"}
        await self._run(self, scope, receive, send)

    def hear(self) -> object:
        return self.told.get(timeout=10)


async def echo(app, _scope, receive, send) -> None:
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    app.told.put(message)


async def listen(app, _scope, receive, send) -> None:
    """Accepts and tells everything."""
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        app.told.put(message)
        if message["type"] == "websocket.disconnect":
            return


def disconnect(code: int, reason: str = "") -> dict[str, object]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class TestMessages:
    @pytest.mark.parametrize("compression", ["deflate", None])
    def test_echo(self, loop, parser, compression):
        app = App(echo)
        with (
            serve(app, parser=parser, loop=loop) as server,
            connect(url(server), compression=compression) as client,
        ):
            for message in ("", b"", "grüße", b"\x00\xff", "x" * 126, b"y" * 65536, "z" * 500_000):
                client.send(message)
                assert client.recv() == message

    def test_fragments(self, loop, parser):
        with serve(App(echo), parser=parser, loop=loop) as server, connect(url(server)) as client:
            client.send(["a", "bc", "", "d"])
            assert client.recv() == "abcd"
            client.send([b"a", b"b"])
            assert client.recv() == b"ab"

    def test_many_fragments_in_one_segment(self, loop, parser):
        with serve(App(echo), parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            peer.send(frame(BINARY, b"a") + frame(0, b"b") * 500 + frame(FIN, b"c"))
            assert peer.read_frame() == (FIN | BINARY, b"a" + b"b" * 500 + b"c")

    def test_frames_that_come_with_the_handshake(self, loop, parser):
        with serve(App(echo), parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open(then=frame(FIN | TEXT, b"early") + frame(FIN | TEXT, b"bird"))
            assert [peer.read_frame(), peer.read_frame()] == [(FIN | TEXT, b"early"), (FIN | TEXT, b"bird")]

    def test_frames_that_come_before_the_answer(self, loop):
        release = asyncio.Event()

        async def slow(app, scope, receive, send):
            app.told.put("asked")
            await release.wait()
            await echo(app, scope, receive, send)

        app = App(slow)
        with serve(app, loop=loop) as server, Peer(server.connect()) as peer:
            peer.send(handshake())
            assert app.hear() == "asked"
            peer.send(frame(FIN | TEXT, b"a" * 100_000))
            peer.send(frame(FIN | TEXT, b"b"))
            server.run(release.set)
            assert peer.read_head().startswith(b"HTTP/1.1 101")
            assert peer.read_frame() == (FIN | TEXT, b"a" * 100_000)
            assert peer.read_frame() == (FIN | TEXT, b"b")

    def test_an_http_request_before_the_upgrade(self, loop, parser):
        app = App(echo)

        async def both(scope, receive, send):
            if scope["type"] == "websocket":
                await app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

        with serve(both, parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + handshake() + frame(FIN | TEXT, b"hi"))
            assert peer.read_head().startswith(b"HTTP/1.1 200 ")
            assert peer._exactly(2) == b"ok"
            assert peer.read_head().startswith(b"HTTP/1.1 101 ")
            assert peer.read_frame() == (FIN | TEXT, b"hi")

    def test_a_cancelled_receive_loses_nothing(self, loop):
        async def impatient(app, _scope, receive, send):
            await send({"type": "websocket.accept"})
            for _ in range(20):
                try:
                    async with asyncio.timeout(0):
                        await receive()
                except TimeoutError:
                    pass
            app.told.put("ready")
            app.told.put(await receive())

        app = App(impatient)
        with serve(app, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            assert app.hear() == "ready"
            peer.send(frame(FIN | TEXT, b"here"))
            assert app.hear() == {"type": "websocket.receive", "text": "here"}

    def test_two_receive_at_once(self, loop):
        async def pair(app, _scope, receive, send):
            tasks = [asyncio.create_task(receive()) for _ in range(2)]
            await asyncio.sleep(0)
            await send({"type": "websocket.accept"})
            app.told.put(sorted([message["text"] for message in await asyncio.gather(*tasks)]))

        app = App(pair)
        with serve(app, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open(then=frame(FIN | TEXT, b"1") + frame(FIN | TEXT, b"2"))
            assert app.hear() == ["1", "2"]


class TestHandshake:
    def test_scope(self, loop, parser):
        async def tell(app, scope, receive, send):
            app.told.put(scope)
            scope["state"]["mine"] = 1
            await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][1]})
            await receive()

        app = App(tell)
        with serve(app, parser=parser, loop=loop, root_path="/api") as server:
            server.context.state["shared"] = "yes"
            with connect(url(server, "/a%20b?c=d"), subprotocols=["v1", "v2"]) as client:
                assert client.subprotocol == "v2"
                local = client.local_address
            assert server.context.state == {"shared": "yes"}
        scope = app.hear()
        headers = scope.pop("headers")
        assert (b"sec-websocket-version", b"13") in headers
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/api/a b",
            "raw_path": b"/api/a%20b",
            "query_string": b"c=d",
            "root_path": "/api",
            "client": local,
            "server": ("127.0.0.1", server.port),
            "subprotocols": ["v1", "v2"],
            "state": {"shared": "yes", "mine": 1},
            "extensions": {"websocket.http.response": {}},
        }

    def test_scope_on_a_unix_socket(self, loop, tmp_path):
        async def tell(app, scope, _receive, send):
            app.told.put((scope["client"], scope["server"]))
            await send({"type": "websocket.close"})

        app = App(tell)
        path = str(tmp_path / "socket")
        with serve(app, loop=loop, path=path) as server, Peer(server.connect()) as peer:
            peer.send(handshake())
            assert app.hear() == (None, (path, None))

    def test_headers_of_the_answer(self, loop):
        async def accept(app, _scope, _receive, send):
            await send({"type": "websocket.accept", "headers": [(b"x-one", b"1"), (b"x-one", b"2")]})

        fields = ServerFields(extra_headers=((b"x-more", b"m"),))
        with (
            serve(App(accept), loop=loop, server_fields=fields) as server,
            connect(url(server), compression=None) as client,
        ):
            headers = client.response.headers
            assert headers.get_all("x-one") == ["1", "2"]
            assert (headers["date"], headers["server"], headers["x-more"]) == (DATE, "asgi-master", "m")

    @pytest.mark.parametrize("offered", [True, False])
    def test_deflate_can_be_switched_off(self, loop, offered):
        limits = WebSocketLimits(per_message_deflate=offered)
        with serve(App(echo), loop=loop, websocket=limits) as server, connect(url(server)) as client:
            assert ("sec-websocket-extensions" in client.response.headers) == offered

    def test_refused(self, loop):
        async def refuse(app, _scope, receive, send):
            await send({"type": "websocket.close"})
            app.told.put(await receive())
            with pytest.raises(OSError, match="disconnected"):
                await send({"type": "websocket.accept"})
            app.told.put("done")

        app = App(refuse)
        with serve(app, loop=loop) as server:
            with pytest.raises(InvalidStatus) as error:
                connect(url(server))
            assert error.value.response.status_code == 403
            assert [app.hear(), app.hear()] == [disconnect(1006), "done"]
            wait_until(lambda: not server.context.connections)

    def test_denied_with_a_response(self, loop):
        async def deny(app, scope, _receive, send):
            assert "websocket.http.response" in scope["extensions"]
            await send(
                {
                    "type": "websocket.http.response.start",
                    "status": 401,
                    "headers": [(b"www-authenticate", b"Basic")],
                }
            )
            await send({"type": "websocket.http.response.body", "body": b"who are you?"})

        with serve(App(deny), loop=loop) as server:
            with pytest.raises(InvalidStatus) as error:
                connect(url(server))
            response = error.value.response
            assert (response.status_code, response.body) == (401, b"who are you?")
            assert response.headers["www-authenticate"] == "Basic"
            assert response.headers["content-length"] == "12"
            assert response.headers["connection"] == "close"
            assert server.context.stats.responses[4] == 1

    def test_denied_in_pieces(self, loop):
        async def deny(app, _scope, _receive, send):
            await send({"type": "websocket.http.response.start", "status": 404})
            for piece in (b"a", b"b", b"c"):
                await send({"type": "websocket.http.response.body", "body": piece, "more_body": True})
            await send({"type": "websocket.http.response.body"})

        with serve(App(deny), loop=loop) as server, Peer(server.connect()) as peer:
            peer.send(handshake())
            head = peer.read_head()
            assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
            assert b"content-length" not in head
            assert b"transfer-encoding" not in head
            assert peer.read_to_end() == b"abc"

    @pytest.mark.parametrize(
        ("what", "logged"),
        [
            ("raise", "ZeroDivisionError"),
            ("return", "returned without answering the handshake"),
            ("start", "returned without answering the handshake"),
            ("subprotocol", "did not offer the subprotocol"),
            ("header", "not well-formed"),
            ("cancelled", "CancelledError"),
            ("exit", "SystemExit"),
        ],
    )
    def test_the_application_fails_to_answer(self, loop, caplog, what, logged):
        async def fail(app, _scope, _receive, send):
            match what:
                case "raise":
                    1 / 0  # noqa: B018
                case "start":
                    await send({"type": "websocket.http.response.start", "status": 200})
                case "subprotocol":
                    await send({"type": "websocket.accept", "subprotocol": "other"})
                case "header":
                    await send({"type": "websocket.accept", "headers": [(b"a", b"1\r\nb: 2")]})
                case "cancelled":
                    raise asyncio.CancelledError
                case "exit":
                    raise SystemExit(1)

        with caplog.at_level(logging.ERROR, "asgi_master"), serve(App(fail), loop=loop) as server:
            with pytest.raises(InvalidStatus) as error:
                connect(url(server, "/path"))
            assert error.value.response.status_code == 500
            assert error.value.response.body == b"Internal Server Error", "as to a request"
            wait_until(lambda: not server.context.connections)
            assert server.context.stats.application_errors == 1
            assert server.context.stats.responses[5] == 1
            assert server.context.stats.late_errors == 0
        (record,) = caplog.records
        assert logged in record.getMessage()
        assert "WebSocket /path" in record.getMessage()

    def test_a_denial_that_breaks_off(self, loop, caplog):
        async def fail(app, _scope, _receive, send):
            await send({"type": "websocket.http.response.start", "status": 404})
            await send({"type": "websocket.http.response.body", "body": b"a", "more_body": True})
            1 / 0  # noqa: B018

        with serve(App(fail), loop=loop) as server, Peer(server.connect()) as peer:
            peer.send(handshake())
            peer.read_to_end()
            wait_until(lambda: not server.context.connections)
        assert "ZeroDivisionError" in caplog.text

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (handshake(version=b"12"), b"426"),
            (handshake(key=b"short"), b"400"),
            (handshake(b"sec-websocket-key: " + b"A" * 22 + b"=="), b"400"),
        ],
    )
    def test_invalid_handshakes(self, loop, parser, request_bytes, status):
        app = App(echo)
        with serve(app, parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.send(request_bytes)
            head = peer.read_head()
            assert head.startswith(b"HTTP/1.1 " + status)
            assert (b"sec-websocket-version: 13\r\n" in head) == (status == b"426")
            assert b"connection: close" in head
            peer.read_to_end()
            peer.sock.close()
            wait_until(lambda: not server.context.connections)
            assert server.context.stats.responses[4] == 1
        assert app.told.empty()

    def test_the_peer_leaves_before_the_answer(self, loop, caplog):
        async def wait(app, _scope, receive, send):
            app.told.put("asked")
            app.told.put(await receive())
            await send({"type": "websocket.accept"})

        app = App(wait)
        with serve(app, loop=loop) as server:
            with Peer(server.connect()) as peer:
                peer.send(handshake())
                assert app.hear() == "asked"
            assert app.hear() == disconnect(1006)
            wait_until(lambda: not server.context.connections)
        assert not caplog.records, "leaving is no error of the application"


class TestClosing:
    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (4321, "grüße")])
    def test_by_the_peer(self, loop, parser, code, reason):
        app = App(listen)
        with serve(app, parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            peer.send(close_frame(code, reason))
            assert app.hear() == disconnect(code, reason)
            assert peer.read_close() == (code, "")
            assert peer.read_to_end() == b""

    def test_by_the_peer_without_code(self, loop, parser):
        app = App(listen)
        with serve(app, parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            peer.send(frame(FIN | CLOSE))
            assert app.hear() == disconnect(1005)
            assert peer.read_close() == (1005, "")

    @pytest.mark.parametrize("how", ["reset", "eof"])
    def test_by_silence(self, loop, how):
        app = App(listen)
        with serve(app, loop=loop) as server:
            peer = Peer(server.connect()).open()
            if how == "reset":
                peer.reset()
            else:
                peer.sock.close()
            assert app.hear() == disconnect(1006)
            wait_until(lambda: not server.context.connections)

    def test_messages_before_the_close_are_delivered(self, loop, parser):
        app = App(listen)
        with serve(app, parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            peer.send(frame(FIN | TEXT, b"last words") + close_frame(1000))
            assert [app.hear(), app.hear()] == [
                {"type": "websocket.receive", "text": "last words"},
                disconnect(1000),
            ]

    @pytest.mark.parametrize(
        ("message", "code", "reason"),
        [({}, 1000, ""), ({"code": 4000, "reason": "enough"}, 4000, "enough"), ({"code": 1005}, 1005, "")],
    )
    def test_by_the_application(self, loop, parser, message, code, reason):
        async def close(app, _scope, receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", **message})
            app.told.put(await receive())

        app = App(close)
        with serve(app, parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            assert peer.read_close() == (code, reason)
            peer.send(frame(FIN | TEXT, b"too late") + frame(FIN | PING) + close_frame(1000, "bye"))
            assert app.hear() == disconnect(1000, "bye")
            assert peer.read_to_end() == b""

    def test_by_returning(self, loop):
        async def leave(app, _scope, _receive, send):
            await send({"type": "websocket.accept"})

        with serve(App(leave), loop=loop) as server, connect(url(server)) as client:
            with pytest.raises(ConnectionClosed):
                client.recv()
            assert client.close_code == 1000
            wait_until(lambda: not server.context.connections)

    def test_by_failing(self, loop, caplog):
        async def fail(app, _scope, receive, send):
            await send({"type": "websocket.accept"})
            await receive()
            raise LookupError("lost it")

        with serve(App(fail), loop=loop) as server, connect(url(server, "/x?y=z")) as client:
            client.send("go")
            with pytest.raises(ConnectionClosed):
                client.recv()
            assert (client.close_code, client.close_reason) == (1011, "")
            assert server.context.stats.application_errors == 1
            assert server.context.stats.late_errors == 1
        (record,) = caplog.records
        assert record.getMessage() == "WebSocket /x?y=z: the application raised LookupError: lost it"
        shown = TextFormatter().format(record).replace(__file__, "")
        assert 'raise LookupError("lost it")' in shown
        assert "websocket_connection.py" not in shown
        assert record.request["client"].startswith("127.0.0.1:")

    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            (b"\x81\x01x", 1002),
            (frame(0x83), 1002),
            (frame(FIN | TEXT, b"\xff"), 1007),
            (frame(FIN | BINARY, b"x" * 1001), 1009),
        ],
    )
    def test_by_a_broken_rule(self, loop, parser, bad, code):
        app = App(listen)
        limits = WebSocketLimits(message_size=1000)
        with serve(app, parser=parser, loop=loop, websocket=limits) as server, Peer(server.connect()) as peer:
            peer.open()
            peer.send(frame(FIN | TEXT, b"good") + bad)
            assert peer.read_close()[0] == code
            peer.send(b"x" * 100_000)
            assert app.hear() == {"type": "websocket.receive", "text": "good"}
            assert app.hear()["code"] == code
            assert peer.read_to_end() == b""
            peer.sock.close()
            wait_until(lambda: not server.context.connections)

    def test_the_peer_never_answers_the_close(self, loop):
        async def close(app, _scope, receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
            app.told.put(await receive())

        app = App(close)
        limits = WebSocketLimits(close_timeout=0.1)
        with serve(app, loop=loop, websocket=limits) as server, Peer(server.connect()) as peer:
            peer.open()
            assert peer.read_close() == (1000, "")
            assert app.hear() == disconnect(1006)
            assert peer.read_to_end() == b""

    def test_sending_after_the_peer_left(self, loop, caplog):
        async def late(app, _scope, receive, send):
            await send({"type": "websocket.accept"})
            assert (await receive())["type"] == "websocket.disconnect"
            assert (await receive())["type"] == "websocket.disconnect", "it stays so"
            try:
                await send({"type": "websocket.send", "text": "hello?"})
            except OSError:
                app.told.put("refused")
            await send({"type": "websocket.close"})

        app = App(late)
        with serve(app, loop=loop) as server:
            Peer(server.connect()).open().reset()
            assert app.hear() == "refused"
            wait_until(lambda: not server.context.connections)
        assert not caplog.records, "a disconnect that nobody caught is no error"

    def test_text_that_cannot_be_encoded(self, loop):
        async def mangle(app, _scope, _receive, send):
            await send({"type": "websocket.accept"})
            try:
                await send({"type": "websocket.send", "text": "\ud800"})
            except UnicodeEncodeError:
                await send({"type": "websocket.send", "text": "fine"})

        with serve(App(mangle), loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            assert peer.read_frame() == (FIN | TEXT, b"fine")

    def test_sending_after_closing(self, loop, caplog):
        async def again(app, _scope, _receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
            try:
                await send({"type": "websocket.send", "text": "and"})
            except OSError as error:
                app.told.put(str(error))
                raise

        app = App(again)
        with serve(app, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            assert "the application closed this WebSocket" in app.hear()
            assert peer.read_close() == (1000, "")
            assert server.context.stats.application_errors == 0
        assert not caplog.records


class TestPing:
    def test_is_answered(self, loop, parser):
        with serve(App(listen), parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            peer.send(
                frame(FIN | TEXT | 0) + frame(FIN | PING, b"are you there?") + frame(FIN | PONG, b"unasked")
            )
            assert peer.read_frame() == (FIN | PONG, b"are you there?")

    def test_only_the_newest_while_the_peer_does_not_read(self, loop):
        count = 10_000
        with (
            serve(App(listen), loop=loop) as server,
            Peer(server.connect(receive_buffer=4096)) as peer,
        ):
            peer.open()
            (connection,) = server.context.connections
            ours = connection._transport._sock
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            for start in range(0, count, 1000):
                peer.send(
                    b"".join(frame(FIN | PING, b"%0125d" % number) for number in range(start, start + 1000))
                )
            peer.send(frame(FIN | PING, b"the last"))
            pongs = 0
            while peer.read_frame() != (FIN | PONG, b"the last"):
                pongs += 1
            assert 0 < pongs < count

    def test_a_silent_peer_is_asked_and_then_left(self, loop, parser):
        app = App(listen)
        limits = WebSocketLimits(ping_interval=0.05, ping_timeout=0.05)
        with serve(app, parser=parser, loop=loop, websocket=limits) as server, Peer(server.connect()) as peer:
            peer.open()
            assert peer.read_frame() == (FIN | PING, b"")
            assert peer.read_close() == (1011, "no pong in time")
            assert app.hear() == disconnect(1011, "no pong in time")

    def test_a_peer_that_answers_stays(self, loop):
        limits = WebSocketLimits(ping_interval=0.05, ping_timeout=2)
        with serve(App(echo), loop=loop, websocket=limits) as server, Peer(server.connect()) as peer:
            peer.open()
            for _ in range(3):
                assert peer.read_frame() == (FIN | PING, b"")
                peer.send(frame(FIN | PONG))
            peer.send(frame(FIN | TEXT, b"alive"))
            while (found := peer.read_frame()) != (FIN | TEXT, b"alive"):
                assert found == (FIN | PING, b"")


class TestBackpressure:
    def test_an_application_that_does_not_receive(self, loop, parser):
        release = asyncio.Event()

        async def busy(app, _scope, receive, send):
            await send({"type": "websocket.accept"})
            await release.wait()
            await listen_on(app, receive)

        async def listen_on(app, receive):
            while (message := await receive())["type"] == "websocket.receive":
                app.told.put(len(message["bytes"]))
            app.told.put(message)

        app = App(busy)
        limits = WebSocketLimits(queue_size=4)
        with serve(app, parser=parser, loop=loop, websocket=limits) as server, Peer(server.connect()) as peer:
            peer.open()
            sizes = [index * 10 for index in range(3000)]
            peer.sock.settimeout(0.2)
            sent = 0
            stream = b"".join(frame(FIN | BINARY, bytes(size)) for size in sizes) + close_frame(1000)
            try:
                while sent < len(stream):
                    sent += peer.sock.send(stream[sent : sent + 65536])
            except TimeoutError:
                pass
            assert sent < len(stream), "reading paused"
            (connection,) = server.context.connections
            assert len(connection._inbox._messages) == 4
            server.run(release.set)
            peer.sock.settimeout(10)
            peer.send(stream[sent:])
            assert [app.hear() for _ in sizes] == sizes
            assert app.hear() == disconnect(1000)

    def test_messages_that_wait_are_bounded_in_bytes_too(self, loop):
        release = asyncio.Event()

        async def busy(app, scope, receive, send):
            await send({"type": "websocket.accept"})
            app.told.put("open")
            await release.wait()
            for _ in range(10):
                app.told.put(len((await receive())["bytes"]))

        app = App(busy)
        limits = WebSocketLimits(queue_size=100, message_size=1000)
        with serve(app, loop=loop, websocket=limits) as server, Peer(server.connect()) as peer:
            peer.open()
            assert app.hear() == "open"
            peer.send(frame(FIN | BINARY, bytes(600)) * 10)
            (connection,) = server.context.connections
            wait_until(lambda: len(connection._inbox._messages) == 2)
            server.run(release.set)
            assert [app.hear() for _ in range(10)] == [600] * 10

    def test_a_peer_that_does_not_read(self, loop, parser):
        async def flood(app, _scope, _receive, send):
            await send({"type": "websocket.accept"})
            for index in range(500):
                await send({"type": "websocket.send", "bytes": bytes(50_000)})
                app.told.put(index)

        app = App(flood)
        with serve(app, parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            (connection,) = server.context.connections
            wait_until(lambda: connection._writable is not None)
            assert app.told.qsize() < 500
            for _ in range(500):
                assert peer.read_frame() == (FIN | BINARY, bytes(50_000))
            assert peer.read_close() == (1000, "")

    def test_a_slow_peer_gets_everything_before_the_end(self, loop):
        """The time to answer a close frame begins when the peer can have read it."""

        async def give(app, _scope, _receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "bytes": bytes(20_000_000)})

        with serve(App(give), loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            (connection,) = server.context.connections
            wait_until(lambda: connection._close_sent)
            server.run(lambda: connection.sweep(server.loop.time() + 10))
            assert peer.read_frame() == (FIN | BINARY, bytes(20_000_000))
            assert peer.read_close() == (1000, "")

    def test_a_peer_that_never_reads_is_left(self, loop, caplog):
        async def flood(app, _scope, receive, send):
            await send({"type": "websocket.accept"})
            try:
                while True:
                    await send({"type": "websocket.send", "bytes": bytes(50_000)})
            except OSError:
                app.told.put(await receive())
                raise

        app = App(flood)
        limits = WebSocketLimits(write_timeout=0.2)
        with serve(app, loop=loop, websocket=limits) as server, Peer(server.connect()) as peer:
            peer.open()
            assert app.hear() == disconnect(1006)
            wait_until(lambda: not server.context.connections)
        assert not caplog.records


class TestWorker:
    """What the rest of the worker sees of a WebSocket."""

    def test_counters(self, loop):
        app = App(listen)
        lost: list[int] = []
        with serve(app, loop=loop) as server:
            context = server.context
            context.on_connection_lost = lambda: lost.append(len(context.connections))
            with connect(url(server)) as client:
                assert (context.stats.connections, context.stats.websockets, context.stats.in_flight) == (
                    1,
                    1,
                    0,
                )
                assert (context.stats.requests, context.stats.responses[1]) == (1, 1)
                client.close()
            wait_until(lambda: not context.connections)
            assert (context.stats.connections, context.stats.websockets) == (0, 0)
            assert lost[-1] == 0

    @pytest.mark.parametrize(
        ("answer", "status", "size"), [("accept", 101, 0), ("close", 403, 9), ("deny", 401, 2)]
    )
    def test_access_log(self, loop, answer, status, size):
        lines: list[tuple[str, int, int]] = []

        class Log:
            is_timed = True

            def of_connection(self):
                return self

            def record(self, _request, scope, status, body_bytes, duration, _block):
                assert duration >= 0
                lines.append((scope["path"], status, body_bytes))

        async def reply(app, _scope, _receive, send):
            if answer == "deny":
                await send({"type": "websocket.http.response.start", "status": 401})
                await send({"type": "websocket.http.response.body", "body": b"n", "more_body": True})
                await send({"type": "websocket.http.response.body", "body": b"o"})
            else:
                await send({"type": f"websocket.{answer}"})

        with serve(App(reply), loop=loop, access_log=Log()) as server, Peer(server.connect()) as peer:
            peer.send(handshake(target=b"/logged"))
            peer.read_head()
            wait_until(lambda: bool(lines))
        assert lines == [("/logged", status, size)]

    def test_drain(self, loop, parser):
        app = App(listen)
        with serve(app, parser=parser, loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            (connection,) = server.context.connections
            server.run(connection.drain)
            server.run(connection.drain)
            assert app.hear() == disconnect(1012, "service restart")
            assert peer.read_close() == (1012, "service restart")
            peer.send(frame(FIN | TEXT, b"but") + close_frame(1012))
            assert peer.read_to_end() == b""
            wait_until(lambda: not server.context.connections)

    def test_drain_while_the_application_does_not_receive(self, loop):
        release = asyncio.Event()

        async def busy(app, scope, receive, send):
            await send({"type": "websocket.accept"})
            await release.wait()
            app.told.put((await receive())["text"])
            app.told.put(await receive())

        app = App(busy)
        with (
            serve(app, loop=loop, websocket=WebSocketLimits(queue_size=1)) as server,
            Peer(server.connect()) as peer,
        ):
            peer.open(then=frame(FIN | TEXT, b"first") * 5)
            (connection,) = server.context.connections
            server.run(connection.drain)
            assert peer.read_close() == (1012, "service restart")
            peer.send(close_frame(1012))
            assert peer.read_to_end() == b""
            server.run(release.set)
            assert [app.hear(), app.hear()] == ["first", disconnect(1012, "service restart")]

    def test_drain_during_the_handshake(self, loop):
        release = asyncio.Event()

        async def slow(app, _scope, receive, send):
            app.told.put("asked")
            await release.wait()
            await send({"type": "websocket.accept"})
            app.told.put(await receive())

        def drain() -> None:
            server.context.draining = True
            for connection in list(server.context.connections):
                connection.drain()
            release.set()

        app = App(slow)
        with serve(app, loop=loop) as server, Peer(server.connect()) as peer:
            peer.send(handshake())
            assert app.hear() == "asked"
            server.run(drain)
            assert peer.read_head().startswith(b"HTTP/1.1 101 ")
            assert peer.read_close() == (1012, "service restart")
            assert app.hear() == disconnect(1012, "service restart")

    def test_the_application_may_tidy_up_after_the_peer_left(self, loop):
        release = asyncio.Event()

        async def tidy(app, _scope, receive, send):
            await send({"type": "websocket.accept"})
            app.told.put(await receive())
            await release.wait()

        app = App(tidy)
        with serve(app, loop=loop) as server:
            Peer(server.connect()).open().reset()
            assert app.hear() == disconnect(1006)
            wait_until(lambda: server.context.stats.connections == 0)
            assert len(server.context.connections) == 1
            server.run(release.set)
            wait_until(lambda: not server.context.connections)

    @pytest.mark.parametrize("accepted", [True, False])
    def test_cancel(self, loop, caplog, accepted):
        async def endless(app, _scope, _receive, send):
            if accepted:
                await send({"type": "websocket.accept"})
            app.told.put("waiting")
            try:
                await asyncio.Event().wait()
            finally:
                app.told.put("cancelled")

        app = App(endless)
        with serve(app, loop=loop) as server, Peer(server.connect()) as peer:
            peer.send(handshake())
            assert app.hear() == "waiting"
            (connection,) = server.context.connections
            server.run(connection.cancel)
            assert app.hear() == "cancelled"
            peer.read_to_end()
            wait_until(lambda: not server.context.connections)
        assert not caplog.records

    def test_cancel_that_the_application_swallows(self, loop, caplog):
        async def stubborn(app, _scope, _receive, _send):
            app.told.put("waiting")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        app = App(stubborn)
        with serve(app, loop=loop) as server, Peer(server.connect()) as peer:
            peer.send(handshake())
            assert app.hear() == "waiting"
            (connection,) = server.context.connections
            server.run(connection.cancel)
            assert peer.read_to_end() == b""
            wait_until(lambda: not server.context.connections)
        assert not caplog.records

    def test_cancel_before_the_application_began(self, loop):
        """Without eager start there is a turn of the loop in which its task exists and has not run."""

        class Hasty(set):
            def add(self, connection):
                super().add(connection)
                server.loop.call_soon(connection.cancel)

        async def endless(_scope, _receive, _send):
            await asyncio.Event().wait()

        with serve(endless, loop=loop) as server, Peer(server.connect()) as peer:
            server.context.connections = Hasty()
            peer.send(handshake())
            assert peer.read_to_end() == b""
            wait_until(lambda: not server.context.connections)

    def test_cancel_after_the_application_returned(self, loop):
        async def leave(app, _scope, _receive, send):
            await send({"type": "websocket.accept"})

        with serve(App(leave), loop=loop) as server, Peer(server.connect()) as peer:
            peer.open()
            assert peer.read_close() == (1000, "")
            (connection,) = server.context.connections
            server.run(connection.cancel)
            wait_until(lambda: not server.context.connections)
