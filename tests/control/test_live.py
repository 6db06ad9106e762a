"""The live status: made once for all, streamed, bounded; on both servers."""

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from admin_server import GET, Admin, read
from asgi_master.control.api import Span
from asgi_master.control.commands import show_status
from asgi_master.control.http_server import Limits
from asgi_master.control.live_feed import LiveFeed
from asgi_master.control.reloads import Outcome, Reloads, Result
from asgi_master.history.samples import FleetReading
from asgi_master.supervision.notices import ScaledTo
from control_server import STATUS, Served
from live_samples import STARTED, PaperSource, stats


def status_in(data: bytes) -> dict:
    return json.loads(data.partition(b"data: ")[2].splitlines()[0])


@pytest.fixture
def admin() -> Iterator[Admin]:
    admin = Admin()
    yield admin
    admin.close()


def pass_second(source: PaperSource) -> None:
    """A second later."""
    second = source.tick + 1
    source.history.record(second, FleetReading([], stats(int(second - STARTED) * 20), 1, 2.0))


def test_the_document(admin: Admin) -> None:
    status, text = admin.get("/status.json")
    document = json.loads(text)
    assert status == 200
    assert document["history"] is None
    assert document["now"]["fleet"]["rate"] == 20.0
    assert document["now"]["slots"]["0"]["memory_slope"] is None, "that worker is young"
    assert document["next"][0]["text"] == "restart of worker 1 in 2 s"
    assert (document["ready"], document["reasons"]) == (True, [])
    assert document["events"][0]["text"].startswith("reloaded")
    assert document["status"]["app"] == "shop:app"
    document = json.loads(admin.get("/status.json?history=minute")[1])
    assert list(document["history"]) == ["minute"]
    assert document["history"]["minute"]["slots"]["1"]["lag"][-1] == 0.002
    document = json.loads(admin.get("/status.json?history=all")[1])
    assert document["history"]["quarter"]["fleet"]["rate"][-5:] == [20.0] * 5
    assert set(document["history"]["quarter"]["generations"]) == {"3"}
    assert admin.get("/status.json?history=ever")[0] == 400


def test_secrets_are_left_out() -> None:
    reloads = Reloads(
        last=Outcome(Result.FAILED, 3, "cannot connect to db://me:hunter2@host/x password=1234", 1.0)
    )
    source = PaperSource(show_status(STATUS, reloads))
    message = source.document(span=Span.NONE, events_after=0)["status"]["last_reload"]["message"]
    assert message == "cannot connect to db://***@host/x password=***"


def test_a_second_is_made_once() -> None:
    source = PaperSource(show_status(STATUS, Reloads()))
    feed = LiveFeed(source)
    for _ in range(5):
        feed.status(span=Span.NONE)
        feed.stream()
        feed.chunk()
    assert source.made == 3, "without and with history, and of a tick"
    pass_second(source)
    feed.chunk()
    assert status_in(feed.chunk().plain)["events"] == [], "what was there before is known"
    source.events.note(ScaledTo(3, 2), 20, "scaled", 2.0)
    assert b"scaled" in feed.stream().body
    pass_second(source)
    assert [event["text"] for event in status_in(feed.chunk().plain)["events"]] == ["scaled"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream(admin: Admin, version: str) -> None:
    with admin.connect() as sock:
        sock.sendall(f"GET /events HTTP/{version}\r\nhost: x\r\n\r\n".encode())
        admin.turn()
        received = sock.recv(1 << 20)
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head.lower()
        assert (b"transfer-encoding: chunked" in head.lower()) == (version == "1.1")
        assert b"retry: 2000\nevent: status\ndata: " in body
        assert status_in(body)["history"]["quarter"]
        pass_second(admin.live)
        admin.turn()
        tick = sock.recv(1 << 20)
        assert b"event: tick\ndata: " in tick
        assert status_in(tick)["history"] is None
        if version == "1.1":
            length, _, rest = tick.partition(b"\r\n")
            assert int(length, 16) == len(rest) - 2
        # Nothing new comes within a second.
        admin.turn()
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
    watched = len(admin.selector.get_map())
    admin.turn()
    assert len(admin.selector.get_map()) == watched - 1, "it is let go"


def test_head_of_a_stream_has_no_body(admin: Admin) -> None:
    status, head, body = admin.exchange(b"HEAD /events HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (status, body) == (200, b"")
    assert b"text/event-stream" in head


def test_what_a_client_sends_into_its_stream_ends_it(admin: Admin) -> None:
    with admin.connect() as sock:
        sock.sendall(GET % b"/events")
        admin.turn()
        assert sock.recv(1 << 20)
        sock.sendall(GET % b"/events")
        admin.turn()
        while sock.recv(1 << 20):
            pass


def test_a_client_that_does_not_read_is_dropped() -> None:
    admin = Admin(Limits(stream_bytes=200_000))
    with admin.connect() as slow, admin.connect() as good:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        for sock in (slow, good):
            sock.sendall(GET % b"/events")
        admin.turn()
        admin.live.status["name"] = "x" * 100_000
        for _ in range(200):
            good.recv(1 << 20)
            pass_second(admin.live)
            admin.turn()
            if len(admin.selector.get_map()) == 3:
                break
        assert len(admin.selector.get_map()) == 3, "two listeners and the other client"
    admin.close()


def test_a_client_that_reads_nothing_for_long_is_dropped() -> None:
    admin = Admin()
    with admin.connect() as slow:
        slow.sendall(GET % b"/events")
        admin.live.status["name"] = "x" * 300_000
        for _ in range(30):
            pass_second(admin.live)
            admin.turn()
        admin.now += 5.1
        admin.turn()
        assert len(admin.selector.get_map()) == 2
    admin.close()


def test_streams_are_counted_apart() -> None:
    admin = Admin(Limits(connections=1, streams=2))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            sock = stack.enter_context(admin.connect())
            sock.sendall(GET % b"/events")
            admin.turn()
        assert admin.get("/livez")[0] == 200
        assert admin.get("/events") == (503, "too many admin streams\n")
    admin.close()


def test_on_the_control_socket(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(b"GET /status.json?history=minute HTTP/1.1\r\nhost: x\r\n\r\n")
        _status, _head, body = read(sock)
        assert json.loads(body)["history"]["minute"]["period"] == 1
    with served.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"event: status" in sock.recv(1 << 20)
        served.call(lambda: pass_second(served.live))
        served.turn()
        assert b"event: tick" in sock.recv(1 << 20)
    with served.connect() as sock:
        sock.sendall(b"GET /status.json?history=1 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read(sock)[0] == 400
