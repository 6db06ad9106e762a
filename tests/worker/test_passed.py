"""Connections and requests that go to another worker: two of them, in this process."""

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from asgi_master.http.affinity import SECRET_SIZE, SessionKeys
from asgi_master.ipc.hand_off import LARGE_METADATA, HandOff, Outcome, PutEnd
from asgi_master.ipc.stick_table import StickTable
from asgi_master.worker.accept.place_queue import PlaceQueue
from asgi_master.worker.affinity.router import SessionRouter, SessionState
from asgi_master.worker.relay.caller import Relays
from asgi_master.worker.relay.frames import FrameReader, Kind, encode
from asgi_master.worker.relay.session_application import SessionApplication
from asgi_master.worker.transport.connection_state import ConnectionState
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.passed_connection import from_metadata, to_metadata
from http_client import Client, request
from serving import Server, serve

KEYS = SessionKeys([("header", "x-session")], bytes(SECRET_SIZE))


def test_a_state_travels_with_what_was_read():
    ends = Endpoints(("10.0.0.1", 5), ("10.0.0.2", 80), is_tls=True)
    for state in (ConnectionState(served=3, passes=2), ConnectionState(ends=ends, passes=1)):
        for received in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            assert from_metadata(to_metadata(state, received)) == (state, received)
    for nonsense in (b"", b"\0" * 6, b"\0\5\0\0\0\0\0{}", b"\0\2\0\0\0\0\0[]rest"):
        with pytest.raises(ValueError):
            from_metadata(nonsense)


def test_frames_come_whole_however_they_are_cut():
    scope = {"path": "/ü", "headers": [(b"a", b"b")], "client": ("::1", 1), "http_version": "2"}
    data = encode(1, Kind.SCOPE, scope) + encode(1, Kind.RECEIVE) + encode(2, Kind.SEND, {"body": b"x" * 500})
    for size in (1, 3, 100, len(data)):
        reader = FrameReader()
        frames = []
        for start in range(0, len(data), size):
            frames += reader.feed(data[start : start + size])
        assert [frame[:2] for frame in frames] == [(1, Kind.SCOPE), (1, Kind.RECEIVE), (2, Kind.SEND)]
        assert frames[0][2] == scope


class TestRouter:
    @pytest.fixture
    def router(self):
        self.now = 1000.0
        table = StickTable.create()
        ends = [socket.socketpair() for _ in range(3)]
        router = SessionRouter(KEYS, table, 1, 60.0, lambda: self.now)
        router.use_places(
            [1, 2, 3], [0, 1, -1], {number: PutEnd(ours.detach()) for number, (ours, _) in enumerate(ends, 1)}
        )
        self.table = table
        yield router
        router.use_places([], [], {})
        table.close()
        for _ours, theirs in ends:
            theirs.close()

    def test_known_sessions_are_where_they_are_and_others_where_they_hash_to(self, router):
        self.table.store(10, 1)
        self.table.store(20, 2)
        self.table.store(30, 3)
        self.table.store(40, 4)  # a place that is gone
        assert router.elsewhere(10) is None
        assert router.elsewhere(20).number == 2
        assert router.elsewhere(30).number == 3
        numbers = {place.number if (place := router.elsewhere(key)) else 1 for key in [40, *range(100, 200)]}
        assert numbers == {1, 2}
        assert router.elsewhere(None) is None

    def test_one_that_leaves_begins_no_sessions(self, router):
        self.table.store(10, 1)
        router.leave()
        router.use_places([1, 2], [-1, 1], {})
        assert router.elsewhere(10) is None
        assert router.elsewhere(None).number == 2
        assert router.elsewhere(99).number == 2
        router.use_places([1], [-1], {})
        assert router.elsewhere(99) is None

    def test_a_place_without_a_queue_is_passed_over(self, router):
        router.forget(router.elsewhere(self.at(router, 2)))
        assert router.elsewhere(self.at(router, 2)) is None
        router.use_places([1, 2, 7], [0, 1, 2], {})
        assert all(router.elsewhere(key) is None for key in range(50))

    def at(self, router, number):
        self.table.store(77, number)
        return 77

    def test_what_the_application_is_told(self, router):
        assert router.begin(5) is SessionState.NEW
        assert router.begin(5) is SessionState.KEPT
        router.end(5)
        router.end(5)
        self.table.store(6, 1)
        assert router.begin(6) is SessionState.LOST
        router.end(6)
        router.learned(7)
        assert router.begin(7) is SessionState.KEPT
        assert router.has_sessions
        self.now += 100
        assert router.has_sessions, "one is in use"
        router.end(7)
        self.now += 59
        assert router.has_sessions
        self.now += 2
        assert not router.has_sessions


async def app(scope, receive, send):
    """Answers with the worker's name, and the size of the body."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": scope["state"]["name"] + message["text"]})
        return
    if scope["path"] == "/fails":
        raise ValueError("on purpose")
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    pieces = 100 if scope["path"] == "/large" else 1
    await send({"type": "http.response.start", "status": 200, "headers": [[b"x-size", str(size).encode()]]})
    for _ in range(pieces):
        await send(
            {
                "type": "http.response.body",
                "body": scope["state"]["name"].encode() * 10_000,
                "more_body": True,
            }
        )
    await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def two_workers(**variant: str) -> Iterator[tuple[Server, Server, StickTable]]:
    """Worker `a` with place 1, which has the listener, and `b` with place 2."""
    table = StickTable.create()
    queues = {
        number: HandOff(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), LARGE_METADATA)
        for number in (1, 2)
    }
    with serve(app, **variant) as a, serve(app, **variant) as b:
        for number, server in ((1, a), (2, b)):
            router = SessionRouter(KEYS, table, number, 60.0)
            puts = {other: PutEnd(os.dup(queue.fds[0])) for other, queue in queues.items()}
            router.use_places([1, 2], [0, 1], puts)

            def install(
                number: int = number, server: Server = server, router: SessionRouter = router
            ) -> None:
                server.context.state["name"] = "ab"[number - 1]
                application = SessionApplication(app, router, Relays(server.context))
                server.context.app = application
                server.context.sessions = router
                PlaceQueue(server.context, queues[number], router, application).start()

            server.run(install)
        yield a, b, table
        for number, server in ((1, a), (2, b)):
            server.run(lambda number=number, server=server: server.loop.remove_reader(queues[number].fds[1]))
            server.run(lambda server=server: server.context.app._relays.close())
            server.context.sessions.use_places([], [], {})
    for queue in queues.values():
        queue.close()
    table.close()


@pytest.fixture
def workers():
    with two_workers() as (a, b, table):
        table.store(KEYS.key(b"there"), 2)
        table.store(KEYS.key(b"here"), 1)
        yield a, b


def ask(client: Client, session: str, path: str = "/", body: bytes = b"") -> tuple[bytes, str]:
    client.send(request("POST", path, f"X-Session: {session}", body=body))
    response = client.response()
    return response.body[:1], response.headers["x-size"]


def test_a_connection_goes_there_and_back(workers):
    a, b = workers
    client = a.client()
    assert ask(client, "here") == (b"a", "0")
    assert ask(client, "there", body=b"12345") == (b"b", "5")
    assert ask(client, "there", body=b"x" * 300_000) == (b"b", "300000")
    assert ask(client, "here") == (b"a", "0")
    b.wait_until(lambda: b.context.stats.passed)
    assert (a.context.stats.passed, b.context.stats.passed) == (1, 1)
    assert a.context.stats.relayed == 0


def test_requests_sent_ahead_reach_their_sessions(workers):
    a, _b = workers
    client = a.client()
    sessions = ["here", "there", "there", "here", "there"] * 4
    client.send(b"".join(request("POST", "/", f"X-Session: {name}", body=b"abc") for name in sessions))
    seen = [client.response().body[:1] for _ in sessions]
    assert seen == [b"a" if name == "here" else b"b" for name in sessions]


def unpassed(server: Server) -> None:
    """As over TLS: requests are relayed."""
    place = server.context.sessions.elsewhere(KEYS.key(b"there"))
    relayed_only = place.put_end

    class Relaying:
        def put(self, connection, metadata):
            return relayed_only.put(connection, metadata) if metadata == b"relay" else Outcome.FULL

        def close(self):
            relayed_only.close()

    place.put_end = Relaying()


def test_what_cannot_be_passed_is_relayed(workers):
    a, b = workers
    a.run(lambda: unpassed(a))
    client = a.client()
    for _ in range(3):
        assert ask(client, "there", body=b"12345") == (b"b", "5")
    assert ask(client, "there", body=b"x" * 300_000) == (b"b", "300000")
    client.send(request("POST", "/large", "X-Session: there"))
    assert client.response().body == b"b" * 1_000_000
    assert ask(client, "here") == (b"a", "0")
    assert (a.context.stats.passed, a.context.stats.relayed) == (0, 5)
    assert b.context.stats.requests == 0


def test_a_relayed_failure_is_a_500_and_the_next_request_is_served(workers, caplog):
    a, _b = workers
    a.run(lambda: unpassed(a))
    client = a.client()
    client.send(request("GET", "/fails", "X-Session: there"))
    assert client.response().status == 500
    assert ask(client, "there") == (b"b", "0")
    assert "on purpose" in caplog.text
    assert a.context.stats.application_errors == 1


def test_a_place_that_is_over_is_served_here(workers):
    a, _b = workers
    place = a.context.sessions.elsewhere(KEYS.key(b"there"))
    with socket.socket() as nonsense:
        place.put_end.put(nonsense, b"")  # which is refused there
    a.run(place.put_end._socket.close)
    assert ask(a.client(), "there") == (b"a", "0")
