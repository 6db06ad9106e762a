"""The pipes to which workers write their stacks, whatever their interpreter is doing.

A worker writes on request. The amount that is read is bounded, as the text goes to the log line by line.
"""

import logging
import os
import selectors
import time

from asgi_master.control.stack_dumps import StackDumpRequests
from asgi_master.master.child import WorkerHandle

log = logging.getLogger("asgi_master")

_CHUNK = 65536
_AT_ONCE = 256 * 1024
"""Bytes that are accepted without a request: any process of the same user can send the signal."""
_A_SECOND = 4096
_ASKED = 1024 * 1024
"""Bytes that are accepted for each request."""
_A_LINE = 100
"""Bytes that a line of the log has besides its text."""


class StackPipes:
    """Reads the pipes of all workers."""

    def __init__(self, selector: selectors.BaseSelector, stack_dumps: StackDumpRequests) -> None:
        self._selector = selector
        self._stack_dumps = stack_dumps
        self._credits: dict[int, tuple[float, float]] = {}
        """By worker: bytes that are still accepted, and the time of that count."""

    def watch(self, child: WorkerHandle) -> None:
        """Read the worker's pipe whenever there is something."""
        self._credits[child.worker] = (_AT_ONCE, time.monotonic())
        if child.stack_fd >= 0:
            self._selector.register(child.stack_fd, selectors.EVENT_READ, lambda: self.read(child))

    def asked(self, child: WorkerHandle) -> None:
        """The worker is about to be requested to write."""
        left, counted_at = self._credits[child.worker]
        self._credits[child.worker] = (left + _ASKED, counted_at)

    def read(self, child: WorkerHandle) -> None:
        """Read what is there: an answer to a request, or text for the log."""
        if child.stack_fd < 0:
            return
        try:
            text = os.read(child.stack_fd, _CHUNK)
        except BlockingIOError:
            return
        if not text:
            self._close(child)
            return
        lines = text.decode(errors="replace").splitlines()
        if not self._may_come(child, len(text) + _A_LINE * len(lines)):
            log.warning("%s writes stacks without end; they are no longer read", child)
            self._close(child)
        elif not self._stack_dumps.record_threads(
            child.worker, text.decode(errors="replace"), time.monotonic()
        ):
            for line in lines:
                log.warning("%s stack: %s", child, line)

    def forget(self, child: WorkerHandle) -> None:
        """The worker is gone."""
        self._credits.pop(child.worker, None)
        self._close(child)

    def _may_come(self, child: WorkerHandle, cost: int) -> bool:
        now = time.monotonic()
        left, counted_at = self._credits[child.worker]
        left = max(left, min(_AT_ONCE, left + _A_SECOND * (now - counted_at))) - cost
        self._credits[child.worker] = (left, now)
        return left >= 0

    def _close(self, child: WorkerHandle) -> None:
        if child.stack_fd >= 0:
            fd, child.stack_fd = child.stack_fd, -1
            self._selector.unregister(fd)
            os.close(fd)
