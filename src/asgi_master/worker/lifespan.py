"""The lifespan protocol for one worker's application: `lifespan.startup` before it serves, `lifespan.shutdown` after.

The application runs in one task from before the first request until after the last. It does not support lifespan if it
raises before it first receives or sends, sends another message, or returns without an answer; that is fatal in mode
`on` and accepted in `auto`. Any other failure of the startup is fatal in both.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

from asgi_master.asgi.lifespan_session import LifespanSession, Phase
from asgi_master.asgi.types import Message
from asgi_master.errors import ApplicationError
from asgi_master.telemetry.failures import describe

log = logging.getLogger("asgi_master")

_UNWIND = 1.0
"""Seconds for the application to return after its answer, or to raise after a failure."""
_CANCEL_SLICE = 0.25
"""Seconds for a cancelled application to unwind."""


class StartupFailedError(Exception):
    """The message of `lifespan.startup.failed`, if the application raised nothing more specific."""


class Lifespan:
    """Starts and stops an application. Not reusable."""

    def __init__(
        self, app: Callable[..., Any], mode: str, *, startup_timeout: float, shutdown_timeout: float
    ) -> None:
        """`mode` is `auto`, `on` or `off`. Timeouts in seconds; 0 waits without limit."""
        self.state: dict[str, Any] = {}
        """The lifespan state of the application; requests get shallow copies of it."""
        self.supported = False
        """Whether the application completed its startup, so that `stop` must run the shutdown."""
        self._app = app
        self._mode = mode
        self._startup_timeout = startup_timeout or None
        self._shutdown_timeout = shutdown_timeout or None
        self._session = LifespanSession()
        self._error: BaseException | None = None
        self._progress = asyncio.Event()
        self._shutdown = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run the startup. Raises `ApplicationError` if it failed, with the application's exception as the cause."""
        if self._mode == "off":
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lifespan")
        in_time = await self._wait_while(Phase.STARTING, self._startup_timeout)
        if self._session.phase in (Phase.STARTED, Phase.ENDED):
            self.supported = True
            return
        await self._end_task(_UNWIND if in_time else 0)
        if not in_time:
            # The traceback of the cancellation contains the line at which it waited.
            raise ApplicationError(
                f"lifespan startup did not finish within {self._startup_timeout:g} s"
            ) from self._error
        if self._session.phase is Phase.FAILED:
            raise self._startup_failure()
        if self._session.is_aware and self._error is not None:
            raise ApplicationError(f"lifespan startup failed: {describe(self._error)}") from self._error
        if self._mode == "on":
            why = "it returned without an answer" if self._error is None else describe(self._error)
            raise ApplicationError(
                f"the application does not support lifespan, but it is on: {why}"
            ) from self._error
        log.debug("the application does not support lifespan")

    async def stop(self) -> None:
        """Run the shutdown, within its timeout. Problems are logged; nothing is raised."""
        if not self.supported or self._task is None:
            return
        if self._session.phase is Phase.ENDED:
            await self._end_task(_UNWIND)
        if self._task.done():
            log.debug("no lifespan shutdown: the application's lifespan ended before")
            return
        self._session.request_shutdown()
        self._shutdown.set()
        loop = asyncio.get_running_loop()
        began = loop.time()
        in_time = await self._wait_while(Phase.STOPPING, self._shutdown_timeout)
        left = (self._shutdown_timeout or math.inf) - (loop.time() - began)
        await self._end_task(min(_UNWIND, max(0.0, left)) if in_time else 0)
        if not in_time:
            log.error(
                "lifespan shutdown did not finish within %g s", self._shutdown_timeout, exc_info=self._error
            )
        else:
            self._log_failure("lifespan shutdown failed")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:  # noqa: BLE001 -- `sys.exit()` must not tear the loop down
            self._error = error
        finally:
            self._progress.set()
        if self._session.phase in (Phase.STARTED, Phase.ENDED):
            self._log_failure("the application's lifespan ended early")

    def _log_failure(self, what: str) -> None:
        """Log the exception of the application, or the message of its `failed`, if there is one."""
        raised, message = self._raised(), self._session.reason.strip()
        if raised is not None or message:
            is_all_that_is_known = raised is None and "\n" in message
            detail = {"detail": message} if is_all_that_is_known else None
            log.error("%s: %s", what, self._reason(), exc_info=raised, extra=detail)

    async def _receive(self) -> Message:
        message = self._session.next_message()
        if message is None and not self._session.is_over:
            await self._shutdown.wait()
            message = self._session.next_message()
        if message is None:
            if self._session.is_over and self._task is not None:
                # No message follows: an application that waits for one has nothing more to do.
                self._task.cancel()
            await asyncio.Event().wait()
            raise AssertionError("the wait has no end")
        return message

    async def _send(self, message: Message) -> None:
        self._session.handle(message)
        self._progress.set()

    async def _wait_while(self, phase: Phase, limit: float | None) -> bool:
        """Wait until the application answers or ends; false after the timeout."""
        try:
            async with asyncio.timeout(limit):
                while self._session.phase is phase and not self._progress.is_set():
                    await self._progress.wait()
        except TimeoutError:
            return False
        self._progress.clear()
        return True

    async def _end_task(self, grace: float) -> None:
        """Let the application return for `grace` seconds, then cancel it."""
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=grace)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CANCEL_SLICE)

    def _startup_failure(self) -> ApplicationError:
        raised, message = self._raised(), self._session.reason.strip()
        failure = ApplicationError(f"lifespan startup failed: {self._reason()}")
        failure.__cause__ = StartupFailedError(message) if raised is None and "\n" in message else raised
        return failure

    def _reason(self) -> str:
        """The given reason; or the exception, if the reason is a whole traceback or missing."""
        raised, message = self._raised(), self._session.reason.strip()
        if raised is not None and ("\n" in message or not message):
            return describe(raised)
        return _last_line(message)

    def _raised(self) -> BaseException | None:
        """The exception of the application, unless it is the cancellation by this class."""
        return None if isinstance(self._error, asyncio.CancelledError) else self._error


def _last_line(text: str) -> str:
    """The last meaningful line: frameworks send whole tracebacks, of groups with frames."""
    lines = (line.strip(" \t|+-") for line in reversed(text.splitlines()))
    return next(filter(None, lines), "no reason given")
