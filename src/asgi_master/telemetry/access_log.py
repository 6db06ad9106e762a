"""The access log: one line per finished or rejected request, on standard output or in a file.

Entries are collected and written once a second, or when there are many. Each write consists of whole lines and at most
`PIPE_BUF` bytes, so the lines of several workers never mix. If logging is configured for the access log,
`telemetry.access_logger` replaces this.
"""

import atexit
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from select import PIPE_BUF
from time import time
from typing import Any

from asgi_master.settings.access_headers import NO_HEADERS, AccessHeaders
from asgi_master.settings.exclusions import Exclusions, compile_exclusions
from asgi_master.telemetry.access_format import (
    MAX_FIELD_BYTES,
    REFUSED_LINE,
    SHORTHANDS,
    TIMED_ATOMS,
    Description,
    Entry,
    Format,
    Sent,
    compile_format,
)
from asgi_master.telemetry.access_json import FORMS, template_of
from asgi_master.telemetry.clock import at
from asgi_master.telemetry.formatters import identity_fields
from asgi_master.telemetry.streams import Stream

log = logging.getLogger("asgi_master")

_STDOUT = 1
_MAX_PENDING = 512
"""Maximum number of entries before they are written."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_METHOD = re.compile(rb"[A-Za-z][A-Za-z_-]*")

Address = tuple[str, int | None]


class AccessLog:
    """Collects entries; `flush` writes them. One per process."""

    def __init__(
        self,
        format: str,  # noqa: A002 -- the names of the settings
        *,
        form: str = "text",
        exclude: Sequence[str] = (),
        chosen: AccessHeaders = NO_HEADERS,
        file: tuple[int, str] | None = None,
    ) -> None:
        """Compile `format`: `combined`, `common`, or text with atoms such as `%(h)s`; a JSON `form` replaces it.

        `exclude` are patterns of requests to leave out, see `settings.exclusions`; `chosen` the headers that JSON lines
        show. `file` is a descriptor, which the access log then owns, and its path; the default is standard output.
        Raises `ValueError` for an unknown atom.
        """
        template = (
            template_of(form, identity_fields, chosen) if form in FORMS else SHORTHANDS.get(format, format)
        )
        self._template = template
        self._chosen = chosen
        self._format = compile_format(template, chosen)
        self._refused: Format | None = None
        self._wanted = self._format.wanted
        self._is_excluded = exclusion_filter(compile_exclusions(exclude)) if exclude else None
        if exclude:
            self._wanted |= {b"user-agent"}
        self.is_timed = any(f"%({atom})s" in template for atom in TIMED_ATOMS)
        """Whether lines show the duration of a request."""
        self.keeps_heads = bool(chosen.response) or "}o)s" in template
        """Whether lines show response headers."""
        self.pending: list[Entry] = []
        """Entries to be written. Always the same list, which every `ConnectionLog` appends to."""
        self._second = Second(0.0)
        self._lost = 0
        self._pid = os.getpid()
        self._fd, self._path = file or (_STDOUT, "")
        self._stream = Stream(self._fd)
        atexit.register(self._end)

    def of_connection(self) -> "ConnectionLog":
        """A log for the requests of one connection."""
        return ConnectionLog(self)

    def renew(self, fd: int) -> None:
        """Write to this descriptor, and own it, from now on; close the previous one."""
        self.flush()
        before, self._fd = self._fd, fd
        self._stream.close()
        self._stream = Stream(fd)
        if self._path:
            os.close(before)

    def refused(self, client: Address | None, line: bytes, status: int, body_bytes: int) -> None:
        """Record a rejected request, answered with `status` or, if `body_bytes` is 0, not answered.

        `line` is its first line, as far as it was received.
        """
        if self._refused is None:
            self._refused = compile_format(self._template, self._chosen, REFUSED_LINE)
        description = self._refused.describe(refused_scope(client, line), {})
        self.pending.append((description, status, body_bytes, 0.0, time(), ()))
        if len(self.pending) >= _MAX_PENDING:
            self.flush()

    def describe(self, scope: Mapping[str, Any]) -> Description | None:
        """Describe a request; `None` if it is excluded, or its scope cannot be read."""
        wanted = self._wanted
        try:
            fields = {name: value for name, value in scope["headers"] if name in wanted} if wanted else {}
            if self._is_excluded is not None and self._is_excluded(scope, fields):
                return None
            return self._format.describe(scope, fields)
        except Exception:
            # The application may have changed the scope.
            log.exception("a request could not be written to the access log")
            return None

    def flush(self) -> None:
        """Write the collected entries."""
        if self.pending and os.getpid() == self._pid:  # a process that the application forked has only copies
            self._write("".join(self._lines(self.pending)).encode(errors="backslashreplace"))
        self.pending.clear()

    def _end(self) -> None:
        self.flush()
        if self._lost and os.getpid() == self._pid:
            self._log_loss()

    def _lines(self, pending: list[Entry]) -> list[str]:
        """Entries of the same second are rendered together: formatting the time costs as much as the rest of a line."""
        lines: list[str] = []
        while pending:
            if not self._second.covers(_time_of(pending[0])):
                self._second = Second(_time_of(pending[0]))
            covers = self._second.covers
            count = len(pending)
            if not covers(_time_of(pending[-1])):
                count = next(number for number, entry in enumerate(pending) if not covers(_time_of(entry)))
            lines += self._format.render(pending[:count], self._second)
            pending = pending[count:]
        return lines

    def _write(self, data: bytes) -> None:
        for piece in _pieces(data):
            if not self._stream.write(piece):
                self._lost += piece.count(b"\n")
            elif self._lost:
                self._log_loss()

    def _log_loss(self) -> None:
        why = f"{self._path} could not be written" if self._path else "no process read standard output"
        log.warning("%d line(s) of the access log were lost: %s", self._lost, why)
        self._lost = 0


class ConnectionLog:
    """Records the requests of one connection. A request that repeats the previous one is described once."""

    __slots__ = ("_access_log", "_description", "_keeps_heads", "_pending", "_request")

    def __init__(self, access_log: AccessLog) -> None:
        self._access_log = access_log
        self._pending = access_log.pending
        self._keeps_heads = access_log.keeps_heads
        self._request: object = None
        self._description: Description | None = None

    def record(
        self,
        request: object,
        scope: Mapping[str, Any],
        status: int,
        body_bytes: int,
        duration: float,
        sent: Sent = (),
    ) -> None:
        """Record a request, answered with `status` and `body_bytes` bytes of body after `duration` seconds.

        `sent` are the fields of the response's head, as the application set them.

        If `request` is the same object as in the last call, the description is reused and `scope` is ignored.
        """
        if request is not self._request:
            self._request = request
            self._description = self._access_log.describe(scope)
        if self._description is None:
            return
        pending = self._pending
        pending.append(
            (self._description, status, body_bytes, duration, time(), sent if self._keeps_heads else ())
        )
        if len(pending) >= _MAX_PENDING:
            self._access_log.flush()


def _time_of(entry: Entry) -> float:
    return entry[4]


def exclusion_filter(exclusions: Exclusions) -> Callable[[Mapping[str, Any], Mapping[bytes, bytes]], bool]:
    """A predicate for requests to leave out, over scope and headers."""
    paths, agents = exclusions.paths, exclusions.agents

    # The same few values repeat, as below.
    @lru_cache(maxsize=1024)
    def is_hidden_path(raw_path: bytes, root_path: str) -> bool:
        path = raw_path.decode("latin-1")
        # A probe from the same pod does not know the prefix that a proxy adds.
        return paths is not None and bool(paths.match(path) or paths.match(path.removeprefix(root_path)))

    @lru_cache(maxsize=1024)
    def is_hidden_agent(agent: bytes) -> bool:
        return agents is not None and agents.match(agent.decode("latin-1")) is not None

    def is_excluded(scope: Mapping[str, Any], fields: Mapping[bytes, bytes]) -> bool:
        if is_hidden_path(scope["raw_path"][:MAX_FIELD_BYTES], scope.get("root_path", "")):
            return True
        agent = fields.get(b"user-agent") if agents is not None else None
        return agent is not None and is_hidden_agent(agent[:MAX_FIELD_BYTES])

    return is_excluded


class Second:
    """A second of the wall clock, formatted."""

    __slots__ = ("_begins", "bracketed", "date", "offset")

    def __init__(self, now: float) -> None:
        """The second that contains `now`."""
        self._begins = now // 1
        moment = at(now)
        offset = f"{moment:%z}"
        month = _MONTHS[moment.month - 1]  # `%b` would depend on a locale that the application may set
        self.bracketed = f"[{moment:%d}/{month}/{moment:%Y:%H:%M:%S} {offset}]"
        self.date = f"{moment:%Y-%m-%dT%H:%M:%S}"
        self.offset = f"{offset[:3]}:{offset[3:]}"

    def covers(self, now: float) -> bool:
        """Whether `now` is in this second."""
        return now // 1 == self._begins


def refused_scope(client: Address | None, line: bytes) -> dict[str, Any]:
    """The part of a scope that a rejected request has: its request line, split if it can be read."""
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    if not target or not _METHOD.fullmatch(method):
        method, target, version = b"", line, b""
    path, _, query = target.partition(b"?")
    return {
        "client": client,
        "method": method.decode("ascii"),
        "raw_path": path,
        "query_string": query,
        "http_version": version[5:].decode("latin-1") if version.startswith(b"HTTP/") else "",
        "headers": (),
        "refused line": line,
    }


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, at most `PIPE_BUF` bytes at a time, which a pipe takes atomically.

    A longer line is a piece of its own.
    """
    start = 0
    while len(data) - start > PIPE_BUF:
        end = data.rfind(b"\n", start, start + PIPE_BUF) + 1
        if end == 0:
            end = data.find(b"\n", start + PIPE_BUF) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]
