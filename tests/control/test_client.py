"""Asking a master, and finding out which ones there are."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from asgi_master.control import socket_paths
from asgi_master.control.client import NoAnswerError, TookTooLongError, ask, find
from control_server import Served


@pytest.fixture(autouse=True)
def _own_system_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_paths, "_SYSTEM", tmp_path / "system")


def answering(path: Path, answer: bytes) -> Callable[[], None]:
    """A server that says this, whatever it is asked, once; returns how to wait for its end."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        with listener, listener.accept()[0] as sock:
            sock.recv(10_000)
            sock.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    return thread.join


def test_ask(served: Served) -> None:
    reply = ask(served.path, "POST", "/scale", {"workers": 4}, timeout=5)
    assert (reply.is_done, reply.body, reply.pid) == (True, {"workers": 4}, os.getpid())
    reply = ask(served.path, "GET", "/nothing", timeout=5)
    assert not reply.is_done
    assert "/status" in reply.error


def test_no_master_there(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError, match="No such file"):
        ask(tmp_path / "none.sock", "GET", "/status", timeout=1)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_nonsense(tmp_path: Path, answer: bytes) -> None:
    join = answering(tmp_path / "x.sock", answer)
    with pytest.raises(NoAnswerError):
        ask(tmp_path / "x.sock", "GET", "/status", timeout=5)
    join()


def test_json_that_is_no_object(tmp_path: Path) -> None:
    join = answering(tmp_path / "x.sock", b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\n[1]")
    reply = ask(tmp_path / "x.sock", "GET", "/status", timeout=5)
    assert (reply.is_done, reply.error) == (False, "HTTP status 500")
    join()


def test_silence(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "x.sock"))
        listener.listen()
        with pytest.raises(TookTooLongError, match=r"0\.05 s"):
            ask(tmp_path / "x.sock", "GET", "/status", timeout=0.05)


def test_a_full_queue(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(tmp_path / "x.sock"))
        listener.listen(0)
        waiting.connect(str(tmp_path / "x.sock"))
        with pytest.raises(TookTooLongError):
            ask(tmp_path / "x.sock", "GET", "/status", timeout=0.05)


def test_find(served: Served, tmp_path: Path) -> None:
    directory = tmp_path / "system"
    directory.mkdir()
    # Found in two places, yet one.
    os.link(served.path, directory / "1.sock")
    os.link(served.path, tmp_path / "1.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / "2.sock"))
    found = find({"RUNTIME_DIRECTORY": str(tmp_path)}, os.geteuid())
    mine = [master for master in found if master.path.parent in {tmp_path, directory}]
    assert [(master.name, master.pid) for master in mine] == [("shop", os.getpid())]
