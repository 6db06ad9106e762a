"""The screen: the live status as lines. Pure."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asgi_master.cli.top.numbers import UNKNOWN, growth, number, seconds, share, size, sparkline
from asgi_master.records import record
from asgi_master.telemetry.text import one_line

_BAD = {"error": "red", "warning": "yellow"}
_LAG_FULL = 0.05
"""Seconds of loop lag that fill a sparkline, unless there is more."""
_LAGS = 0.1
"""Seconds of loop lag from which it is shown as trouble."""
_COLUMNS = ("SLOT", "GEN", "STATE", "AGE", "R/S", "P50", "P99", "5XX/S", "ACT", "CONN", "CPU", "MEM", "MEM/H")
_LEFT = {"STATE", "LAG"}


@record
class Screen:
    """What is to be shown."""

    document: Mapping[str, Any]
    """The reply to `GET /status.json?history=minute`."""
    stacks: Mapping[str, Any] | None = None
    """The last reply to `POST /stacks`."""
    stacks_age: float = 0.0
    """How many seconds ago that was."""
    notice: str = ""
    """One line about what the user did, or what is wrong; shown last."""
    is_alarm: bool = False
    """Whether the notice is about something that is wrong."""
    keys: str = ""
    """The keys that are possible now."""


def layout(screen: Screen, width: int, height: int | None) -> RenderableType:
    """The screen in this many columns; with a `height`, the tables are cut to fit."""
    document = screen.document
    head = [*_head(document)]
    foot = [*([Text(one_line(screen.notice), "red" if screen.is_alarm else "bold")] if screen.notice else [])]
    foot += [Text(screen.keys, "dim")] if screen.keys else []
    workers, activity = document["status"]["workers"], activities(screen.stacks)
    if height is None:
        rows, doing, shown_events = len(workers), len(activity), 10
    else:
        room = max(0, height - len(head) - len(foot) - 2)
        rows = min(len(workers), max(1, room - 4))
        room -= rows + 3
        doing = min(len(activity), max(0, room // 2))
        shown_events = max(0, room - doing - (2 if doing else 0) - 1)
    parts: list[RenderableType] = [*head, Text(""), _workers(document, rows, width)]
    if len(workers) > rows:
        parts.append(Text(f"  and {len(workers) - rows} more", "dim"))
    if doing:
        parts += [Text(""), *_doing(activity[:doing], screen.stacks_age)]
    recent = document["events"][-shown_events:] if shown_events else []
    if recent:
        parts += [Text(""), Text("EVENTS", "bold"), *map(_event, reversed(recent))]
    return Group(*parts, *foot)


# --- the head


def _head(document: Mapping[str, Any]) -> Iterator[Text]:
    status, now = document["status"], document["now"]["fleet"]
    serving = sum(worker["state"] == "ready" and not worker["standby"] for worker in status["workers"])
    yield Text.assemble(
        (one_line(status["name"]), "bold"),
        "  ",
        ("ready", "green") if document["ready"] else ("NOT READY", "bold red"),
        one_line(f" {min(serving, status['workers_wanted'])}/{status['workers_wanted']}  {status['phase']}"),
        one_line(f"  generation {_or_dash(status['generation'])}  up {seconds(status['uptime'])}"),
        (one_line(f"  asgi-master {status['version']} [{status['pid']}]"), "dim"),
    )
    for reason in document["reasons"][:2]:
        yield Text(one_line(reason), "red")
    coming = document["next"]
    if coming:
        more = f"  (and {len(coming) - 1} more)" if len(coming) > 1 else ""
        style = "bold yellow" if coming[0]["step"] in {"kill", "restart", "zygote"} else "bold"
        yield Text.assemble("next: ", (one_line(coming[0]["text"]), style), (more, "dim"))
    else:
        yield Text("next: nothing is due", "dim")
    last = status["last_reload"]
    if last is not None:
        style = "" if last["result"] in {"committed", "called-off"} else "red"
        ago = seconds(max(0.0, document["at"] - last["at"]))
        yield Text(one_line(f"last deploy: {last['result']} {ago} ago: {last['message']}"), style)
    yield Text("")
    yield _fleet(document, now)
    yield from _generations(document)


def _fleet(document: Mapping[str, Any], now: Mapping[str, Any]) -> Text:
    minute = ((document.get("history") or {}).get("minute") or {}).get("fleet")
    listeners = document["listeners"]
    queued = sum(each["length"] for each in listeners) if listeners else None
    busy = now["saturation"]
    return Text.assemble(
        (f"{number(now['rate'])} req/s", "bold"),
        f" {sparkline(minute['rate'], 15, 1.0)}" if minute else "",
        f"  p50 {seconds(now['p50'])}  p99 {seconds(now['p99'])}  ",
        (f"5xx {number(now['errors'])}/s", "red" if now["errors"] else ""),
        f"  CPU {share(now['cpu'])}  busy {share(busy)}",
        f" ({1 / busy:.1f} times as much possible)" if busy and 0.05 < busy < 0.9 else "",
        (f"  queue {UNKNOWN if queued is None else queued}", "yellow" if queued else ""),
        f"  mem {size(now['memory'])}",
    )


def _generations(document: Mapping[str, Any]) -> Iterator[Text]:
    """The generations side by side, while there are several."""
    generations, starting = document["now"]["generations"], document["status"]["starting_generation"]
    if len(generations) < 2:
        return
    for name, now in generations.items():
        role = "new" if starting is not None and name == str(starting) else "old"
        if starting is None:
            role = "serves" if name == str(document["status"]["generation"]) else "leaves"
        yield Text.assemble(
            f"  generation {name} ({role})  {_workers_of(now['workers'])}  {number(now['rate'])} req/s"
            f"  p50 {seconds(now['p50'])}  p99 {seconds(now['p99'])}  ",
            (f"5xx {number(now['errors'])}/s", "red" if now["errors"] else ""),
            f"  mem {size(now['memory'])}",
        )


# --- the workers


def _workers(document: Mapping[str, Any], rows: int, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    narrow = width < 100
    columns = [name for name in _COLUMNS if not (narrow and name in {"AGE", "CONN"})]
    for name in columns:
        table.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    spark = max(6, min(60, width - (68 if narrow else 80)))
    table.add_column("LAG (60 s)" if spark > 9 else "LAG", no_wrap=True)
    minutes = ((document.get("history") or {}).get("minute") or {}).get("slots", {})
    for worker in document["status"]["workers"][:rows]:
        now = document["now"]["workers"].get(str(worker["id"]), {})
        slope = document["now"]["slots"].get(str(worker["slot"]), {}).get("memory_slope")
        cells, lag = _cells(worker, now, slope), now.get("lag")
        line = sparkline(minutes.get(str(worker["slot"]), {}).get("lag", []), spark - 7, _LAG_FULL)
        last = Text(f"{line} {seconds(lag)}", "red" if lag is not None and lag > _LAGS else "")
        table.add_row(*(cells[name] for name in columns), last)
    return table


def _active(worker: Mapping[str, Any]) -> str:
    """The requests in flight; of WSGI, the threads that are busy, of all."""
    if worker.get("threads"):
        return f"{worker['threads_busy']}/{worker['threads']}"
    return str(worker["in_flight"])


def _cells(worker: Mapping[str, Any], now: Mapping[str, Any], slope: float | None) -> dict[str, Text]:
    state = "standby" if worker["standby"] else worker["state"]
    errors = now.get("errors")
    return {
        "SLOT": Text(str(worker["slot"])),
        "GEN": Text(str(worker["generation"])),
        "STATE": Text(one_line(state), "green" if state == "ready" else "yellow"),
        "AGE": Text(seconds(worker["age"])),
        "R/S": Text(number(now.get("rate"))),
        "P50": Text(seconds(now.get("p50")).replace(" ", "")),
        "P99": Text(seconds(now.get("p99")).replace(" ", "")),
        "5XX/S": Text(number(errors), "red" if errors else ""),
        "ACT": Text(_active(worker)),
        "CONN": Text(str(worker["connections"])),
        "CPU": Text(share(now.get("cpu"))),
        "MEM": Text(size(now.get("memory"))),
        "MEM/H": Text(growth(slope)),
    }


# --- what they do


@record
class Activity:
    """Requests that wait at the same line."""

    slot: int
    count: int
    request: str
    age: float | None
    """Seconds since the oldest began; `None` if requests are not timed."""
    location: str


def activities(stacks: Mapping[str, Any] | None) -> list[Activity]:
    """What the workers' requests wait for: the oldest first, then the most."""
    found = []
    for worker in (stacks or {}).get("workers", []):
        for group in worker["tasks"] or []:
            if group["serves"]:
                request = group.get("oldest_request") or group["serves"][0]
                stack = group["stack"] or [""]
                found.append(
                    Activity(worker["slot"], group["count"], request, group.get("oldest"), _own_line(stack))
                )
    return sorted(found, key=lambda each: (-(each.age or 0.0), -each.count))


def _own_line(stack: Sequence[str]) -> str:
    """The innermost line that is not of the standard library or of a package."""
    own = (line for line in stack if "/lib/python" not in line and "asgi_master/" not in line)
    # Without the source: there is little room.
    return next(own, stack[0]).partition(": ")[0]


def _doing(activity: Sequence[Activity], age: float) -> Iterator[Text]:
    ago = f", {seconds(age)} ago" if age >= 1 else ""
    yield Text.assemble(("REQUESTS", "bold"), (f" (the oldest first{ago})", "dim"))
    for each in activity:
        times = f"{each.count} x " if each.count > 1 else ""
        old = f" {seconds(each.age)}" if each.age is not None else ""
        yield Text.assemble(
            f"  {each.slot}: {times}{one_line(each.request)}",
            (old, "yellow" if (each.age or 0.0) > 1.0 else ""),
            (f"  {one_line(each.location)}", "dim"),
        )


def _event(event: Mapping[str, Any]) -> Text:
    at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    return Text(one_line(f"  {at} {event['text']}"), _BAD.get(event["level"], ""))


def _or_dash(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def _workers_of(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
