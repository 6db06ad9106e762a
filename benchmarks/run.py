"""Measure what a request costs each server in CPU, side by side, and write docs/benchmarks.md.

    python benchmarks/run.py [--rounds 3] [--seconds 3] [--servers NAME,...] [--rows NAME,...] [--python PYTHON]

It makes a throw-away environment in the cache directory, with this package and the other servers from PyPI.
"""

import argparse
import contextlib
import datetime as dt
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import load
import report
from load import ROWS, Row
from servers import REPOSITORY, SERVERS, Environment, Running, Server

_WARM_UP = 1.0
_PAGE = REPOSITORY / "docs" / "benchmarks.md"


def main() -> int:
    arguments = parse_arguments()
    if problems := load.missing_tools():
        return fail(problems[0])
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return fail("two cores are needed: one for the server, one for the load")
    environment = Environment(cache_directory() / python_version(arguments.python), arguments.python)
    results = report.Results(arguments.servers, arguments.rows, arguments.rounds, arguments.seconds)
    versions = install(environment, results)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        Measurement(environment, results, stack, cores[0], cores[1], scratch).run()
    print(f"\nCPU per request in µs (ratio to {report.BASELINE}), median of {arguments.rounds}\n")
    print(results.table(), results.notes(), results.bars(), sep="\n")
    if arguments.write:
        write_page(arguments, results, versions)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each server and row (default 3)"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each (default 3)")
    parser.add_argument(
        "--servers", type=chooser(SERVERS), default=SERVERS, help="only these, separated by commas"
    )
    parser.add_argument("--rows", type=chooser(ROWS), default=ROWS, help="only these, separated by commas")
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter to measure on (default: this one)"
    )
    parser.add_argument(
        "--no-write", dest="write", action="store_false", help="leave docs/benchmarks.md as it is"
    )
    return parser.parse_args()


def chooser(choices):
    """An argparse type: the choices whose names are given."""
    by_name = {choice.name: choice for choice in choices}

    def choose(text: str):
        unknown = [name for name in text.split(",") if name not in by_name]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r}; there are {', '.join(by_name)}")
        return tuple(by_name[name] for name in text.split(","))

    return choose


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asgi-master-benchmarks"


def python_version(python: str) -> str:
    ask = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


def install(environment: Environment, results: report.Results) -> dict[str, str]:
    """Install all servers; returns the versions. What does not install is noted, and left out."""
    for server in results.servers:
        print(f"installing {server.name}", flush=True)
        why = environment.install(server)
        for row in results.rows:
            if why is not None:
                results.missing[row.name, server.name] = why
    packages = [*(server.name for server in results.servers), "uvloop", "httptools", "websockets"]
    return {package: environment.version(package) for package in packages}


class Measurement:
    """Starts servers as rows need them, keeps them all running, and goes round them."""

    def __init__(
        self,
        environment: Environment,
        results: report.Results,
        stack: contextlib.ExitStack,
        server_core: int,
        load_core: int,
        scratch: Path,
    ) -> None:
        self._environment = environment
        self._results = results
        self._stack = stack
        self._server_core = server_core
        self._load_core = load_core
        self._scratch = scratch
        self._running: dict[tuple[str, bool], Running] = {}

    def run(self) -> None:
        results = self._results
        for number in range(results.rounds):
            for row in results.rows:
                for server in results.servers:
                    if (row.name, server.name) not in results.missing:
                        self._measure(number, row, server)

    def _measure(self, number: int, row: Row, server: Server) -> None:
        try:
            running = self._started(server, access_log=row.access_log)
            if number == 0:
                self._load(row, running, _WARM_UP)
            before = running.cpu_seconds()
            answers = self._load(row, running, self._results.seconds)
            cost = (running.cpu_seconds() - before) / max(1, answers)
            if answers == 0:
                raise load.LoadError("no answer")
        except load.LoadError as error:
            self._results.missing[row.name, server.name] = str(error)
            print(f"{row.title}: {server.name}: {error}", flush=True)
            return
        self._results.add(row, server, cost)
        print(
            f"round {number + 1}, {row.title}: {server.name} {cost * 1e6:.1f} µs ({answers} answers)",
            flush=True,
        )

    def _started(self, server: Server, *, access_log: bool) -> Running:
        running = self._running.get((server.name, access_log))
        if running is None:
            if access_log and server.access_log is None:
                raise load.LoadError("has no access log")
            running = Running(server, self._environment, self._server_core, access_log=access_log)
            self._stack.callback(running.stop)
            self._running[server.name, access_log] = running
            if (why := running.wait_ready()) is not None:
                raise load.LoadError(why)
        return running

    def _load(self, row: Row, running: Running, seconds: float) -> int:
        return load.run(row, running.port, seconds, self._load_core, self._scratch)


def write_page(arguments: argparse.Namespace, results: report.Results, versions: dict[str, str]) -> None:
    date = dt.datetime.now(dt.UTC).date().isoformat()
    about = report.facts(versions, python_version(arguments.python), date)
    command = " ".join(["python", "benchmarks/run.py", *sys.argv[1:]])
    _PAGE.parent.mkdir(exist_ok=True)
    _PAGE.write_text(report.markdown(results, about, command, load.CONNECTIONS))
    print(f"\nwritten: {_PAGE.relative_to(REPOSITORY)}")


def fail(problem: str) -> int:
    print(f"benchmarks: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
