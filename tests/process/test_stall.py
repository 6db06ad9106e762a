"""A stalled event loop is named while it is; a stopped or slow host is not mistaken for one."""

import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from fleet import PATIENCE, Fleet, WorkerSeen

SOURCE = """\
import asyncio
import time

def call_the_driver(seconds):
    time.sleep(seconds)  # sleeps

class Cart:
    def pay(self):
        call_the_driver(0.9)

def step(number):
    return number + 1

def compute(seconds):
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number = step(number)  # computes

def hold_the_gil():
    return sum(range(60_000_000))  # holds

async def in_a_task(function, *arguments):
    async def child():
        function(*arguments)
    await asyncio.create_task(child())

async def later(seconds):
    asyncio.get_running_loop().call_soon(call_the_driver, seconds)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            Cart().pay()
            await send({"type": "websocket.send", "text": "paid"})
        return
    match scope["path"]:
        case "/pay":
            Cart().pay()
        case "/compute":
            compute(2)
        case "/gil":
            hold_the_gil()
        case "/task":
            await in_a_task(call_the_driver, 0.9)
        case "/later":
            await later(0.9)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
OVER = r"INFO +worker 0 gen 1 .*the event loop runs again, after \d\.\d s"


def line_of(text: str) -> int:
    return 1 + next(number for number, line in enumerate(SOURCE.splitlines()) if text in line)


def serve(fleet: Fleet, *arguments: str, threshold: str = "0.3") -> Fleet:
    fleet.serve_source(SOURCE, "--stall-warn", threshold, *arguments, workers=1)
    return fleet


def warnings_of(fleet: Fleet) -> list[str]:
    return [line for line in fleet.lines if "WARNING" in line]


def let_pass(seconds: float) -> None:
    """How long a process is stopped is what these tests are about: nothing can be waited for."""
    time.sleep(seconds)


def test_a_stuck_loop_is_named_with_the_request_and_the_line(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("WARNING.*event loop is stuck")
    with fleet.client() as client:
        assert client.get("/pay?cart=7").text == "ok"
    over = fleet.wait_line(OVER)
    assert fleet.lines.index(over.string) > fleet.lines.index(warnings_of(fleet)[0])
    (warning,) = warnings_of(fleet)
    place = f"{fleet.directory}/changing.py:{line_of('# sleeps')} in call_the_driver: time.sleep(seconds)"
    assert re.search(r"worker 0 gen 1 .*stuck for 0\.[3-9] s in GET /pay\?cart=7, at ", warning)
    assert place in warning


def test_a_busy_loop_is_distinguished_from_a_stuck_one(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("WARNING.*event loop is busy")
    with fleet.client() as client:
        assert client.get("/compute").text == "ok"
    fleet.wait_line(OVER)
    (warning,) = warnings_of(fleet)
    assert re.search(r"busy for \d\.\d s in GET /compute, in .*changing\.py:\d+ in (compute|step)", warning)


def test_code_that_holds_the_gil_is_named_afterwards(fleet: Fleet) -> None:
    serve(fleet, threshold="0.2")
    # Where CPU is short, who kept the watch from running is not said.
    fleet.expect_log("WARNING.*event loop was (held|blocked)")
    with fleet.client() as client:
        assert client.get("/gil").text == "ok"
    fleet.wait_line("WARNING.* in GET /gil, at ")
    (warning,) = warnings_of(fleet)
    assert re.search(r"(does not release the GIL|was blocked for \d\.\d s) in GET /gil, at ", warning)
    assert f"changing.py:{line_of('# holds')} in hold_the_gil: return sum(" in warning


def test_a_websocket_is_named(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("WARNING.*event loop is stuck")
    with connect(f"ws://127.0.0.1:{fleet.port}/room/5?token=1", proxy=None) as websocket:
        websocket.send("pay")
        assert websocket.recv(PATIENCE) == "paid"
    fleet.wait_line(r"stuck for \d\.\d s in WebSocket /room/5\?token=1, at .*changing\.py")


def test_each_stall_is_logged_once(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("WARNING.*event loop is stuck")
    with fleet.client() as client:
        for number in range(1, 3):
            mark = len(fleet.lines)
            assert client.get("/pay").text == "ok"
            fleet.wait_line(OVER, after=mark)
            assert len(warnings_of(fleet)) == number


def test_a_stall_that_no_request_causes(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("WARNING.*event loop is stuck")
    with fleet.client() as client:
        assert client.get("/later").text == "ok"
    fleet.wait_line(rf"stuck for \d\.\d s, at .*changing\.py:{line_of('# sleeps')} in call_the_driver")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_task_of_a_request_is_named(fleet: Fleet, loop: str) -> None:
    serve(fleet, "--loop", loop)
    fleet.expect_log("WARNING.*event loop is stuck")
    with fleet.client() as client:
        assert client.get("/task").text == "ok"
    request = " of GET /task" if sys.version_info >= (3, 12) else ""
    fleet.wait_line(rf"stuck for \d\.\d s in task in_a_task\.<locals>\.child{request}, at .*changing\.py")


def test_a_stall_is_over_when_the_worker_leaves(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("WARNING.*event loop is stuck")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/pay", timeout=PATIENCE, trust_env=False)
        fleet.wait_line("event loop is stuck")
        assert fleet.stop() == 0
        assert asked.result(PATIENCE).text == "ok"
    assert re.search(OVER, fleet.log)


MIDDLEWARE = """\
import asyncio
import time
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def dispatch(request, call_next):
    return await call_next(request)

async def slow(request):
    await asyncio.sleep(60)

async def stuck(request):
    time.sleep(0.9)
    return PlainTextResponse("ok")

app = Starlette(
    routes=[Route("/slow", slow), Route("/stuck", stuck)],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)],
)
"""


def test_a_framework_that_serves_in_tasks_of_its_own(fleet: Fleet) -> None:
    fleet.serve_source(MIDDLEWARE, "--stall-warn", "0.3", "--request-timeout", "0.5", workers=1)
    fleet.expect_log("WARNING.*event loop is stuck", "WARNING.*GET /slow: cancelled")
    with fleet.client() as client:
        assert client.get("/slow").status_code == 504
        assert client.get("/stuck").text == "ok"
    request = "task .* of GET /stuck" if sys.version_info >= (3, 12) else "task "
    fleet.wait_line(rf"stuck for \d\.\d s in {request}.*, at .*changing\.py:\d+ in stuck: time\.sleep")
    line = fleet.wait_line("GET /slow: cancelled").string
    assert re.search(r"changing\.py:\d+ in dispatch: return await call_next\(request\)", line)
    if sys.version_info >= (3, 12):
        assert re.search(r"another task at .*changing\.py:\d+ in slow: await asyncio\.sleep\(60\)", line)


def test_nothing_is_watched_unless_wanted(fleet: Fleet) -> None:
    serve(fleet, threshold="0")
    (worker,) = fleet.workers()
    assert psutil.Process(worker.pid).num_threads() == 1
    with fleet.client() as client:
        assert client.get("/pay").text == "ok"
    assert warnings_of(fleet) == []


@pytest.mark.parametrize("stopped", ["worker", "master"])
def test_a_stopped_process_is_not_a_stall(fleet: Fleet, stopped: str) -> None:
    serve(fleet)
    (worker,) = fleet.workers()
    pid = worker.pid if stopped == "worker" else fleet.pid
    with fleet.client() as client:
        os.kill(pid, signal.SIGSTOP)
        let_pass(1.0)
        os.kill(pid, signal.SIGCONT)
        assert client.get("/").text == "ok"
        assert warnings_of(fleet) == []
        # The watch is still there.
        fleet.expect_log("WARNING.*event loop is stuck")
        assert client.get("/pay").text == "ok"
        fleet.wait_line(OVER)
    assert len(warnings_of(fleet)) == 1
    assert fleet.workers() == [WorkerSeen(worker.pid, 0, 1)]
