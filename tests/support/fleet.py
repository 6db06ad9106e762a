"""A real `asgi-master` under test: started as a program, watched through its log, judged after every test.

Rules:
  - Waiting is always for something, with a deadline; nothing here sleeps for a fixed time and hopes.
  - A fleet that ends leaves nothing: no orphan, no zombie, no unexpected line in its log. `close` asserts it.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from apps import holding
from asgi_master.ipc.prctl import become_subreaper

APPS = Path(__file__).parent / "apps"
REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src"
PATIENCE = 20.0
"""Seconds any one thing may take; generous, since only failures pay for it."""

LISTENING = re.compile(r"listening on (\S+)")
READY = r"ready: {workers} workers?\b"
_COMPLAINT = re.compile(
    r"\b(WARNING|ERROR|CRITICAL)\b|Traceback \(most recent|\"level\": ?\"(warning|error|critical)\""
)
_WORKER_TITLE = re.compile(r"worker (\d+) gen (\d+)")

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], what: str, timeout: float = PATIENCE) -> T:
    """Poll `condition` until it is true, and return its value; fail the test, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        assert now < deadline, f"not within {timeout:g} s: {what}"
        # A condition that reads the table of processes takes milliseconds, in which what it waits for could run.
        time.sleep(min(max(0.01, 4 * (now - began)), 0.1))


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker as its process title tells."""

    pid: int
    slot: int
    generation: int


class Fleet:
    """One master and what lives below it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lines: list[str] = []
        self.output: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        self._process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._strangers: set[int] = set()
        self._ended_by_test = False

    # -- life -------------------------------------------------------------------------------------------------

    def start(
        self,
        *arguments: str,
        program: Sequence[str] = (sys.executable, "-m", "asgi_master"),
        env: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> "Fleet":
        """Start `asgi-master` with these arguments, in this fleet's directory and with a bare environment."""
        become_subreaper()  # a process that loses its master becomes our child, where `close` finds it
        self._strangers = {child.pid for child in psutil.Process().children()}
        self._process = subprocess.Popen(
            [*program, *arguments],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "PYTHONPATH": str(SOURCE),
                "PYTHONDONTWRITEBYTECODE": "1",
                # So that zygotes and descriptors can be counted; tests of the rollback ask for a window by flag.
                "ASGI_MASTER_ROLLBACK_WINDOW": "0",
                **({"ASGI_MASTER_USER": "root"} if os.geteuid() == 0 else {}),
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        for stream, lines in ((self._process.stderr, self.lines), (self._process.stdout, self.output)):
            reader = threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            reader.start()
            self._readers.append(reader)
        return self

    def serve(
        self,
        app: str = "probe:app",
        *arguments: str,
        workers: int = 2,
        bind: str = "127.0.0.1:0",
        app_dir: Path = APPS,
        **start: Any,
    ) -> "Fleet":
        """Serve one of the test applications, and wait until every worker is ready."""
        self.start(
            "--workers", str(workers), "--bind", bind, "--app-dir", str(app_dir), *arguments, app, **start
        )
        return self.wait_ready(workers)

    def serve_source(self, source: str, *arguments: str, workers: int = 2, **start: Any) -> "Fleet":
        """Serve `app` of a module with this source, written to the fleet's directory (for tests that change it)."""
        self.write("changing.py", source)
        return self.serve("changing:app", *arguments, app_dir=self.directory, workers=workers, **start)

    def write(self, name: str, text: str) -> None:
        """Put a file into the fleet's directory, whole at once, as a deploy does."""
        new = self.directory / f".{name}.new"
        new.write_text(text)
        new.rename(self.directory / name)

    def wait_ready(self, workers: int, timeout: float = PATIENCE) -> "Fleet":
        self.wait_line(READY.format(workers=workers), timeout)
        return self

    def send(self, signum: signal.Signals) -> None:
        """Signal the master."""
        assert self._process is not None
        self._process.send_signal(signum)

    def wait_exit(self, timeout: float = PATIENCE) -> int:
        """The exit status of the master, once it is gone; the test judges it."""
        assert self._process is not None
        self._ended_by_test = True
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the master did not exit within {timeout:g} s\n{self.log}") from None
        finally:
            if self._process.poll() is not None:
                self._join_readers()

    def kill_master(self) -> None:
        """SIGKILL the master alone. What lives below it still writes to the log."""
        assert self._process is not None
        self._ended_by_test = True
        self._process.kill()
        assert self._process.wait(PATIENCE) == -signal.SIGKILL

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Stop gracefully; returns the exit status."""
        self.send(signum)
        return self.wait_exit()

    def stop_cleanly(self) -> None:
        """Stop gracefully and assert that it went as it should."""
        assert self._process is not None
        assert self._process.poll() is None, (
            f"the master exited early: {self._process.returncode}\n{self.log}"
        )
        self._assert_no_zombie()
        code = self.stop()
        assert code == 0, f"exit status {code}\n{self.log}"

    def close(self) -> None:
        """End, and assert that nothing is left and that the log is clean."""
        if self._process is None:
            return
        try:
            if not self._ended_by_test:
                self.stop_cleanly()
            self._assert_nothing_lives()
        finally:
            self._end_by_force()
            print(self.log)  # pytest shows it for tests that fail
        self._assert_clean_log()

    def _end_by_force(self) -> None:
        assert self._process is not None
        below = [
            child for child in psutil.Process().children(recursive=True) if child.pid not in self._strangers
        ]
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait(PATIENCE)
        self._join_readers()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def has_ended(self) -> bool:
        """Whether the master is gone."""
        assert self._process is not None
        return self._process.poll() is not None

    # -- what can be seen -------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def urls(self) -> list[str]:
        """What the log says about where it listens, in its order."""
        return [match[1].rstrip(",") for line in list(self.lines) if (match := LISTENING.search(line))]

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 80

    def workers(self) -> list[WorkerSeen]:
        """The workers that live now, by slot and generation."""
        seen = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if match := _WORKER_TITLE.search(" ".join(child.cmdline())):
                        seen.append(WorkerSeen(child.pid, int(match[1]), int(match[2])))
        return sorted(seen, key=lambda worker: (worker.slot, worker.generation))

    def wait_workers(self, condition: Callable[[list[WorkerSeen]], bool], what: str) -> list[WorkerSeen]:
        """The workers, once they are as the condition wants them."""

        def right() -> list[WorkerSeen] | None:
            workers = self.workers()
            return workers if condition(workers) else None

        try:
            return wait_until(right, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\nworkers: {self.workers()}\n{self.log}") from None

    def zygotes(self) -> list[psutil.Process]:
        """The zygotes that live now."""
        found = []
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "zygote gen" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def wait_settled(self, workers: int) -> None:
        """Wait until a reload is over: this many workers, of one generation, and one zygote."""

        def settled(seen: list[WorkerSeen]) -> bool:
            return (
                len(seen) == workers and len({w.generation for w in seen}) == 1 and len(self.zygotes()) == 1
            )

        self.wait_workers(settled, f"{workers} workers and a zygote of one generation")

    def wait_blocked(self) -> None:
        """Until the probe's `/block` holds some worker's event loop."""
        wait_until(lambda: holding.arrived(self.directory, "block"), "a worker is blocked")

    def unblock(self) -> None:
        """Let the event loop go on that a `/block` without a number of seconds holds."""
        (self.directory / "block.gate").open("w").close()

    def descriptors(self) -> int:
        """How many file descriptors the master has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def wait_line(self, pattern: str, timeout: float = PATIENCE, *, after: int = 0) -> re.Match[str]:
        """The first line of the log, from number `after` on, that the pattern is found in."""
        deadline = time.monotonic() + timeout
        regex = re.compile(pattern)
        looked_at = after
        with self._changed:
            while True:
                while looked_at < len(self.lines):
                    if match := regex.search(self.lines[looked_at]):
                        return match
                    looked_at += 1
                assert self._process is not None
                left = deadline - time.monotonic()
                gone = self._process.poll() is not None and not self._readers[0].is_alive()
                assert left > 0 and not gone, f"no line matches {pattern!r} in the log:\n{self.log}"  # noqa: PT018 -- one message for both
                self._changed.wait(min(left, 0.1))

    def expect_log(self, *patterns: str) -> None:
        """Lines of level WARNING and above, or tracebacks, that this test provokes."""
        self._expected += [re.compile(pattern) for pattern in patterns]

    def client(self, **arguments: Any) -> httpx.Client:
        """An HTTP client of the first address that the log tells."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, **arguments)

    @contextlib.contextmanager
    def keeping_descriptors(self) -> Iterator[None]:
        """Assert that what happens inside leaks no descriptor in the master."""
        before = self.descriptors()
        yield
        wait_until(lambda: self.descriptors() <= before, f"the master is back at {before} descriptors")

    # -- judgement --------------------------------------------------------------------------------------------

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def _join_readers(self) -> None:
        for reader in self._readers:
            reader.join(PATIENCE)

    def _assert_no_zombie(self) -> None:
        def zombies() -> list[int]:
            found = []
            for process in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.status() == psutil.STATUS_ZOMBIE:
                        found.append(process.pid)
            return found

        wait_until(lambda: not zombies(), "the master reaped all its children")

    def _assert_nothing_lives(self) -> None:
        """Orphans of the master are our children now. A master that was killed cannot reap: we do."""

        def left() -> list[psutil.Process]:
            found = []
            for child in psutil.Process().children():
                if child.pid in self._strangers or child.pid == self.pid:
                    continue
                with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
                    if child.status() == psutil.STATUS_ZOMBIE:
                        os.waitpid(child.pid, os.WNOHANG)
                    else:
                        found.append(child)
            return found

        try:
            wait_until(lambda: not left(), "nothing is left of the fleet")
        except AssertionError as error:
            raise AssertionError(f"{error}: {left()}\n{self.log}") from None

    def _assert_clean_log(self) -> None:
        unexpected = [
            line
            for line in self.lines
            if _COMPLAINT.search(line) and not any(pattern.search(line) for pattern in self._expected)
        ]
        assert not unexpected, (
            "unexpected lines in the log:\n" + "\n".join(unexpected) + "\n\nall of it:\n" + self.log
        )
