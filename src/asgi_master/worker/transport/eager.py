"""Tasks that begin at once, where Python can begin them so: from 3.12 on."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

if sys.version_info >= (3, 12):

    def begin(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> "asyncio.Task[T]":
        """A task of the loop that now runs; it runs at once, until it first waits."""
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
else:

    def begin(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> "asyncio.Task[T]":
        """A task of the loop that now runs; it runs from the next turn on."""
        return asyncio.Task(coroutine, loop=loop)
