"""Finding control sockets by what the kernel tells of processes and their sockets."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_master.control.discovery import Listening, read_line, unnamed_sockets

MASTER = """
import os, setproctitle, socket, sys

def listen(name, mode):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(name)
    os.chmod(name, mode)
    sock.listen()
    return sock

directory = sys.argv[2]
shared = listen(f"{directory}/shared", 0o600)
if os.fork() == 0:
    # As a worker, which has what its master serves on.
    setproctitle.setproctitle("asgi-master: worker 0 gen 1 shop:app")
    sys.stdin.read()
    os._exit(0)
control, public = listen(f"{directory}/control", 0o600), listen(f"{directory}/public", 0o666)
bound = socket.socket(socket.AF_UNIX)
bound.bind(f"{directory}/bound")
setproctitle.setproctitle(sys.argv[1])
print("listening", flush=True)
sys.stdin.read()
os.wait()
"""


@pytest.fixture
def title() -> str:
    return "asgi-master: master shop:app"


@pytest.fixture
def master(tmp_path: Path, title: str) -> Iterator[int]:
    """A process with a child, which looks like a master from outside."""
    command = [sys.executable, "-c", MASTER, title, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process.pid


def found(directory: Path, *, known: set[int] | None = None) -> list[tuple[str, int]]:
    """Of what is found, whatever else runs here, the part in this directory."""
    sockets = unnamed_sockets(os.geteuid(), known=known or set())
    return [(path.name, pid) for path, pid in sockets if path.parent == directory]


def test_the_private_socket_of_a_master_is_found(master: int, tmp_path: Path) -> None:
    assert found(tmp_path) == [("control", master)]
    assert found(tmp_path, known={master}) == []


@pytest.mark.parametrize("title", ["asgi-master: worker 1 gen 1 master", "nginx: master process", "python"])
def test_other_processes_are_no_masters(master: int, tmp_path: Path) -> None:
    assert found(tmp_path) == []


def test_a_file_that_was_replaced_is_not_it(master: int, tmp_path: Path) -> None:
    (tmp_path / "control").unlink()
    assert found(tmp_path) == []
    (tmp_path / "control").touch(0o600)
    assert found(tmp_path) == []


def test_lines_of_the_kernel() -> None:
    line = "0000000012345678: 00000002 00000000 00010000 0001 01 2427045 "
    assert read_line(line + "/run/my app/7.sock") == Listening(Path("/run/my app/7.sock"), 2427045)
    assert read_line(line.replace("00010000", "00000000") + "/run/7.sock") is None
    assert read_line(line + "@abstract/7.sock") is None
    assert read_line(line + "relative.sock") is None
    assert read_line(line) is None
