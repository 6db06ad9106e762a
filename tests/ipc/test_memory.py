"""Files in memory that children get."""

import errno
import fcntl
import mmap
import os
import pwd
from pathlib import Path

import pytest

from asgi_master.ipc import memory
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.tls.bundle import Bundle, Pair


@pytest.fixture
def shared():
    fd = memory.shared_file("test", 4096)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 4095, 4097, 1 << 20])
def test_the_size_cannot_be_changed(shared, size):
    with pytest.raises(PermissionError):
        os.ftruncate(shared, size)
    with pytest.raises(PermissionError):
        os.pwrite(shared, b"x", max(size, 4096))
    assert os.fstat(shared).st_size == 4096


def test_all_who_have_it_write_to_the_same(shared):
    with mmap.mmap(shared, 4096) as mapped:
        mapped[:5] = b"hello"
    assert memory.content_of(shared)[:5] == b"hello"


def test_no_seal_is_taken_away_nor_added(shared):
    with pytest.raises(PermissionError):
        fcntl.fcntl(shared, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_what_is_frozen_stays_as_it_is():
    content = os.urandom(300_000)
    fd = memory.frozen_file("test", content)
    assert memory.content_of(fd) == content
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(OSError, match="Operation not permitted"):
        mmap.mmap(fd, len(content))
    os.close(fd)


def test_a_descriptor_for_reading_does_not_write(shared):
    fd = memory.for_reading(shared)
    with pytest.raises(OSError) as caught:
        os.pwrite(fd, b"x", 0)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(PermissionError):
        mmap.mmap(fd, 4096)
    with mmap.mmap(fd, 4096, prot=mmap.PROT_READ) as mapped:
        assert mapped[0] == 0
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_open_it_again(shared):
    fd = memory.for_reading(shared)
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        except PermissionError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    os.close(fd)


def files_for_children():
    board = Scoreboard.create()
    yield board.fd
    yield board.roster_fd
    yield Bundle((Pair("c", "k", "c.pem", "k.pem"),)).to_memory()
    board.close()


def test_all_that_children_get_is_sealed():
    for fd in files_for_children():
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_SHRINK
        assert seals & fcntl.F_SEAL_GROW
        assert seals & fcntl.F_SEAL_SEAL
        assert os.fstat(fd).st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_made_leaves_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="Invalid argument"):
        memory.shared_file("test", -1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_to_write_to_grows_and_cannot_be_sealed():
    fd = memory.growing_file("test")
    try:
        assert os.pwrite(fd, b"abc", 0) == 3
        os.ftruncate(fd, 0)
        assert memory.content_of(fd) == b""
        assert not os.get_inheritable(fd)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    finally:
        os.close(fd)
