"""The loop goes on turning, whatever is raised in it, and what was raised reaches whoever waits for it."""

import asyncio
import sys

import pytest

from asgi_master.worker.loop_runner import run
from serving import LOOPS

RAISES = [SystemExit(3), SystemExit(None), KeyboardInterrupt()]


def turned(loop_name, scenario):
    """What the scenario returns, and what the loop's exception handler was told meanwhile."""
    told = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        return await scenario()

    loop = LOOPS[loop_name]()
    try:
        return run(loop, main()), told
    finally:
        loop.close()


async def below(error, tasks):
    """Raise it that many tasks further down, not in the first step."""
    await asyncio.sleep(0)
    if tasks == 0:
        raise error
    await asyncio.create_task(below(error, tasks - 1))


async def in_groups(error, groups):
    if groups == 0:
        raise error
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(in_groups(error, groups - 1))


async def caught(awaitable):
    try:
        return await awaitable
    except BaseException as error:  # noqa: BLE001 -- it is what is asked for
        return error


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("error", RAISES, ids=repr)
def test_it_travels_up_through_tasks_and_others_go_on(loop, error):
    async def scenario():
        other = asyncio.create_task(asyncio.sleep(0.05, "done"))
        ended = await asyncio.gather(
            *(caught(below(error, depth)) for depth in range(4)),
            *(caught(asyncio.create_task(in_groups(error, depth))) for depth in range(3)),
        )
        return ended, await other

    (ended, other), told = turned(loop, scenario)
    assert other == "done"
    assert all(one is error for one in ended)
    assert not told


@pytest.mark.parametrize("loop", LOOPS)
def test_it_travels_up_from_a_thread(loop):
    async def scenario():
        return await caught(asyncio.create_task(asyncio.to_thread(sys.exit, 4)))

    ended, told = turned(loop, scenario)
    assert repr(ended) == "SystemExit(4)"
    assert not told


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("error", RAISES, ids=repr)
def test_what_a_callback_raises_is_told(loop, error):
    def callback():
        raise error.with_traceback(None)

    async def scenario():
        asyncio.get_running_loop().call_soon(callback)
        asyncio.get_running_loop().call_soon(ran.append, "the next one")
        await asyncio.sleep(0.01)

    ran = []
    _, told = turned(loop, scenario)
    assert [context["exception"] for context in told] == [error]
    assert ran == ["the next one"]


@pytest.mark.parametrize("loop", LOOPS)
def test_what_ends_the_main_task_is_raised(loop):
    async def scenario():
        await below(SystemExit(5), 2)

    with pytest.raises(SystemExit, match="5"):
        turned(loop, scenario)
