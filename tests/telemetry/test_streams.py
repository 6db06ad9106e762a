import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import time

import pytest

from asgi_master.telemetry.streams import Stream


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        with contextlib.suppress(OSError):
            os.close(fd)


def fill(write):
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 512)
    except BlockingIOError:
        os.set_blocking(write, True)


def test_a_pipe_keeps_blocking_for_everybody_else(pipe):
    read, write = pipe
    stream = Stream(write)
    assert stream.write(b"line\n")
    assert os.read(read, 100) == b"line\n"
    assert os.get_blocking(write)
    stream.close()
    os.fstat(write)


def test_a_full_pipe_drops_and_recovers(pipe):
    read, write = pipe
    stream = Stream(write)
    fill(write)
    assert not stream.write(b"dropped\n")
    assert not stream.write(b"dropped too\n")
    os.read(read, 1 << 20)
    assert stream.write(b"back\n")
    assert os.read(read, 100) == b"back\n"
    stream.close()


def test_a_full_pipe_that_cannot_be_reopened_does_not_block_either(pipe, monkeypatch):
    read, write = pipe
    # As where the pipe belongs to another user.
    monkeypatch.setattr(Stream, "_reopen_without_blocking", lambda self: False)
    stream = Stream(write)
    fill(write)
    assert not stream.write(b"dropped\n")
    os.read(read, 1 << 20)
    assert stream.write(b"back\n")
    assert os.read(read, 100) == b"back\n"


def drained(read):
    os.set_blocking(read, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(read, 1 << 20):
            data += piece
    return data


@pytest.mark.parametrize("size", [4096, 4097, 65536, 100_000, 600_000])
def test_a_long_record_is_whole_before_the_reader_starts(pipe, size):
    read, write = pipe
    stream = Stream(write)
    assert stream.write(b"first\n")
    assert stream.write(b"y" * size + b"\n")
    assert drained(read) == b"first\n" + b"y" * size + b"\n"
    stream.close()


def test_a_long_record_for_which_there_is_no_room_leaves_nothing_behind(pipe):
    read, write = pipe
    stream = Stream(write)
    taken = 0
    while stream.write(b"y" * 100_000 + b"\n"):
        taken += 1
    assert stream.write(b"short\n"), "there still is room for that"
    assert drained(read) == (b"y" * 100_000 + b"\n") * taken + b"short\n"
    stream.close()


def test_a_record_longer_than_any_pipe_is_finished_before_the_next(pipe):
    read, write = pipe
    stream = Stream(write)
    assert stream.write(b"y" * (5 << 20) + b"\n"), "it has begun, so it will be whole"
    assert not stream.write(b"lost\n")
    read_on = b""
    while not stream.write(b"next\n"):
        read_on += drained(read)
    read_on += drained(read)
    assert read_on == b"y" * (5 << 20) + b"\nnext\n"
    stream.close()


def test_a_lock_that_is_held_for_ever_does_not_stop_logging(pipe):
    read, write = pipe
    holder = os.fork()
    if holder == 0:
        fcntl.lockf(write, fcntl.LOCK_EX)
        os.write(write, b"locked\n")
        signal.pause()
    try:
        assert os.read(read, 100) == b"locked\n"
        stream = Stream(write)
        assert stream.write(b"heard\n"), "what the kernel writes whole needs no lock"
        assert os.read(read, 100) == b"heard\n"
        deadline, long = time.monotonic() + 20, b"x" * 5000 + b"\n"
        while not stream.write(long):
            assert time.monotonic() < deadline
        assert os.read(read, 10_000) == long
        stream.close()
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)


def test_a_reader_that_went_away_is_no_error(pipe):
    read, write = pipe
    stream = Stream(write)
    os.close(read)
    assert not stream.write(b"line\n")
    stream.close()


def test_a_socket_does_not_block():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = Stream(theirs.fileno())
        while stream.write(b"x" * 4096):
            pass
        assert theirs.getblocking()
        while ours.recv(1 << 20, socket.MSG_DONTWAIT | socket.MSG_PEEK):
            ours.recv(1 << 20)
            if stream.write(b"back\n"):
                break
        stream.close()
        assert theirs.fileno() >= 0


def test_a_file_gets_everything(tmp_path):
    with (tmp_path / "log").open("ab") as file:
        stream = Stream(file.fileno())
        assert stream.write(b"z" * (1 << 20) + b"\n")
        assert (tmp_path / "log").stat().st_size == (1 << 20) + 1


def test_a_descriptor_that_was_closed_stays_closed_for_us(pipe):
    _read, write = pipe
    os.close(write)
    stream = Stream(write)
    reopened, other = os.pipe()
    try:
        assert not stream.write(b"line\n")
    finally:
        os.close(reopened)
        os.close(other)


def test_closed_standard_descriptors_are_opened_on_nothing(program, environment, tmp_path):
    code = f"""
        from asgi_master.telemetry.streams import open_missing
        open_missing()
        import pathlib
        pathlib.Path({str(tmp_path / "out")!r}).write_text(" ".join(os.readlink(f"/proc/self/fd/{{n}}") for n in (0, 1, 2)))
    """
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *program(code)]
    subprocess.run(command, env=environment(), timeout=30, check=True)
    assert (tmp_path / "out").read_text() == "/dev/null /dev/null /dev/null"


def test_a_stream_is_not_closed_because_the_kernel_could_not_tell_what_it_is(pipe, monkeypatch):
    def fails(_fd):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    read, write = pipe
    monkeypatch.setattr(os, "fstat", fails)
    stream = Stream(write)
    monkeypatch.undo()
    assert stream.write(b"line\n")
    assert os.read(read, 100) == b"line\n"
    stream.close()


def test_a_socket_is_written_to_without_a_descriptor_of_our_own_too(monkeypatch):
    def fails(_fd):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", fails)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = Stream(theirs.fileno())
        assert stream.write(b"line\n")
        assert ours.recv(100) == b"line\n"
        stream.close()


def test_waiting_that_fails_drops_the_line(pipe, monkeypatch):
    _read, write = pipe
    stream = Stream(write)
    fill(write)

    def fails(_stream, _timeout):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(Stream, "_writable", fails)
    assert not stream.write(b"dropped\n")
    stream.close()
