"""Keeps the worker's loop running, whatever the application raises in it.

asyncio lets `SystemExit` and `KeyboardInterrupt` out of the loop, from any task or callback that raises them. A task
also keeps the exception, for its awaiter. So nothing is lost when the loop is run again: ready callbacks stay ready,
and the exception travels from task to task, leaving the loop at each, until it is handled. For a request it becomes a
500. Without such exceptions this costs nothing.
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
    """Whether a task was running, which keeps its exception. The exception of a callback is seen only here."""
    while trace is not None:
        if trace.tb_frame.f_code.co_flags & _OF_COROUTINES:
            return True
        trace = trace.tb_next
    return False
