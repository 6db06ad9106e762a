"""Formatters of log records: text lines, or JSON objects, with failures below or inside them.

Extra attributes of a record:
  - `extra={"detail": text}`: lines (stacks, a report from another process) shown below the message.
  - `extra={"failure": fields}`: an exception read in another process; then `detail` is its traceback.
  - `extra={"request": RequestInfo(...)}`: the request that the record is about.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from asgi_master.records import mutable_record
from asgi_master.telemetry.access_json import is_access, line_of
from asgi_master.telemetry.clock import at
from asgi_master.telemetry.failures import Failure, read
from asgi_master.telemetry.request_info import RequestInfo
from asgi_master.telemetry.text import one_line
from asgi_master.telemetry.tracebacks import Line, Style, fields_of, lines_of

_OURS = "asgi_master"

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_STYLES = {Style.OURS: "1", Style.FOLDED: "2", Style.ENDING: "31"}


@mutable_record
class Identity:
    """Role, worker or service, and generation of this process, shown in each line."""

    role: str = "-"
    worker: int | None = None
    generation: int | None = None
    service: str | None = None
    """The name of the service."""

    @property
    def runs_application(self) -> bool:
        """Whether this is a process that was forked to run code of the application: a worker or a service."""
        return self.role in {"worker", "service"}

    def __str__(self) -> str:
        number = self.service if self.worker is None else self.worker
        place = self.role if number is None else f"{self.role} {number}"
        return place if self.generation is None else f"{place} gen {self.generation}"


identity = Identity()
"""The identity of this process. One object, never replaced: formatters created before a fork read it after the fork."""


def identity_fields(prefix: str, pid: int | None) -> dict[str, Any]:
    """Identity of this process as JSON fields, with a prefix for their names."""
    fields = {
        "role": identity.role,
        "worker": identity.worker,
        "service": identity.service,
        "generation": identity.generation,
        "pid": pid,
    }
    return {prefix + name: value for name, value in fields.items() if value is not None}


@mutable_record
class Preferences:
    """Settings that apply to every formatter."""

    full_tracebacks: bool = False
    """Whether tracebacks show every frame."""


preferences = Preferences()
"""The preferences of this process; one object, like `identity`."""


class TextFormatter(logging.Formatter):
    """Text lines: `2026-11-23 14:55:07.123 +0000 INFO    worker 3 gen 7 [4711]  message`.

    Usable in a `log_config` as `"()": "asgi_master.telemetry.logs.TextFormatter"`.
    """

    def __init__(self, *, timestamp: bool = True, colour: bool = False) -> None:
        super().__init__()
        self._timestamp = timestamp
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line; request, traceback and detail follow, indented so that no line of theirs passes for a record."""
        message = one_line(record.getMessage())
        if record.name != _OURS:
            message = f"{one_line(record.name)}: {message}"
        lines = [f"{self._start(record)}{identity} [{record.process}]  {message}"]
        lines += [f"  {self._styled(style, one_line(line))}" for style, line in _below(record)]
        return "\n".join(lines)

    def _start(self, record: logging.LogRecord) -> str:
        level = f"{one_line(record.levelname):<7}"
        if self._colour and record.levelname in _COLOURS:
            level = _in_colour(_COLOURS[record.levelname], level)
        if not self._timestamp:
            return f"{level} "
        return (
            f"{at(record.created):%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d} {at(record.created):%z} {level} "
        )

    def _styled(self, style: Style, line: str) -> str:
        return _in_colour(_STYLES[style], line) if self._colour and style in _STYLES else line


def _in_colour(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _below(record: logging.LogRecord) -> Iterator[Line]:
    request = request_of(record)
    if request is not None and (client_and_id := request.client_and_id()):
        yield Style.PLAIN, client_and_id
    failure = _failure_of(record)
    if failure is not None:
        yield from lines_of(failure, full=preferences.full_tracebacks)
    for block in (record.stack_info, getattr(record, "detail", None)):
        if block:
            yield from _plain(str(block).rstrip("\n").split("\n"))


def _plain(lines: Iterable[str]) -> Iterator[Line]:
    for line in lines:
        yield Style.PLAIN, line


class JsonFormatter(logging.Formatter):
    """One JSON object per record. Fields that do not apply are left out.

    Usable in a `log_config` as `"()": "asgi_master.telemetry.logs.JsonFormatter"`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII."""
        if is_access(record):
            return line_of("json", identity_fields, record)
        fields: dict[str, Any] = {
            "ts": at(record.created).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "role": identity.role,
            "pid": record.process,
        }
        if identity.worker is not None:
            fields["worker"] = identity.worker
        if identity.service is not None:
            fields["service"] = identity.service
        if identity.generation is not None:
            fields["generation"] = identity.generation
        return json.dumps(fields | _details(record))


def _details(record: logging.LogRecord) -> dict[str, Any]:
    """Fields besides the message that the record has: `request`, `exception`, `stack`, `detail`."""
    details: dict[str, Any] = {}
    request = request_of(record)
    if request is not None:
        details["request"] = request
    failure = _failure_of(record)
    fields = getattr(record, "failure", None)
    if failure is not None:
        details["exception"] = fields_of(failure, full=preferences.full_tracebacks)
    elif fields:
        details["exception"] = fields
    if record.stack_info:
        details["stack"] = record.stack_info
    detail = getattr(record, "detail", None)
    if detail and not fields:
        details["detail"] = str(detail)
    return details


def _failure_of(record: logging.LogRecord) -> Failure | None:
    error = record.exc_info[1] if record.exc_info else None
    return None if error is None else read(error, full=preferences.full_tracebacks)


def request_of(record: logging.LogRecord) -> RequestInfo | None:
    """The request that a record is about; `None` if there is none."""
    # Other libraries use the same attribute: Django stores its request object in it.
    request = getattr(record, "request", None)
    return request if isinstance(request, RequestInfo) else None
