"""The live upgrade, requested by SIGUSR2: this process becomes the program that is installed now; its children go on.

A child first checks that the new program would take over (`preflight`). Then the state is written to a file in memory,
the descriptors that it names are kept open, and `execve` replaces this program under the same pid. Nothing is closed or
changed before that call, so a failure leaves everything as it was.
"""

import logging
import os
import selectors
import time
from collections.abc import Callable

from asgi_master.control.component import Component
from asgi_master.master import variables
from asgi_master.master.children import Children
from asgi_master.master.closing_listeners import ClosingListeners
from asgi_master.master.preflight import Preflight
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.signals import SignalPipe
from asgi_master.master.start_context import StartContext
from asgi_master.master.upgrade_protocol import UpgradeMode, inherited, inside, write_state
from asgi_master.master.upgrade_state import StateSection, UpgradeState
from asgi_master.supervision.states import Phase
from asgi_master.supervision.supervisor import Supervisor

log = logging.getLogger("asgi_master")

_NOT_NOW = {
    Phase.BOOTING: "the first workers are still starting",
    Phase.WAITING: "nothing serves yet",
    Phase.TERMINATING: "the master is stopping",
    Phase.STOPPING: "the master is stopping",
    Phase.STOPPED: "the master is stopping",
}


class Upgrade(Component):
    """Follows one request for an upgrade at a time. The last component in a turn: it may replace the program."""

    def __init__(
        self,
        state: UpgradeState,
        start: StartContext,
        settings: RunningSettings,
        supervisor: Supervisor,
        children: Children,
        closing_listeners: ClosingListeners,
        selector: selectors.BaseSelector,
        signals: SignalPipe,
        settle: Callable[[], None],
    ) -> None:
        """`settle` handles the signals that came and every fact."""
        self._state = state
        self._start = start
        self._settings = settings
        self._supervisor = supervisor
        self._children = children
        self._closing_listeners = closing_listeners
        self._selector = selector
        self._signals = signals
        self._settle = settle
        self._wanted = False
        self._check: Preflight | None = None

    @property
    def _is_possible_now(self) -> bool:
        """Whether nothing is under way that does not survive an upgrade."""
        return self._supervisor.phase is Phase.STEADY and self._closing_listeners.is_done

    def request(self) -> None:
        """Upgrade as soon as that is possible. Requests until then are one request."""
        phase = self._supervisor.phase
        if phase in _NOT_NOW:
            log.error("upgrade refused: %s", _NOT_NOW[phase])
        elif self._wanted:
            log.info("SIGUSR2: the upgrade is under way already")
        else:
            self._wanted = True
            log.info("SIGUSR2: upgrading%s", " after the reload" if phase is Phase.RELOADING else "")

    def sweep(self) -> None:
        """Take the next step that is possible. The last one does not return."""
        now = time.monotonic()
        if self._check is not None:
            self._check.sweep(now)
            self._follow(self._check)
        elif self._wanted and self._is_possible_now:
            self._begin(now)
        elif self._supervisor.phase in _NOT_NOW:
            self._wanted = False

    def close(self) -> None:
        """End the check."""
        if self._check is not None:
            self._check.close()

    def _begin(self, now: float) -> None:
        try:
            state = write_state(self._state.export())
            try:
                self._check = Preflight(
                    self._selector,
                    self._children.expect_exit,
                    command=self._start.command(),
                    directory=self._start.started_in,
                    state_fd=state,
                    timeout=self._settings.current.process.boot_timeout,
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
        if self._supervisor.phase in _NOT_NOW:
            check.cancel()
        if check.result is None:
            return
        self._check = None
        if check.result.refusal:
            if self._supervisor.phase not in _NOT_NOW:
                self._refuse(check.result.refusal)
        elif self._is_possible_now:
            # Otherwise a reload began meanwhile: after it, the check is made again.
            self._replace(check.result.version)

    def _refuse(self, reason: str) -> None:
        self._wanted = False
        log.error("upgrade refused: %s", reason)

    def _replace(self, version: str) -> None:
        """Become the new program. Returns if that is not possible now."""
        # Signals from here on stay pending, for the new program.
        self._signals.block()
        try:
            self._settle()
            if self._is_possible_now:
                self._wanted = False
                log.info("upgrading to asgi-master %s", version)
                self._execute(self._state.export())
        except OSError as error:
            log.error("upgrade failed: %s; the running program goes on", _reason(error))
        except Exception:
            # Whatever it is, nothing was changed yet.
            log.exception("upgrade failed; the running program goes on")
        finally:
            self._signals.unblock()

    def _execute(self, sections: dict[str, StateSection]) -> None:
        program, *arguments = self._start.command()
        state = write_state(sections)
        try:
            kept = {state, *(fd for section in sections.values() for fd in section.fds.values())}
            with inside(self._start.started_in), inherited(kept):
                os.execve(  # noqa: S606 -- our own command
                    program,
                    [program, *arguments],
                    {
                        **os.environ,
                        "PWD": self._start.started_in,
                        variables.UPGRADE: f"{UpgradeMode.TAKE_OVER}:{state}",
                    },
                )
        finally:
            os.close(state)


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
