"""The control interface as values: a request is parsed to a command, its result becomes a reply. Pure.

`docs/reference/control.md` is the documentation for users.
"""

import json
from collections.abc import Callable
from dataclasses import field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from asgi_master.records import record
from asgi_master.supervision.policy import MOST_WORKERS

# --- commands


class Span(StrEnum):
    """How much of the past `GET /status.json` shows."""

    NONE = "none"
    MINUTE = "minute"
    """The last minute, second by second."""
    ALL = "all"
    """That, and the last fifteen minutes."""


@record
class ShowStatus:
    """`GET /status`."""

    def __str__(self) -> str:
        return "status"


@record
class ShowLive:
    """`GET /status.json`: the fleet now, and in a time before."""

    span: Span

    def __str__(self) -> str:
        return "live status"


@record
class WatchLive:
    """`GET /events`: the same as a stream of server-sent events, one in each second."""

    def __str__(self) -> str:
        return "event stream"


@record
class ShowHealth:
    """`GET /livez`, `/readyz`, `/startupz`: as the admin address answers them, for masters without one."""

    question: str

    def __str__(self) -> str:
        return self.question


@record
class Reload:
    """`POST /reload`: read the settings and the code again. `wait`: reply when the reload has ended."""

    wait: bool

    def __str__(self) -> str:
        return "reload"


@record
class Rollback:
    """`POST /rollback`: return to the previous generation. `wait`: reply when the rollback has ended."""

    wait: bool

    def __str__(self) -> str:
        return "rollback"


@record
class Scale:
    """`POST /scale`: set the number of workers. `wait`: reply when that many are ready."""

    workers: int
    wait: bool = False

    def __str__(self) -> str:
        return f"scale to {self.workers}"


@record
class Drain:
    """`POST /drain`: replace the worker of a slot, then stop it."""

    slot: int

    def __str__(self) -> str:
        return f"drain slot {self.slot}"


@record
class ShowStacks:
    """`POST /stacks`: the tasks and threads of the workers of one slot, or of all."""

    slot: int | None

    def __str__(self) -> str:
        return "all stacks" if self.slot is None else f"the stacks of slot {self.slot}"


@record
class Stop:
    """`POST /stop`."""

    quick: bool

    def __str__(self) -> str:
        return "quick stop" if self.quick else "stop"


Command = ShowStatus | ShowHealth | Reload | Rollback | Scale | Drain | ShowStacks | Stop
View = ShowLive | WatchLive
"""What is answered by the live feed."""


class Refusal(Exception):  # noqa: N818 -- an answer of the interface, not a fault of the program
    """A request that cannot be fulfilled: the HTTP status and the reason, one line."""

    def __init__(self, status: int, message: str, *, allow: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.allow = allow
        """The method that the path supports, for the `Allow` field of a 405."""


@record
class Reply:
    """An HTTP status and the JSON body that goes with it."""

    status: int
    body: dict[str, Any]
    headers: list[tuple[str, str]] = field(default_factory=list)


def refuse(refusal: Refusal) -> Reply:
    """The refusal as a reply."""
    headers = [("allow", refusal.allow)] if refusal.allow else []
    return Reply(refusal.status, {"error": str(refusal)}, headers)


# --- requests


def read_span(value: Any) -> Span:
    """The value of the parameter `history`. Raises `Refusal`."""
    try:
        return Span(value)
    except ValueError:
        raise Refusal(400, f"history must be one of {', '.join(Span)}") from None


class _Parameters:
    """The query and JSON body of a request by name; parameters that the path does not define are refused."""

    def __init__(self, query: str, body: bytes) -> None:
        try:
            self._values: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=10))
            content = json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is not JSON, or the query too long") from None
        if not isinstance(content, dict):
            raise Refusal(400, "the body is not a JSON object")
        self._values |= content

    def integer(self, name: str, minimum: int, maximum: int, *, required: bool = True) -> int | None:
        value = self._values.pop(name, None)
        if value is None and not required:
            return None
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise Refusal(400, f"{name} must be a whole number from {minimum} to {maximum}")
        return value

    def span(self, name: str) -> Span:
        return read_span(self._values.pop(name, Span.NONE))

    def switch(self, name: str) -> bool:
        value = self._values.pop(name, False)
        known = {"1": True, "true": True, "": True, "0": False, "false": False}
        if isinstance(value, str):
            value = known.get(value.lower())
        if not isinstance(value, bool):
            raise Refusal(400, f"{name} must be true or false")
        return value

    def end(self) -> None:
        """Refuse parameters that were not read: a misspelt name must not fall back to a default."""
        if self._values:
            raise Refusal(400, f"unknown: {', '.join(sorted(self._values))[:100]}")


_MAX_SLOT = 10_000

_Reader = Callable[[_Parameters], Command | View]
_ROUTES: dict[str, tuple[str, _Reader]] = {
    "/status": ("GET", lambda _given: ShowStatus()),
    "/status.json": ("GET", lambda given: ShowLive(given.span("history"))),
    "/events": ("GET", lambda _given: WatchLive()),
    "/livez": ("GET", lambda _given: ShowHealth("livez")),
    "/readyz": ("GET", lambda _given: ShowHealth("readyz")),
    "/startupz": ("GET", lambda _given: ShowHealth("startupz")),
    "/reload": ("POST", lambda given: Reload(given.switch("wait"))),
    "/rollback": ("POST", lambda given: Rollback(given.switch("wait"))),
    "/scale": (
        "POST",
        lambda given: Scale(given.integer("workers", 1, MOST_WORKERS) or 0, given.switch("wait")),
    ),
    "/drain": ("POST", lambda given: Drain(given.integer("slot", 0, _MAX_SLOT) or 0)),
    "/stacks": ("POST", lambda given: ShowStacks(given.integer("slot", 0, _MAX_SLOT, required=False))),
    "/stop": ("POST", lambda given: Stop(given.switch("quick"))),
}


def read_request(method: str, target: str, body: bytes) -> Command | View:
    """Parse a request. Raises `Refusal`."""
    try:
        parts = urlsplit(target)
    except ValueError:
        raise Refusal(400, "the request's target is not a path") from None
    route = _ROUTES.get(parts.path)
    if route is None:
        raise Refusal(404, f"not found; available: {', '.join(_ROUTES)}")
    allowed, reader = route
    if method != allowed:
        raise Refusal(405, f"{parts.path} is for {allowed}", allow=allowed)
    given = _Parameters(parts.query, body)
    command = reader(given)
    given.end()
    return command
