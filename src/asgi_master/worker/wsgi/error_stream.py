"""`wsgi.errors`: what an application writes there, in the log, with its request."""

import logging
from collections.abc import Iterable
from typing import Protocol

from asgi_master.telemetry.request_info import RequestInfo

log = logging.getLogger("asgi_master")

_LONGEST_LINE = 16 * 1024
"""Characters that are kept for a line without an end."""


class Described(Protocol):
    """A request."""

    def info(self) -> RequestInfo:
        """What a record of the log says of it."""


class ErrorStream:
    """The stream of one request, used by the thread that runs it."""

    __slots__ = ("_begun", "_request")

    def __init__(self, request: Described) -> None:
        self._request = request
        self._begun = ""

    def write(self, text: str) -> int:
        """Log the lines that are complete, as one record: a traceback is written at once."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        lines, newline, begun = (self._begun + text).rpartition("\n")
        self._begun = begun
        if newline:
            self._log(lines)
        if len(self._begun) > _LONGEST_LINE:
            self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what stands of a line."""
        if self._begun:
            line, self._begun = self._begun, ""
            self._log(line)

    def _log(self, lines: str) -> None:
        first, _, detail = lines.strip("\n").rstrip().partition("\n")
        if first:
            request = self._request.info()
            log.error("%s: %s", request.title, first, extra={"request": request, "detail": detail})
