"""A program as process 1 of its own namespaces, as a container engine starts it, without one. Needs root.

Inside, /proc and the control groups are its own; `sealed` also takes away everything that could be written to: all
mounts are read-only, there is no /dev/shm, no terminal, no HOME and no root.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import psutil

from fleet import APPS, PATIENCE, SOURCE, wait_until
from shared_interpreter import program_for_anybody

USER = 10001

_JOIN = 'for group in $1; do echo 0 > "$group/cgroup.procs" || exit 125; done; shift; exec "$@"'

_SETUP = r"""
set -e
sealed=$1 user=$2
shift 2
mount -t proc proc /proc
if [ ! -f /sys/fs/cgroup/cgroup.controllers ]; then
    # As engines show the first version: the own limits at the top.
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for controller in memory cpu; do
        mkdir /sys/fs/cgroup/$controller
        mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
    done
else
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
if [ "$sealed" = yes ]; then
    mount -t tmpfs -o mode=755 tmpfs /dev
    mknod -m 666 /dev/null c 1 3
    mknod -m 666 /dev/zero c 1 5
    mknod -m 666 /dev/random c 1 8
    mknod -m 666 /dev/urandom c 1 9
    while read -r _device target _rest; do
        mount -o remount,bind,ro "$target" 2>&- || true
    done < /proc/self/mounts
    unset HOME
    exec setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all --bounding-set=-all -- "$@"
fi
exec "$@"
"""


def why_not() -> str:
    """Why there can be no such container here; empty if there can."""
    if os.geteuid() != 0:
        return "making namespaces needs root"
    missing = [tool for tool in ("unshare", "setpriv") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install util-linux)"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return f"no namespaces to be had here: {tried.stderr.strip()}" if tried.returncode else ""


class Container:
    """One such program, from its start to its exit status."""

    def __init__(
        self,
        *arguments: str,
        directory: Path,
        groups: list[Path] = [],  # noqa: B006 -- never changed
        sealed: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`asgi-master` with these arguments, in the control groups `groups`."""
        python: tuple[str, ...] | str = program_for_anybody() if sealed else (sys.executable,)
        assert not isinstance(python, str), python
        *covered, interpreter = python
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", *covered),
                *("sh", "-c", _JOIN, "sh", " ".join(map(str, groups))),
                *("unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--propagation", "private"),
                *("--fork", "--kill-child=KILL"),
                *("sh", "-c", _SETUP, "sh", "yes" if sealed else "no", str(USER)),
                *(interpreter, "-m", "asgi_master", *arguments),
            ],
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/root",
                "PYTHONPATH": str(SOURCE),
                "PYTHONDONTWRITEBYTECODE": "1",
                "ASGI_MASTER_BIND": "127.0.0.1:0",
                "ASGI_MASTER_APP_DIR": str(APPS),
                **({} if sealed else {"ASGI_MASTER_USER": "root"}),
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines += []
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def first(self) -> psutil.Process:
        """Process 1, as it is seen from here, once it is the program."""

        def found() -> psutil.Process | None:
            assert self._process.poll() is None, f"it ended with {self._process.returncode}\n{self.log}"
            for child in psutil.Process(self._process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                    if "python" in child.exe():
                        return child
            return None

        return wait_until(found, "the container has a process 1")

    def wait_line(self, pattern: str) -> re.Match[str]:
        """The first line of the log that the pattern is found in."""
        regex = re.compile(pattern)

        def found() -> re.Match[str] | None:
            matches = (regex.search(line) for line in list(self.lines))
            match = next((match for match in matches if match), None)
            assert match or self._reader.is_alive(), f"no line matches {pattern!r}:\n{self.log}"
            return match

        try:
            return wait_until(found, f"a line that matches {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    @property
    def url(self) -> str:
        return self.wait_line(r"listening on (\S+)")[1]

    def zombies(self) -> list[int]:
        """Dead children of process 1 that it did not reap."""
        found = []
        for child in self.first.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() == psutil.STATUS_ZOMBIE:
                    found.append(child.pid)
        return found

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """As `docker stop` does; the exit status."""
        self.first.send_signal(signum)
        return self.wait_exit()

    def wait_exit(self) -> int:
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end\n{self.log}") from None
        self._reader.join(PATIENCE)
        return status

    def close(self) -> None:
        """End it, whatever it does. Process 1 takes all others along."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        print(self.log)
