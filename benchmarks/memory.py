"""Memory, boot and recovery: a fleet of workers of a real application, beside servers that do and do not preload.

    python benchmarks/memory.py [--workers 8] [--requests 5000] [--rounds 3] [--servers NAME,...]

Writes its section of docs/benchmarks.md. About five minutes, most of them for the servers that import in each worker.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import environment
import marks
import page
import servers
from environment import HERE, Environment, chooser
from servers import ASGI_MASTER, GUNICORN_PRELOAD, UVICORN, Running, Server, StartError

_SERVERS = (ASGI_MASTER, UVICORN, GUNICORN_PRELOAD)
_APPLICATION_NEEDS = ("fastapi", "pydantic", "sqlalchemy", "httpx")
_BOOT_LIMIT = 180.0
_LOAD_LIMIT = 180.0
_REPLACE_LIMIT = 30.0
_SETTLE = 1.0
"""Seconds after boot before memory is read: what workers still do at first is over."""
_CONNECTIONS_PER_WORKER = 8
_MIB = 1024 * 1024

_TEXT = """## Memory, boot and recovery

{workers} workers of [an application](../benchmarks/real_app.py) that imports FastAPI, pydantic, SQLAlchemy and httpx,
on {cores} cores. Written by `{command}`.

Memory is the PSS of all the server's processes together. Boot is counted from the start of the program: to the first
answer, and until the last worker's lifespan startup is over (the application notes the time, so all servers are judged
by the same event). Recovery is counted from SIGKILL of a worker until its successor's lifespan startup is over, less
the time that took. The median of {rounds} rounds.

What an application makes on import is shared by all workers that are forked; what it makes in its lifespan or at the
first request, each worker makes for itself. This one makes all it can on import.

{table}
{notes}
Bars:

{bars}

{facts}
"""


@dataclass(slots=True)
class Figures:
    """What was measured of one server, by round."""

    first_answer: list[float] = field(default_factory=list)
    """Seconds."""
    all_started: list[float] = field(default_factory=list)
    booted: list[float] = field(default_factory=list)
    """Bytes."""
    loaded: list[float] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    """Seconds."""


_ROWS: tuple[tuple[str, str, float, str], ...] = (
    ("booted", "memory after boot", 1 / _MIB, "MiB"),
    ("loaded", "memory after {requests} requests a worker", 1 / _MIB, "MiB"),
    ("first_answer", "first answer", 1, "s"),
    ("all_started", "all workers started", 1, "s"),
    ("recovery", "killed worker replaced", 1000, "ms"),
)
_BARS = (
    ("booted", UVICORN, 0.30),
    ("loaded", UVICORN, 0.30),
    ("booted", GUNICORN_PRELOAD, 1.15),
    ("loaded", GUNICORN_PRELOAD, 1.15),
    ("first_answer", GUNICORN_PRELOAD, 1.2),
    ("all_started", GUNICORN_PRELOAD, 1.3),
)
_RECOVERY_BAR = 0.1


def main() -> int:
    arguments = parse_arguments()
    where = environment.chosen(arguments)
    failed = servers.install(where, arguments.servers, *_APPLICATION_NEEDS)
    figures = {server.name: Figures() for server in arguments.servers if server.name not in failed}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.rounds):
            for server in arguments.servers:
                if server.name in failed:
                    continue
                try:
                    measure(
                        server,
                        where,
                        arguments,
                        Path(scratch) / f"{number}-{server.package}",
                        figures[server.name],
                    )
                except (StartError, TimeoutError, subprocess.SubprocessError) as error:
                    failed[server.name] = str(error)
                    print(f"{server.name}: {error}", flush=True)
    text = section(arguments, where, figures, failed)
    print("\n" + text)
    if arguments.write:
        page.write_section("memory", text)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8, help="of each server (default 8)")
    parser.add_argument("--requests", type=int, default=5000, help="for each worker (default 5000)")
    parser.add_argument("--rounds", type=int, default=3, help="boots of each server (default 3)")
    parser.add_argument(
        "--servers", type=chooser(_SERVERS), default=_SERVERS, help="only these, with commas between"
    )
    parser.add_argument("--application", default="real_app:app", help="another one that writes marks")
    environment.add_options(parser)
    return parser.parse_args()


def measure(
    server: Server, where: Environment, arguments: argparse.Namespace, scratch: Path, figures: Figures
) -> None:
    """One life of a server, with everything that is measured in it."""
    file = scratch.with_suffix(".marks")
    cores = sorted(os.sched_getaffinity(0))[:2]
    running = Running(
        server,
        where,
        cores,
        workers=arguments.workers,
        app=arguments.application,
        variables={marks.VARIABLE: str(file)},
    )
    try:
        figures.first_answer.append(running.wait_ready(_BOOT_LIMIT))
        started = wait_for(lambda: all_started(file, arguments.workers), "all workers", _BOOT_LIMIT)
        figures.all_started.append(started - running.started_at)
        time.sleep(_SETTLE)
        figures.booted.append(running.memory())
        load(where, running.port, arguments)
        figures.loaded.append(running.memory())
        figures.recovery.append(recovery(file))
        tell(server, figures)
    finally:
        running.stop()


def all_started(file: Path, workers: int) -> float | None:
    """When the last of so many workers had started; `None` if one still has not."""
    started = [mark.at for mark in marks.read(file) if mark.event == marks.STARTED]
    return started[workers - 1] if len(started) >= workers else None


def load(where: Environment, port: int, arguments: argparse.Namespace) -> None:
    """Requests for each worker; raises `TimeoutError` if they do not all come back."""
    count = arguments.requests * arguments.workers
    options = {
        "kind": "requests",
        "port": port,
        "count": count,
        "connections": _CONNECTIONS_PER_WORKER * arguments.workers,
        "path": "/",
    }
    done = subprocess.run(
        [str(where.python), str(HERE / "callers.py"), json.dumps(options)],
        env=where.variables(),
        capture_output=True,
        text=True,
        timeout=_LOAD_LIMIT,
        check=True,
    )
    seen = json.loads(done.stdout)
    if seen["failures"]:
        raise StartError(f"{seen['failures']} connections failed: {seen['first_failure']}")


def recovery(file: Path) -> float:
    """Kill a worker; returns the seconds until another has started, without its lifespan startup."""
    before = marks.read(file)
    victim = before[-1].pid
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    started = wait_for(
        lambda: [mark for mark in marks.read(file)[len(before) :] if mark.event == marks.STARTED],
        "a worker instead of the killed one",
        _REPLACE_LIMIT,
    )[0]
    starting = next(
        mark.at for mark in marks.read(file) if mark.event == marks.STARTING and mark.pid == started.pid
    )
    return starting - killed


def wait_for(condition: Callable[[], object], what: str, limit: float):
    """The first true value; raises `TimeoutError`."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit:g} s: {what}")
        time.sleep(0.02)
    return value


def tell(server: Server, figures: Figures) -> None:
    words = [
        f"{title.partition(' {')[0]} {getattr(figures, name)[-1] * scale:.3g} {unit}"
        for name, title, scale, unit in _ROWS
    ]
    print(f"{server.name}: {', '.join(words)}", flush=True)


def section(
    arguments: argparse.Namespace, where: Environment, figures: dict[str, Figures], failed: dict[str, str]
) -> str:
    """The section of the page."""

    def median(server: str, name: str) -> float | None:
        values = getattr(figures[server], name) if server in figures else []
        return statistics.median(values) if values else None

    names = [server.name for server in arguments.servers]
    rows = [["", *names]]
    for name, title, scale, unit in _ROWS:
        cells = [median(server, name) for server in names]
        words = ["-" if value is None else f"{value * scale:.3g} {unit}" for value in cells]
        rows.append([title.format(requests=arguments.requests), *words])
    titles = {name: title.format(requests=arguments.requests) for name, title, _scale, _unit in _ROWS}
    bars = []
    for name, other, limit in _BARS:
        ours, theirs = median(ASGI_MASTER.name, name), median(other.name, name)
        if ours is not None and theirs:
            bars.append(page.bar(titles[name], ours / theirs, limit, f" of {other.name}"))
    if (ours := median(ASGI_MASTER.name, "recovery")) is not None:
        bars.append(page.bar(titles["recovery"], ours * 1000, _RECOVERY_BAR * 1000, " ms"))
    return _TEXT.format(
        workers=arguments.workers,
        cores=min(2, len(os.sched_getaffinity(0))),
        command=page.command(),
        rounds=arguments.rounds,
        table=page.table(rows),
        notes="".join(f"\n- {server}: {why}\n" for server, why in failed.items()),
        bars="\n".join(bars),
        facts=page.facts(
            where.python_version(),
            servers.versions(where, arguments.servers, "fastapi", "pydantic", "sqlalchemy"),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
