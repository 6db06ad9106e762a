"""Why children failed, at length: each traceback is shown once, below the line that says what followed from it."""

from collections import deque
from typing import Any

from asgi_master.ipc import messages
from asgi_master.supervision import notices

_MOST = 64
"""That wait for their notice, and that are remembered as shown: children say what they like."""


class Tracebacks:
    """Keeps what failed children told until the notice about it is announced."""

    def __init__(self) -> None:
        self._waiting: dict[str, messages.ImportFailed | messages.BootFailed] = {}
        """By the reason, in the words of the child."""
        self._shown: deque[str] = deque(maxlen=_MOST)

    def keep(self, failed: messages.ImportFailed | messages.BootFailed) -> None:
        """A child failed, and said why."""
        if failed.traceback and len(self._waiting) < _MOST:
            self._waiting[failed.reason] = failed

    def forget(self) -> None:
        """A generation begins: nobody asks any more why those before failed."""
        self._waiting.clear()

    def of(self, notice: notices.Notice) -> dict[str, Any]:
        """What a record of this notice carries besides (see `telemetry.formatters`); nothing if nothing belongs there.

        A start or a reload that failed always tells. Otherwise it is told once: replacements that are tried again
        and again fail in the same way.
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
