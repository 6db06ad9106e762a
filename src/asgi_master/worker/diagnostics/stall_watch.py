"""The watch over a worker's event loop: a thread that reports where the loop is blocked, while it is blocked.

A timer in the loop updates a stamp; the thread checks the age of the stamp and, when it grows, samples the loop's
stack. It calls nothing in the loop. It is a daemon, waits only for its own lock, and ends with the drain.
"""

import _thread
import asyncio
import logging
import sys
import threading
import time

from asgi_master.telemetry.code_ownership import ownership
from asgi_master.worker.diagnostics.code_location import location_of, outwards
from asgi_master.worker.diagnostics.current_request import is_runner, subject_of, subject_of_frame
from asgi_master.worker.diagnostics.progress import Progress
from asgi_master.worker.diagnostics.stall_detector import (
    Sample,
    SampledFrame,
    StallAction,
    StallDetector,
    describe_stall,
)

log = logging.getLogger("asgi_master")

_CHECKS_PER_STALL = 4
_SHORTEST_PERIOD = 0.02
_MAX_PERIOD = 0.25
_JOIN_TIMEOUT = 1.0
"""Seconds; only a log that cannot be written could make it last."""


class StallWatch:
    """Watches the loop in which it was started, until stopped. A `threshold` of 0 seconds disables it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, threshold: float, progress: Progress | None = None
    ) -> None:
        """`progress` is called at each check with the frame of the loop's thread."""
        self._loop = loop
        self._threshold = threshold
        self._progress = progress
        self._period = min(_MAX_PERIOD, max(_SHORTEST_PERIOD, threshold / _CHECKS_PER_STALL))
        self._stamp = 0.0
        self._gap = (0.0, 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._running = threading.Lock()
        """Held while the thread should run: costs half as much as an event, many times a second in every worker."""
        self._ended = threading.Lock()
        """Held until the thread has ended."""
        self._watched = 0
        self._cpu_clock = 0
        self._detector: StallDetector | None = None
        self._samples: list[Sample] = []

    def start(self) -> None:
        """Start the watch. Called in the loop."""
        if self._threshold <= 0:
            return
        if self._progress is not None:
            self._progress.begin()
        self._watched = threading.get_ident()
        self._cpu_clock = time.pthread_getcpuclockid(self._watched)
        self._stamp = time.monotonic()
        self._detector = StallDetector(
            threshold=self._threshold,
            period=self._period,
            now=self._stamp,
            cpu=time.clock_gettime(self._cpu_clock),
        )
        self._timer = self._loop.call_later(self._period, self._turn)
        self._running.acquire()
        self._ended.acquire()
        try:
            # Not a `threading.Thread`: creating one makes each worker copy 0.1 MiB of shared memory.
            _thread.start_new_thread(self._watch, ())
        except RuntimeError as error:
            # No memory for its stack, or too many threads of this user.
            log.warning("stall detection is off: %s", error)
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """End the thread, and log the end of a reported stall. Called in the loop."""
        if self._timer is None:
            return
        self._running.release()
        has_ended = self._ended.acquire(timeout=_JOIN_TIMEOUT)
        self._turn()
        self._timer.cancel()
        if has_ended:
            self._check()

    # -- in the loop --------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._stamp > 2 * self._period:
            self._gap = (self._stamp, now)
        self._stamp = now
        self._timer = self._loop.call_later(self._period, self._turn)

    # -- in the thread ------------------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            while not self._running.acquire(timeout=self._period):
                self._check()
        except Exception:
            # Any failure must cost the worker no more than its watch.
            log.exception("stall detection failed and is off")
            self._detector = self._progress = None
        finally:
            self._ended.release()

    def _check(self) -> None:
        if self._progress is not None:
            self._progress.look(self._stamp, sys._current_frames().get(self._watched))  # noqa: SLF001 -- as below
        detector = self._detector
        if detector is None:
            return
        action = detector.check(time.monotonic(), self._stamp, time.clock_gettime(self._cpu_clock), self._gap)
        if action is StallAction.NONE:
            return
        if action is StallAction.OVER:
            log.info("the event loop runs again, after %.1f s", detector.seconds)
            return
        if action is not StallAction.REPORT_PAST:
            self._samples.append(self._sample())
        if action is not StallAction.SAMPLE:
            samples, self._samples = self._samples, []
            log.warning("%s", describe_stall(action, samples, detector.seconds, ownership))

    def _sample(self) -> Sample:
        stack, subject = [], ""
        for frame in outwards(sys._current_frames().get(self._watched)):  # noqa: SLF001 -- documented, in spite of its name
            stack.append(SampledFrame(id(frame), frame.f_lasti, location_of(frame.f_code, frame.f_lineno)))
            if is_runner(frame):
                subject = subject_of_frame(frame)
                break
        return Sample(
            tuple(stack),
            subject or self._task_subject(),
            at=time.monotonic(),
            cpu=time.clock_gettime(self._cpu_clock),
        )

    def _task_subject(self) -> str:
        task = asyncio.current_task(self._loop)
        return "" if task is None else subject_of(task)
