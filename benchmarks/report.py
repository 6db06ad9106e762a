"""Numbers to words: medians, ratios, the table on the terminal and in docs/benchmarks.md."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from load import Row
from servers import BASELINE, Server

OURS = "asgi-master"
_BARS = {"tiny": 0.60}
_BAR_ELSEWHERE = 1.0

_TEXT = """# Benchmarks

Server CPU per request in microseconds, and in parentheses the ratio to {baseline} (lower is better). Written by
`{command}`; do not edit.

Each server has one worker, pinned with all its processes to one core; the load is pinned to another. A request's CPU
is what the server's process tree used (user and system time, from `/proc`) while it answered, divided by the answers,
so it does not depend on how hard the load pushes. The rounds of all servers are interleaved, and the median of
{rounds} rounds of {seconds:g} s is shown. HTTP is loaded by wrk with {connections} connections; WebSockets by an own
client with as many. uvloop everywhere it can be chosen; access logs are off except in the last row, where they go to
`/dev/null`. The application is [benchmarks/app.py](../benchmarks/app.py).

A load generator repeats one request for ever, which suits what asgi-master remembers of request lines, header fields
and response heads ([ADR 5](adr/0005-what-was-judged-is-remembered.md)); real clients repeat themselves less.

{table}
{notes}
{bars}

## Where it ran

| what | |
|---|---|
{facts}
"""


@dataclass(slots=True)
class Results:
    """What was measured: CPU seconds per answer, of each round."""

    servers: Sequence[Server]
    rows: Sequence[Row]
    rounds: int
    seconds: float
    costs: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """By row and server."""
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    """By row and server: why there is no number."""

    def add(self, row: Row, server: Server, cost: float) -> None:
        self.costs.setdefault((row.name, server.name), []).append(cost)

    def micros(self, row: Row, server: str) -> float | None:
        """The median, in microseconds per answer."""
        costs = self.costs.get((row.name, server))
        if not costs or (row.name, server) in self.missing:
            return None
        return statistics.median(costs) * 1e6

    def ratio(self, row: Row, server: str) -> float | None:
        """To the baseline."""
        ours, base = self.micros(row, server), self.micros(row, BASELINE)
        return ours / base if ours is not None and base else None

    def cell(self, row: Row, server: str) -> str:
        micros, ratio = self.micros(row, server), self.ratio(row, server)
        if micros is None:
            return "-"
        return f"{micros:.1f}" if ratio is None else f"{micros:.1f} ({ratio:.2f})"

    def table(self) -> str:
        names = [server.name for server in self.servers]
        lines = [["", *names], *([row.title, *(self.cell(row, name) for name in names)] for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(names) + 1)]
        text = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        ]
        text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(text)

    def notes(self) -> str:
        """Why some cells are empty."""
        titles = {row.name: row.title for row in self.rows}
        lines = [f"- {server}, {titles[row]}: {why}" for (row, server), why in sorted(self.missing.items())]
        return "\n".join(["", *lines]) if lines else ""

    def bars(self) -> str:
        """Whether we are where we want to be."""
        lines = []
        for row in self.rows:
            ratio = self.ratio(row, OURS)
            bar = _BARS.get(row.name, _BAR_ELSEWHERE)
            if ratio is not None:
                verdict = "held" if ratio <= bar else "missed"
                lines.append(f"- {row.title}: at most {bar:.2f} of {BASELINE}; {verdict} with {ratio:.2f}")
        return "\n".join(["Bars:", "", *lines]) if lines else ""


def facts(versions: dict[str, str], python: str, date: str) -> list[tuple[str, str]]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(
        (line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine()
    )
    machine = [
        ("date", date),
        ("CPU", cpu),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("Python", python),
    ]
    return machine + sorted(versions.items())


def markdown(results: Results, about: list[tuple[str, str]], command: str, connections: int) -> str:
    """The page."""
    return _TEXT.format(
        baseline=BASELINE,
        command=command,
        rounds=results.rounds,
        seconds=results.seconds,
        connections=connections,
        table=results.table(),
        notes=results.notes(),
        bars=results.bars(),
        facts="\n".join(f"| {name} | {value} |" for name, value in about),
    )
