"""The check before a live upgrade: whether the program that is installed now would take over from this one.

A child runs the same command, reads the settings and the state of this master, and reports that it could, or why not.
It gets nothing but the state, the names of the sockets that systemd passed, and a pipe for its output.
"""

import contextlib
import os
import selectors
import signal
from collections.abc import Callable

from asgi_master.master.process import Process
from asgi_master.master.spawn import spawn
from asgi_master.master.upgrade_protocol import READY_MARKER, UpgradeMode, inherited, inside
from asgi_master.master.variables import UPGRADE
from asgi_master.records import record
from asgi_master.telemetry.exits import describe_status
from asgi_master.telemetry.text import one_line

_COMPLAINT = "asgi-master: error: "
_MOST_OUTPUT = 64 * 1024
"""Bytes that are kept, of the end."""
_LONGEST_REASON = 500

_PASSED = ("LISTEN_FDS", "LISTEN_FDNAMES")
"""What is served where no `bind` is set. Without `LISTEN_PID` the child does not use the descriptors."""


@record
class PreflightResult:
    """How it ended: either the version of the new program, or the reason why it cannot take over, one line."""

    version: str = ""
    refusal: str = ""


class Preflight:
    """One check, from the start of the child until it was reaped."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        expect_exit: Callable[[int, Callable[[int], None]], None],
        *,
        command: list[str],
        directory: str,
        state_fd: int,
        timeout: float,
        now: float,
    ) -> None:
        """Start the child by `command`, in `directory`. Raises `OSError`."""
        self.result: PreflightResult | None = None
        """Set at the end."""
        self._selector = selector
        self._output = b""
        self._timeout = timeout
        self._deadline = now + timeout
        self._timed_out = False
        self._pipe, write = os.pipe()
        try:
            with inside(directory), inherited({state_fd}):
                variables = {name: os.environ[name] for name in _PASSED if name in os.environ}
                variables |= {UPGRADE: f"{UpgradeMode.CHECK}:{state_fd}", "PWD": directory}
                pid = spawn(command, [(write, 1), (write, 2)], variables)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(write)
        os.set_blocking(self._pipe, False)
        selector.register(self._pipe, selectors.EVENT_READ, self._read)
        self._process = Process(pid)
        expect_exit(pid, self._exited)

    def sweep(self, now: float) -> None:
        """End a child that takes too long."""
        if self.result is None and now >= self._deadline and not self._timed_out:
            self._timed_out = True
            self.cancel()

    def cancel(self) -> None:
        """End the child now; the result follows when it is reaped."""
        if self.result is None:
            self._process.signal(signal.SIGKILL)

    def close(self) -> None:
        """End the child, and wait for nothing."""
        self.cancel()
        self._close_pipe()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._pipe >= 0:
                chunk = os.read(self._pipe, _MOST_OUTPUT)
                if not chunk:
                    self._close_pipe()
                self._output = (self._output + chunk)[-_MOST_OUTPUT:]

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            self._selector.unregister(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _exited(self, status: int) -> None:
        self._process.reaped()
        self._read()
        # A process that the child left running may hold the other end; it is not waited for.
        self._close_pipe()
        if self._timed_out:
            self.result = PreflightResult(
                refusal=f"the new program did not answer within {self._timeout:g} s"
            )
        else:
            self.result = judge(status, self._output.decode(errors="replace"))


def judge(status: int, output: str) -> PreflightResult:
    """The result of a child that ended with this status (-N: signal N), and printed this."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if status == 0 and last.startswith(READY_MARKER):
        return PreflightResult(version=one_line(last.removeprefix(READY_MARKER))[:_LONGEST_REASON])
    complaints = [line.removeprefix(_COMPLAINT) for line in lines if line.startswith(_COMPLAINT)]
    if complaints:
        reason = "; ".join(complaints)
    elif status == 0:
        reason = "the new program does not know how to take over: restart instead"
    else:
        reason = f"the new program ended with {describe_status(status)}" + (f": {last}" if last else "")
    return PreflightResult(refusal=one_line(reason)[:_LONGEST_REASON])
