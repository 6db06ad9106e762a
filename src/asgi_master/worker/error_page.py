"""In development: what answers requests while the application cannot be loaded or started.

The page shows source code and values, so it says nothing more than that there is an error unless `shows_details`.
"""

import html
import ipaddress
import json
import linecache
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from types import TracebackType
from typing import Any

from asgi_master.records import record
from asgi_master.settings.bind import TcpAddress, UnixAddress, parse_bind
from asgi_master.settings.model import Settings
from asgi_master.telemetry.code_ownership import CodeOrigin, ownership
from asgi_master.telemetry.tracebacks import for_another_process

_AROUND = 3
"""Source lines before and after the one that a frame is at."""
_MOST_LOCALS = 30

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.25rem;color:#b00020;overflow-wrap:anywhere}pre,code{font:13px/1.45 ui-monospace,monospace}
pre{background:#f5f5f5;padding:.6rem;overflow-x:auto;margin:.3rem 0}mark{background:#ffd9dd;display:block}
.frame{margin:1rem 0}.own{border-left:3px solid #b00020;padding-left:.8rem}summary{cursor:pointer;color:#555}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}pre{background:#262626}mark{background:#5a1f27;color:#fff}}
"""


@record
class FrameShown:
    """A frame of the traceback, with what is around it."""

    file: str
    line: int
    function: str
    is_own: bool
    source: list[tuple[int, str]] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)


@record
class Problem:
    """Why the application cannot serve."""

    reason: str
    traceback: str = ""
    frames: list[FrameShown] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """The files that changed since it could."""


def problem_of(error: BaseException, reason: str, changed: list[str]) -> Problem:
    """The problem, of an exception of the application."""
    text, _ = for_another_process(error, full=False)
    return Problem(reason, text, list(_frames(error.__traceback__)) + _syntax_frame(error), changed)


def shows_details(settings: Settings) -> bool:
    """Whether clients may see the code: only those on this machine, unless the operator says otherwise."""
    chosen = settings.development.error_page
    return chosen == "on" or (chosen == "auto" and all(map(_is_local, settings.sockets.bind)))


def _is_local(bind: str) -> bool:
    address = parse_bind(bind)
    if not isinstance(address, TcpAddress):
        return isinstance(address, UnixAddress)
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return address.host.lower() == "localhost"


class ErrorPage:
    """An ASGI application that answers each request with the problem."""

    def __init__(self, problem: Problem, *, shows_details: bool) -> None:
        self._problem = problem if shows_details else Problem("The application could not be started.")

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Answer with status 500; a WebSocket is refused."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1011})
            return
        if scope["type"] != "http":
            return
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        kind, body = render(self._problem, accept.decode("latin-1"))
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
        ]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def render(problem: Problem, accept: str) -> tuple[str, bytes]:
    """Content type and body, in the form that the client prefers (RFC 9110, 12.5.1): HTML, JSON or else plain text."""
    match preferred(accept):
        case "html":
            return "text/html; charset=utf-8", _html(problem).encode(errors="replace")
        case "json":
            data = {"error": problem.reason, "changed": problem.changed, "traceback": problem.traceback}
            return "application/json", json.dumps(data).encode()
        case _:
            return "text/plain; charset=utf-8", _text(problem).encode(errors="replace")


def preferred(accept: str) -> str:
    """`html`, `json` or `text`: the one with the highest weight; the first of equal ones."""
    best, chosen = 0.0, "text"
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        kind = {"text/html": "html", "application/xhtml+xml": "html", "application/json": "json"}.get(name)
        kind = kind or ("text" if name == "text/plain" else "")
        if kind and weight > best:
            best, chosen = weight, kind
    return chosen


def _text(problem: Problem) -> str:
    changed = f"changed: {', '.join(problem.changed)}\n" if problem.changed else ""
    return f"{problem.reason}\n{changed}\n{problem.traceback}\n".rstrip("\n") + "\n"


def _html(problem: Problem) -> str:
    escape = html.escape
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(problem.reason)}</title><style>{_STYLE}</style><h1>{escape(problem.reason)}</h1>",
    ]
    if problem.changed:
        parts.append(
            f"<p>Changed: {', '.join(f'<code>{escape(name)}</code>' for name in problem.changed)}</p>"
        )
    parts.extend(_html_of_frame(frame) for frame in reversed(problem.frames))
    if problem.traceback:
        parts.append(
            f"<details open><summary>Traceback</summary><pre>{escape(problem.traceback)}</pre></details>"
        )
    parts.append("<p>The next save loads the application again.</p></html>")
    return "\n".join(parts)


def _html_of_frame(frame: FrameShown) -> str:
    escape = html.escape
    rows = []
    for number, text in frame.source:
        row = f"{number:5} {escape(text)}"
        rows.append(f"<mark>{row}</mark>" if number == frame.line else f"{row}\n")
    own = " own" if frame.is_own else ""
    where = f"<code>{escape(frame.file)}:{frame.line}</code> in <code>{escape(frame.function)}</code>"
    values = "\n".join(f"{escape(name)} = {escape(text)}" for name, text in frame.values.items())
    local = f"<details><summary>Variables</summary><pre>{values}</pre></details>" if values else ""
    return f"<div class='frame{own}'>{where}<pre>{''.join(rows)}</pre>{local}</div>"


def _frames(frames: TracebackType | None) -> Iterator[FrameShown]:
    """The frames of the application."""
    while frames is not None:
        code = frames.tb_frame.f_code
        if ownership.origin(code.co_filename) is CodeOrigin.APPLICATION:
            line = frames.tb_lineno or 0
            yield FrameShown(
                code.co_filename,
                line,
                code.co_qualname,
                is_own=True,
                source=_source(code.co_filename, line),
                values=_values(frames.tb_frame.f_locals.items()),
            )
        frames = frames.tb_next


def _syntax_frame(error: BaseException) -> list[FrameShown]:
    """Where a syntax error is: there is no frame of it."""
    if not isinstance(error, SyntaxError) or not error.filename or not error.lineno:
        return []
    source = _source(error.filename, error.lineno)
    return [FrameShown(error.filename, error.lineno, "<module>", is_own=True, source=source)]


def _source(file: str, line: int) -> list[tuple[int, str]]:
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    first = max(1, line - _AROUND)
    return [
        (first + index, text.rstrip("\n")) for index, text in enumerate(lines[first - 1 : line + _AROUND])
    ]


def _values(items: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Short forms of the variables; those of modules and Python's own names are left out."""
    values: dict[str, str] = {}
    for name, value in items:
        if name.startswith("__") or type(value).__name__ in {"module", "function", "type"}:
            continue
        try:
            values[name] = reprlib.repr(value)
        except Exception:  # noqa: BLE001 -- code of the application
            values[name] = "(no description)"
        if len(values) == _MOST_LOCALS:
            break
    return values
