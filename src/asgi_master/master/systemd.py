"""Tells systemd how the service is: ready, reloading, stopping, alive, and in one line for people. See sd_notify(3).

`READY=1` is sent when every worker of the first generation is ready. A reload is over (`READY=1` again) when it was
committed, rolled back or refused. `WATCHDOG=1` means that the master's loop turns *and* a worker serves.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping

from asgi_master.control.component import Component
from asgi_master.ipc.scoreboard import Row
from asgi_master.master.sd_notify import Notifier
from asgi_master.master.sd_protocol import watchdog_timeout
from asgi_master.supervision.notices import (
    BootFailed,
    MasterReady,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    ReloadRefused,
    ReloadStarted,
    RollbackStarted,
    StopDelayed,
    Stopping,
)
from asgi_master.supervision.states import Phase, WorkerState, ZygoteState
from asgi_master.supervision.supervisor import Supervisor
from asgi_master.telemetry import notices
from asgi_master.telemetry.service_status import describe_service

_STATUS_PERIOD = 5.0
"""Seconds between two lines while nothing happens."""
_STATUS_PAUSE = 0.25
"""The least seconds between two, however much happens."""
_EXTENSION = 3 * _STATUS_PERIOD
"""Seconds of EXTEND_TIMEOUT_USEC in each line during boot, reload and stop; each step of these has its deadline."""
_RATE_OVER = 1.0
"""The least seconds that a rate is measured over."""

_DOING = {Phase.BOOTING: "starting", Phase.RELOADING: "reloading"}


class ServiceManager(Component):
    """Speaks to the service manager, if there is one."""

    def __init__(
        self,
        notifier: Notifier,
        supervisor: Supervisor,
        rows: Callable[[], Mapping[int, Row]],
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rows` are the scoreboard's rows by worker; `clock` is `CLOCK_MONOTONIC` in seconds."""
        self._notifier = notifier
        self._supervisor = supervisor
        self._rows = rows
        self._clock = clock
        self._watchdog = watchdog_timeout(environ, os.getpid()) if notifier.is_enabled else None
        self._watchdog_due = self._status_sent = clock()
        self._boots_since: float | None = None
        """Since when the fleet does nothing but boot."""
        self._is_announced = supervisor.phase not in {Phase.BOOTING, Phase.WAITING}
        self._is_reloading = self._is_stopping = False
        self._trouble = ""
        self._rate = _Rate(clock())
        self._send_status()

    def note(self, notice: Notice) -> None:
        """Follow what happens."""
        match notice:
            case MasterReady():
                self._is_announced = True
                self._end_reload("")
            case ReloadStarted() | RollbackStarted():
                if not self._is_reloading:
                    self.begin_reload()
            case ReloadCommitted():
                self._end_reload("")
            case ReloadFailed():
                self._end_reload(notices.render(notice)[1])
            case ReloadRefused(errors=errors):
                self._refuse_reload(errors)
            case BootFailed():
                self._trouble = notices.render(notice)[1]
                self._send_status()
            case StopDelayed() | Stopping():
                self._is_stopping = True
                self._send_status({"STOPPING": 1})
        # Whatever it was, it shows at the next turn.
        self._status_sent = min(self._status_sent, self._clock() - _STATUS_PERIOD + _STATUS_PAUSE)

    def begin_reload(self) -> None:
        """A reload was asked for. Each time counts: systemd waits for one that began after its signal."""
        if self._is_announced and not self._is_stopping:
            self._is_reloading = True
            words = {"RELOADING": 1, "MONOTONIC_USEC": int(self._clock() * 1e6)}
            self._send_status(words, doing=_DOING[Phase.RELOADING])

    def _refuse_reload(self, errors: Iterable[str]) -> None:
        """It was not even begun: the settings are wrong. One that is under way goes on."""
        self.begin_reload()
        self._trouble = f"reload failed: {'; '.join(errors)}"
        if self._supervisor.phase is not Phase.RELOADING:
            self._end_reload(self._trouble)

    def sweep(self) -> None:
        """Say what is due."""
        if not self._notifier.is_enabled:
            return
        self._notifier.flush()
        now = self._clock()
        # Check health also while nothing is due: boots are timed from when no worker serves.
        if (
            self._watchdog is not None
            and self._is_healthy(now, self._watchdog / 2)
            and now >= self._watchdog_due
        ):
            self._notifier.send({"WATCHDOG": 1})
            self._watchdog_due = now + self._watchdog / 2
        if now >= self._status_sent + _STATUS_PERIOD:
            self._send_status()

    def close(self) -> None:
        """Send what is pending. The notifier is closed by its owner."""
        self._notifier.flush()

    def _end_reload(self, trouble: str) -> None:
        self._trouble = trouble
        self._is_reloading = False
        if self._is_announced and not self._is_stopping:
            self._send_status({"READY": 1})

    def _send_status(self, words: Mapping[str, str | int] | None = None, *, doing: str = "") -> None:
        if not self._notifier.is_enabled:
            return
        now = self._status_sent = self._clock()
        phase, fleet = self._supervisor.phase, self._supervisor.fleet
        standing = [*fleet.serving(), *fleet.spares()]
        ready = [worker for worker in standing if worker.is_ready]
        taken = {worker.slot for worker in standing}
        status = describe_service(
            # A spare that was admitted serves on for a while beside the worker it stood in for.
            ready=min(len({worker.slot for worker in ready}), self._supervisor.policy.workers),
            wanted=self._supervisor.policy.workers,
            generations={worker.generation for worker in ready},
            rate=self._rate.measure(now, {id_: row.read().requests for id_, row in self._rows().items()}),
            doing="stopping" if self._is_stopping else doing or _DOING.get(phase, ""),
            leaving=sum(not worker.serves for worker in fleet.living()),
            waiting=sum(
                backoff.until > now and slot not in taken for slot, backoff in fleet.backoffs.items()
            ),
            trouble=self._trouble,
        )
        said: dict[str, str | int] = {**(words or {}), "STATUS": status}
        if self._is_reloading or self._is_stopping or phase is Phase.BOOTING:
            said["EXTEND_TIMEOUT_USEC"] = int(_EXTENSION * 1e6)
        self._notifier.send(said)

    def _is_healthy(self, now: float, patience: float) -> bool:
        """Whether a worker serves, or is about to.

        A loop that did not turn for `patience` seconds is not healthy. Who boots has `boot-timeout` for it; a fleet
        that does nothing but boot for longer than that is not healthy either, however often it begins anew.
        """
        if self._supervisor.phase in {Phase.BOOTING, Phase.STOPPING} or self._serves(now, patience):
            self._boots_since = None
            return True
        fleet = self._supervisor.fleet
        boots = any(worker.state is WorkerState.BOOTING for worker in fleet.living()) or any(
            zygote.state is ZygoteState.IMPORTING for zygote in fleet.living_zygotes()
        )
        if not boots:
            return False
        if self._boots_since is None:
            self._boots_since = now
        return now < self._boots_since + self._supervisor.policy.boot_timeout

    def _serves(self, now: float, patience: float) -> bool:
        rows, fleet = self._rows(), self._supervisor.fleet
        beats = (
            rows[worker.id].heartbeat(now)
            for worker in [*fleet.serving(), *fleet.spares()]
            if worker.is_ready and worker.id in rows
        )
        return any(beat is not None and beat >= now - patience for beat in beats)


class _Rate:
    """Requests per second of all workers, while workers are replaced."""

    def __init__(self, now: float) -> None:
        self._measured_at = now
        self._seen: dict[int, int] | None = None
        self._rate: float | None = None

    def measure(self, now: float, totals: Mapping[int, int]) -> float | None:
        """The rate since the last measurement. `totals` are each worker's requests so far."""
        elapsed = now - self._measured_at
        if self._seen is not None and elapsed < _RATE_OVER:
            return self._rate
        if self._seen is not None:
            done = sum(max(0, total - self._seen.get(worker, 0)) for worker, total in totals.items())
            self._rate = done / elapsed
        self._measured_at, self._seen = now, dict(totals)
        return self._rate
