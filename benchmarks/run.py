"""Measure what a request costs each server in CPU, side by side.

    python benchmarks/run.py [--rounds 3] [--seconds 3] [--servers NAME,...] [--rows NAME,...] [--python PYTHON]

Writes its section of docs/benchmarks.md; about ten minutes. As the other benchmarks, it makes a throw-away environment
in the cache directory, with this package and the other servers from PyPI.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import environment
import load
import page
import report
import servers
from environment import Environment, chooser
from load import ROWS, Row
from servers import ASGI_MASTER, SERVERS, Running, Server, StartError

_WARM_UP = 1.0


def main() -> int:
    arguments = parse_arguments()
    if problems := load.missing_tools():
        return fail(problems[0])
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return fail("two cores are needed: one for the server, one for the load")
    where = environment.chosen(arguments)
    python = where.python_version()
    results = report.Results(arguments.servers, arguments.rows, arguments.rounds, arguments.seconds, python)
    for server, why in servers.install(where, results.servers).items():
        results.missing.update({(row.name, server): why for row in results.rows})
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        Measurement(where, results, stack, cores[0], cores[1], scratch).run()
    print(f"\nCPU per request in µs (ratio to {report.BASELINE}), median of {arguments.rounds}\n")
    print(results.table(), results.notes(), results.bars(), sep="\n")
    if arguments.write:
        versions = servers.versions(where, results.servers, "httptools", "websockets")
        text = report.markdown(results, page.facts(python, versions), page.command(), load.CONNECTIONS)
        page.write_section(arguments.section, text)
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
        "--section", default="requests", help="of the page, to keep another Python's (default requests)"
    )
    environment.add_options(parser)
    return parser.parse_args()


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
                    can = server.rows is None or row.name in server.rows
                    if can and (row.name, server.name) not in results.missing:
                        self._measure(number, row, server)

    def _measure(self, number: int, row: Row, server: Server) -> None:
        try:
            running = self._started(server, access_log=row.access_log)
            if number == 0:
                self._load(row, running, _WARM_UP)
            if row.access_log and server is ASGI_MASTER:
                # A machine drifts by more than a log costs: what is compared is measured in one breath.
                silent = self._started(server, access_log=False)
                before, cost, after = (self._cost(row, one) for one in (silent, running, silent))
                self._results.log_ratios.append(2 * cost / (before + after))
            else:
                cost = self._cost(row, running)
        except (load.LoadError, StartError) as error:
            self._results.missing[row.name, server.name] = str(error)
            print(f"{row.title}: {server.name}: {error}", flush=True)
            return
        self._results.add(row, server, cost)
        print(f"round {number + 1}, {row.title}: {server.name} {cost * 1e6:.1f} µs", flush=True)

    def _cost(self, row: Row, running: Running) -> float:
        """CPU seconds for each answer."""
        before = running.cpu_seconds()
        answers = self._load(row, running, self._results.seconds)
        if answers == 0:
            raise load.LoadError("no answer")
        return (running.cpu_seconds() - before) / answers

    def _started(self, server: Server, *, access_log: bool) -> Running:
        running = self._running.get((server.name, access_log))
        if running is None:
            if access_log and server.access_log is None:
                raise load.LoadError("has no access log")
            running = Running(server, self._environment, [self._server_core], access_log=access_log)
            self._stack.callback(running.stop)
            self._running[server.name, access_log] = running
            running.wait_ready()
        return running

    def _load(self, row: Row, running: Running, seconds: float) -> int:
        return load.run(row, running.port, seconds, self._load_core, self._scratch)


def fail(problem: str) -> int:
    print(f"benchmarks: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
