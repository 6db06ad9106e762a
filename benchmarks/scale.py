"""Many connections that mostly wait: what each costs in memory and CPU, and whether a reload and a stop get past them.

    python benchmarks/scale.py [--connections 10000] [--seconds 10] [--servers NAME,...]

Writes its section of docs/benchmarks.md. About four minutes.
"""

import argparse
import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import environment
import page
import servers
from control_client import ask, status
from environment import HERE, Environment, chooser
from servers import ASGI_MASTER, GRANIAN, UVICORN, Running, Server, StartError

_SERVERS = (ASGI_MASTER, UVICORN, GRANIAN)
_WORKERS = 2
_CLIENTS = 4
"""Programs that hold the connections."""
_SPARE_FILES = 1000
_CROWD_LIMIT = 120.0
_LEAVING_SLACK = 3.0
"""Seconds that processes may take beyond the drain timeout: the grace before a kill, and a busy machine."""
_NEVER = 3600
_STREAMS = "streams"

_TEXT = """## Many connections

{connections} connections on {workers} workers, from {clients} client programs: first idle ones on keep-alive, then
streams of server-sent events, one event a second each. Written by `{command}`.

Memory is the growth of the PSS of all the server's processes for each connection, and CPU what they used in a second,
over {seconds:g} s. A connection dropped is one that broke or was closed; the longest gap is that between any two events
of one stream. The application is
[benchmarks/fleet_app.py](../benchmarks/fleet_app.py); open files were limited to {files}.

{table}
{notes}
asgi-master with {connections} of either kind, `--drain-timeout {drain:g}`:

{leaving}

{facts}
"""


def options_of(server: Server, drain: float) -> list[str]:
    """No server may close what idles here; all are given the same time to stop."""
    seconds = str(max(1, round(drain)))
    options = {
        ASGI_MASTER.name: ["--keep-alive-timeout", str(_NEVER), "--drain-timeout", str(drain)],
        UVICORN.name: ["--timeout-keep-alive", str(_NEVER), "--timeout-graceful-shutdown", seconds],
        GRANIAN.name: [
            *("--http1-header-read-timeout", "60000", "--workers-kill-timeout", seconds),
            # What it serves at once at most; by default it follows from the backlog.
            *("--backpressure", "100000"),
        ],
    }
    return options[server.name]


class CrowdError(Exception):
    """The clients failed; one line."""


class Crowd:
    """The client programs."""

    def __init__(self, where: Environment, port: int, path: str, count: int, cores: Sequence[int]) -> None:
        shares = [count // _CLIENTS + (number < count % _CLIENTS) for number in range(_CLIENTS)]
        self._programs = [
            subprocess.Popen(
                [
                    *("taskset", "--cpu-list", ",".join(str(core) for core in cores)),
                    *(
                        str(where.python),
                        str(HERE / "crowd.py"),
                        str(port),
                        path,
                        str(share),
                        f"127.0.0.{2 + number}",
                    ),
                ],
                env=where.variables(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number, share in enumerate(shares)
        ]

    def counts(self) -> dict[str, float]:
        """The next counts of all together, and the longest gap of any. Raises `CrowdError`."""
        total: dict[str, float] = {}
        deadline = time.monotonic() + _CROWD_LIMIT
        for program in self._programs:
            ready, _, _ = select.select([program.stdout], [], [], max(0, deadline - time.monotonic()))
            line = program.stdout.readline() if ready else ""
            if not line:
                raise CrowdError(f"no word from the clients within {_CROWD_LIMIT:g} s")
            for name, number in json.loads(line).items():
                total[name] = (
                    max(total.get(name, 0), number) if name == "longest_gap" else total.get(name, 0) + number
                )
        return total

    def say(self, word: str) -> dict[str, float]:
        """Have them do something; see `crowd.py`. Returns the counts."""
        for program in self._programs:
            program.stdin.write(word + "\n")
            program.stdin.flush()
        return self.counts()

    def close(self) -> None:
        for program in self._programs:
            with contextlib.suppress(OSError):
                program.stdin.close()
        for program in self._programs:
            try:
                program.wait(10)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
            program.stdout.close()


@dataclass(slots=True)
class Cost:
    """What one kind of crowd cost one server."""

    bytes_each: float
    cpu_share: float
    """CPU seconds a second."""
    dropped: int
    longest_gap: float
    """Seconds between two events of one stream; 0 where there are none."""


def main() -> int:
    arguments = parse_arguments()
    files = raise_file_limit()
    if arguments.connections + _SPARE_FILES > files:
        arguments.connections = files - _SPARE_FILES
        print(f"only {files} open files are allowed: {arguments.connections} connections")
    where = environment.chosen(arguments)
    failed = servers.install(where, arguments.servers)
    costs: dict[tuple[str, str], Cost] = {}
    leaving: list[str] = []
    for server in arguments.servers:
        for kind, path in (("idle", "/"), ("events", "/events")):
            if server.name in failed:
                continue
            try:
                costs[kind, server.name] = measure(server, where, arguments, path, leaving)
            except (StartError, CrowdError, OSError) as error:
                failed[server.name] = f"{kind}: {error}"
                print(f"{server.name}: {error}", flush=True)
    text = section(arguments, where, costs, failed, leaving, files)
    print("\n" + text)
    if arguments.write:
        page.write_section("scale", text)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000, help="of each kind (default 10000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="over which CPU is measured (default 10)")
    parser.add_argument(
        "--drain-timeout", type=float, default=10.0, help="of every server, in seconds (default 10)"
    )
    parser.add_argument("--settle", type=float, default=2.0, help="seconds before memory is read (default 2)")
    parser.add_argument(
        "--servers", type=chooser(_SERVERS), default=_SERVERS, help="only these, with commas between"
    )
    environment.add_options(parser)
    return parser.parse_args()


def raise_file_limit() -> int:
    """As far as it goes, for the servers and the clients too; returns the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1_000_000


def measure(
    server: Server, where: Environment, arguments: argparse.Namespace, path: str, leaving: list[str]
) -> Cost:
    """One kind of crowd on one server, from its start to its end."""
    cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(cores) // 2)
    with contextlib.ExitStack() as stack:
        control = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "control.sock"
        options = options_of(server, arguments.drain_timeout)
        if server is ASGI_MASTER:
            options += ["--control-socket", str(control)]
        running = Running(server, where, cores[:half], workers=_WORKERS, app="fleet_app:app", options=options)
        stack.callback(running.stop, arguments.drain_timeout + _LEAVING_SLACK)
        running.wait_ready()
        warm_up(where, running.port, path, cores[half:] or cores)
        time.sleep(arguments.settle)
        before = running.memory()
        crowd = Crowd(where, running.port, path, arguments.connections, cores[half:] or cores)
        stack.callback(crowd.close)
        cost = cost_of(crowd, running, arguments, before)
        is_stream = path == "/events"
        kind = _STREAMS if is_stream else "idle connections"
        print(
            f"{server.name}, {kind}: {cost.bytes_each / 1024:.1f} KiB each, {cost.cpu_share:.1%} CPU, "
            f"{cost.dropped} dropped"
            + (f", {cost.longest_gap:.2f} s between events at most" if is_stream else ""),
            flush=True,
        )
        if server is ASGI_MASTER:
            for line in leave(crowd, running, control, kind, arguments.drain_timeout):
                leaving.append(f"- {line}")
                print(line, flush=True)
        return cost


def warm_up(where: Environment, port: int, path: str, cores: Sequence[int]) -> None:
    """A few connections come and go, so that what is made once is not counted for each."""
    crowd = Crowd(where, port, path, 20 * _CLIENTS, cores)
    try:
        crowd.counts()
    finally:
        crowd.close()


def cost_of(crowd: Crowd, running: Running, arguments: argparse.Namespace, before: int) -> Cost:
    """What the crowd costs while it stays."""
    opened = crowd.counts()
    if opened["answers"] < arguments.connections:
        raise CrowdError(
            f"only {opened['answers']} of {arguments.connections} connections were answered: {opened}"
        )
    time.sleep(arguments.settle)
    crowd.say("count")
    cpu, begin = running.cpu_seconds(), time.monotonic()
    time.sleep(arguments.seconds)
    cpu, last, took = running.cpu_seconds() - cpu, crowd.say("count"), time.monotonic() - begin
    memory = running.memory()
    return Cost(
        bytes_each=(memory - before) / arguments.connections,
        cpu_share=cpu / took,
        dropped=last["lost"] + last["ended"] + last["failed"],
        longest_gap=last["longest_gap"],
    )


def leave(crowd: Crowd, running: Running, control: Path, kind: str, drain: float) -> list[str]:
    """A reload and a stop under the crowd; returns what was seen, a line each."""
    lines = []
    before = crowd.say("count")
    begin = time.monotonic()
    answer = ask(control, "POST", "/reload", {"wait": True})
    committed = time.monotonic() - begin
    while len({worker["generation"] for worker in status(control)["workers"]}) > 1:
        if time.monotonic() - begin > committed + drain + _LEAVING_SLACK:
            break
        time.sleep(0.05)
    took = time.monotonic() - begin
    if kind == _STREAMS:
        after = crowd.say("count")
        ended, lost = after["ended"] - before["ended"], after["lost"] - before["lost"]
        fate = f"{ended} streams were ended, {lost} broken off"
        after = crowd.say("reopen")
        fate += f", {after['open']} are open after they came back"
    else:
        after = crowd.say("ask")
        fate = f"{after['answers'] - before['answers']} answered again, {after['lost'] - before['lost']} lost"
    lines.append(
        f"reload under the {kind}: {answer.get('message', answer)}; {committed:.1f} s to the commit, {took:.1f} s "
        f"until the last old worker was gone; {fate}"
    )
    stopped = running.stop(drain + _LEAVING_SLACK)
    fate = (
        f"{stopped:.1f} s" if stopped is not None else f"had to be killed after {drain + _LEAVING_SLACK:g} s"
    )
    lines.append(f"stop under the {kind}: {fate}")
    return lines


def section(
    arguments: argparse.Namespace,
    where: Environment,
    costs: dict[tuple[str, str], Cost],
    failed: dict[str, str],
    leaving: list[str],
    files: int,
) -> str:
    """The section of the page."""
    names = [server.name for server in arguments.servers]
    rows = [["", *names]]
    for kind, title in (("idle", "idle"), ("events", "events")):
        cells = [costs.get((kind, name)) for name in names]
        rows.append(
            [
                f"{title}: memory each",
                *("-" if c is None else f"{c.bytes_each / 1024:.1f} KiB" for c in cells),
            ]
        )
        rows.append(
            [f"{title}: CPU of one core", *("-" if c is None else f"{c.cpu_share:.1%}" for c in cells)]
        )
        rows.append([f"{title}: dropped", *("-" if c is None else str(c.dropped) for c in cells)])
        if kind == "events":
            rows.append(
                [f"{title}: longest gap", *("-" if c is None else f"{c.longest_gap:.2f} s" for c in cells)]
            )
    return _TEXT.format(
        connections=f"{arguments.connections:,}",
        workers=_WORKERS,
        clients=_CLIENTS,
        command=page.command(),
        seconds=arguments.seconds,
        files=files,
        drain=arguments.drain_timeout,
        table=page.table(rows),
        notes="".join(f"\n- {server}: {why}\n" for server, why in failed.items()),
        leaving="\n".join(leaving) or "- not measured",
        facts=page.facts(where.python_version(), servers.versions(where, arguments.servers)),
    )


if __name__ == "__main__":
    sys.exit(main())
