"""The access log: one line per finished or refused request on standard output or in a file.

What happened is collected, and written as lines once a second or when there are many. Each write holds whole lines
and at most `PIPE_BUF` bytes, so the lines of several workers never mix. Who configures logging for it has records
instead: `telemetry.access_records`.
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
    LONGEST_FIELD,
    REFUSED_LINE,
    SHORTHANDS,
    TIMED_ATOMS,
    Description,
    Format,
    Happened,
    compile_format,
)
from asgi_master.telemetry.access_forms import FORMS, template_of
from asgi_master.telemetry.clock import at
from asgi_master.telemetry.formatters import who
from asgi_master.telemetry.streams import Stream

log = logging.getLogger("asgi_master")

_STDOUT = 1
_MAX_HELD = 512
"""Requests that wait to be written."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_METHOD = re.compile(rb"[A-Za-z][A-Za-z_-]*")

Address = tuple[str, int | None]


class AccessLog:
    """Collects what happened; `flush` writes it. One per process."""

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

        `exclude` are the patterns of what is left out, see `settings.exclusions`; `chosen` the headers that the JSON
        forms show. `file` is where to write unless that is standard output, a descriptor, owned from now on, and its
        path. Raises `ValueError` for an atom that does not exist.
        """
        template = template_of(form, who, chosen) if form in FORMS else SHORTHANDS.get(format, format)
        self._template = template
        self._chosen = chosen
        self._format = compile_format(template, chosen)
        self._refused: Format | None = None
        self._wanted = self._format.wanted
        self._is_left_out = left_out(compile_exclusions(exclude)) if exclude else None
        if exclude:
            self._wanted |= {b"user-agent"}
        self.is_timed = any(f"%({atom})s" in template for atom in TIMED_ATOMS)
        """Whether a line tells how long its request took."""
        self.keeps_heads = bool(chosen.response) or "}o)s" in template
        """Whether a line shows headers of its response."""
        self.held: list[Happened] = []
        """What waits for the flush. One list for good, which is filled by every `ConnectionLog`."""
        self._second = Second(0.0)
        self._lost = 0
        self._pid = os.getpid()
        self._fd, self._path = file or (_STDOUT, "")
        self._stream = Stream(self._fd)
        atexit.register(self._end)

    def of_connection(self) -> "ConnectionLog":
        """Where the requests of one connection are told."""
        return ConnectionLog(self)

    def renew(self, fd: int) -> None:
        """Write to this descriptor, which is owned from now on, and close the one before."""
        self.flush()
        before, self._fd = self._fd, fd
        self._stream.close()
        self._stream = Stream(fd)
        if self._path:
            os.close(before)

    def refused(self, client: Address | None, line: bytes, status: int, body_bytes: int) -> None:
        """What never became a request was answered with `status`, or, without a body, should have been.

        `line` is its first line as far as that came.
        """
        if self._refused is None:
            self._refused = compile_format(self._template, self._chosen, REFUSED_LINE)
        description = self._refused.describe(refused_scope(client, line), {})
        self.held.append((description, status, body_bytes, 0.0, time(), b""))
        if len(self.held) >= _MAX_HELD:
            self.flush()

    def describe(self, scope: Mapping[str, Any]) -> Description | None:
        """What its line says of the request; `None` if it is left out, or its scope is spoilt."""
        wanted = self._wanted
        try:
            fields = {name: value for name, value in scope["headers"] if name in wanted} if wanted else {}
            if self._is_left_out is not None and self._is_left_out(scope, fields):
                return None
            return self._format.describe(scope, fields)
        except Exception:
            # The application may have put anything into its scope.
            log.exception("a request could not be written to the access log")
            return None

    def flush(self) -> None:
        """Write what was collected."""
        if self.held and os.getpid() == self._pid:  # a process that the application forked has only copies
            self._write("".join(self._lines(self.held)).encode(errors="backslashreplace"))
        self.held.clear()

    def _end(self) -> None:
        self.flush()
        if self._lost and os.getpid() == self._pid:
            self._tell_loss()

    def _lines(self, held: list[Happened]) -> list[str]:
        """All that begins in one second is rendered in one go, or the clock would cost as much as the line."""
        lines: list[str] = []
        while held:
            if not self._second.covers(_time_of(held[0])):
                self._second = Second(_time_of(held[0]))
            covers = self._second.covers
            count = len(held)
            if not covers(_time_of(held[-1])):
                count = next(number for number, happened in enumerate(held) if not covers(_time_of(happened)))
            lines += self._format.render(held[:count], self._second)
            held = held[count:]
        return lines

    def _write(self, data: bytes) -> None:
        for piece in _pieces(data):
            if not self._stream.write(piece):
                self._lost += piece.count(b"\n")
            elif self._lost:
                self._tell_loss()

    def _tell_loss(self) -> None:
        why = f"{self._path} could not be written" if self._path else "nobody read standard output"
        log.warning("%d line(s) of the access log were lost: %s", self._lost, why)
        self._lost = 0


class ConnectionLog:
    """Tells the requests of one connection. What repeats itself is described once."""

    __slots__ = ("_access_log", "_description", "_held", "_keeps_heads", "_request")

    def __init__(self, access_log: AccessLog) -> None:
        self._access_log = access_log
        self._held = access_log.held
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
        block: bytes = b"",
    ) -> None:
        """One request, answered with `status` and `body_bytes` bytes of body after `duration` seconds.

        `block` are the fields of the response's head, as they were written.

        Where it is the same object as the last one, so is what it asked for, and `scope` is not looked at.
        """
        if request is not self._request:
            self._request = request
            self._description = self._access_log.describe(scope)
        if self._description is None:
            return
        held = self._held
        held.append(
            (self._description, status, body_bytes, duration, time(), block if self._keeps_heads else b"")
        )
        if len(held) >= _MAX_HELD:
            self._access_log.flush()


def _time_of(happened: Happened) -> float:
    return happened[4]


def left_out(exclusions: Exclusions) -> Callable[[Mapping[str, Any], Mapping[bytes, bytes]], bool]:
    """What tells whether a request is left out, by its scope and headers."""
    paths, agents = exclusions.paths, exclusions.agents

    # The same few come again and again, as below.
    @lru_cache(maxsize=1024)
    def is_hidden_path(raw_path: bytes, root_path: str) -> bool:
        path = raw_path.decode("latin-1")
        # A probe of the same pod does not know where a proxy mounts the application.
        return paths is not None and bool(paths.match(path) or paths.match(path.removeprefix(root_path)))

    @lru_cache(maxsize=1024)
    def is_hidden_agent(agent: bytes) -> bool:
        return agents is not None and agents.match(agent.decode("latin-1")) is not None

    def is_left_out(scope: Mapping[str, Any], fields: Mapping[bytes, bytes]) -> bool:
        if is_hidden_path(scope["raw_path"][:LONGEST_FIELD], scope.get("root_path", "")):
            return True
        agent = fields.get(b"user-agent") if agents is not None else None
        return agent is not None and is_hidden_agent(agent[:LONGEST_FIELD])

    return is_left_out


class Second:
    """A second of the wall clock, as text."""

    __slots__ = ("_begins", "bracketed", "date", "offset")

    def __init__(self, now: float) -> None:
        """The one that `now` is in."""
        self._begins = now // 1
        moment = at(now)
        offset = f"{moment:%z}"
        month = _MONTHS[moment.month - 1]  # `%b` would follow a locale that the application sets
        self.bracketed = f"[{moment:%d}/{month}/{moment:%Y:%H:%M:%S} {offset}]"
        self.date = f"{moment:%Y-%m-%dT%H:%M:%S}"
        self.offset = f"{offset[:3]}:{offset[3:]}"

    def covers(self, now: float) -> bool:
        """Whether `now` is in it."""
        return now // 1 == self._begins


def refused_scope(client: Address | None, line: bytes) -> dict[str, Any]:
    """What there is of a scope; of a line that says anything, its parts."""
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
    """Whole lines, at most `PIPE_BUF` bytes at a time: what a pipe takes whole. A longer line goes alone."""
    start = 0
    while len(data) - start > PIPE_BUF:
        end = data.rfind(b"\n", start, start + PIPE_BUF) + 1
        if end == 0:
            end = data.find(b"\n", start + PIPE_BUF) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]
