"""A worker ends in time, whatever threads of the application still do.

An interpreter that ends waits for its threads first, without limit, and runs what is registered at exit (`atexit`) only
then: the master would have to kill it, and what those handlers flush would be lost. A daemon thread watches over that
end. When the time is over it names the threads, runs the handlers itself and ends the process.
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
from asgi_master.worker import prints
from asgi_master.worker.code_location import describe, locations_of, outwards

log = logging.getLogger("asgi_master")

_FOR_HANDLERS = 0.25
"""Seconds of the worker's time that are kept for them."""
_AT_LEAST = 0.1
"""Seconds that threads get also where the time is over, and that handlers get."""
_NAMED = 5
"""Threads that are named in the log."""


class LeaveBy:
    """When this process is to be gone, as far as that is known."""

    def __init__(self) -> None:
        self.time = math.inf
        """On the monotonic clock."""

    def within(self, seconds: float) -> None:
        """So soon from now on, and no later than was said before."""
        self.time = min(self.time, time.monotonic() + seconds)


class LastCall:
    """Watches over the end of this interpreter, which begins now."""

    def __init__(self, channel: Channel, leave_by: float, grace: float, code: ExitCode) -> None:
        """`leave_by` is on the monotonic clock; `grace` in seconds, how much later the master would kill.

        `code` is what the interpreter is about to end with.
        """
        self._channel = channel
        self._leave_by = leave_by
        self._grace = grace
        self._code = code if code != ExitCode.OK else ExitCode.LEFT_BEHIND
        self._lock = threading.Lock()
        """Of who runs the handlers, once and for all."""

    def start(self) -> None:
        """To be called last before the end. Where there can be no thread, nobody watches."""
        # What is registered last runs first.
        atexit.register(self._handlers_begin)
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._watch, name="last call", daemon=True).start()

    def _handlers_begin(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # For ever, if they run in the other thread: that one ends the process.
            self._lock.acquire()
            self._channel.leave_open()

    def _watch(self) -> None:
        self._wait_for_the_time()
        now = time.monotonic()
        last_moment = max(self._leave_by, now) + max(_AT_LEAST, self._grace / 2)
        if self._lock.acquire(blocking=False):
            _tell_threads()
            running = threading.Thread(target=atexit._run_exitfuncs, name="at exit", daemon=True)  # noqa: SLF001
            with contextlib.suppress(RuntimeError):
                running.start()
                running.join(last_moment - now)
        else:
            # It counts as ended from before the handlers on.
            running = threading.main_thread()
            time.sleep(last_moment - now)
        if running.is_alive() or running is threading.main_thread():
            log.warning("leaving without the end of what runs at exit: %s", _location(running))
        prints.flush()
        os._exit(self._code)

    def _wait_for_the_time(self) -> None:
        """Until it is over; a harsher order of the master shortens it."""
        at_least = time.monotonic() + _AT_LEAST
        hears = True
        while (left := max(self._leave_by - _FOR_HANDLERS, at_least) - time.monotonic()) > 0:
            if hears:
                hears = self._hear(left)
            else:
                time.sleep(left)

    def _hear(self, seconds: float) -> bool:
        """Listen to the master for that long; false if there is nothing more to hear."""
        try:
            if not select.select([self._channel], [], [], seconds)[0]:
                return True
            received = self._channel.receive()
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False
        if received is not None and isinstance(received.message, Drain):
            self._leave_by = min(self._leave_by, time.monotonic() + received.message.timeout)
        return received is not None


def _tell_threads() -> None:
    """Name those that hold the interpreter's end up."""
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
