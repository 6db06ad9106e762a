"""The pid file says who runs, and neither a stranger's file nor a stranger's lock makes it say or do anything else."""

import fcntl
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_master.errors import AsgiMasterError
from asgi_master.master.pid_file import PidFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.pid"


def test_it_is_there_whole_for_everybody_to_read_and_goes(path: Path) -> None:
    umask = os.umask(0o022)
    try:
        pid_file = PidFile.write(path)
    finally:
        os.umask(umask)
    assert int(path.read_text()) == os.getpid()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]
    pid_file.remove()
    assert list(path.parent.iterdir()) == []


def test_the_umask_is_obeyed(path: Path) -> None:
    umask = os.umask(0o077)
    try:
        PidFile.write(path).remove()
        pid_file = PidFile.write(path)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pid_file.remove()


def test_it_is_never_empty_or_unlocked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("1\n")
    seen = []
    rename = os.rename

    def look(new: str, name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        fd = os.open(new, os.O_RDONLY, dir_fd=src_dir_fd)
        seen.extend([os.read(fd, 99), path.read_bytes(), can_read_lock(fd)])
        os.close(fd)
        rename(new, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", look)
    pid_file = PidFile.write(path)
    assert seen == [b"%d\n" % os.getpid(), b"1\n", False]
    pid_file.remove()


def can_read_lock(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("left", [b"1", b"", b"garbage\n", b"\xff"])
def test_what_a_dead_master_left_is_replaced(path: Path, left: bytes) -> None:
    path.write_bytes(left)
    pid_file = PidFile.write(path)
    assert int(path.read_text()) == os.getpid()
    pid_file.remove()
    assert not path.exists()


def test_that_of_a_running_one_is_left_alone(path: Path) -> None:
    first = PidFile.write(path)
    with pytest.raises(AsgiMasterError, match=f"belongs to the running process {os.getpid()}"):
        PidFile.write(path)
    assert int(path.read_text()) == os.getpid()
    assert list(path.parent.iterdir()) == [path]
    first.remove()


def test_that_of_a_newer_one_is_left_alone(path: Path) -> None:
    """A start script cleaned up and started the successor before the old one had left."""
    old = PidFile.write(path)
    path.unlink()
    new = PidFile.write(path)
    old.remove()
    assert int(path.read_text()) == os.getpid()
    with pytest.raises(AsgiMasterError, match="belongs to the running process"):
        PidFile.write(path)
    new.remove()
    assert not path.exists()


@pytest.mark.parametrize(
    "kind", ["link", "dangling link", "hard link", "pipe", "directory", "socket", "foreign"]
)
def test_what_is_no_file_of_our_own_is_refused_and_left_alone(path: Path, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    match kind:
        case "link":
            path.symlink_to(victim)
        case "dangling link":
            path.symlink_to(tmp_path / "not there")
        case "hard link":
            path.hardlink_to(victim)
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)
        case "foreign":
            if os.geteuid() != 0:
                pytest.skip("only root can give files away")
            path.write_text("1")
            os.chown(path, 65534, 65534)
    before = path.lstat()
    with pytest.raises(AsgiMasterError, match="no file of our own") as caught:
        PidFile.write(path)
    assert "\n" not in str(caught.value)
    assert victim.read_text() == "precious"
    after = path.lstat()
    assert (before.st_ino, before.st_mode, before.st_size) == (after.st_ino, after.st_mode, after.st_size)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["app.pid", "victim"]


READER = """
import fcntl, struct, sys
file = open(sys.argv[1])
if sys.argv[2] == "flock":
    fcntl.flock(file, fcntl.LOCK_EX)
else:
    fcntl.fcntl(file, getattr(fcntl, sys.argv[2]), struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("lock", ["flock", "F_SETLK", "F_OFD_SETLK"])
def test_who_may_only_read_it_does_not_hold_up_the_next_start(path: Path, lock: str) -> None:
    path.write_text("1\n")
    path.chmod(0o644)
    command = [sys.executable, "-c", READER, str(path), lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout.readline() == b"held\n"
        pid_file = PidFile.write(path)
        assert int(path.read_text()) == os.getpid()
        reader.stdin.close()
    pid_file.remove()


@pytest.mark.parametrize("name", ["none/app.pid", "x" * 300, "file/app.pid"])
def test_a_place_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AsgiMasterError, match="cannot write the pid file") as caught:
        PidFile.write(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_full_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(AsgiMasterError, match="No space left on device"):
            PidFile.write(path)
    assert list(path.parent.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before
