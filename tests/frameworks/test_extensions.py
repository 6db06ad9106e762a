"""What frameworks do with ASGI's extensions, and what real clients get of it."""

import hashlib
import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

from serving import Server
from ways import WAYS, curl_arguments, serving

SIZE = 1_000_001
VERSIONS = {"1.1": "--http1.1", "2": "--http2-prior-knowledge"}

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file.txt"
    file.write_bytes(os.urandom(SIZE))
    return file


class Noting:
    """Passes on, and notes which messages were sent."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.sent: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def noting_send(message: Any) -> None:
            self.sent.append(message["type"])
            await send(message)

        await self._app(scope, receive, noting_send)


def starlette_of(path: Path) -> Noting:
    async def file(request: Request) -> FileResponse:
        return FileResponse(path)

    return Noting(Starlette(routes=[Route("/", file)]))


def curl(way: str, server: Server, directory: Path, *options: str) -> bytes:
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", *options]
    command += curl_arguments(way, server, directory)
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", WAYS)
def test_a_file_of_starlette(way: str, version: str, path: Path) -> None:
    option = "--http2" if (way, version) == ("tls", "2") else VERSIONS[version]
    app = starlette_of(path)
    content = path.read_bytes()
    with serving(way, app, path.parent) as (server, _connect):

        def get(*options: str) -> bytes:
            app.sent.clear()
            return curl(way, server, path.parent, option, *options)

        assert get() == content
        assert app.sent == ["http.response.start", "http.response.pathsend"]
        assert get("--range", "10-19") == content[10:20]
        assert "http.response.pathsend" not in app.sent
        head = get("--head").decode().lower()
        assert head.startswith(f"http/{version} 200")
        assert f"content-length: {SIZE}\r\n" in head
        etag = next(line for line in head.splitlines() if line.startswith("etag: ")).removeprefix("etag: ")
        stale = get("--header", f"If-Range: {etag}x", "--range", "10-19")
        assert hashlib.sha256(stale).digest() == hashlib.sha256(content).digest()
        assert server.context.stats.application_errors == 0


async def with_extensions(scope: Any, receive: Any, send: Any) -> None:
    """Hints by Starlette where they are offered, trailers, and what was offered as the body."""
    request = Request(scope, receive, send)
    await request.send_early_hints("</a.css>; rel=preload")
    await send({"type": "http.response.start", "status": 200, "trailers": True})
    body = json.dumps(sorted(scope["extensions"])).encode()
    await send({"type": "http.response.body", "body": body})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})


@pytest.mark.parametrize("version", VERSIONS)
def test_hints_and_trailers_by_curl(version: str, tmp_path: Path) -> None:
    asking = ["--header", "Sec-Fetch-Mode: navigate", "--header", "TE: trailers"]
    with serving("tcp", with_extensions, tmp_path) as (server, _connect):
        text = curl("tcp", server, tmp_path, VERSIONS[version], "--include", *asking).decode()
        assert text.startswith(f"HTTP/{version} 103")
        head, _, rest = text.partition("\r\n\r\n")
        assert "link: </a.css>; rel=preload" in head
        assert f"HTTP/{version} 200" in rest
        assert "x-sum: 1" in rest


def test_clients_that_ask_for_nothing_get_one_plain_response(tmp_path: Path) -> None:
    """Python's own client takes 103 for the response."""
    with serving("tcp", with_extensions, tmp_path) as (server, _connect):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for _ in range(2):
            connection.request("GET", "/")
            response = connection.getresponse()
            assert response.status == 200
            assert json.loads(response.read()) == ["http.response.pathsend", "http.response.zerocopysend"]
        connection.request("GET", "/", headers={"TE": "trailers"})
        assert "http.response.trailers" in json.loads(connection.getresponse().read())
        connection.close()
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"http://127.0.0.1:{server.port}/").status_code == 200


def test_a_json_response_is_as_before(tmp_path: Path) -> None:
    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"a": 1})

    with serving("tcp", Starlette(routes=[Route("/", answer)]), tmp_path) as (_server, connect):
        response = connect().get("/")
        assert (response.headers["content-length"], response.body) == ("7", b'{"a":1}')
