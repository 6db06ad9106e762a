"""How long a start takes: to the first answer of a server with one worker, and of commands to their end.

    python benchmarks/start.py [--rounds 15] [--servers NAME,...]

Writes its section of docs/benchmarks.md; about three minutes. The rounds are interleaved: each starts everything once.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import environment
import page
import servers
from environment import Environment, chooser
from servers import ASGI_MASTER, GRANIAN, GUNICORN, H2CORN, UVICORN, Running, Server, StartError

_SERVERS = (ASGI_MASTER, UVICORN, GUNICORN, GRANIAN, H2CORN)
_APPLICATIONS = {"app:app": "plain ASGI", "fastapi_hello:app": "FastAPI"}
_COMMANDS = (
    "asgi-master --version",
    "asgi-master --help",
    "asgi-master --check-config app:app",
    "asgi-masterctl list",
    "asgi-masterctl status --json --pid {pid}",
    "uvicorn --version",
    "uvicorn --help",
)
_LIMIT = 30.0
_BARS = (
    *(((title, ASGI_MASTER.name), (title, UVICORN.name), 1.2) for title in _APPLICATIONS.values()),
    (("asgi-masterctl status --json --pid {pid}", ""), ("uvicorn --version", ""), 0.81),
    (("asgi-masterctl list", ""), ("uvicorn --version", ""), 0.81),
    (("asgi-master --help", ""), ("uvicorn --help", ""), 1.0),
)
"""What is judged, by what, and the ratio that it may have."""

_TEXT = """## Start

Milliseconds of wall time; lower is better. Written by `{command}`.

A server with one worker is timed from the start of its program to its first answer, on {cores} cores; in parentheses
is the ratio to uvicorn. Commands are timed to their end; `asgi-masterctl` asks a running master, PID. `status` without
`--json` takes half a second longer: it takes two samples for its rates. All rounds are interleaved; the median of
{rounds} is shown.

{starts}

{commands}
{notes}
Bars:

{bars}

{facts}
"""

Key = tuple[str, str]
"""Of a figure: an application's title and a server, or a command and nothing."""


@dataclass(slots=True)
class Figures:
    """What was measured, in seconds, by round."""

    seconds: dict[Key, list[float]] = field(default_factory=dict)
    failed: dict[Key, str] = field(default_factory=dict)

    def measure(self, key: Key, once: Callable[[], float]) -> None:
        if key in self.failed:
            return
        try:
            self.seconds.setdefault(key, []).append(once())
        except (StartError, subprocess.SubprocessError) as error:
            self.failed[key] = str(error)
            print(f"{' '.join(key)}: {error}", flush=True)

    def median(self, key: Key) -> float | None:
        found = self.seconds.get(key)
        return statistics.median(found) if found and key not in self.failed else None


def main() -> int:
    arguments = parse_arguments()
    where = environment.chosen(arguments)
    missing = servers.install(where, arguments.servers, "fastapi")
    measured = [server for server in arguments.servers if server.name not in missing]
    figures = Figures(failed={("", name): why for name, why in missing.items()})
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        variables = where.variables() | {"RUNTIME_DIRECTORY": scratch}
        asked = Running(ASGI_MASTER, where, cores, variables=variables)
        try:
            asked.wait_ready()
            for number in range(arguments.rounds):
                for app, title in _APPLICATIONS.items():
                    for server in measured:
                        figures.measure(
                            (title, server.name), partial(first_answer, server, where, cores, app)
                        )
                for command in _COMMANDS:
                    figures.measure(
                        (command, ""), partial(run, command.format(pid=asked.pid), where, variables, scratch)
                    )
                print(f"round {number + 1} of {arguments.rounds}", flush=True)
        finally:
            asked.stop()
    text = section(arguments, where, figures, len(cores))
    print("\n" + text)
    if arguments.write:
        page.write_section("start", text)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="starts of each (default 15)")
    parser.add_argument(
        "--servers", type=chooser(_SERVERS), default=_SERVERS, help="only these, separated by commas"
    )
    environment.add_options(parser)
    return parser.parse_args()


def first_answer(server: Server, where: Environment, cores: list[int], app: str) -> float:
    """Seconds from the start of the server's program to its first answer."""
    running = Running(server, where, cores, app=app)
    try:
        return running.wait_ready(_LIMIT)
    finally:
        running.stop()


def run(command: str, where: Environment, variables: dict[str, str], directory: str) -> float:
    """Seconds that a command takes."""
    program, *words = command.split()
    script = where.python.with_name(program)
    if not script.exists():
        raise StartError("is not installed")
    begin = time.monotonic()
    subprocess.run(
        [str(script), *words], env=variables, cwd=directory, capture_output=True, check=True, timeout=_LIMIT
    )
    return time.monotonic() - begin


def section(arguments: argparse.Namespace, where: Environment, figures: Figures, cores: int) -> str:
    names = [server.name for server in arguments.servers]
    starts = [["first answer", *names]]
    for title in _APPLICATIONS.values():
        base = figures.median((title, UVICORN.name))
        starts.append([title, *(_cell(figures.median((title, name)), base) for name in names)])
    commands = [
        ["command", "ms"],
        *([each.format(pid="PID"), _cell(figures.median((each, "")))] for each in _COMMANDS),
    ]
    bars = []
    for ours, theirs, limit in _BARS:
        value, base = figures.median(ours), figures.median(theirs)
        if value is not None and base is not None:
            what, whose = ours[0].format(pid="PID"), theirs[1] or theirs[0]
            bars.append(page.bar(what, value / base, limit, f" of {whose}"))
    notes = [f"- {' '.join(key).strip().format(pid='PID')}: {why}" for key, why in figures.failed.items()]
    return _TEXT.format(
        command=page.command(),
        cores=cores,
        rounds=arguments.rounds,
        starts=page.table(starts),
        commands=page.table(commands),
        notes="\n".join(["", *notes, ""]) if notes else "",
        bars="\n".join(bars),
        facts=page.facts(where.python_version(), servers.versions(where, arguments.servers, "fastapi")),
    )


def _cell(seconds: float | None, base: float | None = None) -> str:
    if seconds is None:
        return "-"
    ratio = f" ({seconds / base:.2f})" if base else ""
    return f"{seconds * 1000:.0f}{ratio}"


if __name__ == "__main__":
    sys.exit(main())
