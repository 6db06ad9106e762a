"""A fleet under uneven work: what other requests feel of some that block the event loop, and how evenly load spreads.

    python benchmarks/blocking.py [--seconds 10] [--rounds 3] [--servers NAME,...]

Writes its section of docs/benchmarks.md. About three minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import environment
import page
import servers
from environment import HERE, Environment, chooser
from servers import ASGI_MASTER, GRANIAN, UVICORN, Running, Server, StartError

_SERVERS = (ASGI_MASTER, UVICORN, GRANIAN)
_WORKERS = 4
_CALLERS = 32
_PAUSE = 0.06
_BLOCK_SHARE = 0.05
_SLACK = 60.0
_BALANCE_BAR = 1.15
_MIX = [1, 1, 5, 20]
"""Requests of a connection in the mix of one-shot and keep-alive clients."""

_TEXT = """## Blocked loops and even load

{workers} workers. Written by `{command}`.

Latency: {callers} callers, half on a connection each that they keep, half on a new one for each request, pause
{pause:g} ms on average between requests; {share:.0%} of their requests hold the worker's event loop for 50 ms. Shown is
what the *other* requests took, in milliseconds. Balance: {rate:,} new connections a second, of one request each, or
fewer of {mix} requests each ("mix"), as many requests in all; shown is the requests of the busiest worker over the mean
(1.00 is even). The median of {rounds} rounds of {seconds:g} s. The application is
[benchmarks/fleet_app.py](../benchmarks/fleet_app.py).

{table}
{notes}
Bars:

{bars}

{facts}
"""
_ROWS = (
    ("kept p50", "kept connection, p50", ".1f"),
    ("kept p99", "kept connection, p99", ".1f"),
    ("fresh p50", "new connection, p50", ".1f"),
    ("fresh p99", "new connection, p99", ".1f"),
    ("all p99", "both, p99", ".1f"),
    ("balance", "busiest worker, one-shot", ".2f"),
    ("balance mix", "busiest worker, mix", ".2f"),
    ("rate", "connections a second served", ".0f"),
)


class LoadError(Exception):
    """The clients failed; one line."""


@dataclass(slots=True)
class Figures:
    """What was measured of one server: by row, a value for each round."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        values = self.values.get(name)
        return statistics.median(values) if values else None


def main() -> int:
    arguments = parse_arguments()
    where = environment.chosen(arguments)
    failed = servers.install(where, arguments.servers)
    figures = {server.name: Figures() for server in arguments.servers}
    for _ in range(arguments.rounds):
        for server in arguments.servers:
            if server.name in failed:
                continue
            try:
                figures[server.name].add(measure(server, where, arguments))
            except (StartError, LoadError) as error:
                failed[server.name] = str(error)
                print(f"{server.name}: {error}", flush=True)
    text = section(arguments, where, figures, failed)
    print("\n" + text)
    if arguments.write:
        page.write_section("blocking", text)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each load (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="of each server (default 3)")
    parser.add_argument("--rate", type=int, default=2000, help="new connections a second (default 2000)")
    parser.add_argument(
        "--servers", type=chooser(_SERVERS), default=_SERVERS, help="only these, with commas between"
    )
    environment.add_options(parser)
    return parser.parse_args()


def measure(server: Server, where: Environment, arguments: argparse.Namespace) -> dict[str, float]:
    """One life of a server."""
    cores = sorted(os.sched_getaffinity(0))
    running = Running(server, where, cores, workers=_WORKERS, app="fleet_app:app")
    try:
        running.wait_ready()
        # All workers are there, and warm, when this is over.
        call(where, running.port, "arrivals", rate=200, seconds=2, requests=[1], pause=0)
        mixed = call(
            where,
            running.port,
            "mixed",
            callers=_CALLERS,
            seconds=arguments.seconds,
            pause=_PAUSE,
            block_share=_BLOCK_SHARE,
        )
        found = {
            "kept p50": percentile(mixed["kept"], 50),
            "kept p99": percentile(mixed["kept"], 99),
            "fresh p50": percentile(mixed["fresh"], 50),
            "fresh p99": percentile(mixed["fresh"], 99),
            "all p99": percentile(mixed["kept"] + mixed["fresh"], 99),
        }
        for name, requests, rate in (
            ("balance", [1], arguments.rate),
            ("balance mix", _MIX, arguments.rate * len(_MIX) / sum(_MIX)),
        ):
            seen = call(
                where,
                running.port,
                "arrivals",
                rate=rate,
                seconds=arguments.seconds,
                requests=requests,
                pause=0.01,
            )
            found[name] = max(seen["workers"].values()) / (sum(seen["workers"].values()) / _WORKERS)
            if requests == [1]:
                found["rate"] = seen["answers"] / seen["seconds"]
    finally:
        running.stop()
    print(
        f"{server.name}: " + ", ".join(f"{title} {found[name]:{form}}" for name, title, form in _ROWS),
        flush=True,
    )
    return found


def call(where: Environment, port: int, kind: str, **options: object) -> dict:
    """Put a load on the server; see `callers.py`. Raises `LoadError` if any of it failed."""
    seconds = float(options["seconds"])
    done = subprocess.run(
        [str(where.python), str(HERE / "callers.py"), json.dumps({"kind": kind, "port": port, **options})],
        env=where.variables(),
        capture_output=True,
        text=True,
        timeout=seconds + _SLACK,
        check=False,
    )
    if done.returncode != 0:
        raise LoadError((done.stderr.strip().splitlines() or ["the clients failed"])[-1])
    seen = json.loads(done.stdout)
    if seen["failures"]:
        raise LoadError(f"{seen['failures']} connections failed: {seen['first_failure']}")
    return seen


def percentile(values: list[float], percent: int) -> float:
    """In milliseconds."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] * 1000 if values else 0.0


def section(
    arguments: argparse.Namespace, where: Environment, figures: dict[str, Figures], failed: dict[str, str]
) -> str:
    """The section of the page."""
    names = [server.name for server in arguments.servers]
    rows = [["", *names]]
    for name, title, form in _ROWS:
        cells = [figures[server].median(name) for server in names]
        rows.append([title, *("-" if value is None else f"{value:{form}}" for value in cells)])
    bars = []
    for name, title in (("all p99", "p99 of both"),):
        ours, theirs = (
            figures[s.name].median(name) if s.name in figures else None for s in (ASGI_MASTER, UVICORN)
        )
        if ours is not None and theirs:
            bars.append(page.bar(title, ours / theirs, 1.0, f" of {UVICORN.name}"))
    for name, title in (("balance", "busiest worker, one-shot"), ("balance mix", "busiest worker, mix")):
        if (
            ours := figures[ASGI_MASTER.name].median(name) if ASGI_MASTER.name in figures else None
        ) is not None:
            bars.append(page.bar(title, ours, _BALANCE_BAR, " of the mean"))
    return _TEXT.format(
        workers=_WORKERS,
        command=page.command(),
        callers=_CALLERS,
        pause=_PAUSE * 1000,
        share=_BLOCK_SHARE,
        rate=arguments.rate,
        mix=", ".join(str(number) for number in _MIX[:-1]) + f" or {_MIX[-1]}",
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        table=page.table(rows),
        notes="".join(f"\n- {server}: {why}\n" for server, why in failed.items()),
        bars="\n".join(bars),
        facts=page.facts(where.python_version(), servers.versions(where, arguments.servers)),
    )


if __name__ == "__main__":
    sys.exit(main())
