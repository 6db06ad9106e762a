"""What counts as progress of a loop that does not turn: another call of it, or another request."""

import asyncio
import sys

import pytest

from asgi_master.ipc.counters import Field, Stats
from asgi_master.worker.diagnostics.progress import Progress
from serving import LOOPS


class Watched:
    """A progress whose looks are taken from within what it looks at, its loop's stamp standing still."""

    def __init__(self):
        self.row = {Field.PROGRESS_NS: 0}
        self.stats = Stats()
        self.progress = Progress(self.row, self.stats)

    def moves(self, stamp=1.0):
        self.row[Field.PROGRESS_NS] = 0
        self.progress.look(stamp, sys._getframe(1))
        return self.row[Field.PROGRESS_NS] > 0


@pytest.fixture(params=LOOPS)
def watched(request):
    """Runs a coroutine function in a task of each loop, after `begin`."""

    def run(function):
        async def main():
            watched = Watched()
            watched.progress.begin()
            watched.moves()
            await function(watched)

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run


def test_a_call_that_lasts_is_none(watched):
    async def main(watched):
        def deeper(levels):
            return watched.moves() if levels == 0 else deeper(levels - 1)

        def call():
            found.append([watched.moves(), watched.moves(), deeper(3), deeper(30), watched.moves()])

        found = []
        asyncio.get_running_loop().call_soon(call)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert found == [[True, False, False, False, False]]

    watched(main)


def test_each_call_of_a_turn_is_progress(watched):
    async def main(watched):
        def call():
            found.append([watched.moves(), watched.moves()])

        async def task():
            call()

        found = []
        loop = asyncio.get_running_loop()
        for _ in range(20):
            loop.call_soon(call)
        tasks = [loop.create_task(task()) for _ in range(20)]
        await asyncio.wait(tasks)
        assert found == [[True, False]] * 40

    watched(main)


def test_requests_begun_or_answered_within_one_call_are_progress(watched):
    async def main(watched):
        def call():
            found.append(watched.moves())
            watched.stats.requests += 1
            found.append(watched.moves())
            watched.stats.responses[2] += 1
            found.extend([watched.moves(), watched.moves()])

        found = []
        asyncio.get_running_loop().call_soon(call)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert found == [True, True, True, False]

    watched(main)


def test_a_loop_that_turns_gets_on(watched):
    async def main(watched):
        # When it is first seen not to turn, its call is another than none.
        assert [watched.moves(stamp) for stamp in (2.0, 2.0, 2.0, 3.0)] == [True, True, False, True]

    watched(main)


def test_without_a_loop_there_is_nothing_to_tell_calls_by():
    watched = Watched()
    watched.moves()
    assert not watched.moves()
    watched.stats.requests += 1
    assert watched.moves()
