"""The control server over a real Unix socket: right answers, and nothing that a client does can harm its owner."""

import contextlib
import http.client
import json
import logging
import os
import select
import selectors
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from asgi_master.control.live_feed import LiveFeed
from asgi_master.control.server import ControlServer
from asgi_master.control.status import FleetStatus
from asgi_master.supervision.notices import (
    BootRefused,
    Died,
    ImportFailed,
    MasterReady,
    ReloadCommitted,
    ReloadFailed,
    ReloadRefused,
    ReloadStarted,
    ReloadSuperseded,
    RollbackStarted,
    StopLevel,
    Stopping,
    WorkerLost,
)
from control_server import PATIENCE, STACKS, STATUS, Recorder, Served, parse, read_all
from live_samples import PaperSource


def exchange(served: Served, request: bytes) -> bytes:
    with served.connect() as sock:
        sock.sendall(request)
        return read_all(sock)


def test_status(served: Served) -> None:
    response = exchange(served, b"GET /status HTTP/1.1\r\nhost: localhost\r\n\r\n")
    status, body = parse(response)
    assert status == 200
    assert b"content-type: application/json" in response
    assert b"connection: close" in response
    assert body["workers"][0]["slot"] == 0


def test_a_body_in_pieces(served: Served) -> None:
    with served.connect() as sock:
        for piece in (
            b"POST /sca",
            b"le HTTP/1.1\r\nhost: x\r\ncontent-le",
            b'ngth: 14\r\n\r\n{"work',
            b'ers": 3}',
        ):
            sock.sendall(piece)
            served.turn()
        assert parse(read_all(sock)) == (202, {"workers": 3})
    assert served.steering.asked == [("scale", 3)]


def test_chunked_and_http_1_0(served: Served) -> None:
    chunked = b'POST /scale HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\ne\r\n{"workers": 3}\r\n0\r\n\r\n'
    assert parse(exchange(served, chunked))[0] == 202
    assert parse(exchange(served, b"GET /status HTTP/1.0\r\n\r\n"))[0] == 200


def test_expect_continue(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(b"POST /stop HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"{}")
        assert parse(read_all(sock))[0] == 202


def test_head_has_no_body(served: Served) -> None:
    response = exchange(served, b"HEAD /status HTTP/1.1\r\nhost: x\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 405 ")
    assert response.endswith(b"\r\n\r\n")
    assert b"allow: GET" in response


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET /reload HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"GET /status HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET /status HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5000, 431),
        (b"GET /" + b"a" * 20_000, 431),
        (b"POST /scale HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 70_000, 413),
        (b"POST /scale HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        (b"POST /scale HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST /scale HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
    ],
)
def test_hostile_bytes(served: Served, request_: bytes, status: int) -> None:
    with served.connect() as sock:
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(request_)
        found, body = parse(read_all(sock))
    assert found == status
    assert body["error"]
    assert parse(exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"))[0] == 200


def test_clients_that_leave(served: Served) -> None:
    watched = served.descriptors()
    for request in (b"", b"GET /sta", b"POST /reload?wait=1 HTTP/1.1\r\nhost: x\r\n\r\n"):
        with served.connect() as sock:
            sock.sendall(request)
            served.turn()
        served.turn()
    assert served.descriptors() == watched
    served.note(ReloadStarted(2))
    served.note(ReloadCommitted(2, 1, 1.0))


def test_a_client_that_leaves_at_once_is_still_obeyed(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(b"POST /stop HTTP/1.1\r\nhost: x\r\n\r\n")
    served.turn()
    assert served.steering.asked == [("stop", False)]


def test_only_the_first_request_of_a_connection_counts(served: Served) -> None:
    request = b"POST /stop HTTP/1.1\r\nhost: x\r\n\r\n"
    assert read_count(exchange(served, request * 3)) == 1
    assert served.steering.asked == [("stop", False)]


def read_count(response: bytes) -> int:
    return response.count(b"HTTP/1.1 ")


def test_a_failing_master_is_said(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.steering.fails = True
    status, body = parse(exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"))
    assert (status, "log" in body["error"]) == (500, True)
    assert "no status today" in caplog.text


class TestWaiting:
    REQUEST = b"POST /reload?wait=1 HTTP/1.1\r\nhost: x\r\n\r\n"

    def asked(self, served: Served) -> socket.socket:
        served.note(MasterReady(1, 1))
        sock = served.connect()
        sock.sendall(self.REQUEST)
        served.turn()
        assert served.steering.asked[-1] == ("reload",)
        return sock

    def test_committed(self, served: Served) -> None:
        with self.asked(served) as sock:
            served.note(ReloadStarted(2))
            # However long it takes: this one waits for us.
            served.wait(3600)
            served.note(ReloadCommitted(2, 1, 0.5))
            status, body = parse(read_all(sock))
        assert (status, body["result"], body["generation"]) == (200, "committed", 2)

    def test_failed_and_remembered(self, served: Served) -> None:
        with self.asked(served) as sock:
            served.note(ReloadStarted(2))
            served.note(ReloadFailed(2, ImportFailed("no module named shop"), 1))
            status, body = parse(read_all(sock))
        assert (status, body["result"]) == (409, "failed")
        assert "no module named shop" in body["error"]
        _, shown = parse(exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"))
        assert shown["last_reload"]["message"] == body["message"]
        assert shown["generation"] == 1

    def test_superseded(self, served: Served) -> None:
        with self.asked(served) as first:
            served.note(ReloadStarted(2))
            with self.asked(served) as second:
                served.note(ReloadSuperseded(2))
                assert parse(read_all(first))[1]["result"] == "superseded"
                served.note(ReloadStarted(3))
                served.note(ReloadCommitted(3, 1, 0.5))
                assert parse(read_all(second))[0] == 200

    def test_the_master_stops(self, served: Served) -> None:
        with self.asked(served) as sock:
            served.note(ReloadStarted(2))
            served.note(Stopping(StopLevel.GRACEFUL, 1))
            status, body = parse(read_all(sock))
        assert (status, body["result"]) == (503, "stopped")

    def test_the_master_ends(self, served: Served) -> None:
        with self.asked(served) as sock:
            served.call(served.server.close)
            assert parse(read_all(sock))[0] == 503

    def test_bad_settings(self, served: Served) -> None:
        served.steering.errors = ["bind: is empty"]
        with self.asked(served) as sock:
            status, body = parse(read_all(sock))
        assert (status, body["errors"]) == (422, ["bind: is empty"])
        served.call(lambda: served.server.note(ReloadRefused("control", ("bind: is empty",))))
        _, shown = parse(exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"))
        assert shown["last_reload"]["result"] == "refused"

    def test_talking_on_is_no_answer(self, served: Served) -> None:
        with self.asked(served) as sock:
            sock.sendall(b"x" * 70_000)
            assert parse(read_all(sock))[0] == 413
        served.note(ReloadStarted(2))
        served.note(ReloadCommitted(2, 1, 0.5))


class TestWaitingForMore:
    """What else is answered later: rollbacks, scaling, stacks."""

    def asked(self, served: Served, target: str) -> socket.socket:
        sock = served.connect()
        sock.sendall(f"POST {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        served.turn()
        return sock

    def test_rollback(self, served: Served) -> None:
        served.note(MasterReady(1, 2))
        with self.asked(served, "/rollback?wait") as sock:
            served.note(RollbackStarted(1, 2))
            served.wait(3600)
            served.note(ReloadCommitted(1, 1, 0.5))
            status, body = parse(read_all(sock))
        assert (status, body["result"], body["generation"]) == (200, "committed", 1)

    def test_scale(self, served: Served) -> None:
        ready = STATUS.workers[0]
        third = replace(ready, slot=2)
        served.steering.shown = replace(STATUS, workers_wanted=2, workers=[ready])
        with self.asked(served, "/scale?workers=2&wait") as sock:
            # One is missing, then one boots, then one is too many.
            for workers in ([ready, replace(ready, slot=1, state="booting")], [ready, third]):
                served.steering.shown = replace(served.steering.shown, workers=workers)
                served.wait(60)
            second = replace(ready, slot=1)
            served.steering.shown = replace(served.steering.shown, workers=[ready, second, third])
            served.wait(60)
            assert sock not in select.select([sock], [], [], 0)[0]
            spare = replace(third, standby=True)
            served.steering.shown = replace(served.steering.shown, workers=[ready, second, spare])
            served.turn()
            assert parse(read_all(sock)) == (200, {"workers": 2})

    def test_scale_that_fails(self, served: Served) -> None:
        served.steering.shown = replace(STATUS, workers_wanted=3)
        why = BootRefused(2, "no database")
        with self.asked(served, "/scale?workers=3&wait") as sock:
            served.note(WorkerLost(7, 0, 1, Died(0, 1, ready_for=9.0), 5.0))
            served.note(WorkerLost(8, 2, 1, why, 0.0))
            served.turn()
            assert sock not in select.select([sock], [], [], 0)[0]
            served.note(WorkerLost(9, 2, 1, why, 1.5))
            status, body = parse(read_all(sock))
        assert status == 409
        assert "no database" in body["error"]

    def test_scale_that_is_overtaken(self, served: Served) -> None:
        served.steering.shown = replace(STATUS, workers_wanted=3)
        with self.asked(served, "/scale?workers=3&wait") as first:
            served.steering.shown = replace(STATUS, workers_wanted=5)
            status, body = parse(read_all(first))
        assert (status, body["error"]) == (409, "5 workers are configured now")

    def test_scale_and_a_stop(self, served: Served) -> None:
        served.steering.shown = replace(STATUS, workers_wanted=3)
        with self.asked(served, "/scale?workers=3&wait") as sock:
            served.note(Stopping(StopLevel.GRACEFUL, 1))
            assert parse(read_all(sock))[0] == 503

    def test_stacks(self, served: Served) -> None:
        served.steering.stack_dumps.is_over = False
        with self.asked(served, "/stacks") as sock:
            assert sock not in select.select([sock], [], [], 0)[0]
            served.steering.stack_dumps.is_over = True
            assert parse(read_all(sock)) == (200, {"workers": [asdict(STACKS)]})

    def test_who_left_is_forgotten(self, served: Served) -> None:
        served.steering.stack_dumps.is_over = False
        served.steering.shown = replace(STATUS, workers_wanted=3)
        watched = served.descriptors()
        for target in ("/stacks", "/scale?workers=3&wait", "/rollback?wait"):
            self.asked(served, target).close()
            served.turn()
        assert served.descriptors() == watched

    def test_an_answer_that_fails_ends_nothing_else(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        served.steering.shown = replace(STATUS, workers_wanted=3)
        with self.asked(served, "/scale?workers=3&wait") as sock:
            served.steering.fails = True
            status, body = parse(read_all(sock))
        assert (status, "log" in body["error"]) == (500, True)
        assert "no status today" in caplog.text
        served.steering.fails = False
        assert parse(exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"))[0] == 200


class TestBounds:
    def test_slow_clients_are_let_go(self, served: Served) -> None:
        watched = served.descriptors()
        unfinished = b"POST /stop HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"
        with served.connect() as silent, served.connect() as slow, served.connect() as slower:
            slow.sendall(b"GET /status")
            slower.sendall(unfinished)
            served.turn()
            served.wait(4.9)
            assert served.descriptors() == watched + 3
            served.wait(0.2)
            assert served.descriptors() == watched
            assert [read_all(sock) for sock in (silent, slow, slower)] == [b"", b"", b""]
        assert served.steering.asked == []

    def test_a_client_that_does_not_read_is_let_go(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        large = _with_long_list(Recorder().status())
        monkeypatch.setattr(served.steering, "status", lambda: large)
        watched = served.descriptors()
        with served.connect() as sock:
            sock.sendall(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
            served.turn()
            assert served.descriptors() == watched + 1
            served.wait(5.1)
            assert served.descriptors() == watched

    def test_a_large_answer_arrives_whole(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        large = _with_long_list(Recorder().status())
        monkeypatch.setattr(served.steering, "status", lambda: large)
        status, body = parse(exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"))
        assert (status, body["listening"]) == (200, large.listening)

    def test_too_many_connections(self, serve: Callable[..., Served]) -> None:
        served = serve(connections=2)
        first, second = served.connect(), served.connect()
        served.turn()
        with served.connect() as third:
            status, body = parse(read_all(third))
        assert (status, body["error"]) == (503, "too many control connections")
        first.close()
        served.turn()
        assert parse(exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"))[0] == 200
        second.close()

    def test_strangers_are_turned_away(
        self, serve: Callable[..., Served], caplog: pytest.LogCaptureFixture
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody else")
        served = serve()
        # The mode keeps strangers out; here it does not, so that the credentials must.
        served.path.chmod(0o666)
        for parent in list(served.path.parents)[:-1]:
            if not parent.stat().st_mode & stat.S_IXOTH:
                parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
        script = (
            "import os, socket, sys\n"
            "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
            "sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])\n"
            "print(sock.recv(10000).decode())\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", script, str(served.path)], capture_output=True, text=True, timeout=PATIENCE
        )
        assert "403 Forbidden" in run.stdout, run.stderr
        assert "of uid 65534" in caplog.text

    def test_without_descriptors_it_goes_on_later(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def exhausted(_listener: socket.socket) -> None:
            raise OSError(24, "Too many open files")

        real = socket.socket.accept
        served.call(lambda: monkeypatch.setattr(socket.socket, "accept", exhausted))
        with served.connect() as sock:
            sock.sendall(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
            served.turn()
            assert "Too many open files" in caplog.text
            served.call(lambda: monkeypatch.setattr(socket.socket, "accept", real))
            served.wait(1.1)
            assert parse(read_all(sock))[0] == 200
        assert caplog.text.count("accept failed") == 1

    def test_only_a_peer_with_unknown_credentials_is_closed(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(*_arguments: object) -> None:
            raise OSError(105, "No buffer space available")

        served.call(lambda: monkeypatch.setattr(socket.socket, "getsockopt", fails))
        for _ in range(5):
            with served.connect() as sock:
                assert read_all(sock) == b""
        assert caplog.text.count("No buffer space available") == 1
        assert "Traceback" not in caplog.text
        served.call(monkeypatch.undo)
        assert parse(exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"))[0] == 200


def _with_long_list(status: FleetStatus) -> FleetStatus:
    return replace(status, listening=["x" * 1000] * 2000)


def test_without_a_socket_it_only_follows() -> None:
    with selectors.DefaultSelector() as selector:
        server = ControlServer(
            None, selector, Recorder(), LiveFeed(PaperSource({})), settle=lambda: None, uid=0
        )
        server.note(ReloadStarted(2))
        server.note(ReloadRefused("SIGHUP", ("x",)))
        server.sweep()
        server.close()


def test_who_asked_is_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "asgi_master"):
        exchange(served, b"POST /stop HTTP/1.1\r\nhost: x\r\n\r\n")
        exchange(served, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
    assert [record.getMessage() for record in caplog.records] == [
        f"control: stop, asked by pid {os.getpid()} of uid {os.geteuid()}"
    ]


def test_a_standard_client(served: Served) -> None:
    class Client(http.client.HTTPConnection):
        def __init__(self, path: Path) -> None:
            super().__init__("localhost")
            self._path = path

        def connect(self) -> None:
            self.sock = served.connect()

    client = Client(served.path)
    for _ in range(2):
        client.request("POST", "/scale", json.dumps({"workers": 2}))
        response = client.getresponse()
        assert (response.status, json.load(response)) == (202, {"workers": 2})
    client.close()
