"""Threads that will not end, and exit handlers that will not, hold no worker past its time; the others run."""

import contextlib
import signal
import threading

import httpx
import pytest

from fleet import Fleet, wait_until

SOURCE = """
import asyncio, atexit, threading, time
from concurrent.futures import ThreadPoolExecutor
import anyio.to_thread

pool, idle = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
def sleeps():
    print("begun", flush=True)
    time.sleep(600)  # blocked here
async def to_thread(): await asyncio.to_thread(sleeps)
async def to_anyio(): await anyio.to_thread.run_sync(sleeps)
async def to_pool(): await asyncio.get_running_loop().run_in_executor(pool, sleeps)
async def own():
    threading.Thread(target=sleeps, name="own").start()
    await asyncio.sleep(600)
async def handler():
    atexit.register(sleeps)
async def swallowed():
    while True:
        try:
            await asyncio.to_thread(sleeps)
        except asyncio.CancelledError:
            pass
async def background():
    threading.Thread(target=sleeps).start()
async def none(): pass

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    idle.submit(int).result()
    atexit.register(print, "flushed", flush=True)
    await globals()[scope["path"][1:]]()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def serve(fleet: Fleet, loop: str, drain: float) -> None:
    fleet.serve_source(SOURCE, "--loop", loop, "--drain-timeout", str(drain), "--kill-grace", "5", workers=1)


def ask(fleet: Fleet, path: str) -> threading.Thread:
    def get() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{fleet.url}{path}", timeout=30)

    asking = threading.Thread(target=get)
    asking.start()
    return asking


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("how", ["to_thread", "to_anyio", "to_pool", "own", "swallowed"])
def test_threads_are_named_and_left(fleet: Fleet, loop: str, how: str) -> None:
    fleet.expect_log("the drain window is over", "leaving without", "exit status 8", "Traceback")
    serve(fleet, loop, 1.0)
    asking = ask(fleet, f"/{how}")
    wait_until(lambda: "begun" in fleet.output, "the thread runs")
    assert fleet.stop() == 0
    asking.join()
    assert fleet.output.count("flushed") == 1
    assert "killed" not in fleet.log
    if how != "swallowed":
        assert fleet.wait_line(r"leaving without 1 thread\(s\) that did not end: .*changing.py:9 in sleeps")
        assert fleet.wait_line(r"left in time: exit status 8 ")


def test_an_exit_handler_is_not_waited_for_either(fleet: Fleet) -> None:
    fleet.expect_log("leaving before exit handlers have ended", "exit status 8")
    serve(fleet, "uvloop", 1.0)
    ask(fleet, "/handler").join()
    assert fleet.stop() == 0
    assert fleet.wait_line(r"exit handlers have ended: .*changing.py:9 in sleeps")
    assert "killed" not in fleet.log


def test_a_second_signal_is_heard_also_then(fleet: Fleet) -> None:
    fleet.expect_log("leaving without", "exit status 8")
    serve(fleet, "uvloop", 600.0)
    ask(fleet, "/background").join()
    wait_until(lambda: "begun" in fleet.output, "the thread runs")
    fleet.send(signal.SIGTERM)
    fleet.wait_line("stopping ")
    fleet.send(signal.SIGTERM)
    assert fleet.wait_exit() == 0
    assert "killed" not in fleet.log


def test_nothing_is_waited_for_in_vain(fleet: Fleet) -> None:
    serve(fleet, "uvloop", 600.0)
    ask(fleet, "/none").join()
    assert fleet.stop() == 0
    assert fleet.output.count("flushed") == 1
