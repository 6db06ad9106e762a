"""The admin server over real sockets, turned by hand as the master's loop would turn it."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from admin_server import GET, Admin, read
from asgi_master.control.admin import read_question
from asgi_master.control.api import Refusal
from asgi_master.control.http_server import Limits
from asgi_master.control.metrics import Queue
from metrics_samples import SNAPSHOT


@pytest.fixture
def admin() -> Iterator[Admin]:
    admin = Admin()
    yield admin
    admin.close()


def test_the_paths(admin: Admin) -> None:
    assert admin.get("/livez") == (200, "ok\n")
    assert admin.get("/readyz") == (200, "ok\n")
    assert admin.get("/startupz") == (200, "ok\n")
    status, text = admin.get("/metrics")
    assert status == 200
    assert "asgi_master_generation 7\n" in text
    status, text = admin.get("/nowhere")
    assert status == 404
    assert text == "not found; available: /livez, /readyz, /startupz, /metrics, /status.json, /events, /\n"


def test_not_ready_says_why(admin: Admin) -> None:
    admin.observer.age = 30.0
    status, text = admin.get("/readyz")
    assert status == 503
    assert "worker 0 (generation 1) is blocked: its event loop has not turned for 30.0 s" in text
    assert admin.get("/livez") == (200, "ok\n")
    assert admin.get("/readyz?verbose")[1].startswith("[+] started\n")
    assert admin.get("/readyz?verbose=1&exclude=x")[0] == 503


def test_what_the_answers_are(admin: Admin) -> None:
    _status, head, _body = admin.exchange(GET % b"/metrics")
    assert b"content-type: text/plain; version=0.0.4; charset=utf-8" in head
    assert b"connection: close" in head
    _status, head, _body = admin.exchange(GET % b"/readyz")
    assert b"content-type: text/plain; charset=utf-8" in head
    assert b"cache-control: no-store" in head


def test_head_has_no_body(admin: Admin) -> None:
    status, head, body = admin.exchange(b"HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (status, body) == (200, b"")
    assert b"content-length: 0" not in head


def test_both_addresses_answer(admin: Admin) -> None:
    assert admin.exchange(GET % b"/livez", address=1)[0] == 200


@pytest.mark.parametrize("path", ["/status", "/reload", "/stop", "/scale", "/drain", "/stacks", "/rollback"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_command_is_reachable(path: str, method: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_question(method, path)
    assert refused.value.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE"])
def test_only_questions(admin: Admin, method: str) -> None:
    request = f"{method} /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    status, head, _body = admin.exchange(request)
    assert status == 405
    assert b"allow: get, head, options" in head


@pytest.mark.parametrize(
    "target", ["/", "*", "/livez", "/readyz", "/readyz/", "/startupz", "/metrics", "/readyz?verbose"]
)
@pytest.mark.parametrize("version", ["HTTP/1.0\r\n\r\n", "HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_options_are_told(admin: Admin, target: str, version: str) -> None:
    """`OPTIONS / HTTP/1.0` is what haproxy sends unless it is configured."""
    status, head, body = admin.exchange(f"OPTIONS {target} {version}".encode())
    assert status == 200
    assert b"allow: get, head, options" in head
    assert b"/readyz" in body


def test_options_of_nothing_are_none(admin: Admin) -> None:
    assert admin.exchange(b"OPTIONS /status HTTP/1.1\r\nhost: x\r\n\r\n")[0] == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_slash_at_the_end_changes_nothing(admin: Admin, method: str) -> None:
    admin.observer.age = 30.0
    for path, expected in (
        ("/livez/", 200),
        ("/readyz/", 503),
        ("/readyz/?verbose", 503),
        ("/readyz//", 404),
    ):
        assert admin.exchange(f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())[0] == expected


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET //[ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /livez?" + b"a&" * 3000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5000, 431),
        (b"GET /" + b"a" * 20_000, 431),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 70_000, 413),
    ],
)
def test_hostile_bytes(admin: Admin, request_: bytes, status: int) -> None:
    assert admin.exchange(request_)[0] == status
    assert admin.get("/livez")[0] == 200


def test_a_failing_master_is_said(admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    admin.observer.fails = True
    assert admin.get("/metrics") == (500, "failed; the log says why\n")
    assert "no numbers today" in caplog.text
    admin.observer.fails = False
    assert admin.get("/metrics")[0] == 200


def test_slow_clients_are_let_go(admin: Admin) -> None:
    with admin.connect() as silent, admin.connect() as slow:
        slow.sendall(b"GET /liv")
        admin.turn()
        admin.now += 5.1
        admin.turn()
        assert (silent.recv(10), slow.recv(10)) == (b"", b"")


def test_idle_connections_keep_no_client_out() -> None:
    admin = Admin(limits=None)
    with contextlib.closing(admin), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(admin.connect()) for _ in range(64)]
        while len(admin.selector.get_map()) < 64 + len(admin.sockets):
            admin.turn()
        assert admin.get("/livez") == (200, "ok\n")
        assert idle[0].recv(10) == b"", "it made room"
        # Having begun to ask is not to have asked.
        idle[1].sendall(b"GET /livez HTTP/1.1\r\n")
        stack.enter_context(admin.connect())
        admin.turn()
        assert admin.get("/livez") == (200, "ok\n")
        assert idle[1].recv(10) == b"", "now it had waited longest"
        idle[2].sendall(GET % b"/livez")
        admin.turn()
        assert read(idle[2])[0] == 200


def test_a_connection_with_a_request_is_not_closed_for_another() -> None:
    admin = Admin(Limits(connections=1, evicts_oldest=True))
    admin.observer.numbers = replace(SNAPSHOT, queues=[Queue(str(n), 0, 0) for n in range(200_000)])
    try:
        with admin.connect() as reader:
            reader.sendall(GET % b"/metrics")
            admin.turn()
            assert admin.get("/livez") == (503, "too many admin connections\n")
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(read, reader)
                while not answer.done():
                    admin.turn()
            assert answer.result()[2].count(b"listener_queue_limit{") == 200_000
    finally:
        admin.close()


def test_too_many_connections() -> None:
    admin = Admin(Limits(connections=2))
    try:
        with admin.connect(), admin.connect():
            admin.turn()
            with admin.connect() as third:
                admin.turn()
                status, _head, body = read(third)
            assert (status, body) == (503, b"too many admin connections\n")
            admin.now += 5.1
            admin.turn()
            assert admin.get("/livez")[0] == 200
    finally:
        admin.close()


def test_clients_that_leave(admin: Admin) -> None:
    watched = len(admin.selector.get_map())
    for request in (b"", b"GET /me", GET % b"/metrics"):
        with admin.connect() as sock:
            sock.sendall(request)
            admin.turn()
        admin.turn()
    assert len(admin.selector.get_map()) == watched
