"""What is asked of the kernel shows in /proc. Most of it cannot be taken back: a child of the test asks."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from asgi_master.ipc import prctl

STATUS = Path("/proc/self/status")
PR_GET_DUMPABLE = 3


def status_after(call: Callable[[], None]) -> dict[str, str]:
    """The status of a child that made this call, by the names of its lines."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            call()
            os.write(write, STATUS.read_bytes())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    status = os.read(read, 1 << 16).decode()
    os.close(read)
    return dict(line.split(":\t", 1) for line in status.splitlines())


def test_no_new_privileges() -> None:
    assert status_after(prctl.refuse_new_privileges)["NoNewPrivs"] == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give up capabilities")
def test_no_capability_is_left_to_programs() -> None:
    assert int(status_after(prctl.give_up_capabilities)["CapBnd"], 16) == 0


def refuse(number: int) -> Callable[[int, int], None]:
    def call(_option: int, _value: int) -> None:
        raise OSError(number, os.strerror(number))

    return call


def test_where_there_is_no_right_to_give_them_up_they_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prctl, "_prctl", refuse(errno.EPERM))
    prctl.give_up_capabilities()


def test_any_other_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prctl, "_prctl", refuse(errno.ENOSYS))
    with pytest.raises(OSError, match="not implemented"):
        prctl.give_up_capabilities()


def test_a_process_may_be_inspected_again() -> None:
    def is_dumpable() -> bool:
        return prctl._libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1

    def call() -> None:
        prctl._prctl(prctl._PR_SET_DUMPABLE, 0)
        assert not is_dumpable()
        prctl.allow_inspection()
        assert is_dumpable()

    assert status_after(call)


def test_a_child_is_signalled_when_its_parent_dies() -> None:
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        ready, waits = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(os.write(write, b"signalled")))
            prctl.signal_when_parent_dies(signal.SIGTERM)
            os.write(waits, b"x")
            signal.pause()
        os.read(ready, 1)
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(write)
    assert os.read(read, 100) == b"signalled"
    os.close(read)


def test_orphans_become_children() -> None:
    prctl.become_subreaper()
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        orphan = os.fork()
        if orphan:
            os.write(write, str(orphan).encode())
        os._exit(0)
    os.waitpid(parent, 0)
    orphan = int(os.read(read, 100))
    assert os.waitpid(orphan, 0) == (orphan, 0)
    os.close(read)
    os.close(write)


def test_what_the_kernel_does_not_know_is_an_error() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        prctl._prctl(-1, 0)
