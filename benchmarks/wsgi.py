"""Measure what a request of a WSGI application costs each server, with the same number of threads.

    python benchmarks/wsgi.py [--seconds 3] [--rounds 3] [--threads 8] [--servers NAME,...] [--only WORKLOAD,...]

Writes its section of docs/benchmarks.md. About three minutes.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import environment
import load
import page
import servers
from environment import chooser
from load import LoadError, Workload
from servers import ASGI_MASTER, GRANIAN, Running, Server, StartError

_WARM_UP = 1.0

_TEXT = """## WSGI applications

One worker on one core with {threads} threads, wrk with {connections} connections on another. Written by `{command}`.

Microseconds of CPU a request, or requests a second where the handler sleeps for 50 ms; the median of {rounds} rounds of
{seconds:g} s, in brackets the lowest. The applications are [benchmarks/wsgi_app.py](../benchmarks/wsgi_app.py).

{table}
{notes}
Bars:

{bars}

{facts}
"""

_OURS = replace(ASGI_MASTER, arguments=(*ASGI_MASTER.arguments, "--threads", "{threads}"))
_GTHREAD = Server(
    "gunicorn gthread",
    ("gunicorn[fast]",),
    "gunicorn",
    ("-k", "gthread", "--workers", "{workers}", "--threads", "{threads}"),
    tcp=("--bind", "127.0.0.1:{port}"),
    quiet=("--log-level", "warning"),
)
_GRANIAN = replace(
    GRANIAN,
    arguments=("--interface", "wsgi", "--workers", "{workers}", "--blocking-threads", "{threads}"),
)
_SERVERS = (_OURS, _GRANIAN, _GTHREAD)


@dataclass(frozen=True, slots=True)
class Case:
    """One application under one load."""

    name: str
    title: str
    app: str
    workload: Workload
    is_rate: bool = False
    """Whether requests a second are shown, in place of their CPU."""


_POST = 'wrk.method = "POST"\nwrk.body = string.rep("x", 1024)\n'
CASES = (
    Case("flask", "Flask, tiny response", "flask", Workload("flask", "")),
    Case("flask-post", "Flask, 1 KB POST", "flask", Workload("flask-post", "", "/post", script=_POST)),
    Case("bare", "callable, tiny response", "bare", Workload("bare", "")),
    Case("flask-wait", "Flask, 50 ms of sleep", "flask", Workload("wait", "", "/wait"), is_rate=True),
    Case("bare-wait", "callable, 50 ms of sleep", "bare", Workload("wait", "", "/wait"), is_rate=True),
)

Figures = dict[tuple[str, str], list[float]]


def main() -> int:
    arguments = parse_arguments()
    where = environment.chosen(arguments)
    failed = servers.install(where, arguments.servers, "flask")
    figures: Figures = {}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running: dict[tuple[str, str], Running] = {}
        for number in range(arguments.rounds):
            for case in arguments.cases:
                for server in arguments.servers:
                    if server.name in failed:
                        continue
                    try:
                        one = started(running, stack, server, case.app, where, arguments.threads)
                        if number == 0:
                            load.run(case.workload, one, _WARM_UP, _cores()[1], scratch)
                        value = measure(case, one, arguments.seconds, scratch)
                    except (LoadError, StartError) as error:
                        failed[server.name] = str(error)
                        continue
                    figures.setdefault((case.name, server.name), []).append(value)
                    print(f"round {number + 1}, {case.title}: {server.name} {value:.1f}", flush=True)
    text = section(arguments, where, figures, failed)
    print("\n" + text)
    if arguments.write:
        page.write_section("wsgi", text)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each load (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="of each server (default 3)")
    parser.add_argument("--threads", type=int, default=8, help="that call the application (default 8)")
    parser.add_argument(
        "--servers", type=chooser(_SERVERS), default=_SERVERS, help="only these, with commas between"
    )
    parser.add_argument(
        "--only", dest="cases", type=chooser(CASES), default=CASES, help="only these, with commas between"
    )
    environment.add_options(parser)
    return parser.parse_args()


def started(running, stack, server, app, where, threads) -> Running:
    """The server with this application; it runs until the end."""
    key = server.name, app
    if key not in running:
        given = replace(
            server, arguments=tuple(word.replace("{threads}", str(threads)) for word in server.arguments)
        )
        running[key] = one = Running(given, where, [_cores()[0]], app=f"wsgi_app:{app}")
        stack.callback(one.stop)
        one.wait_ready()
    return running[key]


def measure(case: Case, running: Running, seconds: float, scratch: Path) -> float:
    """The figure that the case shows. Raises `LoadError`."""
    before = running.cpu_seconds()
    answers = load.run(case.workload, running, seconds, _cores()[1], scratch)
    if not answers:
        raise LoadError("no answer")
    if case.is_rate:
        return answers / max(1, round(seconds))
    return (running.cpu_seconds() - before) / answers * 1e6


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def section(arguments, where, figures: Figures, failed: dict[str, str]) -> str:
    """The section of the page."""
    names = [server.name for server in arguments.servers]
    rows = [["", *names]]
    for case in arguments.cases:
        cells = []
        for name in names:
            values = figures.get((case.name, name))
            best = values and (max(values) if case.is_rate else min(values))
            cells.append(f"{statistics.median(values):.1f} ({best:.1f})" if values else "-")
        rows.append([case.title + (", requests/s" if case.is_rate else ""), *cells])

    def ratio(case: str, other: Server) -> float | None:
        ours, theirs = figures.get((case, _OURS.name)), figures.get((case, other.name))
        return statistics.median(ours) / statistics.median(theirs) if ours and theirs else None

    bars = [
        page.bar(f"{case}, of {other.name}", value, limit)
        for case, other, limit in (
            ("flask", _GTHREAD, 0.45),
            ("flask", _GRANIAN, 1.10),
            ("bare", _GTHREAD, 0.25),
            ("bare", _GRANIAN, 35 / 13),
        )
        if (value := ratio(case, other)) is not None
    ]
    if (rate := ratio("flask-wait", _GRANIAN)) is not None:
        bars.append(page.bar(f"flask-wait, requests/s of {_GRANIAN.name} over ours", 1 / rate, 1.0))
    return _TEXT.format(
        threads=arguments.threads,
        connections=load.CONNECTIONS,
        command=page.command(),
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        table=page.table(rows),
        notes="".join(f"\n- {server}: {why}\n" for server, why in failed.items()),
        bars="\n".join(bars),
        facts=page.facts(where.python_version(), servers.versions(where, arguments.servers, "flask")),
    )


if __name__ == "__main__":
    sys.exit(main())
