"""`sys.exit()` and `KeyboardInterrupt` below a request fail that request, and no other."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet import Fleet
from websocket_peer import Peer

SOURCE = """
import asyncio, os, sys
import anyio, anyio.to_thread

def raising(what):
    if what == "kbd":
        raise KeyboardInterrupt
    sys.exit(int(what))
async def leave(what):
    await asyncio.sleep(0)
    raising(what)
async def task(what):
    await asyncio.create_task(leave(what))
async def deep(what):
    await asyncio.create_task(task(what))
async def group(what):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.sleep(60))
        tasks.create_task(deep(what))
async def anyio_group(what):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 60)
        tasks.start_soon(deep, what)
async def in_a_group(what):
    try:
        raising(what)
    except BaseException as error:
        raise BaseExceptionGroup("one", [error])
async def thread(what):
    await asyncio.create_task(in_a_thread(what))
async def in_a_thread(what):
    await anyio.to_thread.run_sync(raising, what)
async def callback(what):
    asyncio.get_running_loop().call_soon(raising, what)
    await asyncio.sleep(0.05)
    raise LookupError("by itself")
async def direct(what):
    raising(what)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    _, how, what = scope["path"].split("/")
    if how == "slow":
        started.set()
        await go_on.wait()
    elif how == "go":
        await started.wait()
        go_on.set()
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await globals()[how](what)
    else:
        await globals()[how](what)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
started, go_on = asyncio.Event(), asyncio.Event()
"""
WAYS = ("direct", "task", "deep", "group", "anyio_group", "in_a_group", "thread", "callback")
RAISED = ("0", "3", "4", "kbd")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_no_worker_ends_and_no_other_request(fleet: Fleet, loop: str) -> None:
    fleet.serve_source(SOURCE, "--loop", loop, workers=1)
    fleet.expect_log("the application raised", "Traceback", "a callback raised")
    (worker,) = fleet.workers()
    with ThreadPoolExecutor(1) as aside, fleet.client() as client, fleet.client() as other:
        slow = aside.submit(other.get, "/slow/0")
        for way in WAYS:
            for what in RAISED:
                assert client.get(f"/{way}/{what}").status_code == 500, (way, what)
        for way in WAYS:
            with Peer(socket.create_connection(("127.0.0.1", fleet.port))) as peer:
                assert peer.open(target=f"/{way}/3".encode()).read_close()[0] == 1011
        client.get("/go/0")
        assert slow.result().text == str(worker.pid)
    assert fleet.workers() == [worker]
    fleet.stop_cleanly()
    failed = [line for line in fleet.lines if "the application raised" in line]
    assert len(failed) == len(WAYS) * (len(RAISED) + 1)
    assert not [line for line in failed if "/slow" in line or "/go" in line]
