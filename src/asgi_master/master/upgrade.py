"""The live upgrade: this process becomes the program that is installed now, and its children notice nothing.

Asked for by SIGUSR2. A child first checks that the new program would take over (`preflight`). Then the state is
written down, the descriptors it names are kept open, and `execve` replaces this program under the same pid. Nothing is
closed or changed before that call, so when it fails everything is as it was.
"""

import logging
import os
import selectors
import time
from collections.abc import Callable

from asgi_master.master.carried import VARIABLE, Cargo, Carried
from asgi_master.master.children import Children
from asgi_master.master.handover import Errand, inherited, inside, write_state
from asgi_master.master.preflight import Preflight
from asgi_master.master.signals import SECTION, block_all, unblock
from asgi_master.supervision.notices import Notice
from asgi_master.supervision.states import Phase

log = logging.getLogger("asgi_master")

_NOT_NOW = {
    Phase.BOOTING: "the first workers are still starting",
    Phase.WAITING: "nothing serves yet",
    Phase.TERMINATING: "the master is stopping",
    Phase.STOPPING: "the master is stopping",
    Phase.STOPPED: "the master is stopping",
}


class Upgrade:
    """Follows one wish for an upgrade at a time. A `Companion` of the master's loop."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        children: Children,
        cargo: Cargo,
        *,
        command: Callable[[], list[str]],
        directory: str,
        phase: Callable[[], Phase],
        is_calm: Callable[[], bool],
        settle: Callable[[], None],
        boot_timeout: Callable[[], float],
    ) -> None:
        """`command` starts the new program; `directory` is what relative paths in it mean.

        `is_calm` tells whether nothing is under way that cannot be carried across; `settle` reads the signals that
        came and judges every fact.
        """
        self._selector = selector
        self._children = children
        self._cargo = cargo
        self._command = command
        self._directory = directory
        self._phase = phase
        self._is_calm = is_calm
        self._settle = settle
        self._boot_timeout = boot_timeout
        self._wanted = False
        self._check: Preflight | None = None

    def request(self) -> None:
        """Somebody wants it. Those that come before it is done are the same wish."""
        phase = self._phase()
        if phase in _NOT_NOW:
            log.error("upgrade refused: %s", _NOT_NOW[phase])
        elif self._wanted:
            log.info("SIGUSR2: the upgrade is under way already")
        else:
            self._wanted = True
            log.info("SIGUSR2: upgrading%s", " after the reload" if phase is Phase.RELOADING else "")

    def note(self, notice: Notice) -> None:
        """Nothing that is announced matters here; what counts is the phase when the loop has turned."""

    def sweep(self) -> None:
        """Go a step further, if the fleet is as it must be. Does not return if that was the last one."""
        now = time.monotonic()
        if self._check is not None:
            self._check.sweep(now)
            self._follow(self._check)
        elif self._wanted and self._is_calm():
            self._begin(now)
        elif self._phase() in _NOT_NOW:
            self._wanted = False

    def close(self) -> None:
        """The master ends."""
        if self._check is not None:
            self._check.close()

    def _begin(self, now: float) -> None:
        try:
            state = write_state(self._cargo.packed())
            try:
                self._check = Preflight(
                    self._selector,
                    self._children.expect_exit,
                    command=self._command(),
                    directory=self._directory,
                    state_fd=state,
                    timeout=self._boot_timeout(),
                    now=now,
                )
            finally:
                os.close(state)
        except OSError as error:
            self._refuse(f"the new program cannot be started: {_reason(error)}")
        except Exception:
            self._wanted = False
            log.exception("upgrade refused: the state cannot be written down")

    def _follow(self, check: Preflight) -> None:
        if self._phase() in _NOT_NOW:
            check.cancel()
        if check.verdict is None:
            return
        self._check = None
        if check.verdict.refusal:
            if self._phase() not in _NOT_NOW:
                self._refuse(check.verdict.refusal)
        elif self._is_calm():
            # Otherwise a reload began meanwhile: after it, the check is made again.
            self._replace(check.verdict.version)

    def _refuse(self, reason: str) -> None:
        self._wanted = False
        log.error("upgrade refused: %s", reason)

    def _replace(self, version: str) -> None:
        """Become the new program. Returns if that is not possible now."""
        # What comes from here on stays pending, and is the new program's to handle.
        blocked = block_all()
        try:
            self._settle()
            if self._is_calm():
                self._wanted = False
                log.info("upgrading to asgi-master %s", version)
                self._execute(self._cargo.packed() | {SECTION: Carried({"blocked": blocked})})
        except OSError as error:
            log.error("upgrade failed: %s; the running program goes on", _reason(error))
        except Exception:
            # Whatever it is, nothing was changed yet.
            log.exception("upgrade failed; the running program goes on")
        finally:
            unblock(blocked)

    def _execute(self, sections: dict[str, Carried]) -> None:
        program, *arguments = self._command()
        state = write_state(sections)
        try:
            kept = {state, *(fd for section in sections.values() for fd in section.fds.values())}
            with inside(self._directory), inherited(kept):
                os.execve(  # noqa: S606 -- our own command
                    program,
                    [program, *arguments],
                    {**os.environ, "PWD": self._directory, VARIABLE: f"{Errand.TAKE}:{state}"},
                )
        finally:
            os.close(state)


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
