"""Numbers to words: medians, ratios, the table of what a request costs, for the terminal and the page."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import load
import page
import varied
from load import Workload
from servers import ASGI_MASTER, BASELINE, FIXED_REPLY, GRANIAN, H2CORN, UVICORN, Server


@dataclass(frozen=True, slots=True)
class Bar:
    """What we may cost in a workload, as a ratio to another server's cost in it."""

    server: Server
    must: float | None
    wish: float | None = None
    """What we would like."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One measurement."""

    each: float
    """CPU seconds of the server for each answer."""
    busy: float
    """Share of its core that it used."""


_H2CORN_WISH = Bar(H2CORN, None, 1.0)
_BARS: dict[str, tuple[Bar, ...]] = {
    "mix": (Bar(H2CORN, 1.15), Bar(GRANIAN, 0.80)),
    "varied": (Bar(H2CORN, 1.20, 1.0), Bar(GRANIAN, 0.85)),
    "tiny": (Bar(H2CORN, 1.10), Bar(GRANIAN, 0.70), Bar(UVICORN, 0.58), Bar(FIXED_REPLY, None, 1.5)),
    "browser": (Bar(H2CORN, 1.15, 1.0), Bar(UVICORN, 0.60)),
    "page": (Bar(GRANIAN, 1.0), Bar(UVICORN, 0.60), _H2CORN_WISH),
    "post": (Bar(GRANIAN, 1.0), Bar(UVICORN, 0.60), _H2CORN_WISH),
    "stream": (Bar(GRANIAN, 1.0), Bar(UVICORN, 0.60), _H2CORN_WISH),
    "download": (Bar(UVICORN, 1.0), Bar(GRANIAN, None, 1.0)),
    "connect": (Bar(H2CORN, 1.25, 1.0), Bar(GRANIAN, 0.65)),
    "ws64": (Bar(UVICORN, 0.8), _H2CORN_WISH),
    "ws16k": (Bar(UVICORN, 1.0), _H2CORN_WISH),
    "tls": (Bar(H2CORN, 1.10, 1.0), Bar(UVICORN, 0.45)),
    "tls-full": (Bar(UVICORN, 0.85, 0.78),),
    "tls-download": (Bar(UVICORN, 1.0), Bar(GRANIAN, None, 1.0)),
    **{
        f"{prefix}{name}": (Bar(GRANIAN, most), Bar(H2CORN, most))
        for prefix in ("h2-", "h2s-")
        for name, most in (
            *(
                ("tiny", 1.0),
                ("browser", 1.0),
                ("targets", 1.0),
                ("page", 1.0),
                ("post", 1.0),
                ("stream", 1.0),
            ),
            ("varied", 1.15),
        )
    },
}
_WHOLE = 1000
"""Microseconds from which on no decimals are shown."""
_BUSY = 0.8
"""Share of a core below which the load was what limited the run."""
_BARS_BEFORE_3_12 = dict.fromkeys(("tiny", "browser", "page", "post", "stream"), (Bar(UVICORN, 0.60),))
"""Where applications begin in the next turn of the loop only."""
_LOG_BAR = Bar(ASGI_MASTER, 1.10, 1.05)
"""The access log, beside the same load without it."""

_TEXT = """## What a request costs, on Python {python}

Server CPU per request in microseconds, and in parentheses the ratio to {baseline} (lower is better). Written by
`{command}`.

Each server has one worker, pinned with all its processes to one core; the load is pinned to another. A request's CPU
is what the server's process tree used (user and system time, from `/proc`) while it answered, divided by the answers.
A figure with ~ was taken while the server used less than {busy:.0%} of its core, for want of load or because the
machine did other work; a server that is less busy has fewer events a turn, and each costs it more. The rounds of all
servers are interleaved, and the median of {rounds} rounds of {seconds:g} s is shown. uvloop everywhere it can be
chosen. The application is [benchmarks/app.py](../benchmarks/app.py).

- *The mix* is what a web application gets: 70 % GET by browsers, no two alike, 15 % POST of 1 to 20 KB, 10 % streams of
  20 chunks, 5 % WebSocket messages; {connections} callers, each with a connection for its requests and a WebSocket.
- *No two alike* are {varied:,} different requests: each has its own path, query, cookie, user agent and request id.
  The other workloads repeat one request, which suits what asgi-master remembers of request lines, header fields and
  response heads ([ADR 5](adr/0005-cache-parsed-request-heads.md)).
- HTTP is loaded by wrk with {connections} connections, downloads with fewer; the mix, Unix sockets, WebSockets and TLS
  handshakes by [own clients](../benchmarks/clients.py). TLS has a P-256 certificate; *resumed* is with the session of
  the connection before.
- HTTP/2 is loaded by h2load with {http2_connections} connections of {http2_streams} streams, and its ratios are to
  granian. h2load repeats its header fields for ever; *path and cookie new each time* is therefore by an
  [own client](../benchmarks/http2_client.py).
- Access logs are off except in the last workload, where they go to `/dev/null`; its bar is the median of each round's
  ratio to the same load without it, right before and after.

{table}
{notes}
{bars}

{facts}
"""


@dataclass(slots=True)
class Results:
    """What was measured, of each round."""

    servers: Sequence[Server]
    workloads: Sequence[Workload]
    rounds: int
    seconds: float
    python: str
    """Its version."""
    costs: dict[tuple[str, str], list[Cost]] = field(default_factory=dict)
    """By workload and server."""
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    """By workload and server: why there is no number."""
    log_ratios: list[float] = field(default_factory=list)
    """Of each round: our cost with the access log on to that with it off, measured right before and after it."""

    def add(self, workload: Workload, server: Server, cost: Cost) -> None:
        self.costs.setdefault((workload.name, server.name), []).append(cost)

    def micros(self, workload: Workload, server: str) -> float | None:
        """The median, in microseconds per answer."""
        costs = self.costs.get((workload.name, server))
        if not costs or (workload.name, server) in self.missing:
            return None
        return statistics.median(cost.each for cost in costs) * 1e6

    def ratio(self, workload: Workload, server: str) -> float | None:
        """To the baseline; in HTTP/2, which that does not speak, to granian."""
        baseline = GRANIAN.name if workload.http2 else BASELINE
        ours, base = self.micros(workload, server), self.micros(workload, baseline)
        return ours / base if ours is not None and base else None

    def cell(self, workload: Workload, server: str) -> str:
        micros, ratio = self.micros(workload, server), self.ratio(workload, server)
        if micros is None:
            return "-"
        busy = statistics.median(cost.busy for cost in self.costs[workload.name, server])
        figure = f"{'' if busy >= _BUSY else '~'}{micros:,.{0 if micros >= _WHOLE else 1}f}"
        return figure if ratio is None else f"{figure} ({ratio:.2f})"

    def table(self) -> str:
        names = [server.name for server in self.servers]
        return page.table(
            [
                ["", *names],
                *(
                    [workload.title, *(self.cell(workload, name) for name in names)]
                    for workload in self.workloads
                ),
            ]
        )

    def notes(self) -> str:
        """Why some cells are empty."""
        titles = {workload.name: workload.title for workload in self.workloads}
        lines = [
            f"- {server}, {titles[workload]}: {why}"
            for (workload, server), why in sorted(self.missing.items())
        ]
        return "\n".join(["", *lines]) if lines else ""

    def bars(self) -> str:
        """Whether we are where we have to be, and where we would like to be."""
        lines = []
        bars = _BARS if tuple(map(int, self.python.split(".")[:2])) >= (3, 12) else _BARS_BEFORE_3_12
        costs = {
            workload.name: {server.name: self.micros(workload, server.name) for server in self.servers}
            for workload in self.workloads
        }
        for workload in self.workloads:
            ours = costs[workload.name].get(ASGI_MASTER.name)
            for bar in bars.get(workload.name, ()):
                lines += _judged(
                    workload.title, bar, ours, costs[workload.name].get(bar.server.name), bar.server.name
                )
            if workload.access_log and self.log_ratios:
                ratio = statistics.median(self.log_ratios)
                lines += _judged(workload.title, _LOG_BAR, ratio, 1.0, "the same with it off")
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


def markdown(results: Results, facts: str, command: str) -> str:
    """The section of the page."""
    return _TEXT.format(
        baseline=BASELINE,
        command=command,
        rounds=results.rounds,
        seconds=results.seconds,
        connections=load.CONNECTIONS,
        http2_connections=load.HTTP2_CONNECTIONS,
        http2_streams=load.HTTP2_STREAMS,
        varied=varied.COUNT,
        busy=_BUSY,
        table=results.table(),
        notes=results.notes(),
        bars=results.bars(),
        python=".".join(results.python.split(".")[:2]),
        facts=facts,
    )
