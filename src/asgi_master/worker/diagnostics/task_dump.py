"""Reports the threads of a worker, and its tasks, those that wait at the same location grouped.

The tasks are examined in slices between other callbacks, so that ten thousand of them do not block the loop; tasks that
end meanwhile are reported in the state in which they were examined.
"""

import asyncio
import itertools
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import field
from types import FrameType
from typing import Any

from asgi_master import codec
from asgi_master.ipc.messages import TaskGroup
from asgi_master.records import mutable_record
from asgi_master.worker.diagnostics.code_location import CodeLocation, locations_of, outwards, waiting_frames
from asgi_master.worker.diagnostics.current_request import (
    is_runner,
    request_of,
    started_at_of,
    subject_of_frame,
)

_SLICE = 0.005
"""Seconds of one slice."""
_CLOCK_INTERVAL = 64
"""Number of tasks between two looks at the clock."""
_MAX_SHOWN = 3
"""Maximum number of names, and of requests, shown of a group."""
_MAX_FRAMES = 30
_MAX_GROUPS = 500
_MAX_LENGTH = 200
"""Maximum number of characters of a name or a request."""
_NAMED_BY_ASYNCIO = re.compile(r"Task-\d+")


@mutable_record
class _Fold:
    coroutine: str
    locations: list[CodeLocation]
    count: int = 0
    names: list[str] = field(default_factory=list)
    serves: Counter[str] = field(default_factory=Counter)
    oldest: float = 0.0
    """When the oldest of the requests began, on the monotonic clock; 0 if that is not known."""
    oldest_request: str = ""


_Key = tuple[int | str, ...]
_Folds = dict[_Key, _Fold]
"""The key compares fast: addresses of the code objects, and line numbers."""


def stacks_of_threads() -> str:
    """The stacks of all threads in faulthandler's format, with the names of the threads.

    Safe, unlike faulthandler's signal handler: no thread runs while this reads the frames.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines: list[str] = []
    for ident, innermost in sys._current_frames().items():  # noqa: SLF001 -- documented, in spite of its name
        name = names.get(ident, "")
        lines.append(f"Thread 0x{ident:016x} {f'[{name}] ' if name else ''}(most recent call first):")
        lines += [f"  serving {request}" for request in _requests_in(innermost)]
        lines += (
            f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}'
            for frame in outwards(innermost)
        )
    return "\n".join(lines)


def _requests_in(innermost: FrameType) -> list[str]:
    """The request that a thread runs; none if it runs none."""
    return [subject_of_frame(frame) for frame in outwards(innermost) if is_runner(frame)]


async def dump_tasks(loop: asyncio.AbstractEventLoop, limit: int) -> tuple[int, list[TaskGroup]]:
    """The number of tasks of the loop, without this one, and the largest groups of them, in `limit` bytes of JSON."""
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    folds: _Folds = {}
    ends = time.monotonic() + _SLICE
    for batch in _batched(tasks, _CLOCK_INTERVAL):
        for task in batch:
            _fold_in(folds, task)
        if time.monotonic() >= ends:
            await asyncio.sleep(0)
            ends = time.monotonic() + _SLICE
    return len(tasks), _that_fit(folds, limit)


def _batched(tasks: Iterable["asyncio.Task[Any]"], size: int) -> Iterable[list["asyncio.Task[Any]"]]:
    remaining = iter(tasks)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def _fold_in(folds: _Folds, task: "asyncio.Task[Any]") -> None:
    coroutine: Any = task.get_coro()
    frames = waiting_frames(coroutine)
    key: _Key = tuple(number for frame in frames for number in (id(frame.f_code), frame.f_lineno or 0))
    if not key:
        # Just finished, or not written in Python.
        key = (_name_of(coroutine),)
    fold = folds.get(key)
    if fold is None:
        fold = folds[key] = _Fold(_name_of(coroutine), locations_of(frames))
    fold.count += 1
    name = task.get_name()
    if len(fold.names) < _MAX_SHOWN and not _NAMED_BY_ASYNCIO.fullmatch(name):
        fold.names.append(name[:_MAX_LENGTH])
    request = request_of(task)
    if request:
        fold.serves[request] += 1
    began = started_at_of(task)
    if began and (not fold.oldest or began < fold.oldest):
        fold.oldest, fold.oldest_request = began, request


def _name_of(coroutine: object) -> str:
    return getattr(coroutine, "__qualname__", type(coroutine).__qualname__)


def _that_fit(folds: _Folds, limit: int) -> list[TaskGroup]:
    groups: list[TaskGroup] = []
    for fold in sorted(folds.values(), key=lambda fold: -fold.count)[:_MAX_GROUPS]:
        group = _group(fold)
        limit -= len(json.dumps(codec.dump(group))) + 2
        if limit < 0:
            break
        groups.append(group)
    return groups


def _group(fold: _Fold) -> TaskGroup:
    stack = [str(location) for location in fold.locations[:_MAX_FRAMES]]
    if len(fold.locations) > _MAX_FRAMES:
        stack.append(f"... and {len(fold.locations) - _MAX_FRAMES} more frames")
    return TaskGroup(
        count=fold.count,
        coroutine=fold.coroutine[:_MAX_LENGTH],
        names=fold.names,
        serves=[request[:_MAX_LENGTH] for request, _count in fold.serves.most_common(_MAX_SHOWN)],
        more_served=max(0, len(fold.serves) - _MAX_SHOWN),
        stack=stack,
        oldest=time.monotonic() - fold.oldest if fold.oldest else None,
        oldest_request=fold.oldest_request[:_MAX_LENGTH],
    )
