"""To whom a waiting connection is left, and for how long."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from asgi_master.ipc.counters import Field, Stats
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.scoreboard import Row, RowState, Scoreboard
from asgi_master.tls.bundle import read_bundle
from asgi_master.worker.accept.acceptor import Acceptor
from asgi_master.worker.accept.listener import Listener
from asgi_master.worker.transport.connection_state import NEW, ConnectionState
from asgi_master.worker.transport.tls import TlsServer
from certificates import Authority
from descriptor_limit import no_descriptor_left
from fleet import wait_until
from http_apps import hello
from http_client import Client, request
from serving import TIMEOUT, Server, serve


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.create()
    yield board
    board.close()


@pytest.fixture
def sibling(board: Scoreboard) -> Row:
    """Ready, with a fresh heartbeat and no connection."""
    row = board.allocate()
    row[Field.STATE] = RowState.READY
    stir(row)
    return row


@pytest.fixture
def acceptor(board: Scoreboard, sibling: Row) -> Iterator[Acceptor]:
    """Of a worker that has clearly more."""
    context = cast("Any", SimpleNamespace(loop=None, stats=Stats(connections=5)))
    hand_off = HandOff.create()
    yield Acceptor(context, [], hand_off, board, board.allocate(), max_connections=0)
    hand_off.close()


def stir(row: Row) -> None:
    row[Field.HEARTBEAT_NS] = time.monotonic_ns()


def test_a_connection_is_left_to_who_has_fewer(acceptor: Acceptor, sibling: Row) -> None:
    assert acceptor._defers()
    sibling[Field.CONNECTIONS] = 4
    assert not acceptor._defers()


def waits(acceptor: Acceptor) -> float:
    """For how many seconds a connection is left waiting."""
    began = time.monotonic()
    wait_until(lambda: not acceptor._defers(), "it does not wait for ever")
    return time.monotonic() - began


def test_after_one_that_waited_some_are_taken_at_once(acceptor: Acceptor) -> None:
    assert waits(acceptor) >= 0.005
    for _ in range(3):
        assert not acceptor._defers()
    assert acceptor._defers()


def test_a_sibling_that_does_not_stir_is_hardly_waited_for_again(acceptor: Acceptor, sibling: Row) -> None:
    waits(acceptor)
    for _ in range(3):
        assert not acceptor._defers()
    assert acceptor._defers()
    time.sleep(0.001)  # the time that is asserted: longer than it may take now, shorter than at first
    assert not acceptor._defers()
    for _ in range(3):
        assert not acceptor._defers()
    assert acceptor._defers()
    stir(sibling)
    assert waits(acceptor) >= 0.004, "until it shows that it lives"


def test_who_judges_shows_that_it_lives(acceptor: Acceptor, board: Scoreboard) -> None:
    before = time.monotonic_ns()
    acceptor._defers()
    assert board.row(2)[Field.HEARTBEAT_NS] >= before
    assert board.row(2)[Field.CONNECTIONS] == 5


def test_nobody_alive_is_nobody_to_wait_for(acceptor: Acceptor, sibling: Row) -> None:
    sibling[Field.HEARTBEAT_NS] = 1
    assert not acceptor._defers()


def test_a_long_queue_is_taken_by_the_dozen_and_still_evenly(
    board: Scoreboard, sibling: Row, acceptor: Acceptor
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as sock, contextlib.ExitStack() as clients:
        for _ in range(100):
            clients.enter_context(socket.create_connection(sock.getsockname(), TIMEOUT))
        listener = Listener(sock)
        assert acceptor._pace(listener) == (4, 1), "it does not look before it has to"
        acceptor._may_storm = True
        acceptor._context.stats.connections = 320
        assert acceptor._pace(listener) == (64, 11)
        sibling[Field.CONNECTIONS] = 309
        stir(sibling)
        assert not acceptor._defers(11)
        assert acceptor._defers(10)
        for _ in range(50):
            sock.accept()[0].close()
        assert acceptor._pace(listener) == (4, 1)


@contextlib.contextmanager
def taking(board: Scoreboard, server: Server, **arguments: Any) -> Iterator[tuple[Acceptor, HandOff]]:
    """An acceptor at work in the server's loop, on a queue of its own and no listener."""
    hand_off = HandOff.create()
    arguments = {"max_connections": 0, **arguments}
    acceptor = Acceptor(server.context, [], hand_off, board, board.allocate(), **arguments)
    server.run(acceptor.start)
    try:
        yield acceptor, hand_off
    finally:
        server.run(acceptor.stop)
        hand_off.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of a connection: the client's, and the one that is given away."""
    client, connection = socket.socketpair()
    client.settimeout(TIMEOUT)
    with client, connection:
        yield client, connection


def test_who_has_no_descriptor_leaves_in_the_queue_what_was_given_away(
    board: Scoreboard, ends: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    client, connection = ends
    with serve(hello) as server, taking(board, server) as (_acceptor, hand_off):
        with no_descriptor_left():
            assert hand_off.put(connection, NEW.to_metadata())
            client.sendall(request("GET", "/"))
            wait_until(lambda: "pausing for 0.1 s" in caplog.text, "the worker pauses")
        assert "raise LimitNOFILE= or ulimit -n" in caplog.text
        connection.close()
        assert Client(client).response().body == b"hello"


def test_who_is_full_leaves_in_the_queue_what_was_given_away(
    board: Scoreboard, ends: tuple[socket.socket, socket.socket]
) -> None:
    client, connection = ends
    with serve(hello) as server, taking(board, server, max_connections=1) as (acceptor, hand_off):
        first = Client(server.connect())
        first.get()
        assert hand_off.put(connection, NEW.to_metadata())
        connection.close()
        server.run(acceptor._on_handed_off)
        (left,) = hand_off.take(1)
        with left.connection:
            assert hand_off.put(left.connection, NEW.to_metadata())
        first.sock.close()
        assert Client(client).get().body == b"hello"


def test_a_new_connection_of_a_bind_with_tls_begins_with_a_handshake(
    board: Scoreboard, ends: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    client, connection = ends
    authority = Authority()
    settings = authority.write(tmp_path, "site", "localhost")
    certificates_fd = read_bundle(settings, tmp_path).to_memory()
    tls = TlsServer(settings, certificates_fd)
    os.close(certificates_fd)
    with serve(hello) as server, taking(board, server, tls=tls) as (_acceptor, hand_off):
        assert hand_off.put_new(connection, is_tls=True)
        connection.close()
        with authority.client().wrap_socket(client, server_hostname="localhost") as secure:
            assert Client(secure).get().body == b"hello"


def test_a_worker_without_tls_closes_it(board: Scoreboard, ends: tuple[socket.socket, socket.socket]) -> None:
    client, connection = ends
    with serve(hello) as server, taking(board, server) as (_acceptor, hand_off):
        assert hand_off.put_new(connection, is_tls=True)
        connection.close()
        assert client.recv(100) == b""


@pytest.mark.parametrize("note", [b"x", b"[1, 2]", b"{", b'{"served": -1}', b"[" * 1023])
def test_one_whose_note_is_none_is_closed(
    board: Scoreboard,
    ends: tuple[socket.socket, socket.socket],
    note: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, connection = ends
    with serve(hello) as server, taking(board, server) as (_acceptor, hand_off):
        assert hand_off.put(connection, note)
        connection.close()
        assert client.recv(100) == b""
        wait_until(lambda: "are no connection" in caplog.text, "it is told")
        assert server.context.stats.connections == 0


def test_what_moves_is_counted_as_accepted_once(
    board: Scoreboard, ends: tuple[socket.socket, socket.socket]
) -> None:
    """By the worker that accepted it; what the master accepted, by the worker that takes it."""
    client, connection = ends
    with serve(hello) as server, taking(board, server) as (_acceptor, hand_off), connection:
        assert hand_off.put(connection, ConnectionState(served=3).to_metadata())
        assert Client(client).get().body == b"hello"
        assert server.context.stats.accepted == 0
        other, fresh = socket.socketpair()
        with other, fresh:
            other.settimeout(TIMEOUT)
            assert hand_off.put_new(fresh, is_tls=False)
            assert Client(other).get().body == b"hello"
            assert server.context.stats.accepted == 1


def test_what_is_taken_in_the_turn_in_which_it_stops_is_a_connection_when_it_has(
    board: Scoreboard, ends: tuple[socket.socket, socket.socket]
) -> None:
    """The drain that follows looks at the worker's connections, and would be over."""
    client, connection = ends

    async def take_and_stop() -> int:
        assert hand_off.put(connection, NEW.to_metadata())
        acceptor._on_handed_off()
        await acceptor.stop()
        return len(server.context.connections)

    with serve(hello) as server, taking(board, server) as (acceptor, hand_off):
        assert server.run(take_and_stop) == 1
        connection.close()
        assert Client(client).get().body == b"hello"


@pytest.mark.parametrize(("room", "left"), [(0, 0), (5, 15)])
def test_what_waits_is_taken_before_the_last_worker_stops(board: Scoreboard, room: int, left: int) -> None:
    with serve(hello) as server, socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.setblocking(False)
        clients = [socket.create_connection(listener.getsockname(), TIMEOUT) for _ in range(20)]
        hand_off = HandOff.create()
        acceptor = Acceptor(
            server.context, [listener.dup()], hand_off, board, board.allocate(), max_connections=room
        )

        async def stop() -> int:
            acceptor._running = True
            acceptor._prepare_listeners()
            await acceptor.take_the_rest()
            await acceptor.stop()
            return len(server.context.connections)

        assert server.run(stop) == 20 - left
        for client in clients[: 20 - left]:
            assert Client(client).get().body == b"hello"
        for client in clients:
            client.close()
        hand_off.close()


@contextlib.contextmanager
def listening(board: Scoreboard, server: Server) -> Iterator[tuple[Acceptor, HandOff, socket.socket]]:
    """An acceptor at work in the server's loop, on a listener of its own."""
    hand_off = HandOff.create()
    listener = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(server.context, [listener], hand_off, board, board.allocate(), max_connections=0)
    with listener.dup() as copy:
        server.run(acceptor.start)
        try:
            yield acceptor, hand_off, copy
        finally:
            server.run(acceptor.stop)
            hand_off.close()


def get(listener: socket.socket) -> bytes:
    with socket.create_connection(listener.getsockname(), TIMEOUT) as sock:
        return bytes(Client(sock).get().body)


def test_a_listener_that_fails_is_told_once_and_when_it_is_over(
    board: Scoreboard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "asgi_master")
    with serve(hello) as server, listening(board, server) as (acceptor, _hand_off, copy):
        looks = 0
        accept = acceptor._accept

        def counted(listener: socket.socket) -> None:
            nonlocal looks
            looks += 1
            accept(listener)

        acceptor._accept = counted  # type: ignore[method-assign]
        copy.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: looks >= 4, "it is tried again and again")
        assert (
            caplog.text.count("accept failed: Invalid argument; pausing for 0.1 s each time until it works")
            == 1
        )
        copy.listen()
        assert get(copy) == b"hello"
        wait_until(lambda: "accept: over; it failed" in caplog.text, "it is over")
        assert len(caplog.records) == 2


def test_a_fault_of_ours_does_not_make_the_loop_spin(
    board: Scoreboard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(hello) as server, listening(board, server) as (acceptor, _hand_off, copy):
        looks = 0

        def fail(_slack: int) -> bool:
            nonlocal looks
            looks += 1
            raise IndexError("injected")

        with monkeypatch.context() as patch:
            patch.setattr(acceptor, "_defers", fail)
            client = socket.create_connection(copy.getsockname(), TIMEOUT)
            wait_until(lambda: looks >= 3, "it is tried again and again")
        assert caplog.text.count("accept failed: IndexError: injected") == 1
        assert "Traceback" in caplog.text
        with client:
            assert Client(client).get().body == b"hello"


def test_who_says_nothing_holds_nobody_up_whatever_time_out_the_application_has_set(
    board: Scoreboard, ends: tuple[socket.socket, socket.socket]
) -> None:
    _client, connection = ends
    with serve(hello) as server, listening(board, server) as (_acceptor, hand_off, copy):
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(10 * TIMEOUT)
        try:
            with socket.create_connection(copy.getsockname(), TIMEOUT):
                assert get(copy) == b"hello"
                assert hand_off.put(connection, NEW.to_metadata())
                wait_until(lambda: server.context.stats.connections == 2, "it is taken")
                assert get(copy) == b"hello"
        finally:
            socket.setdefaulttimeout(before)


def test_one_listener_that_fails_does_not_stop_the_others(board: Scoreboard) -> None:
    with serve(hello) as server:
        hand_off = HandOff.create()
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        bad, good = (listener.dup() for listener in listeners)
        acceptor = Acceptor(server.context, listeners, hand_off, board, board.allocate(), max_connections=0)
        server.run(acceptor.start)
        bad.shutdown(socket.SHUT_RDWR)
        for _ in range(20):
            assert get(good) == b"hello"
        server.run(acceptor.stop)
        for thing in (bad, good, hand_off):
            thing.close()


def test_other_listeners_take_the_place_of_those_it_had(board: Scoreboard) -> None:
    with serve(hello) as server, listening(board, server) as (acceptor, _hand_off, copy):
        renewed = socket.create_server(("127.0.0.1", 0))
        renewed.setblocking(False)
        with renewed.dup() as other:
            server.run(lambda: acceptor.renew_listeners([renewed], []))
            assert get(other) == b"hello"
            copy.close()


def test_a_spare_keeps_new_listeners_for_later(board: Scoreboard) -> None:
    with serve(hello) as server:
        hand_off = HandOff.create()
        first, renewed = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        acceptor = Acceptor(server.context, [first], hand_off, board, board.allocate(), max_connections=0)
        server.run(lambda: acceptor.renew_listeners([renewed], []))
        with renewed.dup() as other:
            server.run(acceptor.start)
            assert get(other) == b"hello"
            server.run(acceptor.stop)
            server.run(lambda: acceptor.renew_listeners([other.dup()], []))
        assert acceptor._listening == []
        hand_off.close()


def test_a_queue_that_is_over_makes_no_work_and_another_takes_its_place(
    board: Scoreboard, ends: tuple[socket.socket, socket.socket]
) -> None:
    client, connection = ends
    with serve(hello) as server, taking(board, server) as (acceptor, hand_off):
        assert hand_off.put(connection, NEW.to_metadata())
        with socket.socket(fileno=os.dup(hand_off.fds[0])) as end:
            end.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: hand_off.is_over, "it is seen")
        client.sendall(request("GET", "/"))
        assert Client(client).response().body == b"hello", "what was in it is served"
        looks = 0
        on_handed_off = acceptor._on_handed_off

        def counted() -> None:
            nonlocal looks
            looks += 1
            on_handed_off()

        acceptor._on_handed_off = counted  # type: ignore[method-assign]
        for _ in range(20):
            server.run(lambda: None)
        assert looks == 0
        fresh = HandOff.create()
        again, given = socket.socketpair()
        again.settimeout(TIMEOUT)
        with again, given:
            assert fresh.put(given, NEW.to_metadata())
            given.close()
            server.run(lambda: acceptor.renew_hand_off(fresh))
            again.sendall(request("GET", "/"))
            assert Client(again).response().body == b"hello"


class Loop:
    """A loop that cannot watch anything for now."""

    def __init__(self) -> None:
        self.refuses = True
        self.watched: list[object] = []
        self.later: list[Any] = []

    def add_reader(self, file: object, *_callback: object) -> None:
        if self.refuses:
            raise OSError(28, "No space left on device")
        self.watched.append(file)

    def remove_reader(self, _file: object) -> None:
        pass

    def call_later(self, _seconds: float, callback: Any, *arguments: object) -> None:
        self.later.append(partial(callback, *arguments))

    def time(self) -> float:
        return 0.0


def test_a_listener_that_cannot_be_watched_now_is_watched_later(board: Scoreboard) -> None:
    """Otherwise the worker would live, count as ready, and serve nobody."""
    loop = Loop()
    context = cast("Any", SimpleNamespace(loop=loop, stats=Stats()))
    with contextlib.closing(HandOff.create()) as hand_off, socket.socket() as listener:
        acceptor = Acceptor(context, [listener], hand_off, board, board.allocate(), max_connections=0)
        acceptor._running = True
        acceptor._prepare_listeners()
        acceptor._continue()
        acceptor._watch_handed_off()
        for _ in range(10):
            for callback in loop.later[:]:
                loop.later.remove(callback)
                callback()
        assert len(loop.later) == 2
        loop.refuses = False
        for callback in loop.later[:]:
            callback()
        assert loop.watched == [listener, hand_off.fds[1]]
