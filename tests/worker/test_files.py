"""Files as bodies: by their paths and by descriptors, over TCP, Unix sockets and TLS, whole and in parts."""

import asyncio
import contextlib
import io
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from http_apps import respond
from http_client import Client, request
from serving import LOOPS, Server
from ways import WAYS, serving

SIZE = 3_000_001


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(SIZE))
    return file


class ByPath:
    """Answers with files, whatever is asked for; notes what `send` raised."""

    def __init__(self, path: Path | str, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        self.path = str(path)
        self.headers = headers
        self.status = status
        self.raised: list[BaseException] = []
        self.opened = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert "http.response.pathsend" in scope["extensions"]
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        try:
            await send({"type": "http.response.pathsend", "path": self.path})
        except BaseException as error:
            self.raised.append(error)
            raise


def times_open(path: Path) -> int:
    """How many descriptors of this process are of this file."""
    count = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += fd.readlink() == path
    return count


def is_stuck(server: Server) -> bool:
    """Whether a peer does not read, so that what is sent waits for it."""
    return any(connection.writer.is_paused for connection in server.context.connections)  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, SIZE])
def test_a_file_by_its_path(loop: str, way: str, size: int, path: Path) -> None:
    os.truncate(path, size)
    with serving(way, ByPath(path), path.parent, loop=loop) as (server, connect):
        client = connect()
        for _ in range(2):
            response = client.get("/")
            assert response.headers["content-length"] == str(size)
            assert response.body == path.read_bytes()
        client.send(request("HEAD", "/"))
        assert client.response("HEAD").headers.get("content-length", "0") == str(size)
        assert client.get("/").body == path.read_bytes()
        assert server.context.stats.application_errors == 0
        server.wait_until(lambda: not times_open(path))


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_reads_slowly(loop: str, way: str, path: Path) -> None:
    options = {"loop": loop, "send_buffer": 16384}
    with serving(way, ByPath(path), path.parent, **options) as (server, connect):
        client = connect(receive_buffer=4096) if way != "unix" else connect()
        client.send(request("GET", "/") * 2)
        server.wait_until(lambda: is_stuck(server))
        assert times_open(path) == 1
        for _ in range(2):
            assert client.response().body == path.read_bytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_does_not_read_is_let_go(loop: str, way: str, path: Path) -> None:
    app = ByPath(path)
    options = {"loop": loop, "send_buffer": 16384, "write_timeout": 0.2}
    with serving(way, app, path.parent, **options) as (server, connect):
        client = connect(receive_buffer=4096) if way != "unix" else connect()
        client.send(request("GET", "/"))
        server.wait_until(lambda: app.raised and not (server.context.connections or times_open(path)))
        assert isinstance(app.raised[0], OSError)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_shrinks_while_it_is_sent(loop: str, way: str, path: Path, caplog: Any) -> None:
    app = ByPath(path)
    with serving(way, app, path.parent, loop=loop, send_buffer=16384) as (server, connect):
        client = connect(receive_buffer=4096) if way != "unix" else connect()
        client.send(request("GET", "/"))
        server.wait_until(lambda: is_stuck(server))
        os.truncate(path, 10)
        with pytest.raises((EOFError, OSError)):
            client.response()
        server.wait_until(lambda: not (server.context.connections or times_open(path)))
    assert len(caplog.messages) == 1
    assert f"'{path}' became shorter while it was sent" in caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_grows_while_it_is_sent(loop: str, way: str, path: Path) -> None:
    content = path.read_bytes()
    with serving(way, ByPath(path), path.parent, loop=loop, send_buffer=16384) as (server, connect):
        client = connect(receive_buffer=4096) if way != "unix" else connect()
        client.send(request("GET", "/"))
        server.wait_until(lambda: is_stuck(server))
        with path.open("ab") as file:
            file.write(b"more")
        assert client.response().body == content
        assert client.get("/").body == content + b"more"


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_leaves(loop: str, way: str, path: Path, caplog: Any) -> None:
    app = ByPath(path)
    with serving(way, app, path.parent, loop=loop, send_buffer=16384) as (server, connect):
        client = connect(receive_buffer=4096) if way != "unix" else connect()
        client.send(request("GET", "/"))
        server.wait_until(lambda: is_stuck(server))
        client.sock.close()
        server.wait_until(lambda: app.raised and not (server.context.connections or times_open(path)))
        assert isinstance(app.raised[0], OSError)
    assert not caplog.messages


@pytest.mark.parametrize("way", WAYS)
def test_an_application_that_is_cancelled(loop: str, way: str, path: Path) -> None:
    app = ByPath(path)
    with serving(way, app, path.parent, loop=loop, send_buffer=16384) as (server, connect):
        client = connect(receive_buffer=4096) if way != "unix" else connect()
        client.send(request("GET", "/"))
        server.wait_until(lambda: is_stuck(server))
        server.run(lambda: [connection.cancel() for connection in list(server.context.connections)])
        server.wait_until(lambda: app.raised and not (server.context.connections or times_open(path)))
        assert isinstance(app.raised[0], asyncio.CancelledError)


@pytest.mark.parametrize("length", [10, SIZE - 1])
def test_of_a_file_that_is_longer_than_its_content_length_as_much_is_sent(
    loop: str, length: int, path: Path
) -> None:
    headers = (b"content-length", b"%d" % length)
    with serving("tcp", ByPath(path, headers), path.parent, loop=loop) as (_server, connect):
        client = connect()
        for _ in range(2):
            assert client.get("/").body == path.read_bytes()[:length]


def test_a_response_that_has_no_body(loop: str, path: Path) -> None:
    with serving("tcp", ByPath(path, status=304), path.parent, loop=loop) as (_server, connect):
        client = connect()
        for _ in range(2):
            response = client.get("/")
            assert (response.status, response.body) == (304, b"")
            assert "content-length" not in response.headers


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_must_come_from_the_disk(loop: str, way: str, path: Path) -> None:
    with path.open("rb") as file, serving(way, ByPath(path), path.parent, loop=loop) as (_server, connect):
        expected = file.read()
        client = connect()
        for _ in range(2):
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert client.get("/").body == expected


def test_http_1_0(loop: str, path: Path) -> None:
    with serving("tcp", ByPath(path), path.parent, loop=loop) as (_server, connect):
        client = connect()
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
        for _ in range(2):
            assert client.response().body == path.read_bytes()


def _missing(directory: Path) -> Path:
    return directory / "missing"


def _directory(directory: Path) -> Path:
    return directory


def _fifo(directory: Path) -> Path:
    os.mkfifo(directory / "fifo")
    return directory / "fifo"


def _socket(directory: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(directory / "sock"))
    return directory / "sock"


def _below_a_file(directory: Path) -> Path:
    (directory / "plain").touch()
    return directory / "plain" / "file"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (_missing, FileNotFoundError),
        (_directory, ValueError),
        (_fifo, ValueError),
        (_socket, OSError),
        (_below_a_file, NotADirectoryError),
        (lambda _: Path("/dev/null"), ValueError),
    ],
)
def test_what_is_no_file_raises_before_anything_leaves(
    make: Callable[[Path], Path], error: type[Exception], tmp_path: Path
) -> None:
    app = ByPath(make(tmp_path))
    with serving("tcp", app, tmp_path) as (_server, connect):
        client = connect()
        for _ in range(2):
            assert client.get("/").status == 500
    assert [type(raised) for raised in app.raised] == [error] * 2 or isinstance(app.raised[0], error)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read(path: Path) -> None:
    path.chmod(stat.S_IWUSR)
    app = ByPath(path)
    with serving("tcp", app, path.parent) as (_server, connect):
        assert connect().get("/").status == 500
    assert isinstance(app.raised[0], PermissionError)


def test_a_file_that_is_shorter_than_its_content_length_raises_before_anything_leaves(path: Path) -> None:
    app = ByPath(path, (b"content-length", b"%d" % (SIZE + 1)))
    with serving("tcp", app, path.parent) as (_server, connect):
        assert connect().get("/").status == 500
        assert times_open(path) == 0
    assert "shorter than its content-length" in str(app.raised[0])


def test_the_bytes_of_files_are_logged_also_of_those_that_are_not_complete(path: Path) -> None:
    logged = []

    class Log:
        is_timed = False

        def of_connection(self) -> Any:
            return self

        def record(self, request: Any, scope: Any, status: int, body_bytes: int, *_rest: Any) -> None:
            logged.append((status, body_bytes))

    options = {"send_buffer": 16384, "access_log": Log()}
    with serving("tcp", ByPath(path), path.parent, **options) as (server, connect):
        assert connect().get("/").body == path.read_bytes()
        client = connect(receive_buffer=4096)
        client.send(request("GET", "/"))
        server.wait_until(lambda: is_stuck(server))
        client.sock.close()
        server.wait_until(lambda: len(logged) == 2)
    assert logged[0] == (200, SIZE)
    assert logged[1][0] == 200
    assert 0 < logged[1][1] < SIZE


# -- open files ------------------------------------------------------------------------------------


class OfFile:
    """Answers with parts of an open file between pieces of a body."""

    def __init__(self, path: Path, *parts: dict[str, Any], raw: bool = False, headers: Any = ()) -> None:
        self._path = path
        self._parts = parts
        self._raw = raw
        self._headers = headers
        self.extensions: list[str] = []
        self.positions: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.extensions = list(scope["extensions"])
        with self._path.open("rb") as file:
            file.seek(5)
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            for part in self._parts:
                message = {"type": "http.response.zerocopysend", "more_body": True, **part}
                message["file"] = file.fileno() if self._raw else file
                await send(message)
                self.positions.append(os.lseek(file.fileno(), 0, os.SEEK_CUR) if self._raw else file.tell())
                await send({"type": "http.response.body", "body": b"|", "more_body": True})
            await send({"type": "http.response.body"})


PARTS = ({"offset": 1_000_000, "count": 700_000}, {"offset": 3, "count": 4}, {"count": 100_000}, {})
POSITIONS = [5, 5, 100_005, SIZE]


def joined(path: Path) -> bytes:
    content = path.read_bytes()
    spans = (content[1_000_000:1_700_000], content[3:7], content[5:100_005], content[100_005:])
    return b"".join(span + b"|" for span in spans)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("announced", [False, True])
def test_parts_of_an_open_file(loop: str, way: str, raw: bool, announced: bool, path: Path) -> None:
    expected = joined(path)
    headers = [(b"content-length", b"%d" % len(expected))] if announced else []
    app = OfFile(path, *PARTS, raw=raw, headers=headers)
    with serving(way, app, path.parent, loop=loop) as (server, connect):
        client = connect()
        for _ in range(2):
            assert client.get("/").body == expected
            assert app.positions == POSITIONS
            app.positions.clear()
        assert ("http.response.zerocopysend" in app.extensions) == (way != "tls")
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().body == expected
        assert server.context.stats.application_errors == 0


@pytest.mark.parametrize("more", [{"count": SIZE}, {"count": 10, "offset": SIZE - 9}])
def test_a_part_that_the_file_does_not_have_raises(more: dict[str, int], path: Path) -> None:
    with serving("tcp", OfFile(path, more), path.parent) as (server, connect):
        assert connect().get("/").status == 500
        assert server.context.stats.application_errors == 1


def test_what_has_no_descriptor_is_no_file(tmp_path: Path) -> None:
    raised = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for file in (io.BytesIO(b"abc"), 10**6):
            try:
                await send({"type": "http.response.zerocopysend", "file": file})
            except OSError as error:
                raised.append(error)
        read, write = os.pipe()
        with pytest.raises(ValueError, match="no regular file"):
            await send({"type": "http.response.zerocopysend", "file": read})
        os.close(read)
        os.close(write)
        await send({"type": "http.response.body", "body": b"still there"})

    with serving("tcp", app, tmp_path) as (_server, connect):
        assert connect().get("/").body == b"still there"
    assert len(raised) == 2


def test_while_a_file_is_sent_nothing_else_is(path: Path) -> None:
    refused = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def meanwhile() -> None:
            with pytest.raises(RuntimeError, match="a file is being sent") as caught:
                await send({"type": "http.response.body", "body": b"x"})
            refused.append(caught.value)

        await send({"type": "http.response.start", "status": 200})
        other = asyncio.create_task(meanwhile())
        await send({"type": "http.response.pathsend", "path": str(path)})
        await other

    with serving("tcp", app, path.parent, send_buffer=16384) as (server, connect):
        client = connect(receive_buffer=4096)
        client.send(request("GET", "/"))
        server.wait_until(lambda: refused)
        assert client.response().body == path.read_bytes()


def test_large_files_do_not_hold_the_loop(path: Path) -> None:
    """Others are served between the pieces of a file whose client takes all that comes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/file":
            await respond(send, body=b"hello")
            return
        await send({"type": "http.response.start", "status": 200})
        for _ in range(1000):
            await send({"type": "http.response.zerocopysend", "file": file, "offset": 0, "more_body": True})
            done.append(True)
        await send({"type": "http.response.body"})

    done: list[bool] = []
    with path.open("rb") as file, serving("tcp", app, path.parent) as (server, connect):
        client = connect()
        client.sock.settimeout(30)
        client.send(request("GET", "/file"))
        client.read_until(b"\r\n\r\n")
        taker = asyncio.run_coroutine_threadsafe(_take_all(server, client), server.loop)
        server.wait_until(lambda: done)
        assert connect().get("/").body == b"hello"
        assert len(done) < 1000
        taker.cancel()


async def _take_all(server: Server, client: Client) -> None:
    client.sock.setblocking(False)
    while await server.loop.sock_recv(client.sock, 1 << 20):
        pass
