"""What each signal asks of the master."""

import signal
from collections.abc import Callable

from asgi_master.master.children import Children
from asgi_master.master.guard import Guard
from asgi_master.master.log_files import LogFiles
from asgi_master.master.reload import Reload
from asgi_master.master.signals import SignalPipe
from asgi_master.master.upgrade import Upgrade
from asgi_master.supervision.events import Event, ScaleRequested, StopRequested

Action = Callable[[], object]


class SignalActions:
    """Runs the action of each signal that came."""

    def __init__(self, signals: SignalPipe, guarded: Guard) -> None:
        self.actions: dict[signal.Signals, Action] = {}
        """For each of `signals.HANDLED`."""
        self._signals = signals
        self._guarded = guarded

    def run(self) -> None:
        """Run those of the signals since the last call."""
        self._guarded(self._signals.wake)
        # A stop first: workers that died of the same signal need no replacement.
        for signum in sorted(self._signals.take(), key=lambda signum: signum == signal.SIGCHLD):
            self._guarded(self.actions[signum])


def master_actions(
    report: Callable[[Event], None], children: Children, log_files: LogFiles, reload: Reload, upgrade: Upgrade
) -> dict[signal.Signals, Action]:
    """The actions of the master; `report` takes events for the supervisor."""

    def hang_up() -> None:
        # The files first, whatever becomes of the reload: logrotate has renamed them.
        log_files.reopen()
        reload.request("SIGHUP")

    return {
        signal.SIGTERM: lambda: report(StopRequested()),
        signal.SIGINT: lambda: report(StopRequested()),
        signal.SIGQUIT: lambda: report(StopRequested(quick=True)),
        signal.SIGHUP: hang_up,
        signal.SIGUSR1: log_files.reopen,
        signal.SIGUSR2: upgrade.request,
        signal.SIGTTIN: lambda: report(ScaleRequested(+1)),
        signal.SIGTTOU: lambda: report(ScaleRequested(-1)),
        signal.SIGCHLD: children.reap,
    }
