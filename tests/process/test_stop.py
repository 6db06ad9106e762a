"""TERM and INT finish what is in flight; the second is quick; the third kills."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from apps import holding
from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until

BLOCKED = "block?seconds=60"


def hold(fleet: Fleet, pool: ThreadPoolExecutor, name: str = "work"):
    """A request in flight, which is in the application's hands when this returns."""
    with fleet.client() as client:
        asked = pool.submit(httpx.get, f"{fleet.url}/hold?name={name}", timeout=PATIENCE, trust_env=False)
        wait_until(lambda: holding.arrived(fleet.directory, name), "the request arrived")
        client.close()
    return asked


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_graceful_stop_finishes_what_is_in_flight(fleet: Fleet, signum: signal.Signals) -> None:
    fleet.serve(workers=2)
    with ThreadPoolExecutor(1) as pool:
        asked = hold(fleet, pool)
        fleet.send(signum)
        # The worker without work leaves; the other one waits for its request.
        fleet.wait_workers(lambda workers: len(workers) == 1, "one worker is left")
        holding.release(fleet.directory, "work")
        response = asked.result(PATIENCE)
    assert response.status_code == 200
    assert response.headers["connection"] == "close"
    assert fleet.wait_exit() == 0


def test_idle_connections_do_not_hold_a_stop_up(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    with fleet.client() as client:
        client.get("/")
        assert fleet.stop() == 0


def test_the_second_signal_is_quick(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    fleet.expect_log("WARNING", "cancel", "Traceback")
    with ThreadPoolExecutor(1) as pool:
        asked = hold(fleet, pool)
        mark = len(fleet.lines)
        fleet.send(signal.SIGTERM)
        fleet.wait_line("(?i)stop", after=mark)
        fleet.send(signal.SIGTERM)
        assert fleet.wait_exit() == 0
        with pytest.raises(httpx.TransportError):
            asked.result(PATIENCE)
    assert any(line.startswith("lifespan of") for line in fleet.output), "lifespan shutdown runs all the same"


def test_the_third_signal_kills(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    fleet.expect_log("WARNING", "ERROR")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/{BLOCKED}", timeout=PATIENCE, trust_env=False)
        fleet.wait_blocked()
        for _ in range(3):
            mark = len(fleet.lines)
            fleet.send(signal.SIGTERM)
            fleet.wait_line("(?i)stop|kill|quick|force", after=mark)
        assert fleet.wait_exit() == 6
        with pytest.raises(httpx.TransportError):
            asked.result(PATIENCE)


def test_quit_is_quick_at_once(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    fleet.expect_log("WARNING", "Traceback")
    with ThreadPoolExecutor(1) as pool:
        asked = hold(fleet, pool)
        assert fleet.stop(signal.SIGQUIT) == 0
        with pytest.raises(httpx.TransportError):
            asked.result(PATIENCE)


def test_a_worker_that_does_not_drain_is_killed(fleet: Fleet) -> None:
    fleet.serve(
        "probe:app", "--drain-timeout", "0.5", "--shutdown-timeout", "0.2", "--kill-grace", "0.2", workers=1
    )
    fleet.expect_log("WARNING", "ERROR")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/{BLOCKED}", timeout=PATIENCE, trust_env=False)
        fleet.wait_blocked()
        assert fleet.stop() == 6
        with pytest.raises(httpx.TransportError):
            asked.result(PATIENCE)


def test_requests_beyond_the_drain_timeout_are_cancelled_and_the_lifespan_still_ends(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--drain-timeout", "2", "--shutdown-timeout", "1", workers=1)
    fleet.expect_log("WARNING", "Traceback")
    with ThreadPoolExecutor(1) as pool:
        asked = hold(fleet, pool)
        assert fleet.stop() == 0
        with pytest.raises(httpx.TransportError):
            asked.result(PATIENCE)
    assert any(line.startswith("lifespan of") for line in fleet.output)


def test_websockets_are_closed_with_1012(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    with connect(f"ws://127.0.0.1:{fleet.port}/", proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv(PATIENCE) == "hello"
        fleet.send(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert fleet.wait_exit() == 0


def test_a_stop_while_booting(fleet: Fleet) -> None:
    fleet.write("slow.py", "import time; print('importing', flush=True); time.sleep(60)\n")
    fleet.start("--bind", "127.0.0.1:0", "slow:app")
    wait_until(lambda: "importing" in fleet.output, "the import began")
    fleet.expect_log("WARNING")
    fleet.send(signal.SIGTERM)
    assert fleet.wait_exit() in (0, 6)


SLOW_START = """
import asyncio, os, probe
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        print("begins", os.getpid(), flush=True)
        await receive()
        await asyncio.sleep(float(os.environ.get("STARTS_FOR", "0")))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await probe.app(scope, receive, send)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("starts_for", ["0", "30"])
def test_a_signal_to_the_whole_group_replaces_no_worker(fleet: Fleet, signum, starts_for: str) -> None:
    """As by supervisord's stopasgroup: the workers hear of it before the master does."""
    fleet.expect_log("WARNING.*leaving: SIGTERM")
    fleet.write("slow_start.py", SLOW_START)
    env = {"STARTS_FOR": starts_for, "PYTHONPATH": f"{SOURCE}:{APPS}"}
    fleet.start("--workers", "2", "--bind", "127.0.0.1:0", "slow_start:app", env=env)
    if starts_for == "0":
        fleet.wait_ready(2)
    wait_until(lambda: len(fleet.output) == 2, "both began")
    for worker in fleet.workers():
        os.kill(worker.pid, signum)
    fleet.send(signum)
    assert fleet.wait_exit() == 0
    assert len(fleet.output) == 2
    assert "replace" not in fleet.log


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_newcomers_are_turned_away_at_once(fleet: Fleet, kind: str) -> None:
    path = fleet.directory / "app.sock"
    fleet.serve(workers=2, bind=f"unix:{path}" if kind == "unix" else "127.0.0.1:0")
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    address: Any = str(path) if kind == "unix" else ("127.0.0.1", fleet.port)

    def opened() -> socket.socket:
        connection = socket.socket(family)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection

    def is_refused() -> bool:
        try:
            opened().close()
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except ConnectionResetError:
            pass
        return False

    with opened() as holding_up:
        holding_up.sendall(b"GET /hold?name=work HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: holding.arrived(fleet.directory, "work"), "the request arrived")
        fleet.send(signal.SIGTERM)
        wait_until(is_refused, "newcomers are refused")
        assert fleet.workers()
        assert not path.exists()
        holding.release(fleet.directory, "work")
        assert holding_up.recv(4096).startswith(b"HTTP/1.1 200")
    assert fleet.wait_exit() == 0
