"""`--drain-timeout` holds, whatever the application does, and the lifespan's shutdown has its slice of it."""

import re
import signal
import socket
import time
from datetime import datetime
from pathlib import Path

import pytest

from fleet import PATIENCE, Fleet

DRAIN, SHUTDOWN = 3.0, 1.0
TOLERANCE = 0.5
TRIES = 3

# A response and a WebSocket that never end, whatever they receive, and a shutdown that needs most of its slice.
ENDLESS = """
import asyncio, time

STUBBORN = {stubborn}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        print("shutdown began", time.monotonic(), flush=True)
        await asyncio.sleep({shutdown})
        print("shutdown ended", time.monotonic(), flush=True)
        await send({{"type": "lifespan.shutdown.complete"}})
    elif scope["type"] == "websocket":
        await send({{"type": "websocket.accept"}})
        await for_ever("websocket")
    else:
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b"begins", "more_body": True}})
        await for_ever("http")

async def for_ever(kind):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("cancelled", kind, time.monotonic(), flush=True)
            if not STUBBORN:
                raise
"""
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def opened(port: int, request: bytes, until: bytes) -> socket.socket:
    """A connection on which the response began; nothing more is read or said on it."""
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connection.sendall(request)
    seen = b""
    while until not in seen:
        piece = connection.recv(4096)
        assert piece, seen
        seen += piece
    return connection


def moment(fleet: Fleet, what: str) -> float:
    """When the application printed that."""
    found = [match for line in fleet.output if (match := re.fullmatch(rf"{what} ([\d.]+)", line))]
    assert found, f"{what!r} is not in {fleet.output}\n{fleet.log}"
    return float(found[0][1])


def logged(fleet: Fleet, what: str) -> float:
    """When the master wrote that line, in seconds."""
    (line,) = [line for line in fleet.lines if what in line]
    return datetime.strptime(line[:29], "%Y-%m-%d %H:%M:%S.%f %z").timestamp()


def stop(fleet: Fleet, *, stubborn: bool, shutdown: float) -> float:
    """Stop a worker with both; returns how long it took to leave, in seconds."""
    fleet.serve_source(
        ENDLESS.format(stubborn=stubborn, shutdown=shutdown),
        *("--drain-timeout", str(DRAIN), "--shutdown-timeout", str(SHUTDOWN), "--kill-grace", "5"),
        workers=1,
    )
    with (
        opened(fleet.port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"begins"),
        opened(fleet.port, UPGRADE, b"\r\n\r\n"),
    ):
        asked = time.monotonic()
        fleet.send(signal.SIGTERM)
        assert fleet.wait_exit() == 0, fleet.log
    # By the master's own clock: how long an interpreter takes to end on a busy host is another matter.
    took = logged(fleet, "stopped: all processes are gone") - logged(fleet, "stopping ")
    cancelled = max(moment(fleet, "cancelled http"), moment(fleet, "cancelled websocket")) - asked
    began = moment(fleet, "shutdown began") - asked
    print(f"cancelled after {cancelled:.2f} s, shutdown began after {began:.2f} s, gone after {took:.2f} s")
    assert cancelled <= began
    # No request is cancelled while there is time, and the wait for those that are was not in vain.
    assert cancelled >= DRAIN - SHUTDOWN - TOLERANCE - 0.1
    return took


@pytest.mark.parametrize(
    ("stubborn", "shutdown"), [(False, 0.7), (True, 0.7), (True, 3600.0)], ids=["polite", "stubborn", "worst"]
)
def test_the_drain_timeout_is_kept(tmp_path: Path, *, stubborn: bool, shutdown: float) -> None:
    """What is measured depends on the host; the best of some tries tells what the program does."""
    for number in range(TRIES):
        directory = tmp_path / str(number)
        directory.mkdir()
        fleet = Fleet(directory)
        fleet.expect_log(
            "the drain window is over",
            "lifespan shutdown did not finish",
            "did not end when cancelled",
            "Traceback",
        )
        try:
            took = stop(fleet, stubborn=stubborn, shutdown=shutdown)
        finally:
            fleet.close()
        if shutdown < SHUTDOWN:
            assert moment(fleet, "shutdown ended"), "it had its slice"
        if took <= DRAIN + TOLERANCE:
            return
    pytest.fail(f"gone after {took:.2f} s, {TRIES} times; --drain-timeout is {DRAIN:g}")
