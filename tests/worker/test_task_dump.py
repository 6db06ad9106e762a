"""The tasks of a loop are told by what they wait at and whom they serve, however many they are."""

import asyncio
import json

import pytest

from asgi_master.codec import dump
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import TasksReported
from asgi_master.worker.diagnostics.task_dump import dump_tasks
from http_client import request
from serving import LOOPS, VARIANTS, serve
from websocket_peer import Peer

LIMIT = 64 * 1024


async def inner():
    await asyncio.Event().wait()  # waits here


async def outer():
    await inner()


def told(loop, scenario, limit=LIMIT):
    """What is told of the tasks that `scenario` starts."""

    async def run():
        tasks = await scenario()
        await asyncio.sleep(0)
        try:
            return await dump_tasks(asyncio.get_running_loop(), limit)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(run())


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks_that_wait_at_one_place_are_one(loop):
    async def scenario():
        named = [asyncio.create_task(outer(), name=f"feed {number}") for number in range(5)]
        return [*named, *(asyncio.create_task(outer()) for _ in range(5)), asyncio.create_task(inner())]

    total, groups = told(loop, scenario)
    assert total == 11
    first, other = groups
    assert (first.count, first.coroutine) == (10, "outer")
    assert len(first.names) == 3
    assert all(name.startswith("feed ") for name in first.names)
    assert [location.rpartition(" in ")[2] for location in first.stack[-2:]] == [
        "inner: await asyncio.Event().wait()  # waits here",
        "outer: await inner()",
    ]
    assert (other.coroutine, other.count, other.names) == ("inner", 1, [])


def test_ten_thousand_tasks_fit_a_datagram():
    async def stream():
        for _ in range(1000):
            await asyncio.sleep(1000)

    async def scenario():
        return [asyncio.create_task(stream()) for _ in range(10_000)]

    total, groups = told("uvloop", scenario)
    assert total == 10_000
    assert groups[0].count == 10_000
    assert len(json.dumps(dump(groups))) < 4000


def test_the_loop_turns_while_many_are_looked_at():
    turns = []

    async def ticks():
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    async def scenario():
        return [asyncio.create_task(ticks()), *(asyncio.create_task(outer()) for _ in range(10_000))]

    told("asyncio", scenario)
    assert len(turns) > 4


def test_what_has_no_room_is_left_out_the_smallest_first():
    """Ten thousand tasks that all wait at places of their own."""
    source = "\n".join(f"async def task_{n}(event):\n    await event.wait()" for n in range(3000))
    names = {}
    exec(compile(source, "<many places>", "exec"), names)

    async def scenario():
        event = asyncio.Event()
        many = [asyncio.create_task(names["task_7"](event)) for _ in range(100)]
        return [*many, *(asyncio.create_task(names[f"task_{n}"](event)) for n in range(3000))]

    total, groups = told("uvloop", scenario)
    assert total == 3100
    assert (groups[0].coroutine, groups[0].count) == ("task_7", 101)
    assert 100 < len(groups) < 3000
    assert len(json.dumps(dump(groups))) <= LIMIT
    ours, theirs = Channel.pair()
    try:
        theirs.setblocking(False)
        assert theirs.send(TasksReported(1, total, groups))
        assert ours.receive().message == TasksReported(1, total, groups)
    finally:
        ours.close()
        theirs.close()
    total, groups = told("uvloop", scenario, limit=0)
    assert (total, groups) == (3100, [])


def test_long_names_and_deep_stacks_are_cut():
    async def dive(depth):
        await (dive(depth - 1) if depth else inner())

    async def scenario():
        return [asyncio.create_task(dive(100), name="x" * 100_000)]

    _total, (group,) = told("uvloop", scenario)
    assert len(group.names[0]) == 200
    assert len(group.stack) == 31
    assert "more frames" in group.stack[-1]


class Holding:
    """Answers nothing; each request has a task of its own beside the one it came with."""

    def __init__(self):
        self.held = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        helper = asyncio.create_task(inner(), name="helper")
        self.held += 1
        try:
            await outer()
        finally:
            helper.cancel()


@pytest.mark.parametrize("variant", VARIANTS)
def test_whom_tasks_serve(variant):
    app = Holding()
    with serve(app, **variant) as server:
        for number in range(4):
            server.client().send(request("GET", f"/cart?user={number}"))
        peer = Peer(server.connect())
        peer.open(target=b"/chat")
        server.wait_until(lambda: app.held == 5)
        _total, groups = server.run(lambda: dump_tasks(server.loop, LIMIT))
    by_name = {group.coroutine: group for group in groups}
    requests = by_name["RequestTask._run"]
    assert (requests.count, len(requests.serves), requests.more_served) == (4, 3, 1)
    assert set(requests.serves) < {f"GET /cart?user={number}" for number in range(4)}
    sockets = by_name["WebSocketConnection._run"]
    assert (sockets.count, sockets.serves) == (1, ["WebSocket /chat"])
    helpers = by_name["inner"]
    assert (helpers.count, helpers.names, helpers.more_served) == (5, ["helper"] * 3, 2)
    assert set(helpers.serves) < {"WebSocket /chat", *(f"GET /cart?user={number}" for number in range(4))}
