"""What `asgi-masterctl` shows to people."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asgi_master.control.client import Found
from asgi_master.telemetry.resources import proportional_memory
from asgi_master.telemetry.text import one_line

_WIDE = 200
"""Columns where no terminal cuts the lines: a pipe gets them whole."""
_SILENT_AFTER = 2.0
"""Seconds without a heartbeat that deserve attention; it beats every quarter of a second."""


def show_masters(masters: Sequence[Found]) -> None:
    """A line for each master."""
    table = _table("PID", "NAME", "PHASE", "WORKERS", "SOCKET")
    for master in masters:
        told = master.status
        if told is None:
            table.add_row(str(master.pid), "", Text("no answer", "red"), "", str(master.path))
            continue
        ready = sum(worker["state"] == "ready" for worker in told["workers"])
        workers = f"{ready}/{told['workers_wanted']}"
        table.add_row(str(master.pid), _text(told["name"]), _text(told["phase"]), workers, str(master.path))
    _console().print(table)


def show_status(status: dict[str, Any]) -> None:
    """The master, its workers, and what became of the last reload."""
    console = _console()
    ready = sum(worker["state"] == "ready" for worker in status["workers"])
    console.print(
        Text.assemble(
            (one_line(status["name"]), "bold"),
            f"  {status['phase']}, generation {_or_dash(status['generation'])}",
            f", {ready} of {status['workers_wanted']} workers ready",
        )
    )
    console.print(
        f"master {status['pid']}, asgi-master {one_line(status['version'])}, up {_duration(status['uptime'])}"
    )
    console.print(_text("listening on " + ", ".join(status["listening"])))
    last = status["last_reload"]
    if last is not None:
        style = "" if last["result"] == "committed" else "red"
        ago = _duration(max(0.0, time.time() - last["at"]))
        console.print(Text(one_line(f"last reload {last['result']} {ago} ago: {last['message']}"), style))
    for held in status["waiting"]:
        line = (
            f"slot {held['slot']} waits {held['retry_in']:.1f} s after {held['failures']} failures in a row"
        )
        console.print(Text(line, "red"))
    console.print(_workers(status["workers"]))


def _workers(workers: Sequence[dict[str, Any]]) -> Table:
    table = _table(
        "SLOT", "PID", "GEN", "STATE", "AGE", "CONN", "WS", "ACTIVE", "REQUESTS", "5XX", "LAG", "BEAT", "PSS"
    )
    for worker in workers:
        beat = worker["heartbeat_age"]
        silent = beat is not None and beat > _SILENT_AFTER
        table.add_row(
            str(worker["slot"]),
            _or_dash(worker["pid"]),
            str(worker["generation"]),
            Text(one_line(worker["state"]), "green" if worker["state"] == "ready" else "yellow"),
            _duration(worker["age"]),
            str(worker["connections"]),
            str(worker["websockets"]),
            str(worker["in_flight"]),
            str(worker["requests"]),
            Text(str(worker["responses_5xx"]), "red" if worker["responses_5xx"] else ""),
            f"{worker['loop_lag'] * 1000:.0f} ms",
            Text("-" if beat is None else f"{beat:.1f} s", "red" if silent else ""),
            _memory(worker["pid"]),
        )
    return table


def _table(*columns: str) -> Table:
    # Narrow enough for 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(
            column, justify="left" if column in {"NAME", "PHASE", "STATE", "SOCKET"} else "right"
        )
    return table


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def _text(text: str) -> Text:
    return Text(one_line(text))


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _memory(pid: int | None) -> str:
    used = None if pid is None else proportional_memory(pid)
    return "-" if used is None else f"{used / 1024 / 1024:.0f}M"


def _duration(seconds: float) -> str:
    """Such as `42 s`, `3 m 20 s`, `5 h 1 m`, `12 d 3 h`."""
    whole = int(seconds)
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    for position, (unit, size) in enumerate(units):
        if whole >= size:
            rest = whole % size
            if position + 1 == len(units):
                break
            next_unit, next_size = units[position + 1]
            return f"{whole // size} {unit} {rest // next_size} {next_unit}"
    return f"{whole} s"
