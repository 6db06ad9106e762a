"""Real frameworks, four workers, TCP and a Unix socket, driven by httpx, websockets and curl.

Each application in `apps/` answers the same small contract; what a framework lacks is left out by name.
"""

import hashlib
import json
import random
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect, unix_connect

from apps import holding
from fleet import PATIENCE, Fleet, wait_until

FRAMEWORKS = ["starlette", "fastapi", "django", "quart", "litestar"]
WITH_WEBSOCKET = {"starlette", "fastapi", "quart", "litestar"}
WITH_LIFESPAN = {"starlette", "fastapi", "quart", "litestar"}
WITH_CHUNKED_FORMS = {
    "starlette",
    "fastapi",
    "quart",
    "litestar",
}  # Django reads forms by their Content-Length
WORKERS = 4


class Served:
    """One framework's application, served; and one of the two ways to reach it."""

    def __init__(self, framework: str, fleet: Fleet, socket: Path) -> None:
        self.framework = framework
        self.fleet = fleet
        self.socket = socket
        self.over = "tcp"

    def client(self) -> httpx.Client:
        if self.over == "tcp":
            return httpx.Client(base_url=self.fleet.url, timeout=PATIENCE, trust_env=False)
        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(base_url="http://unix.test", timeout=PATIENCE, transport=transport)

    def websocket(self, path: str) -> ClientConnection:
        if self.over == "tcp":
            return connect(f"ws://127.0.0.1:{self.fleet.port}{path}", open_timeout=PATIENCE, proxy=None)
        return unix_connect(str(self.socket), uri=f"ws://unix.test{path}", open_timeout=PATIENCE)

    def curl(self, path: str, *arguments: str) -> str:
        where = [f"{self.fleet.url}{path}"]
        if self.over == "unix":
            where = ["--unix-socket", str(self.socket), f"http://unix.test{path}"]
        command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "20"]
        done = subprocess.run(
            [*command, *arguments, *where], capture_output=True, text=True, timeout=PATIENCE + 5
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=FRAMEWORKS)
def running(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    framework = request.param
    directory = tmp_path_factory.mktemp(framework)
    socket = directory / "app.sock"
    fleet = Fleet(directory)
    if framework == "litestar":
        fleet.expect_log("importing the application left behind")  # its queue listener for logging
    try:
        fleet.serve(f"{framework}_app:app", "--bind", f"unix:{socket}", workers=WORKERS)
        yield Served(framework, fleet, socket)
        fleet.stop_cleanly()
        if framework in WITH_LIFESPAN:
            assert fleet.output.count(f"{framework} is over") == WORKERS
    finally:
        fleet.close()


@pytest.fixture(params=["tcp", "unix"])
def served(request: Any, running: Served) -> Served:
    running.over = request.param
    return running


def needs(served: Served, what: set[str], name: str) -> None:
    if served.framework not in what:
        pytest.skip(f"{served.framework} has no {name}")


def test_requests_on_kept_connections(served: Served) -> None:
    with served.client() as client:
        for _ in range(20):
            response = client.get("/")
            assert response.status_code == 200
            assert response.json()["framework"] == served.framework


def test_all_workers_serve(served: Served) -> None:
    expected = {worker.pid for worker in served.fleet.workers()}
    assert len(expected) == WORKERS
    seen: set[int] = set()
    clients: list[httpx.Client] = []

    def all_seen() -> bool:
        clients.append(served.client())
        seen.add(clients[-1].get("/").json()["pid"])
        return seen == expected

    try:
        wait_until(all_seen, "each worker answered")
    finally:
        for client in clients:
            client.close()


def test_curl(served: Served) -> None:
    assert json.loads(served.curl("/"))["framework"] == served.framework
    assert "0000" in served.curl("/stream?chunks=1")


def test_unknown_path(served: Served) -> None:
    with served.client() as client:
        assert client.get("/no/such/page").status_code == 404


def test_streaming(served: Served) -> None:
    with served.client() as client, client.stream("GET", "/stream?chunks=50") as response:
        body = b"".join(response.iter_raw())
        assert "content-length" not in response.headers
    assert body == b"".join(f"{number:04}".encode() * 256 for number in range(50))


def test_server_sent_events(served: Served) -> None:
    with served.client() as client, client.stream("GET", "/sse") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line for line in response.iter_lines() if line]
    assert events == ["data: 0", "data: 1", "data: 2"]


def test_an_idle_stream_ends_when_its_client_leaves(served: Served) -> None:
    name = f"idle-{served.over}"
    with served.client() as client, client.stream("GET", "/idle", params={"name": name}) as response:
        assert next(response.iter_raw()) == b"begun"
    wait_until(lambda: holding.arrived(served.fleet.directory, f"{name}-ended"), "the stream was cleaned up")


def test_long_polling(served: Served) -> None:
    name = f"poll-{served.over}"
    with served.client() as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get, "/poll", params={"name": name})
        wait_until(lambda: holding.arrived(served.fleet.directory, name), "the long poll arrived")
        with served.client() as other:
            assert other.get("/").status_code == 200
        assert not waiting.done()
        holding.release(served.fleet.directory, name)
        assert waiting.result(PATIENCE).text.startswith("news")


@pytest.mark.parametrize("size", [0, 100, 5 * 1024 * 1024])
def test_upload(served: Served, size: int) -> None:
    body = random.Random(size).randbytes(size)
    with served.client() as client:
        response = client.post(
            "/upload", files={"file": ("what is it.bin", body, "application/octet-stream")}
        )
    assert response.status_code == 200, response.text
    assert response.json() == {
        "sha256": hashlib.sha256(body).hexdigest(),
        "bytes": size,
        "name": "what is it.bin",
    }


def test_upload_by_curl_in_chunks(served: Served, tmp_path: Path) -> None:
    needs(served, WITH_CHUNKED_FORMS, "chunked forms")
    body = random.Random(1).randbytes(3_000_000)
    (tmp_path / "upload.bin").write_bytes(body)
    answer = served.curl(
        "/upload", "--header", "Transfer-Encoding: chunked", "--form", f"file=@{tmp_path / 'upload.bin'}"
    )
    assert json.loads(answer)["sha256"] == hashlib.sha256(body).hexdigest()


def test_websocket(served: Served) -> None:
    needs(served, WITH_WEBSOCKET, "WebSocket")
    with served.websocket("/ws") as websocket:
        for message in ["hello", "", "ünï", b"bytes \x00\xff", "x" * 100_000, b"y" * 1_000_000]:
            websocket.send(message)
            assert websocket.recv(PATIENCE) == message


def test_many_websockets_at_once(served: Served) -> None:
    needs(served, WITH_WEBSOCKET, "WebSocket")
    together = threading.Barrier(16)

    def converse(number: int) -> bool:
        with served.websocket("/ws") as websocket:
            together.wait(PATIENCE)
            for turn in range(20):
                websocket.send(f"{number}:{turn}")
                assert websocket.recv(PATIENCE) == f"{number}:{turn}"
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(converse, range(16)))


def test_lifespan(served: Served) -> None:
    needs(served, WITH_LIFESPAN, "lifespan")
    with served.client() as client:
        answer = client.get("/state").json()
    assert answer["started_by"] == answer["pid"], "each worker has its own lifespan"
