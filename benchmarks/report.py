"""Numbers to words: medians, ratios, the table of what a request costs, for the terminal and the page."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import page
from load import Row
from servers import ASGI_MASTER, BASELINE, FIXED_REPLY, GRANIAN, H2CORN, UVICORN, Server


@dataclass(frozen=True, slots=True)
class Bar:
    """What we may cost in a row, as a ratio to another server's cost in it."""

    server: Server
    must: float | None
    wish: float | None = None
    """What we would like."""


_H2CORN_WISH = Bar(H2CORN, None, 1.0)
_BARS: dict[str, tuple[Bar, ...]] = {
    "tiny": (Bar(H2CORN, 1.10), Bar(GRANIAN, 0.70), Bar(UVICORN, 0.58), Bar(FIXED_REPLY, None, 1.5)),
    "browser": (Bar(H2CORN, 1.15, 1.0), Bar(UVICORN, 0.60)),
    "page": (Bar(GRANIAN, 1.0), Bar(UVICORN, 0.60), _H2CORN_WISH),
    "post": (Bar(GRANIAN, 1.0), Bar(UVICORN, 0.60), _H2CORN_WISH),
    "stream": (Bar(GRANIAN, 1.0), Bar(UVICORN, 0.60), _H2CORN_WISH),
    "connect": (Bar(UVICORN, 1.0), _H2CORN_WISH),
    "ws64": (Bar(UVICORN, 0.8), _H2CORN_WISH),
    "ws16k": (Bar(UVICORN, 1.0), _H2CORN_WISH),
}
_BARS_BEFORE_3_12 = dict.fromkeys(("tiny", "browser", "page", "post", "stream"), (Bar(UVICORN, 0.60),))
"""Where applications begin in the next turn of the loop only."""
_LOG_BAR = Bar(ASGI_MASTER, 1.10, 1.05)
"""The access log, beside the same load without it."""

_TEXT = """## What a request costs, on Python {python}

Server CPU per request in microseconds, and in parentheses the ratio to {baseline} (lower is better). Written by
`{command}`.

Each server has one worker, pinned with all its processes to one core; the load is pinned to another. A request's CPU
is what the server's process tree used (user and system time, from `/proc`) while it answered, divided by the answers,
so it does not depend on how hard the load pushes. The rounds of all servers are interleaved, and the median of
{rounds} rounds of {seconds:g} s is shown. HTTP is loaded by wrk with {connections} connections; WebSockets by an own
client with as many. uvloop everywhere it can be chosen; access logs are off except in the last row, where they go to
`/dev/null`; its bar is the median of each round's ratio to the same load without it, right before and after. The
application is [benchmarks/app.py](../benchmarks/app.py).

A load generator repeats one request for ever, which suits what asgi-master remembers of request lines, header fields
and response heads ([ADR 5](adr/0005-cache-parsed-request-heads.md)); real clients repeat themselves less.

{table}
{notes}
{bars}

{facts}
"""


@dataclass(slots=True)
class Results:
    """What was measured: CPU seconds per answer, of each round."""

    servers: Sequence[Server]
    rows: Sequence[Row]
    rounds: int
    seconds: float
    python: str
    """Its version."""
    costs: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """By row and server."""
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    """By row and server: why there is no number."""
    log_ratios: list[float] = field(default_factory=list)
    """Of each round: our cost with the access log on to that with it off, measured right before and after it."""

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
        return page.table(
            [["", *names], *([row.title, *(self.cell(row, name) for name in names)] for row in self.rows)]
        )

    def notes(self) -> str:
        """Why some cells are empty."""
        titles = {row.name: row.title for row in self.rows}
        lines = [f"- {server}, {titles[row]}: {why}" for (row, server), why in sorted(self.missing.items())]
        return "\n".join(["", *lines]) if lines else ""

    def bars(self) -> str:
        """Whether we are where we have to be, and where we would like to be."""
        lines = []
        bars = _BARS if tuple(map(int, self.python.split(".")[:2])) >= (3, 12) else _BARS_BEFORE_3_12
        costs = {
            row.name: {server.name: self.micros(row, server.name) for server in self.servers}
            for row in self.rows
        }
        for row in self.rows:
            ours = costs[row.name].get(ASGI_MASTER.name)
            for bar in bars.get(row.name, ()):
                lines += _judged(row.title, bar, ours, costs[row.name].get(bar.server.name), bar.server.name)
            if row.access_log and self.log_ratios:
                ratio = statistics.median(self.log_ratios)
                lines += _judged(row.title, _LOG_BAR, ratio, 1.0, "the same with it off")
        return "\n".join(["Bars:", "", *lines]) if lines else ""


def _judged(title: str, bar: Bar, ours: float | None, theirs: float | None, whose: str) -> list[str]:
    if ours is None or not theirs:
        return []
    lines = []
    if bar.must is not None:
        lines.append(page.bar(title, ours / theirs, bar.must, f" of {whose}"))
    if bar.wish is not None:
        lines.append(page.bar(f"{title} (a wish)", ours / theirs, bar.wish, f" of {whose}"))
    return lines


def markdown(results: Results, facts: str, command: str, connections: int) -> str:
    """The section of the page."""
    return _TEXT.format(
        baseline=BASELINE,
        command=command,
        rounds=results.rounds,
        seconds=results.seconds,
        connections=connections,
        table=results.table(),
        notes=results.notes(),
        bars=results.bars(),
        python=".".join(results.python.split(".")[:2]),
        facts=facts,
    )
