"""The worker's loop turns on, whatever the application raises in it.

asyncio lets `SystemExit` and `KeyboardInterrupt` out of the loop, from whichever task or callback raises them. A task
keeps the exception besides, for whoever awaits it. So nothing is lost when the loop is run again: what is ready stays
ready, and the exception travels on from task to task, once out of the loop and in again for each, until something
handles it. For a request that is what answers 500. It costs nothing where nobody raises them.
"""

import asyncio
import inspect
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_OF_COROUTINES = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_GENERATOR


def run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run the loop until `main` has ended; its result. Raises what `main` raises."""
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                return task.result()
            if not _is_of_a_task(error.__traceback__):
                loop.call_exception_handler({"message": "a callback raised", "exception": error})


def _is_of_a_task(trace: TracebackType | None) -> bool:
    """Whether a task was running, which keeps its exception. What a callback raises, nobody else sees."""
    while trace is not None:
        if trace.tb_frame.f_code.co_flags & _OF_COROUTINES:
            return True
        trace = trace.tb_next
    return False
