"""Ends a worker in time, even if threads of the application still run.

An interpreter that exits first waits for its threads, without limit, and only then runs `atexit` handlers: the master
would have to kill it, and what those handlers flush would be lost. A daemon thread watches the exit. At the deadline it
logs the threads, runs the handlers itself and ends the process.
"""

import atexit
import contextlib
import logging
import math
import os
import select
import sys
import threading
import time

from asgi_master.errors import ExitCode
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import Drain
from asgi_master.telemetry.code_ownership import ownership
from asgi_master.worker import standard_output
from asgi_master.worker.diagnostics.code_location import describe, locations_of, outwards

log = logging.getLogger("asgi_master")

_FOR_HANDLERS = 0.25
"""Seconds of the worker's time reserved for the handlers."""
_AT_LEAST = 0.1
"""Minimum number of seconds for threads, also after the deadline, and for handlers."""
_NAMED = 5
"""Maximum number of threads named in the log."""


class Deadline:
    """The deadline of this process, once it is known."""

    def __init__(self) -> None:
        self.time = math.inf
        """On the monotonic clock."""

    def set_in(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now, unless it is already earlier."""
        self.time = min(self.time, time.monotonic() + seconds)


class ExitWatch:
    """Watches the exit of this interpreter."""

    def __init__(self, channel: Channel, deadline: float, grace: float, code: ExitCode) -> None:
        """`deadline` is on the monotonic clock; `grace` is in seconds, the time after it at which the master kills.

        `code` is the exit status.
        """
        self._channel = channel
        self._deadline = deadline
        self._grace = grace
        self._code = code if code != ExitCode.OK else ExitCode.LEFT_BEHIND
        self._lock = threading.Lock()
        """Taken by the thread that runs the handlers, and never released."""

    def start(self) -> None:
        """To be called last before the exit. If no thread can be started, the exit is not watched."""
        # Handlers run in reverse order of registration.
        atexit.register(self._handlers_begin)
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._watch, name="last call", daemon=True).start()

    def _handlers_begin(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # Without end if the handlers run in the other thread, which ends the process.
            self._lock.acquire()
            self._channel.leave_open()

    def _watch(self) -> None:
        self._wait_for_the_time()
        now = time.monotonic()
        last_moment = max(self._deadline, now) + max(_AT_LEAST, self._grace / 2)
        if self._lock.acquire(blocking=False):
            _log_threads()
            running = threading.Thread(target=atexit._run_exitfuncs, name="at exit", daemon=True)  # noqa: SLF001
            with contextlib.suppress(RuntimeError):
                running.start()
                running.join(last_moment - now)
        else:
            # It counts as ended before its handlers run.
            running = threading.main_thread()
            time.sleep(last_moment - now)
        if running.is_alive() or running is threading.main_thread():
            log.warning("leaving before exit handlers have ended: %s", _location(running))
        standard_output.flush()
        os._exit(self._code)

    def _wait_for_the_time(self) -> None:
        """Wait for the deadline; a stricter order of the master shortens it."""
        at_least = time.monotonic() + _AT_LEAST
        hears = True
        while (left := max(self._deadline - _FOR_HANDLERS, at_least) - time.monotonic()) > 0:
            if hears:
                hears = self._receive(left)
            else:
                time.sleep(left)

    def _receive(self, seconds: float) -> bool:
        """Receive orders of the master for that long; false if the channel is closed."""
        try:
            if not select.select([self._channel], [], [], seconds)[0]:
                return True
            received = self._channel.receive()
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False
        if received is not None and isinstance(received.message, Drain):
            self._deadline = min(self._deadline, time.monotonic() + received.message.timeout)
        return received is not None


def _log_threads() -> None:
    """Log the threads that delay the exit."""
    threads = [
        thread
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]
    listed = "; ".join(f"{thread.name!r} at {_location(thread)}" for thread in threads[:_NAMED])
    more = "; ..." if len(threads) > _NAMED else ""
    log.warning("leaving without %d thread(s) that did not end: %s%s", len(threads), listed, more)


def _location(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 -- there is no other way
    return describe(locations_of(outwards(frame)), ownership) or "an unknown place"
