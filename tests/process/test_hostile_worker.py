"""A worker whose application does everything that a process of its user can do: no other worker or client is affected."""

import contextlib
import os
import signal
import socket
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from fleet import PATIENCE, Fleet, wait_until

pytestmark = pytest.mark.newest_python

ADMIN = ("--admin-bind", "127.0.0.1:0", "--watch-time", "0")

EVIL = """
import contextlib, mmap, os, signal, socket, struct, sys, threading, time

def fds(word):
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        with contextlib.suppress(OSError):
            if word in os.readlink(f"/proc/self/fd/{name}"):
                yield int(name)

def board():
    return memoryview(mmap.mmap(next(fds("scoreboard")), 1024 * 512)).cast("q")

def sockets():
    return [socket.socket(fileno=os.dup(fd)) for fd in list(fds("socket:"))]

def seqpackets():
    '''Both ends of the hand-off queue, then the channel.'''
    return [sock for sock in sockets() if sock.type == socket.SOCK_SEQPACKET]

def listeners():
    return [sock for sock in sockets() if sock.type == socket.SOCK_STREAM
        and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]

KEPT = []

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only http")
    body, said = b"", str(os.getpid())
    while scope["method"] == "POST":
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if body:
        try:
            exec(compile(body, "posted", "exec"), globals())
        except Exception as error:
            said = repr(error)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said.encode()})
"""


def serve(fleet: Fleet, *arguments: str, **options: object) -> Fleet:
    return fleet.serve_source(EVIL, *ADMIN, *arguments, **options)


def do(fleet: Fleet, code: str) -> str:
    """Have one worker do it; returns what became of it, its pid if nothing is to be said."""
    with fleet.client() as client:
        return client.post("/", content=dedent(code)).text


def ask(fleet: Fleet, path: str) -> httpx.Response:
    url = fleet.wait_line(r"health and metrics on (\S+)")[1]
    return httpx.get(url + path, timeout=PATIENCE, trust_env=False)


def assert_served(fleet: Fleet, times: int = 8) -> None:
    """Each on a connection of its own."""
    for _ in range(times):
        with fleet.client() as client:
            assert client.get("/").text.isdigit()


def assert_well(fleet: Fleet) -> None:
    """Everybody is there and is seen."""
    assert_served(fleet)
    assert ask(fleet, "/metrics").status_code == 200
    wait_until(lambda: ask(fleet, "/readyz").status_code == 200, "the service is ready")


def test_no_worker_changes_the_size_of_shared_memory(fleet: Fleet) -> None:
    serve(fleet)
    for name in ("scoreboard", "roster"):
        for size in (0, 4096, 1 << 30):
            did = do(fleet, f"for fd in list(fds({name!r})): os.ftruncate(fd, {size})")
            assert "Error" in did, (name, size)
            assert_served(fleet)
    assert_well(fleet)


@pytest.mark.parametrize("word", ["2**63 - 1", "-2**63", "2**40", "-5"])
def test_no_word_of_shared_memory_keeps_a_dead_worker_or_stops_siblings(fleet: Fleet, word: str) -> None:
    serve(fleet)
    fleet.expect_log("died after serving", "gave no heartbeat", "stack:")
    victim = int(do(fleet, f"words = board()\nfor word in range(64 * 8): words[word] = {word}"))
    assert_well(fleet)
    os.kill(victim, signal.SIGKILL)
    fleet.wait_line("died after serving")
    fleet.wait_workers(
        lambda workers: len(workers) == 2 and victim not in {worker.pid for worker in workers}, "a successor"
    )
    assert_well(fleet)
    fleet.send(signal.SIGHUP)
    fleet.wait_line("reloaded: 2 workers serving generation 2")
    assert_well(fleet)


LINGER = """
a = socket.create_connection(("127.0.0.1", {port}))
KEPT.append(a)
a.setblocking(False)
with contextlib.suppress(BlockingIOError):
    while True: a.send(bytes(65536))
a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
socket.send_fds(seqpackets()[-1], [b'["WantsToLeave", {"reason": "x"}]'], [a.fileno()])
os.close(a.detach())
"""


@pytest.mark.parametrize("kernel", ["of today", "that cannot refuse descriptors"])
def test_a_descriptor_that_lingers_does_not_hold_the_master_up(fleet: Fleet, kernel: str) -> None:
    fault = {} if kernel == "of today" else {"ASGI_MASTER_FAULT": "raise@before_refusal"}
    serve(fleet, env=fault)
    fleet.expect_log(
        "a message with descriptors; it is killed", "died after serving", "asked to leave|replaced"
    )
    with socket.socket() as unread_address:
        unread_address.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        unread_address.bind(("127.0.0.1", 0))
        unread_address.listen()
        try:
            said = do(fleet, LINGER.replace("{port}", str(unread_address.getsockname()[1])))
        except httpx.RemoteProtocolError:
            said = "killed"
        if kernel != "of today" or "PermissionError" not in said:
            fleet.wait_line("a message with descriptors; it is killed")
            fleet.wait_line("died after serving")
            fleet.wait_settled(2)
        assert_well(fleet)


@pytest.mark.parametrize("said", [b"5", b'["BecameReady", {}]', b'["WantsToLeave", {"reason": "x"}]', b"["])
def test_a_flood_is_logged_once_and_its_worker_replaced(fleet: Fleet, said: bytes) -> None:
    serve(fleet)
    fleet.expect_log("it is killed", "died after serving")
    code = f"""
    channel = seqpackets()[-1]
    def flood():
        with contextlib.suppress(OSError):
            while True: channel.send({said!r})
    threading.Thread(target=flood, daemon=True).start()
    """
    with contextlib.suppress(httpx.RemoteProtocolError):
        do(fleet, code)
    fleet.wait_line(r"worker \d gen 1 \[\d+\] .*; it is killed")
    fleet.wait_line("died after serving")
    fleet.wait_settled(2)
    assert fleet.log.count("it is killed") == 1
    assert len(fleet.log) < 10_000
    assert_well(fleet)


def test_a_hand_off_queue_that_was_shut_down_is_made_anew(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("the hand-off queue was shut down")
    do(fleet, "for end in seqpackets()[:2]: end.shutdown(socket.SHUT_RDWR)")
    fleet.wait_line("the hand-off queue was shut down by somebody who has it: all workers get a new one")
    with fleet.client() as client:
        client.get("/")
        fleet.send(signal.SIGHUP)
        fleet.wait_line("reloaded: 2 workers serving generation 2")
        wait_until(lambda: len(fleet.workers()) == 2, "those of before are gone")
        assert client.get("/").text.isdigit(), "the idle connection went to a new worker"
    assert_well(fleet)


def test_what_is_no_connection_is_closed(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("that are no connection")
    code = """
    put = seqpackets()[0]
    given = [*os.pipe(), os.open("/", os.O_RDONLY), os.memfd_create("x"), listeners()[0].fileno()]
    for fd in given * 20: socket.send_fds(put, [b"c"], [fd])
    """
    do(fleet, code)
    fleet.wait_line("that are no connection")
    assert_well(fleet)

    def held() -> int:
        return max(len(list(Path(f"/proc/{worker.pid}/fd").iterdir())) for worker in fleet.workers())

    wait_until(lambda: held() < 60, "the descriptors are closed")
    assert fleet.log.count("are no connection") <= 2


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:{}/socket"])
def test_a_listener_that_was_shut_down_listens_again(fleet: Fleet, bind: str) -> None:
    serve(fleet, bind=bind.format(fleet.directory))
    fleet.expect_log("was shut down by somebody who has it", "accept failed")
    transport = httpx.HTTPTransport(uds=fleet.url.removeprefix("unix:")) if "unix" in bind else None
    url = "http://server" if transport else fleet.url
    with httpx.Client(transport=transport, base_url=url, timeout=PATIENCE, trust_env=False) as client:
        client.post("/", content="for sock in listeners():\n  sock.shutdown(socket.SHUT_RDWR)")
    fleet.wait_line("was shut down by somebody who has it: it listens again")
    wait_until(lambda: ask(fleet, "/readyz").status_code == 200, "the service is ready")
    for _ in range(8):
        transport = httpx.HTTPTransport(uds=fleet.url.removeprefix("unix:")) if "unix" in bind else None
        with httpx.Client(transport=transport, base_url=url, timeout=PATIENCE, trust_env=False) as client:
            assert client.get("/").text.isdigit()
    assert fleet.log.count("accept failed:") <= 2


def test_a_listener_that_waits_does_not_hold_its_siblings_up(fleet: Fleet) -> None:
    """Whether a socket waits is the same for all who have it."""
    serve(fleet)
    do(fleet, "for sock in [*listeners(), *seqpackets()[:2]]: os.set_blocking(sock.fileno(), True)")
    assert_served(fleet, 30)
    assert_well(fleet)
