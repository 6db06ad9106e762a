"""The end of a worker's loop: remaining tasks of the application are cancelled, within bounds.

`asyncio.Runner` waits without limit for a task that swallows its cancellation; a worker has a deadline.
"""

import asyncio
import atexit
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from asgi_master.errors import ExitCode
from asgi_master.worker import loop_runner, standard_output

log = logging.getLogger("asgi_master")

_CANCEL_SLICE = 0.25
"""Seconds for cancelled tasks to unwind. Those of requests were cancelled earlier, with their own time."""
_NAMED = 5
"""Maximum number of tasks named in the log."""


def run_and_end(
    main: Coroutine[Any, Any, ExitCode], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> tuple[ExitCode, bool]:
    """Run `main` in a new loop, then end all other tasks.

    Returns the result of `main`, and whether the tasks ended and the loop is closed. Raises what `main` raises, with
    the loop closed unless it is an `OSError`, which may be of the loop itself. Threads of the loop's executor are not
    waited for.
    """
    loop = loop_factory()
    ended = True
    try:
        try:
            code = loop_runner.run(loop, main)
        except OSError:
            # The loop itself fails: nothing in it can be ended.
            ended = False
            raise
        finally:
            if ended:
                ended = _end(loop)
        return code, ended
    finally:
        if ended:
            loop.close()


def _end(loop: asyncio.AbstractEventLoop) -> bool:
    """End tasks and asynchronous generators; false, with a line in the log, if that fails."""
    try:
        return loop_runner.run(loop, _end_tasks()) and loop_runner.run(loop, _end_generators(loop))
    except OSError as error:
        # The loop cannot run again to end its tasks.
        log.warning("leaving without the end of the event loop: %s", error.strerror or error)
        return False


async def _end_generators(loop: asyncio.AbstractEventLoop) -> bool:
    ending = asyncio.ensure_future(loop.shutdown_asyncgens())
    done, _ = await asyncio.wait({ending}, timeout=_CANCEL_SLICE)
    if not done:
        log.warning("leaving without the end of an asynchronous generator that does not end")
    return bool(done)


async def _end_tasks() -> bool:
    """Cancel every other task of the running loop; false, with a line in the log, if some do not end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if not tasks:
        return True
    for task in tasks:
        task.cancel()
    _done, stubborn = await asyncio.wait(tasks, timeout=_CANCEL_SLICE)
    if stubborn:
        names = sorted(task.get_name() for task in stubborn)
        listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        log.warning("leaving without %d task(s) that did not end when cancelled: %s", len(names), listed)
    return not stubborn


def leave_at_once(code: int) -> NoReturn:
    """Exit without closing the loop, which would wait for its tasks; runs the application's `atexit` handlers."""
    atexit._run_exitfuncs()  # noqa: SLF001 -- as multiprocessing does before its own `os._exit`
    standard_output.flush()
    os._exit(code)
