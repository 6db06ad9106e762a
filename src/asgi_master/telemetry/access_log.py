"""The access log: one line per finished request on standard output, in a format compiled once.

Lines are collected and written once a second or when they fill a buffer. Each write holds whole lines and at most
`PIPE_BUF` bytes, so the lines of several workers never mix. What the peer sent is escaped as Apache does it.
"""

import atexit
import json
import logging
import os
import re
import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from select import PIPE_BUF
from typing import Any

from asgi_master.telemetry.logs import identity
from asgi_master.telemetry.streams import Stream

log = logging.getLogger("asgi_master")

COMMON = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
COMBINED = COMMON + ' "%(f)s" "%(a)s"'

_STDOUT = 1
_BUFFER = 64 * 1024
_LONGEST_FIELD = 1024
"""Bytes shown of one header, path or query."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What each atom shows: an expression over the arguments of `AccessLog.record`, `fields` (the wanted headers) and
# `clock`. Compiled into one function, because looking up and calling one function per atom takes twice the time.
_PATH = "shown(scope['raw_path'])"
_QUERY = "shown(scope['query_string'])"
_METHOD = "scope.get('method', 'GET')"
_ATOMS = {
    "h": "scope['client'][0] if scope['client'] else '-'",
    "l": "'-'",
    "u": "user(fields[b'authorization']) if b'authorization' in fields else '-'",
    "t": "clock.bracketed",
    "r": f"{_METHOD}} {{{_PATH}}}{{'?' if scope['query_string'] else ''}}{{{_QUERY}}} HTTP/{{scope['http_version']",
    "m": _METHOD,
    "U": _PATH,
    "q": _QUERY,
    "H": "'HTTP/' + scope['http_version']",
    "s": "status",
    "B": "size",
    "b": "size or '-'",
    "f": "shown(fields[b'referer']) if b'referer' in fields else '-'",
    "a": "shown(fields[b'user-agent']) if b'user-agent' in fields else '-'",
    "T": "int(seconds)",
    "M": "int(seconds * 1e3)",
    "D": "int(seconds * 1e6)",
    "L": "seconds:.6f",
}
_ATOM = re.compile(r"%\(([^)]*)\)s|%%")
_HEADER_IN = re.compile(r"fields\[b('[^']*')\]")
_VARIABLE = re.compile(r"\{([^}]+)\}([ieo])")


class AccessLog:
    """Collects lines; `flush` writes them. One per process."""

    def __init__(self, format: str, *, json: bool = False) -> None:  # noqa: A002 -- the names of the settings
        """Compile `format`: `combined`, `common`, or text with atoms such as `%(h)s`. `json` makes it objects instead.

        Raises `ValueError` for an atom that does not exist, also where `json` leaves the format unused.
        """
        source = _text_source({"combined": COMBINED, "common": COMMON}.get(format, format))
        if json:
            source = _json_source()
        self._render, self._wanted = _compile(source)
        self._clock = _Clock()
        self._lines: list[str] = []
        self._size = 0
        self._lost = 0
        self._pid = os.getpid()
        self._stream = Stream(_STDOUT)
        atexit.register(self.flush)

    def record(self, scope: Mapping[str, Any], status: int, body_bytes: int, duration: float) -> None:
        """One request, answered with `status` and `body_bytes` bytes of body after `duration` seconds."""
        now = time.time()
        clock = self._clock
        if not clock.second <= now < clock.second + 1:
            clock.set(now)
        wanted = self._wanted
        try:
            fields = {name: value for name, value in scope["headers"] if name in wanted} if wanted else {}
            line = self._render(scope, status, body_bytes, duration, fields, clock, now)
        except Exception:
            # The application may have put anything into its scope.
            log.exception("a request could not be written to the access log")
            return
        self._lines.append(line)
        self._size += len(line)
        if self._size > _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        lines, self._lines, self._size = self._lines, [], 0
        if not lines or os.getpid() != self._pid:
            return  # a process that the application forked has only copies
        for piece in _pieces("".join(lines).encode(errors="backslashreplace")):
            if not self._stream.write(piece):
                self._lost += piece.count(b"\n")
            elif self._lost:
                log.warning("%d line(s) of the access log were lost: nobody read standard output", self._lost)
                self._lost = 0


class _Clock:
    """The time as text, made once a second."""

    __slots__ = ("bracketed", "date", "offset", "second")

    def __init__(self) -> None:
        self.second = -1
        self.bracketed = self.date = self.offset = ""

    def set(self, now: float) -> None:
        self.second = int(now)
        local = time.localtime(now)
        offset = time.strftime("%z", local)
        month = _MONTHS[local.tm_mon - 1]  # `%b` would follow a locale that the application sets
        self.bracketed = time.strftime(f"[%d/{month}/%Y:%H:%M:%S {offset}]", local)
        self.date = time.strftime("%Y-%m-%dT%H:%M:%S", local)
        self.offset = f"{offset[:3]}:{offset[3:]}"


_Render = Callable[[Mapping[str, Any], int, int, float, Mapping[bytes, bytes], _Clock, float], str]


def _compile(source: str) -> tuple[_Render, frozenset[bytes]]:
    """The function that renders a line, and the request headers it needs."""
    names = {"shown": _shown, "quoted": _quoted, "user": _user}
    # Made of our own expressions only; text of the operator's is in it as literals.
    render = eval(f"lambda scope, status, size, seconds, fields, clock, now: ({source} '\\n')", names)  # noqa: S307
    return render, frozenset(name[1:-1].encode() for name in _HEADER_IN.findall(source))


def _text_source(format: str) -> str:  # noqa: A002 -- as above
    source, end = "", 0
    for match in _ATOM.finditer(format):
        source += _literal(format[end : match.start()])
        source += _literal_percent if match[1] is None else _atom_source(match[1])
        end = match.end()
    return source + _literal(format[end:])


_literal_percent = "'%' "


def _literal(text: str) -> str:
    if "%" in text:
        raise ValueError(f"access_log_format: {text.strip()!r} is no atom; they are written %(h)s, a percent sign %%")
    return f"{text!r} "


def _atom_source(name: str) -> str:
    if name == "p":
        return _literal(f"<{os.getpid()}>")
    if expression := _ATOMS.get(name):
        return f'f"""{{{expression}}}""" '
    match = _VARIABLE.fullmatch(name)
    if match is None or match[2] == "o":
        reason = "response headers are not known to the access log" if match else "there is no such atom"
        raise ValueError(f"access_log_format: %({name})s: {reason}")
    if match[2] == "e":
        return f"{_escape(os.environ.get(match[1], '-'))!r} "
    field = match[1].lower()
    if not re.fullmatch(r"[!#$&*+.^_|~0-9a-z-]+", field):
        raise ValueError(f"access_log_format: %({name})s: {match[1]!r} is no header")
    return f"f\"\"\"{{shown(fields[b'{field}']) if b'{field}' in fields else '-'}}\"\"\" "


def _json_source() -> str:
    who = {"role": identity.role, "pid": os.getpid(), "worker": identity.worker, "generation": identity.generation}
    start = json.dumps({"type": "access", **{key: value for key, value in who.items() if value is not None}})
    parts = {
        "ts": '"{clock.date}.{int(now * 1000) % 1000:03d}{clock.offset}"',
        "client": "{quoted(scope['client'][0]) if scope['client'] else 'null'}",
        "method": f'"{{{_METHOD}}}"',
        "path": "{quoted(scope['raw_path'])}",
        "query": "{quoted(scope['query_string'])}",
        "http_version": "\"{scope['http_version']}\"",
        "status": "{status}",
        "bytes": "{size}",
        "duration": "{seconds:.6f}",
        "referer": "{quoted(fields[b'referer']) if b'referer' in fields else 'null'}",
        "user_agent": "{quoted(fields[b'user-agent']) if b'user-agent' in fields else 'null'}",
    }
    source = f"{start[:-1]!r} "
    for name, part in parts.items():
        source += f"', \"{name}\": ' f'''{part}''' "
    return source + "'}' "


# The same few browsers and paths come again and again: a look-up is several times faster than to escape anew.
@lru_cache(maxsize=1024)
def _short_shown(value: bytes) -> str:
    return _escape(value.decode("latin-1"))


@lru_cache(maxsize=1024)
def _short_quoted(value: bytes) -> str:
    return json.dumps(value.decode("latin-1"))


def _shown(value: bytes) -> str:
    """Bytes of the peer's, safe within double quotes."""
    return _short_shown(value[:_LONGEST_FIELD])


def _quoted(value: bytes | str) -> str:
    """A JSON string."""
    return json.dumps(value) if isinstance(value, str) else _short_quoted(value[:_LONGEST_FIELD])


def _escape(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        f"\\{char}" if char in '"\\' else char if " " <= char <= "~" else f"\\x{ord(char):02x}" for char in text
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
    """Whole lines, at most `PIPE_BUF` bytes at a time: what a pipe takes in one go. A longer line goes alone."""
    start = 0
    while len(data) - start > PIPE_BUF:
        end = data.rfind(b"\n", start, start + PIPE_BUF) + 1
        if end == 0:
            end = data.find(b"\n", start + PIPE_BUF) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]
