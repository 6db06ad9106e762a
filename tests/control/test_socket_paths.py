"""Control sockets never collide, never fall into foreign hands, and leave nothing behind."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_master.control import socket_paths
from asgi_master.control.socket_paths import (
    ControlSocketError,
    directories_for_clients,
    directories_for_masters,
    open_control_socket,
    remove_stale,
    sockets_in,
)
from asgi_master.directories import Directory


@pytest.fixture(autouse=True)
def _own_system_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_paths, "_SYSTEM", tmp_path / "run" / "asgi-master")


def leave_socket(path: Path) -> None:
    """A socket file without a listener, as a killed master leaves it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_off() -> None:
    assert open_control_socket("off", {}) is None
    assert open_control_socket("", {}) is None


def test_the_runtime_directory_of_the_service(tmp_path: Path) -> None:
    control = open_control_socket("auto", {"RUNTIME_DIRECTORY": f"{tmp_path}:/run/other"})
    assert control is not None
    assert control.path == tmp_path / f"{os.getpid()}.sock"
    assert stat.S_IMODE(control.path.stat().st_mode) == 0o600
    assert list(sockets_in(tmp_path)) == [(control.path, os.getpid())]
    control.close()
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_directories() -> None:
    session = {"XDG_RUNTIME_DIR": "/run/user/7"}
    of_user = [Path("/run/user/7/asgi-master"), Path("/tmp/asgi-master-7")]
    assert directories_for_masters(session, 7) == of_user
    assert directories_for_masters(session, 0)[0] == socket_paths._SYSTEM
    assert directories_for_masters({**session, "RUNTIME_DIRECTORY": "/run/x"}, 0) == [Path("/run/x")]
    assert directories_for_masters({"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": "relative"}, 7) == of_user[1:]
    assert directories_for_masters({"TMPDIR": "/t"}, 7) == [Path("/t/asgi-master-7")]
    assert directories_for_masters({"TMPDIR": "relative"}, 7) == of_user[1:]
    assert directories_for_clients({}, 7) == [socket_paths._SYSTEM, of_user[1], of_user[0]]


def test_the_next_directory_if_one_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    session = tmp_path / "session"
    session.mkdir()
    (tmp_path / "run").touch()
    control = open_control_socket("auto", {"XDG_RUNTIME_DIR": str(session)})
    assert control is not None
    assert control.path.parent == session / "asgi-master"
    assert stat.S_IMODE(control.path.parent.stat().st_mode) == 0o700
    control.close()


def test_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ControlSocketError, match="file/x: Not a directory"):
        open_control_socket("auto", {"RUNTIME_DIRECTORY": str(tmp_path / "file" / "x")})


@pytest.mark.parametrize("fault", ["a file", "a link", "open to all", "foreign"])
def test_a_directory_that_is_not_ours(tmp_path: Path, fault: str) -> None:
    directory = tmp_path / "there"
    match fault:
        case "a file":
            directory.touch()
        case "a link":
            directory.symlink_to(tmp_path)
        case "open to all":
            directory.mkdir()
            directory.chmod(0o1777)
        case "foreign":
            if os.geteuid() != 0:
                pytest.skip("only root can give files away")
            directory.mkdir(0o700)
            os.chown(directory, 65534, 65534)
    with pytest.raises(ControlSocketError, match="there"):
        open_control_socket("auto", {"RUNTIME_DIRECTORY": str(directory)})


def test_a_name_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    """Two containers share the directory, and in each the master is process 1."""
    place = {"RUNTIME_DIRECTORY": str(tmp_path)}
    first, second = open_control_socket("auto", place), open_control_socket("auto", place)
    assert first is not None
    assert second is not None
    assert {path.name for path, _ in sockets_in(tmp_path)} == {f"{os.getpid()}.sock", f"{os.getpid()}-2.sock"}
    first.close()
    assert [path for path, _ in sockets_in(tmp_path)] == [second.path]
    second.close()


def test_what_the_dead_left_is_removed(tmp_path: Path) -> None:
    dead, living, own = dead_pid(), os.getppid(), os.getpid()
    for pid in (dead, living, own):
        leave_socket(tmp_path / f"{pid}.sock")
    leave_socket(tmp_path / "other.sock")
    (tmp_path / "1.sock.txt").touch()
    with Directory(tmp_path) as directory:
        remove_stale(directory)
    assert {path.name for path in tmp_path.iterdir()} == {f"{living}.sock", "other.sock", "1.sock.txt"}


def test_who_listens_under_a_dead_name_is_left_alone(tmp_path: Path) -> None:
    """The pid is one of another container's."""
    path = tmp_path / f"{dead_pid()}.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        with Directory(tmp_path) as directory:
            remove_stale(directory)
        assert path.exists()


def test_only_the_own_file_is_removed(tmp_path: Path) -> None:
    control = open_control_socket(str(tmp_path / "mine.sock"), {})
    assert control is not None
    control.path.unlink()
    leave_socket(control.path)
    control.close()
    assert control.path.exists()


class TestGiven:
    def test_taken_over_from_the_dead(self, tmp_path: Path) -> None:
        leave_socket(tmp_path / "ctl")
        control = open_control_socket(str(tmp_path / "ctl"), {})
        assert control is not None
        control.close()

    def test_in_use(self, tmp_path: Path) -> None:
        control = open_control_socket(str(tmp_path / "ctl"), {})
        assert control is not None
        with pytest.raises(ControlSocketError, match="in use"):
            open_control_socket(str(tmp_path / "ctl"), {})
        assert control.path.exists()
        control.close()

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "ctl").write_text("precious")
        with pytest.raises(ControlSocketError, match="in use"):
            open_control_socket(str(tmp_path / "ctl"), {})
        assert (tmp_path / "ctl").read_text() == "precious"

    @pytest.mark.parametrize("name", ["no/such/directory", "x" * 120])
    def test_impossible(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ControlSocketError):
            open_control_socket(str(tmp_path / name), {})
