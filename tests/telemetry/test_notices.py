"""Every notice becomes one clear line."""

import logging

import pytest

from asgi_master.errors import ExitCode
from asgi_master.supervision import notices as n
from asgi_master.telemetry.notices import render

INFO, WARN, ERROR = logging.INFO, logging.WARNING, logging.ERROR
WHO = (12, 3, 7)
SERVICE = (4, "beat", 7)

LINES = [
    (n.MasterReady(8, 1), INFO, "ready: 8 workers serving generation 1"),
    (n.MasterReady(1, 2), INFO, "ready: 1 worker serving generation 2"),
    (
        n.BootFailed(1, n.ImportFailed('cannot load "app:ap"'), waits=False),
        ERROR,
        'generation 1 did not start: cannot load "app:ap"; giving up',
    ),
    (
        n.BootFailed(2, n.BootRefused(0, "lifespan failed"), waits=True),
        ERROR,
        "generation 2 did not start: worker 0 could not start: lifespan failed; waiting for the next change",
    ),
    (
        n.BootFailed(1, n.ImportTimedOut(60.0), waits=False),
        ERROR,
        "generation 1 did not start: importing the application took longer than 60 s; giving up",
    ),
    (n.ScaledTo(3, 2), INFO, "scaling from 2 to 3 workers"),
    (n.ScaledTo(1, 2), INFO, "scaling from 2 to 1 worker"),
    (n.ScaledTo(1, 1), WARN, "staying at 1 worker: that is the limit"),
    (
        n.StopDelayed(10.0),
        INFO,
        "stopping in 10 s: not ready any more, but serving until then; a second signal stops at once",
    ),
    (n.ReloadRefused("SIGHUP", ("a", "b")), ERROR, "SIGHUP: not reloading: a; b"),
    (
        n.StoppingForMemory(),
        ERROR,
        "stopping: a worker was killed for lack of memory (--on-oom exit)",
    ),
    (n.Stopping(n.StopLevel.GRACEFUL, 4), INFO, "stopping (requests in flight may finish): 4 workers to go"),
    (n.Stopping(n.StopLevel.QUICK, 2), INFO, "stopping (requests in flight are cancelled): 2 workers to go"),
    (n.Stopping(n.StopLevel.KILL, 1), INFO, "stopping (by force): 1 worker to go"),
    (n.Stopped(ExitCode.OK), INFO, "stopped: all processes are gone"),
    (n.Stopped(ExitCode.KILLED), INFO, "stopped: all processes are gone, some by force"),
    (n.Stopped(ExitCode.BOOT_FAILED), INFO, "stopped: all processes are gone after a failed start"),
    (n.WorkerBecameReady(*WHO), INFO, "worker 3 (generation 7) is ready"),
    (
        n.WorkerLost(*WHO, n.Died(3, 7, 63.21), 0.0),
        ERROR,
        "worker 3 (generation 7) died after serving for 63.2 s: exit status 7 (chosen by the application, which ended the process); a replacement starts at once",
    ),
    (
        n.WorkerLost(*WHO, n.Died(3, 7, None), 1.5),
        ERROR,
        "worker 3 (generation 7) died before it was ready: exit status 7; a replacement starts in 1.5 s",
    ),
    (
        n.WorkerLost(*WHO, n.BootTimedOut(3, 60.0), None),
        ERROR,
        "worker 3 (generation 7) was not ready after 60 s and was killed; it is not replaced",
    ),
    (
        n.WorkerLost(*WHO, n.Hung(3, 32.0), 0.0),
        ERROR,
        "worker 3 (generation 7) sent no heartbeat for 32 s and was killed; a replacement starts at once",
    ),
    (
        n.WorkerLost(*WHO, n.Left(3, "SIGTERM"), 0.0),
        WARN,
        "worker 3 (generation 7) leaves by itself (SIGTERM); a replacement starts at once",
    ),
    (
        n.WorkerLost(*WHO, n.Died(3, -9, 63.21, out_of_memory=True), 0.0),
        ERROR,
        (
            "worker 3 (generation 7) died after serving for 63.2 s: killed by SIGKILL "
            "(the kernel's OOM killer: the control group counted a kill); a replacement starts at once"
        ),
    ),
    (
        n.WorkerReplacementStarted(*WHO, "it served 1000 requests"),
        INFO,
        "worker 3 (generation 7) is being replaced: it served 1000 requests",
    ),
    (
        n.WorkerBusy(*WHO, 30.4),
        WARN,
        "worker 3 (generation 7) is busy: no heartbeat for 30.4 s, but it makes progress; it is not killed",
    ),
    (
        n.WorkerHung(*WHO, 30.4, 2.0),
        ERROR,
        (
            "worker 3 (generation 7) hangs: no heartbeat for 30.4 s; "
            "dumping its stacks and killing it in 2 s unless it goes on"
        ),
    ),
    (n.WorkerRecovered(*WHO), WARN, "worker 3 (generation 7) runs again and is not killed"),
    (
        n.WorkerKilled(*WHO, n.Hung(3, 32.0)),
        ERROR,
        "worker 3 (generation 7) sent no heartbeat for 32 s and was killed while leaving",
    ),
    (
        n.WorkerKilled(*WHO, n.Overstayed(3, 31.0)),
        ERROR,
        "worker 3 (generation 7) had not left after 31 s; killed",
    ),
    (
        n.WorkerDiedLeaving(*WHO, 8),
        WARN,
        (
            "worker 3 (generation 7) left in time: "
            "exit status 8 (threads of the application or exit handlers had not ended)"
        ),
    ),
    (n.WorkerDiedLeaving(*WHO, 1), ERROR, "worker 3 (generation 7) died while leaving: exit status 1"),
    (
        n.WorkerAbandoned(*WHO, 10.0),
        ERROR,
        "worker 3 (generation 7) is still there 10 s after SIGKILL; no longer waiting for it",
    ),
    (n.WorkerBecameReady(*WHO, standby=True), INFO, "worker 3 (generation 7) is ready, as a spare"),
    (n.SpareAdmitted(*WHO), INFO, "worker 3 (generation 7), a spare, serves from now on"),
    (
        n.SpareReleased(*WHO),
        INFO,
        "worker 3 (generation 7), a spare, is no longer needed and is replaced by a fresh one",
    ),
    (n.ReloadStarted(8), INFO, "starting generation 8"),
    (n.RollbackStarted(7, 8), INFO, "rolling back from generation 8 to generation 7"),
    (
        n.NothingToRollBackTo(8),
        WARN,
        "not rolling back: no earlier generation is held; staying with generation 8",
    ),
    (
        n.NothingToRollBackTo(None),
        WARN,
        "not rolling back: no earlier generation is held; nothing serves yet",
    ),
    (
        n.HeldLetGo(7, n.WhyLetGo.EXPIRED),
        INFO,
        "generation 7 is no longer kept for a rollback: the rollback window has passed",
    ),
    (
        n.HeldLetGo(7, n.WhyLetGo.RELOADING),
        INFO,
        "generation 7 is no longer kept for a rollback: a newer one is about to start",
    ),
    (n.HeldLetGo(7, n.WhyLetGo.DIED), WARN, "generation 7 is no longer kept for a rollback: its zygote died"),
    (
        n.ReloadFailed(8, n.TooManyErrors(12, 40, 7, 0, 300), 7),
        ERROR,
        (
            "reload failed: generation 8: 12 of 40 requests were answered with 5xx (generation 7: 0 of 300); "
            "staying with generation 7"
        ),
    ),
    (
        n.ReloadFailed(8, n.TooManyErrors(12, 40, 7, 0, 300, 12), 7),
        ERROR,
        (
            "reload failed: generation 8: 12 of 40 requests were broken off by an exception after their response had "
            "begun (generation 7: 0 of 300); staying with generation 7"
        ),
    ),
    (
        n.ReloadFailed(8, n.TooManyErrors(12, 40, 7, 0, 300, 4), 7),
        ERROR,
        (
            "reload failed: generation 8: 12 of 40 requests failed, 8 answered with 5xx and 4 broken off by an "
            "exception later (generation 7: 0 of 300); staying with generation 7"
        ),
    ),
    (
        n.ReloadFailed(8, n.RollbackAsked(), 7),
        ERROR,
        "reload failed: generation 8: a rollback was requested; staying with generation 7",
    ),
    (n.ReloadSuperseded(8), INFO, "generation 8 is dropped for a newer one"),
    (n.ReloadCommitted(8, 4, 3.456), INFO, "reloaded: 4 workers serving generation 8 after 3.46 s"),
    (
        n.ReloadCommitted(7, 1, 0.05, is_rollback=True),
        INFO,
        "rolled back: 1 worker serving generation 7 after 0.05 s",
    ),
    (
        n.ReloadFailed(8, n.Died(0, 1, 0.5), 7),
        ERROR,
        (
            "reload failed: generation 8: worker 0 died after serving for 0.5 s: exit status 1; "
            "staying with generation 7"
        ),
    ),
    (
        n.ReloadFailed(8, n.ZygoteDied(1), 7),
        ERROR,
        "reload failed: generation 8: its zygote died: exit status 1; staying with generation 7",
    ),
    (
        n.ReloadFailed(8, n.Left(0, "SIGTERM"), 7),
        ERROR,
        "reload failed: generation 8: worker 0 left by itself: SIGTERM; staying with generation 7",
    ),
    (
        n.ZygoteLost(7, 1, 0.0),
        ERROR,
        "the zygote of generation 7 is gone: exit status 1; its workers stay; another starts at once",
    ),
    (
        n.ZygoteLost(7, 1, None),
        ERROR,
        "the zygote of generation 7 is gone: exit status 1; its workers stay; the reload brings another",
    ),
    (
        n.ZygoteReplaced(7, 8),
        INFO,
        (
            "the zygote of generation 8 stands in for that of generation 7; "
            "workers that are lost from now on are replaced from it"
        ),
    ),
    (
        n.ZygoteNotReplaced(8, n.ImportFailed("no module named app"), 120.0),
        ERROR,
        (
            "generation 8, to stand in for the lost zygote, did not start: no module named app; "
            "the serving workers stay; trying again in 120 s"
        ),
    ),
    (n.ServiceStarted(*SERVICE), INFO, "service beat (generation 7) runs"),
    (
        n.ServiceStopping(*SERVICE, n.WhyStopped.REPLACED),
        INFO,
        "service beat (generation 7) is told to stop: another generation has its own",
    ),
    (
        n.ServiceStopping(*SERVICE, n.WhyStopped.TERMINATED),
        INFO,
        "service beat (generation 7) is told to stop: its process received SIGTERM; it is started again",
    ),
    (
        n.ServiceCompleted(*SERVICE, 63.21),
        INFO,
        "service beat (generation 7) returned after 63.2 s: it is completed until the next reload",
    ),
    (
        n.ServiceLost(*SERVICE, n.Died(-1, 1, 63.21), 0.5),
        ERROR,
        "service beat (generation 7) ended after 63.2 s: exit status 1; it starts again in 0.5 s",
    ),
    (
        n.ServiceLost(*SERVICE, n.BootRefused(-1, "no module named beat"), None),
        ERROR,
        "service beat (generation 7) could not start: no module named beat; it is not started again",
    ),
    (
        n.ServiceDiedStopping(*SERVICE, 8),
        WARN,
        (
            "service beat (generation 7) stopped in time: "
            "exit status 8 (threads of the application or exit handlers had not ended)"
        ),
    ),
    (
        n.ServiceDiedStopping(*SERVICE, 1),
        ERROR,
        "service beat (generation 7) failed while stopping: exit status 1",
    ),
    (
        n.ServiceKilled(*SERVICE, 11.0),
        ERROR,
        "service beat (generation 7) had not stopped after 11 s; killed",
    ),
    (
        n.ServiceAbandoned(*SERVICE, 10.0),
        ERROR,
        "service beat (generation 7) is still there 10 s after SIGKILL; no longer waiting for it",
    ),
]


@pytest.mark.parametrize(("notice", "level", "line"), LINES, ids=lambda value: type(value).__name__)
def test_line(notice, level, line):
    assert render(notice) == (level, line)


def test_every_notice_has_a_line():
    assert {type(notice) for notice, _, _ in LINES} == set(n.Notice.__args__)


def test_signals_are_named():
    _, line = render(n.WorkerLost(*WHO, n.Died(3, -9, 1.0), 0.0))
    assert "killed by SIGKILL" in line


def test_a_notice_without_a_line_is_an_error():
    with pytest.raises(TypeError):
        render(n.OfWorker(*WHO))
    with pytest.raises(TypeError):
        render(n.OfService(*SERVICE))
    with pytest.raises(TypeError):
        render(n.WorkerLost(*WHO, n.ImportFailed("not of a worker"), 0.0))
