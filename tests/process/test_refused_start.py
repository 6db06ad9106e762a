"""What the system refuses at the start is one line, and an exit status that is documented."""

import resource
import sys
from pathlib import Path

import pytest

from asgi_master.errors import ExitCode
from fleet import APPS, Fleet

pytestmark = pytest.mark.newest_python

ARGUMENTS = (
    "--workers",
    "1",
    "--bind",
    "127.0.0.1:0",
    "--control-socket",
    "off",
    "--app-dir",
    str(APPS),
    "probe:app",
)

PROGRAM = """
import errno, importlib, os, sys
sys.path.insert(0, sys.argv[3])
owner, _, name = sys.argv[1].rpartition(".")
number = getattr(errno, sys.argv[2])
import asgi_master.cli.app
def refuse(*_arguments, **_options):
    raise OSError(number, os.strerror(number))
setattr(importlib.import_module(owner), name, refuse)
sys.exit(asgi_master.cli.app.main(sys.argv[4:]))
"""


def judge(fleet: Fleet, status: ExitCode, reason: str) -> None:
    fleet.expect_log("error: ")
    assert fleet.wait_exit() == status, fleet.log
    told = [line for line in fleet.lines if " INFO " not in line]
    assert len(told) == 1, fleet.log
    assert told[0].startswith("asgi-master: error: ")
    assert reason in told[0]


@pytest.mark.parametrize(
    ("call", "number", "reason"),
    [
        ("os.memfd_create", "EMFILE", "Too many open files (in _sealed_file"),
        ("os.memfd_create", "ENOSYS", "Function not implemented"),
        ("os.ftruncate", "EFBIG", "File too large"),
        ("mmap.mmap", "ENOMEM", "Cannot allocate memory"),
        ("socket.socketpair", "ENOBUFS", "No buffer space available"),
        ("socket.socketpair", "EMFILE", "raise LimitNOFILE="),
        ("select.epoll", "EMFILE", "Too many open files (in PatientSelector.__init__"),
        ("asgi_master.ipc.prctl._prctl", "EPERM", "Operation not permitted (in become_subreaper"),
    ],
)
def test_a_call_that_fails(fleet: Fleet, call: str, number: str, reason: str) -> None:
    source = str(Path(__file__).parents[2] / "src")
    fleet.start(*ARGUMENTS, program=(sys.executable, "-c", PROGRAM, call, number, source))
    judge(fleet, ExitCode.FAILURE, reason)


@pytest.mark.parametrize("call", ["listen", "bind", "setsockopt"])
def test_a_listener_that_fails(fleet: Fleet, call: str) -> None:
    program = PROGRAM.replace(
        "setattr(importlib.import_module(owner), name, refuse)",
        "import socket; socket.socket = type('S', (socket.socket,), {name: refuse})",
    )
    source = str(Path(__file__).parents[2] / "src")
    fleet.start(*ARGUMENTS, program=(sys.executable, "-c", program, f"socket.{call}", "ENOBUFS", source))
    judge(fleet, ExitCode.BIND_FAILED, "cannot bind 127.0.0.1:0: No buffer space available")


LIMITED = "import os, resource, sys; resource.setrlimit(int(sys.argv[1]), (int(sys.argv[2]),) * 2); os.execv(sys.executable, [sys.executable, '-m', 'asgi_master', *sys.argv[3:]])"


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        (resource.RLIMIT_FSIZE, 0, "raise LimitFSIZE="),
        (resource.RLIMIT_FSIZE, 4096, "raise LimitFSIZE="),
        (resource.RLIMIT_NOFILE, 8, "raise LimitNOFILE="),
    ],
)
def test_a_limit_that_is_too_low(fleet: Fleet, limit: int, value: int, reason: str) -> None:
    fleet.start(*ARGUMENTS, program=(sys.executable, "-c", LIMITED, str(limit), str(value)))
    judge(fleet, ExitCode.FAILURE, reason)


def test_nothing_is_left_behind(fleet: Fleet, tmp_path: Path) -> None:
    files = ("--pid-file", str(tmp_path / "pid"), "--bind", f"unix:{tmp_path}/sock")
    program = (sys.executable, "-c", LIMITED, str(int(resource.RLIMIT_FSIZE)), "4096")
    fleet.start(*files, *ARGUMENTS, program=program)
    judge(fleet, ExitCode.FAILURE, "File too large")
    assert [entry.name for entry in tmp_path.iterdir() if not entry.is_dir()] == []


def test_a_directory_that_is_gone(fleet: Fleet, tmp_path: Path) -> None:
    inside = (
        f"import os, sys; os.mkdir('{tmp_path}/gone'); os.chdir('{tmp_path}/gone'); os.rmdir('{tmp_path}/gone'); "
        "os.execv(sys.executable, [sys.executable, '-m', 'asgi_master', *sys.argv[1:]])"
    )
    fleet.start(*ARGUMENTS, program=(sys.executable, "-c", inside))
    judge(fleet, ExitCode.USAGE, "is not there")
