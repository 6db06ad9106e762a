"""Measure what a request costs each server in CPU, side by side.

    python benchmarks/run.py [--quick] [--rounds 3] [--seconds 3] [--servers NAME,...] [--only WORKLOAD,...]

Writes its section of docs/benchmarks.md; about 25 minutes, with --quick about 6. Like the other benchmarks, it makes a
throw-away environment in the cache directory, with this package and the other servers from PyPI.
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
from load import WORKLOADS, Workload
from servers import ASGI_MASTER, SERVERS, Listener, Running, Server, StartError

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
    results = report.Results(
        arguments.servers, arguments.workloads, arguments.rounds, arguments.seconds, python
    )
    for server, why in servers.install(where, results.servers).items():
        results.missing.update({(workload.name, server): why for workload in results.workloads})
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        Measurement(where, results, stack, cores[0], cores[1], scratch).run()
    print(f"\nCPU per request in µs (ratio to {report.BASELINE}), median of {arguments.rounds}\n")
    print(results.table(), results.notes(), results.bars(), sep="\n")
    if arguments.write:
        versions = servers.versions(where, results.servers, "httptools", "websockets")
        text = report.markdown(results, page.facts(python, versions), page.command())
        page.write_section(arguments.section, text)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each server and workload (default 3)"
    )
    parser.add_argument("--seconds", type=float, help="length of each (default 3, with --quick 1)")
    parser.add_argument("--servers", type=chooser(SERVERS), help="only these, separated by commas")
    parser.add_argument(
        "--only",
        dest="workloads",
        metavar="WORKLOAD,...",
        type=chooser(WORKLOADS),
        default=WORKLOADS,
        help=f"only these, separated by commas: {', '.join(workload.name for workload in WORKLOADS)}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"measure shortly, and only {', '.join(server.name for server in servers.QUICK)}",
    )
    parser.add_argument(
        "--section", default="requests", help="of the page, to keep another Python's (default requests)"
    )
    environment.add_options(parser)
    arguments = parser.parse_args()
    arguments.servers = arguments.servers or (servers.QUICK if arguments.quick else SERVERS)
    arguments.seconds = arguments.seconds or (1.0 if arguments.quick else 3.0)
    return arguments


class Measurement:
    """Starts servers as workloads need them, keeps them all running, and goes round them."""

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
        self._running: dict[tuple[str, Listener, bool], Running] = {}

    def run(self) -> None:
        results = self._results
        for number in range(results.rounds):
            for workload in results.workloads:
                for server in results.servers:
                    can = server.workloads is None or workload.name in server.workloads
                    can = can and (server.http2 or not workload.http2)
                    if can and (workload.name, server.name) not in results.missing:
                        self._measure(number, workload, server)

    def _measure(self, number: int, workload: Workload, server: Server) -> None:
        try:
            running = self._started(server, workload.listener, access_log=workload.access_log)
            if number == 0:
                self._load(workload, running, _WARM_UP)
            if workload.access_log and server is ASGI_MASTER:
                # A machine drifts by more than a log costs: what is compared is measured in one breath.
                silent = self._started(server, workload.listener, access_log=False)
                before, cost, after = (self._cost(workload, one) for one in (silent, running, silent))
                self._results.log_ratios.append(2 * cost.each / (before.each + after.each))
            else:
                cost = self._cost(workload, running)
        except (load.LoadError, StartError) as error:
            self._results.missing[workload.name, server.name] = str(error)
            print(f"{workload.title}: {server.name}: {error}", flush=True)
            return
        self._results.add(workload, server, cost)
        figures = f"{cost.each * 1e6:.1f} µs, core {cost.busy:.0%} busy"
        print(f"round {number + 1}, {workload.title}: {server.name} {figures}", flush=True)

    def _cost(self, workload: Workload, running: Running) -> report.Cost:
        before = running.cpu_seconds()
        answers = self._load(workload, running, self._results.seconds)
        if answers == 0:
            raise load.LoadError("no answer")
        used = running.cpu_seconds() - before
        return report.Cost(used / answers, used / self._results.seconds)

    def _started(self, server: Server, listener: Listener, *, access_log: bool) -> Running:
        key = (server.name, listener, access_log)
        running = self._running.get(key)
        if running is None:
            if access_log and server.access_log is None:
                raise load.LoadError("has no access log")
            running = Running(
                server,
                self._environment,
                [self._server_core],
                listener=listener,
                scratch=self._scratch,
                access_log=access_log,
            )
            self._stack.callback(running.stop)
            self._running[key] = running
            running.wait_ready()
        return running

    def _load(self, workload: Workload, running: Running, seconds: float) -> int:
        return load.run(workload, running, seconds, self._load_core, self._scratch)


def fail(problem: str) -> int:
    print(f"benchmarks: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
