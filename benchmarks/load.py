"""The workloads and their loads: by wrk, h2load or `clients.py`, on a core of their own, bounded in time."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import varied
from clients import LoadError
from environment import HERE
from servers import Listener, Running

CONNECTIONS = 32
_DOWNLOADS = 4
"""At once: few, since what is under way at the end does not count as answered."""
_SLACK = 20.0
"""Seconds a load may take longer than asked before it counts as stuck."""

_BROWSER = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.8,de;q=0.5,fr;q=0.3",
    "Cache-Control": "no-cache",
    "Cookie": "session=1f0c4c0e6f6b4dd2a7b5c1de9d0b7f1e; theme=dark; consent=analytics:0,ads:0; csrftoken=8Jx0QmPz4rTn",
    "DNT": "1",
    "Referer": "https://www.example.org/articles/2026/11/a-rather-long-address?utm_source=newsletter&utm_medium=email",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
}
"""With Host, the fourteen fields of a page request by a browser."""

_POST = """wrk.method = "POST"
wrk.body = string.rep("x", 1024)
wrk.headers["Content-Type"] = "application/octet-stream"
"""
_FROM_FILE = """local requests, last = {}, 0
function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for size in function() return file:read("*n") end do
    file:read(1)
    requests[#requests + 1] = file:read(size)
  end
end
function request()
  last = last % #requests + 1
  return requests[last]
end
"""
"""Sends the requests of a file, each after its size and a line feed."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One load. It is wrk's, or that of a kind of client."""

    name: str
    title: str
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    script: str = ""
    posts: int = 0
    """Bytes that an HTTP/2 client posts."""
    varied: bool = False
    """Whether the requests are those of `varied.requests`."""
    client: str = ""
    """A kind of `clients.KINDS`."""
    connections: int = CONNECTIONS
    listener: Listener = Listener.TCP
    access_log: bool = False
    http2: bool = False
    """Whether it is h2load's, in HTTP/2."""


_HTTP2: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("tiny", "tiny response", {}),
    ("browser", "browser-size headers (14 fields)", {"headers": tuple(_BROWSER.items())}),
    ("targets", "the same, 2,000 targets", {"headers": tuple(_BROWSER.items()), "varied": True}),
    ("page", "10 KB body", {"path": "/page"}),
    ("post", "1 KB POST", {"path": "/post", "posts": 1024}),
    ("stream", "20-chunk stream", {"path": "/stream"}),
)
HTTP2_CONNECTIONS = 8
HTTP2_STREAMS = 32
"""Of each connection, at once."""
_TARGETS = 2_000

WORKLOADS = (
    Workload("mix", "the mix", client="mix"),
    Workload("varied", "browser-size, no two alike", varied=True),
    Workload("tiny", "tiny response"),
    Workload("browser", "browser-size headers (14 fields)", headers=tuple(_BROWSER.items())),
    Workload("page", "10 KB body", "/page"),
    Workload("post", "1 KB POST", "/post", script=_POST),
    Workload("stream", "20-chunk stream", "/stream"),
    Workload("download", "10 MB download", "/download", connections=_DOWNLOADS),
    Workload("connect", "new connection per request", headers=(("Connection", "close"),)),
    Workload("unix", "tiny response, Unix socket", client="tiny", listener=Listener.UNIX),
    Workload("ws64", "WebSocket echo, 64 B", client="echo-64"),
    Workload("ws16k", "WebSocket echo, 16 KB", client="echo-16k"),
    Workload("tls", "tiny response, TLS kept alive", listener=Listener.TLS),
    Workload("tls-full", "TLS, full handshake per request", client="full-handshakes", listener=Listener.TLS),
    Workload(
        "tls-resumed", "TLS, resumed session per request", client="resumed-handshakes", listener=Listener.TLS
    ),
    Workload(
        "tls-download", "10 MB download, TLS", "/download", connections=_DOWNLOADS, listener=Listener.TLS
    ),
    Workload("log", "tiny response, access log on", access_log=True),
    *(
        Workload(f"{prefix}{name}", f"{title}, {words}", listener=listener, http2=True, **details)
        for prefix, words, listener in (
            ("h2-", "HTTP/2", Listener.TCP),
            ("h2s-", "HTTP/2 over TLS", Listener.TLS),
        )
        for name, title, details in _HTTP2
    ),
    Workload(
        "h2-varied",
        "path and cookie new each time, HTTP/2",
        client="http2-varied",
        connections=HTTP2_CONNECTIONS,
        http2=True,
    ),
    Workload(
        "h2s-varied",
        "path and cookie new each time, HTTP/2 over TLS",
        client="http2-varied-tls",
        connections=HTTP2_CONNECTIONS,
        listener=Listener.TLS,
        http2=True,
    ),
)


def missing_tools() -> list[str]:
    """What the loads need and this host lacks, with the way to get it."""
    wanted = {
        "wrk": "apt-get install wrk",
        "h2load": "apt-get install nghttp2-client",
        "taskset": "apt-get install util-linux",
        "openssl": "apt-get install openssl",
    }
    return [
        f"{tool} is not installed; get it with: {how}"
        for tool, how in wanted.items()
        if shutil.which(tool) is None
    ]


def run(workload: Workload, running: Running, seconds: float, core: int, scratch: Path) -> int:
    """Put the load on the server; returns how many requests or messages were answered."""
    if workload.client:
        arguments = [workload.client, running.address, str(workload.connections), str(seconds)]
        return int(_pinned([sys.executable, str(HERE / "clients.py"), *arguments], seconds, core))
    if workload.http2:
        return _h2load(workload, running, seconds, core, scratch)
    command = ["wrk", "-t1", f"-c{workload.connections}", f"-d{max(1, round(seconds))}s"]
    for name, value in workload.headers:
        command += ["-H", f"{name}: {value}"]
    script = _FROM_FILE if workload.varied else workload.script
    if script:
        file = scratch / f"{workload.name}.lua"
        file.write_text(script)
        command += ["-s", str(file)]
    scheme = "https" if workload.listener is Listener.TLS else "http"
    command.append(f"{scheme}://{running.address}{workload.path}")
    if workload.varied:
        command += ["--", str(_requests(scratch))]
    output = _pinned(command, seconds, core)
    if wrong := re.search(r"Non-2xx or 3xx responses: (\d+)", output):
        raise LoadError(f"{wrong[1]} responses were not 2xx")
    return int(re.search(r"(\d+) requests in", output)[1])


def _h2load(workload: Workload, running: Running, seconds: float, core: int, scratch: Path) -> int:
    scheme = "https" if workload.listener is Listener.TLS else "http"
    url = f"{scheme}://{running.address}{workload.path}"
    command = [
        "h2load",
        "-t1",
        f"-c{HTTP2_CONNECTIONS}",
        f"-m{HTTP2_STREAMS}",
        f"-D{max(1, round(seconds))}",
    ]
    for name, value in workload.headers:
        command += ["-H", f"{name}: {value}"]
    if workload.posts:
        body = scratch / "body"
        body.write_bytes(b"x" * workload.posts)
        command += ["-d", str(body)]
    if workload.varied:
        targets = scratch / "targets"
        targets.write_text(
            "".join(f"{url}articles/{number}?page={number * 7}\n" for number in range(_TARGETS))
        )
        command += ["-i", str(targets)]
    else:
        command.append(url)
    output = _pinned(command, seconds, core)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    statuses = re.search(r"status codes: (\d+) 2xx", output)
    if counts is None or statuses is None or any(int(counts[place]) for place in (2, 3, 4)):
        raise LoadError(f"h2load: {counts[0] if counts else 'no counts'}")
    return int(statuses[1])


def _requests(scratch: Path) -> Path:
    """The file of the varied requests, as `_FROM_FILE` reads it."""
    file = scratch / "requests"
    if not file.exists():
        file.write_bytes(b"".join(b"%d\n%b" % (len(request), request) for request in varied.requests()))
    return file


def _pinned(command: list[str], seconds: float, core: int) -> str:
    command = ["taskset", "--cpu-list", str(core), *command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _SLACK, check=False)
    except subprocess.TimeoutExpired:
        raise LoadError("the load got stuck") from None
    if done.returncode != 0:
        raise LoadError((done.stderr.strip().splitlines() or ["the load failed"])[-1])
    return done.stdout
