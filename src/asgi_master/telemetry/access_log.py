"""The access log: one line per finished or refused request on standard output, in a format compiled once.

What happened is collected, and written as lines once a second or when there are many. Each write holds whole lines
and at most `PIPE_BUF` bytes, so the lines of several workers never mix. What the peer sent is escaped as Apache does
it.
"""

import atexit
import json
import logging
import os
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from select import PIPE_BUF
from time import time
from typing import Any

from asgi_master.settings.exclusions import Exclusions, compile_exclusions
from asgi_master.telemetry.clock import at
from asgi_master.telemetry.presets import FORMATTERS, request_template
from asgi_master.telemetry.streams import Stream

log = logging.getLogger("asgi_master")

COMMON = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
COMBINED = COMMON + ' "%(f)s" "%(a)s"'

_STDOUT = 1
_MOST_HELD = 512
"""Requests that wait to be written."""
_LONGEST_FIELD = 1024
"""Bytes shown of one header, path or query."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What each atom shows of a request: an expression over its scope and `fields`, the headers that the format needs. It
# is the same for the same request, so it is evaluated once for a client that repeats itself.
_REQUEST_ATOMS = {
    "h": "shown(scope['client'][0]) if scope['client'] else '-'",
    "l": "'-'",
    "m": "shown(scope.get('method', 'GET')[:LONGEST]) or '-'",
    "U": "shown(scope['raw_path'][:LONGEST]) or '-'",
    "q": "shown(scope['query_string'][:LONGEST])",
    "?q": "'?' + shown(scope['query_string'][:LONGEST]) if scope['query_string'] else ''",
    "H": "'HTTP/' + shown(scope['http_version'][:LONGEST]) if scope['http_version'] else '-'",
    "refused line": "shown(scope['refused line'][:LONGEST]) or '-'",
    # Only for the JSON format below; strings come with their quotes.
    "json method": "quoted(scope.get('method', 'GET')[:LONGEST] or None)",
    "json protocol": "quoted('HTTP/' + scope['http_version'][:LONGEST] if scope['http_version'] else None)",
    "json client": "quoted(scope['client'][0]) if scope['client'] else 'null'",
    "json path": "quoted(scope['raw_path'][:LONGEST])",
    "json query": "quoted(scope['query_string'][:LONGEST])",
    "json target": "quoted(target(scope))",
    "json line": "quoted(f\"{scope.get('method', 'GET')[:LONGEST]} {target(scope).decode('latin-1')}\".lstrip())",
    "json version": "quoted(scope['http_version'][:LONGEST] or None)",
}
# And of its response: over those of `ConnectionLog.record`, the time and its `_Second`.
_RESPONSE_ATOMS = {
    "t": "second.bracketed",
    "s": "status",
    "B": "size",
    "b": "size or '-'",
    "T": "int(seconds)",
    "M": "int(seconds * 1e3)",
    "D": "int(seconds * 1e6)",
    "L": "seconds:.6f",
    "json date": "second.date",
    "json ms": "int(now % 1 * 1000):03d",
    "json offset": "second.offset",
    "json ns": "int(seconds * 1e9)",
    "json severity": "'ERROR' if status >= 500 else 'INFO'",
    "json level": "'error' if status >= 500 else 'info'",
}
_TIMED_ATOMS = [atom for atom, source in _RESPONSE_ATOMS.items() if "seconds" in source]
_HEADER_ATOMS = {
    "u": ("authorization", "user(fields[{name}]) if {name} in fields else '-'"),
    "f": ("referer", "shown(fields[{name}][:LONGEST]) if {name} in fields else '-'"),
    "a": ("user-agent", "shown(fields[{name}][:LONGEST]) if {name} in fields else '-'"),
    "json referer": ("referer", "quoted(fields[{name}][:LONGEST]) if {name} in fields else 'null'"),
    "json user_agent": ("user-agent", "quoted(fields[{name}][:LONGEST]) if {name} in fields else 'null'"),
}
_SHORTHANDS = {"combined": COMBINED, "common": COMMON}
_REQUEST_LINE = "%(m)s %(U)s%(?q)s %(H)s"

_ATOM = re.compile(r"%\(([^()]*+)\)s|%%")
_METHOD = re.compile(rb"[A-Za-z][A-Za-z_-]*")
_VARIABLE_ATOM = re.compile(r"\{([\w-]+)\}([ieo])")


Address = tuple[str, int | None]
_Description = tuple[str, ...]
"""What a line says of the request, in pieces: what it says of the response goes between them."""
_Happened = tuple[_Description, int, int, float, float]
"""A request's description, its response's status, size and duration, and when that was."""


class AccessLog:
    """Collects what happened; `flush` writes it. One per process."""

    def __init__(
        self,
        format: str,  # noqa: A002 -- the names of the settings
        *,
        form: str = "text",
        exclude: Sequence[str] = (),
    ) -> None:
        """Compile `format`: `combined`, `common`, or text with atoms such as `%(h)s`; a JSON `form` replaces it.

        `exclude` are the patterns of what is left out, see `settings.exclusions`. Raises `ValueError` for an atom
        that does not exist.
        """
        is_json = form in FORMATTERS
        template = request_template(form, os.getpid()) if is_json else _SHORTHANDS.get(format, format)
        self._template = template
        self._describe, self._render, self._wanted = _compile(template)
        self._describe_refused: _Describe | None = None
        self._is_left_out = _left_out(compile_exclusions(exclude)) if exclude else None
        if exclude:
            self._wanted |= {b"user-agent"}
        self.is_timed = any(f"%({atom})s" in template for atom in _TIMED_ATOMS)
        """Whether a line tells how long its request took."""
        self.held: list[_Happened] = []
        """What waits for the flush. One list for good, which is filled by every `ConnectionLog`."""
        self._second = _Second(0.0)
        self._lost = 0
        self._pid = os.getpid()
        self._stream = Stream(_STDOUT)
        atexit.register(self._end)

    def of_connection(self) -> "ConnectionLog":
        """Where the requests of one connection are told."""
        return ConnectionLog(self)

    def record(self, scope: Mapping[str, Any], status: int, body_bytes: int, duration: float) -> None:
        """The only request of its connection, such as the handshake of a WebSocket; see `ConnectionLog.record`."""
        ConnectionLog(self).record(scope, scope, status, body_bytes, duration)

    def refused(self, client: Address | None, line: bytes, status: int, body_bytes: int) -> None:
        """What never became a request was answered with `status`, or, without a body, should have been.

        `line` is its first line as far as that came.
        """
        if self._describe_refused is None:
            self._describe_refused, _, _ = _compile(self._template, "%(refused line)s")
        description = self._describe_refused(_refused_scope(client, line), {})
        self.held.append((description, status, body_bytes, 0.0, time()))
        if len(self.held) >= _MOST_HELD:
            self.flush()

    def describe(self, scope: Mapping[str, Any]) -> _Description | None:
        """What its line says of the request; `None` if it is left out, or its scope is spoilt."""
        wanted = self._wanted
        try:
            fields = {name: value for name, value in scope["headers"] if name in wanted} if wanted else {}
            if self._is_left_out is not None and self._is_left_out(scope, fields):
                return None
            return self._describe(scope, fields)
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

    def _lines(self, held: list[_Happened]) -> list[str]:
        """All that begins in one second is rendered in one go, or the clock would cost as much as the line."""
        lines: list[str] = []
        while held:
            if not self._second.covers(held[0][-1]):
                self._second = _Second(held[0][-1])
            covers = self._second.covers
            count = len(held)
            if not covers(held[-1][-1]):
                count = next(number for number, happened in enumerate(held) if not covers(happened[-1]))
            lines += self._render(held[:count], self._second)
            held = held[count:]
        return lines

    def _write(self, data: bytes) -> None:
        for piece in _pieces(data):
            if not self._stream.write(piece):
                self._lost += piece.count(b"\n")
            elif self._lost:
                self._tell_loss()

    def _tell_loss(self) -> None:
        log.warning("%d line(s) of the access log were lost: nobody read standard output", self._lost)
        self._lost = 0


class ConnectionLog:
    """Tells the requests of one connection. What repeats itself is described once."""

    __slots__ = ("_access_log", "_description", "_held", "_request")

    def __init__(self, access_log: AccessLog) -> None:
        self._access_log = access_log
        self._held = access_log.held
        self._request: object = None
        self._description: _Description | None = None

    def record(
        self, request: object, scope: Mapping[str, Any], status: int, body_bytes: int, duration: float
    ) -> None:
        """One request, answered with `status` and `body_bytes` bytes of body after `duration` seconds.

        Where it is the same object as the last one, so is what it asked for, and `scope` is not looked at.
        """
        if request is not self._request:
            self._request = request
            self._description = self._access_log.describe(scope)
        if self._description is None:
            return
        held = self._held
        held.append((self._description, status, body_bytes, duration, time()))
        if len(held) >= _MOST_HELD:
            self._access_log.flush()


def _left_out(exclusions: Exclusions) -> Callable[[Mapping[str, Any], Mapping[bytes, bytes]], bool]:
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
        if is_hidden_path(scope["raw_path"][:_LONGEST_FIELD], scope.get("root_path", "")):
            return True
        agent = fields.get(b"user-agent") if agents is not None else None
        return agent is not None and is_hidden_agent(agent[:_LONGEST_FIELD])

    return is_left_out


def check_format(format: str) -> None:  # noqa: A002 -- the name of the setting
    """Raise `ValueError`, with a sentence, if an `AccessLog` of this format could not be made."""
    _compile(_SHORTHANDS.get(format, format))


class _Second:
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


_Describe = Callable[[Mapping[str, Any], Mapping[bytes, bytes]], _Description]
_Render = Callable[[list[_Happened], _Second], list[str]]


def _refused_scope(client: Address | None, line: bytes) -> dict[str, Any]:
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


def _compile(template: str, request_line: str = _REQUEST_LINE) -> tuple[_Describe, _Render, frozenset[bytes]]:
    """What describes a request, what renders lines, and the headers wanted for them. Raises `ValueError`.

    `request_line` is what `%(r)s` stands for.

    A format becomes two functions: to look up and call one per atom takes twice the time, and to call one per line
    a part of it.
    """
    wanted: set[bytes] = set()
    constants: list[str] = [""]
    line: list[str] = ["{constant0}"]
    for source, is_constant in _fragments(template + "\n", wanted, request_line):
        if is_constant:
            constants[-1] += f" {source}"
        else:
            line.append(f"{{{source}}}{{constant{len(constants)}}}")
            constants.append("")
    names = {"shown": _shown, "quoted": _quoted, "user": _user, "target": _target, "LONGEST": _LONGEST_FIELD}
    # Of our own expressions only; what the operator wrote is in them as quoted literals.
    described = "".join(f"{constant or repr('')}, " for constant in constants)
    describe: _Describe = eval(f"lambda scope, fields: ({described})", names)  # noqa: S307 -- see above
    request = "".join(f"constant{number}, " for number in range(len(constants)))
    each = f'f"""{"".join(line)}""" for ({request}), status, size, seconds, now in held'
    render: _Render = eval(f"lambda held, second: [{each}]", names)  # noqa: S307 -- see above
    return describe, render, frozenset(wanted)


def _fragments(template: str, wanted: set[bytes], request_line: str) -> Iterator[tuple[str, bool]]:
    """The literals and atoms of a template: source that is a string, of the request alone, or that goes into one."""
    end = 0
    for match in _ATOM.finditer(template):
        yield _literal(template[end : match.start()]), True
        if match[1] == "r":
            yield from _fragments(request_line, wanted, "")
        elif match[1] is None:
            yield repr("%"), True
        elif match[1] in _RESPONSE_ATOMS:
            yield _RESPONSE_ATOMS[match[1]], False
        else:
            yield _request_atom(match[1], wanted), True
        end = match.end()
    yield _literal(template[end:]), True


def _literal(text: str) -> str:
    if "%" in text:
        raise ValueError(f"{text.strip()!r} holds no atom: they are written %(h)s, and a percent sign %%")
    return repr(text)


def _request_atom(name: str, wanted: set[bytes]) -> str:
    if name == "p":
        return repr(f"<{os.getpid()}>")
    variable = _VARIABLE_ATOM.fullmatch(name)
    if variable is not None and variable[2] == "e":
        return repr(_escape(os.environ.get(variable[1], "-")))
    if variable is not None and variable[2] == "o":
        raise ValueError(f"%({name})s: the access log does not know response headers")
    header, expression = _HEADER_ATOMS["f"] if variable is not None else _HEADER_ATOMS.get(name, ("", ""))
    if variable is not None:
        header = variable[1].lower()
    if header:
        wanted.add(header.encode())
        expression = expression.format(name=repr(header.encode()))
    else:
        expression = _REQUEST_ATOMS.get(name, "")
    if not expression:
        raise ValueError(f"%({name})s is no atom of the access log")
    return f'f"""{{{expression}}}"""'


def _target(scope: Mapping[str, Any]) -> bytes:
    query: bytes = scope["query_string"]
    target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
    return target[:_LONGEST_FIELD]


# The same few browsers and paths come again and again: a look-up is several times faster than to escape anew.
@lru_cache(maxsize=1024)
def _shown(value: bytes | str) -> str:
    """What the peer sent, safe between double quotes."""
    return _escape(value if isinstance(value, str) else value.decode("latin-1"))


@lru_cache(maxsize=1024)
def _quoted(value: bytes | str | None) -> str:
    """What the peer sent, as a JSON string; null if it sent nothing of the kind."""
    return json.dumps(value.decode("latin-1") if isinstance(value, bytes) else value)


def _escape(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        f"\\{char}"
        if char in '"\\'
        else char
        if " " <= char <= "~"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def _user(authorization: bytes) -> str:
    """The user's name in an `Authorization: Basic` field (RFC 7617)."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        user, colon, _ = a2b_base64(credentials).partition(b":")
    except Base64Error:
        return "-"
    return _escape(user[:_LONGEST_FIELD].decode("latin-1")).replace(" ", "\\x20") if user and colon else "-"


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
