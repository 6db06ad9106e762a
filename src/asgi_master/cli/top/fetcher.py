"""Asks the master in a thread, so that keys and redraws never wait for it."""

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from asgi_master.control.client import NoAnswerError, Reply, TookTooLongError
from asgi_master.records import mutable_record

_PERIOD = 1.0
_STACKS_PERIOD = 10.0
"""Seconds between two looks at what requests wait for: a worker with many tasks takes some milliseconds to tell."""
STATUS = "/status.json?history=minute"

Asking = Callable[[str, str, dict[str, Any] | None], Reply]
"""Sends a request: method, target and body. Raises `NoAnswerError`, `TookTooLongError`."""


@mutable_record
class Known:
    """The newest answers."""

    document: Mapping[str, Any] | None = None
    at: float = 0.0
    """When it came, on the monotonic clock."""
    trouble: str = ""
    """Why there is none since; empty if all is well."""
    stacks: Mapping[str, Any] | None = None
    stacks_at: float = 0.0


class Fetcher:
    """Keeps `known` new until closed. `wake` is readable when there is something new."""

    def __init__(self, ask: Asking) -> None:
        self._ask = ask
        self.known = Known()
        self.replies: queue.SimpleQueue[tuple[str, Reply | str]] = queue.SimpleQueue()
        """For each request of `request`: its target, and the reply or what went wrong."""
        self._wanted: queue.SimpleQueue[tuple[str, str, dict[str, Any] | None] | None] = queue.SimpleQueue()
        self.wake, self._alarm = os.pipe()
        os.set_blocking(self._alarm, False)
        os.set_blocking(self.wake, False)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def request(self, method: str, target: str, body: dict[str, Any] | None) -> None:
        """Send a request soon; the reply comes in `replies`."""
        self._wanted.put((method, target, body))

    def close(self) -> None:
        """Ask no more. A request that is under way is left to end by itself."""
        self._wanted.put(None)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            try:
                wanted = self._wanted.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                self._look()
                due = time.monotonic() + _PERIOD
            else:
                if wanted is None:
                    return
                self.replies.put((wanted[1], self._answer(*wanted)))
                due = time.monotonic()
            self._ring()

    def _look(self) -> None:
        reply = self._answer("GET", STATUS, None)
        if isinstance(reply, str):
            self.known.trouble = reply
            return
        now = time.monotonic()
        self.known.document, self.known.at, self.known.trouble = reply.body, now, ""
        active = any(worker["in_flight"] for worker in reply.body["status"]["workers"])
        if not active:
            self.known.stacks = None
        elif now - self.known.stacks_at >= _STACKS_PERIOD:
            self.known.stacks_at = now
            found = self._answer("POST", "/stacks", None)
            self.known.stacks = None if isinstance(found, str) else found.body

    def _answer(self, method: str, target: str, body: dict[str, Any] | None) -> Reply | str:
        """The reply, or one line that says why there is none."""
        try:
            reply = self._ask(method, target, body)
        except (NoAnswerError, TookTooLongError) as error:
            return str(error)
        return reply if reply.is_done else reply.error

    def _ring(self) -> None:
        try:
            os.write(self._alarm, b"x")
        except BlockingIOError:
            # It rings already.
            return
