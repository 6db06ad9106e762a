"""System calls of one running process made to fail, by strace.

A call that is made to fail does not happen at all: what the kernel does in spite of the error that it returns (`close`
frees the descriptor) cannot be played.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from fleet import PATIENCE, wait_until

STRACE = "strace"
_FAILED = "(INJECTED)"


class Record:
    """What strace wrote of an injection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def failed(self) -> int:
        """How many calls were made to fail so far."""
        try:
            return self._path.read_text(errors="replace").count(_FAILED)
        except FileNotFoundError:
            return 0


def command(call: str, error: str, when: str, record: Path) -> list[str]:
    """The beginning of a command line under which `call` fails with `error`: `when` is as strace(1) says."""
    chosen = "" if when == "always" else f":when={when}"
    return [
        STRACE,
        "-qq",
        "-o",
        str(record),
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error={error}{chosen}",
    ]


def recorded(record: Path) -> list[str]:
    """The beginning of a command line of which every system call is written down."""
    return [STRACE, "-D", "-qq", "-s", "200", "-o", str(record)]


@contextlib.contextmanager
def failing(
    pid: int, call: str, error: str, when: str, record: Path, *, children: bool = False
) -> Iterator[Record]:
    """Inside, the call fails in the process' first thread, and in no other process but, if asked for, its children."""
    with subprocess.Popen(
        [*command(call, error, when, record), *(["-f"] if children else []), "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as tracer:
        try:
            wait_until(lambda: tracer.poll() is not None or _tracer_of(pid) == tracer.pid, "strace attached")
            yield Record(record)
        finally:
            # It lets go of the process, which goes on without it.
            tracer.send_signal(signal.SIGTERM)
            tracer.wait(PATIENCE)
    wait_until(lambda: _tracer_of(pid) == 0, "strace let go")


@functools.cache
def why_not() -> str:
    """Why no process can be traced here; empty if one can."""
    if shutil.which(STRACE) is None:
        return "strace is not installed"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        attach = [*command("read", "EIO", "9999", Path(os.devnull)), "-p", str(victim.pid)]
        with subprocess.Popen(attach, stderr=subprocess.PIPE, text=True) as tracer:
            wait_until(
                lambda: tracer.poll() is not None or _tracer_of(victim.pid) == tracer.pid, "strace attached"
            )
            is_attached = tracer.poll() is None
            tracer.terminate()
            said = tracer.communicate(timeout=PATIENCE)[1]
        victim.communicate(b"\n", timeout=PATIENCE)
    return "" if is_attached else f"strace may not trace here: {said.strip()}"


def _tracer_of(pid: int) -> int:
    """The process that traces this one; 0 if none does, or it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))


def cpu_seconds(pid: int) -> float:
    """The CPU time that the process used so far; 0 if it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
