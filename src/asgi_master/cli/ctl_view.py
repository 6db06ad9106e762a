"""Output of `asgi-masterctl` for a terminal."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asgi_master.cli.own_frames import threads_without_ours, without_ours
from asgi_master.cli.rates import Rates
from asgi_master.control.client import Found
from asgi_master.telemetry.resources import proportional_memory
from asgi_master.telemetry.text import one_line

_WIDE = 200
"""Width if the output is no terminal: lines are not broken."""
_COLUMNS = (
    *("SLOT", "PID", "GEN", "STATE", "AGE", "CONN", "WS", "ACT", "REQS", "R/S", "5XX"),
    *("LAG", "BEAT", "CPU", "PSS"),
)
_SILENT_AFTER = 2.0
"""Seconds without a heartbeat after which the worker is highlighted; it comes every quarter of a second."""


def show_masters(masters: Sequence[Found]) -> None:
    """A line for each master."""
    table = _table("PID", "NAME", "PHASE", "WORKERS", "SOCKET")
    for master in masters:
        status = master.status
        if status is None:
            table.add_row(str(master.pid), "", Text("no answer", "red"), "", _text(str(master.path)))
            continue
        ready = sum(worker["state"] == "ready" and not worker.get("standby") for worker in status["workers"])
        workers = f"{ready}/{status['workers_wanted']}"
        table.add_row(
            str(master.pid),
            _text(status["name"]),
            _text(status["phase"]),
            _text(workers),
            _text(str(master.path)),
        )
    _console().print(table)


def show_status(status: dict[str, Any], rates: Rates | None = None) -> None:
    """The master, its workers and the last reload, with rates if known."""
    console = _console()
    serving = [worker for worker in status["workers"] if not worker["standby"]]
    ready = sum(worker["state"] == "ready" for worker in serving)
    starting = status["starting_generation"]
    console.print(
        Text.assemble(
            (one_line(status["name"]), "bold"),
            one_line(f"  {status['phase']}, generation {_or_dash(status['generation'])}"),
            "" if starting is None else one_line(f", generation {starting} starting"),
            one_line(f", {ready} of {status['workers_wanted']} workers ready"),
            _spares(status),
        )
    )
    console.print(
        _text(f"master {status['pid']}, asgi-master {status['version']}, up {_duration(status['uptime'])}")
    )
    console.print(_text("listening on " + ", ".join(status["listening"])))
    console.print(_totals(status, rates))
    last = status["last_reload"]
    if last is not None:
        style = "" if last["result"] == "committed" else "red"
        ago = _duration(max(0.0, time.time() - last["at"]))
        console.print(Text(one_line(f"last reload {last['result']} {ago} ago: {last['message']}"), style))
    if status["held_generation"] is not None:
        console.print(_text(f"a rollback would return to generation {status['held_generation']}"))
    for held in status["waiting"]:
        line = (
            f"slot {held['slot']} waits {held['retry_in']:.1f} s after {held['failures']} failures in a row"
        )
        console.print(Text(one_line(line), "red"))
    console.print(_workers(status["workers"], rates or Rates({}, {})))
    # A master of an earlier version has none.
    if status.get("services"):
        console.print()
        console.print(_services(status["services"]))


def _totals(status: dict[str, Any], rates: Rates | None) -> Text:
    """All workers together: totals, including workers that have ended, and current rates."""
    so_far, workers = status["totals"], status["workers"]
    failed, errors = so_far["responses_5xx"], so_far["application_errors"]
    words = [
        f"{so_far['requests']} requests",
        *([f" ({sum(rates.requests.values()):.0f} a second)"] if rates is not None else []),
        f", {failed} answered 5xx, {errors} application errors",
        f"; {sum(worker['connections'] for worker in workers)} connections",
        f", {sum(worker['in_flight'] for worker in workers)} active",
    ]
    if threads := sum(worker.get("threads", 0) for worker in workers):
        words.append(f"; {sum(worker['threads_busy'] for worker in workers)} of {threads} threads busy")
    if rates is not None and rates.cpu:
        words.append(f"; CPU {sum(rates.cpu.values()):.0%}")
    return Text(one_line("".join(words)), "red" if failed or errors else "")


def show_stacks(found: dict[str, Any], *, everything: bool = True, console: Console | None = None) -> None:
    """The tasks and threads of each worker; frames of asgi-master itself only if `everything`."""
    console = console or _console()
    for number, worker in enumerate(found["workers"]):
        if number:
            console.print()
        title = f"worker {worker['slot']} gen {worker['generation']} [{_or_dash(worker['pid'])}]"
        console.print(Text(one_line(title), "bold"))
        if worker["note"]:
            console.print(Text(one_line(worker["note"]), "yellow"))
        if worker["tasks"] is not None:
            _show_tasks(console, worker, everything=everything)
        if worker["threads"] is not None:
            _show_threads(console, worker["threads"], everything=everything)


def _show_threads(console: Console, text: str, *, everything: bool) -> None:
    lines, hidden = (text.splitlines(), 0) if everything else threads_without_ours(text)
    console.print(f"  threads: {_own(hidden)}".rstrip())
    for line in lines:
        _print_whole(console, f"    {line}")


def _show_tasks(console: Console, worker: dict[str, Any], *, everything: bool) -> None:
    groups, hidden = (worker["tasks"], 0) if everything else without_ours(worker["tasks"])
    left_out = f"{worker['tasks_left_out']} of them not shown" if worker["tasks_left_out"] else ""
    heads = filter(None, [str(worker["task_count"]), left_out, _own(hidden)])
    console.print(_text("  tasks: " + ", ".join(heads)))
    for group in groups:
        names = f" ({', '.join(group['names'])})" if group["names"] else ""
        more = f" and {group['more_served']} more" if group["more_served"] else ""
        serves = f", serving {', '.join(group['serves'])}{more}" if group["serves"] else ""
        _print_whole(console, f"    {group['count']} x {group['coroutine']}{names}{serves}")
        for place in group["stack"]:
            _print_whole(console, f"      {place}")


def _own(count: int) -> str:
    return f"{count} of asgi-master itself (--all shows them)" if count else ""


def _print_whole(console: Console, line: str) -> None:
    """A line that must not be wrapped, as it is meant to be copied."""
    console.print(_text(line), soft_wrap=True)


def _workers(workers: Sequence[dict[str, Any]], rates: Rates) -> Table:
    table = _table(*_COLUMNS)
    for worker in workers:
        beat = worker["heartbeat_age"]
        silent = beat is not None and beat > _SILENT_AFTER
        table.add_row(
            _text(str(worker["slot"])),
            _text(_or_dash(worker["pid"])),
            _text(str(worker["generation"])),
            _state(worker),
            _duration(worker["age"]),
            _text(str(worker["connections"])),
            _text(str(worker["websockets"])),
            _text(str(worker["in_flight"])),
            _text(str(worker["requests"])),
            _known(rates.requests.get(worker["pid"]), "{:.0f}"),
            Text(one_line(str(worker["responses_5xx"])), "red" if worker["responses_5xx"] else ""),
            f"{worker['loop_lag'] * 1000:.0f} ms",
            Text("-" if beat is None else f"{beat:.1f} s", "red" if silent else ""),
            _known(rates.cpu.get(worker["pid"]), "{:.0%}"),
            _memory(worker["pid"]),
        )
    return table


def _services(services: Sequence[dict[str, Any]]) -> Table:
    table = _table("SERVICE", "PID", "GEN", "STATE", "AGE", "RESTARTS", "PSS")
    for service in services:
        table.add_row(
            _text(service["name"]),
            _text(_or_dash(service["pid"])),
            _text(_or_dash(service["generation"])),
            _service_state(service),
            "-" if service["age"] is None else _duration(service["age"]),
            Text(one_line(str(service["restarts"])), "red" if service["failures"] else ""),
            _memory(service["pid"]),
        )
    return table


def _service_state(service: dict[str, Any]) -> Text:
    state = one_line(service["state"])
    if service["retry_in"] is not None:
        return Text(f"{state}, starts in {service['retry_in']:.1f} s", "red")
    return Text(state, "green" if state in {"running", "completed"} else "yellow")


def _known(number: float | None, form: str) -> str:
    return "-" if number is None else form.format(number)


def _spares(status: dict[str, Any]) -> str:
    if not status["spares_wanted"]:
        return ""
    ready = sum(worker["standby"] and worker["state"] == "ready" for worker in status["workers"])
    return f", {ready} of {status['spares_wanted']} spares standing by"


def _state(worker: dict[str, Any]) -> Text:
    if worker["standby"]:
        return Text("standby")
    return Text(one_line(worker["state"]), "green" if worker["state"] == "ready" else "yellow")


def _table(*columns: str) -> Table:
    # Fits 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(
            column, justify="left" if column in {"NAME", "PHASE", "STATE", "SOCKET", "SERVICE"} else "right"
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
    """For example `42 s`, `3 m 20 s`, `5 h 1 m`, `12 d 3 h`."""
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
