"""Tracebacks of children that failed: each is logged once, with the notice of the failure."""

from collections import deque
from typing import Any

from asgi_master.ipc import messages
from asgi_master.supervision import notices

_MOST = 64
"""Tracebacks that wait for their notice, and that are known as logged: children may send any number."""


class Tracebacks:
    """Keeps tracebacks until the notice of the failure is announced."""

    def __init__(self) -> None:
        self._waiting: dict[str, messages.ApplicationImportFailed | messages.WorkerBootFailed] = {}
        """By the reason that the child sent."""
        self._shown: deque[str] = deque(maxlen=_MOST)

    def keep(self, failed: messages.ApplicationImportFailed | messages.WorkerBootFailed) -> None:
        """Keep the traceback of a child that failed."""
        if failed.traceback and len(self._waiting) < _MOST:
            self._waiting[failed.reason] = failed

    def forget(self) -> None:
        """A generation begins: drop those of earlier ones."""
        self._waiting.clear()

    def of(self, notice: notices.Notice) -> dict[str, Any]:
        """What a record of this notice carries besides (see `telemetry.formatters`); empty without a traceback.

        Failed starts and reloads always have theirs. Replacements that are retried fail in the same way, so theirs is
        logged once.
        """
        cause = getattr(notice, "cause", None)
        if not isinstance(cause, notices.ImportFailed | notices.BootRefused):
            return {}
        failed = self._waiting.pop(cause.reason, None)
        always = isinstance(notice, notices.BootFailed | notices.ReloadFailed)
        if failed is None or (failed.traceback in self._shown and not always):
            return {}
        self._shown.append(failed.traceback)
        return {"detail": failed.traceback, "failure": failed.exception}

    def of_reason(self, reason: str) -> dict[str, Any]:
        """The same for what a child reported and then served an error page for."""
        failed = self._waiting.pop(reason, None)
        return {"detail": failed.traceback, "failure": failed.exception} if failed is not None else {}
