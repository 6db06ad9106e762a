"""Log lines for notices of the supervisor."""

import logging
from typing import assert_never

from asgi_master.errors import ExitCode
from asgi_master.supervision import notices as n
from asgi_master.telemetry.exits import describe_status


def render(notice: n.Notice) -> tuple[int, str]:
    """The logging level and the text for a notice."""
    if isinstance(notice, n.OfWorker):
        return _of_worker(notice, f"worker {notice.slot} (generation {notice.generation})")
    if isinstance(notice, n.OfService):
        return _of_service(notice, f"service {notice.service} (generation {notice.generation})")
    match notice:
        case n.MasterReady(workers, generation):
            return logging.INFO, f"ready: {_workers(workers)} serving generation {generation}"
        case n.BootFailed(generation, cause, waits):
            follows = "waiting for the next change" if waits else "giving up"
            return logging.ERROR, f"generation {generation} did not start: {_why(cause)}; {follows}"
        case n.ScaledTo(workers, before):
            if workers == before:
                return logging.WARNING, f"staying at {_workers(workers)}: that is the limit"
            return logging.INFO, f"scaling from {before} to {_workers(workers)}"
        case n.StopDelayed(seconds):
            line = f"stopping in {_seconds(seconds)}: not ready any more, but serving until then"
            return logging.INFO, f"{line}; a second signal stops at once"
        case n.ReloadRefused(why, errors):
            return logging.ERROR, f"{why}: not reloading: {'; '.join(errors)}"
        case n.StoppingForMemory():
            return logging.ERROR, "stopping: a worker was killed for lack of memory (--on-oom exit)"
        case n.Stopping(level, workers):
            return logging.INFO, f"stopping ({_HOW[level]}): {_workers(workers)} to go"
        case n.Stopped(code):
            return logging.INFO, f"stopped: all processes are gone{_ENDED[code]}"
        case _:
            return _of_generation(notice)


_ENDED = {
    ExitCode.OK: "",
    ExitCode.KILLED: ", some by force",
    ExitCode.OUT_OF_MEMORY: " after a worker was killed for lack of memory",
    ExitCode.BOOT_FAILED: " after a failed start",
}

_HOW = {
    n.StopLevel.GRACEFUL: "requests in flight may finish",
    n.StopLevel.QUICK: "requests in flight are cancelled",
    n.StopLevel.KILL: "by force",
}


def _of_worker(notice: n.OfWorker, who: str) -> tuple[int, str]:
    match notice:
        case n.WorkerBecameReady(standby=standby):
            return logging.INFO, f"{who} is ready{', as a spare' if standby else ''}"
        case n.SpareAdmitted():
            return logging.INFO, f"{who}, a spare, serves from now on"
        case n.SpareReleased():
            return logging.INFO, f"{who}, a spare, is no longer needed and is replaced by a fresh one"
        case n.WorkerReplacementStarted(reason=reason):
            return logging.INFO, f"{who} is being replaced: {reason}"
        case n.WorkerLost(cause=n.Left(reason=reason), retry_in=retry_in):
            return logging.WARNING, f"{who} leaves by itself ({reason}); {_replaced(retry_in)}"
        case n.WorkerLost(cause=cause, retry_in=retry_in):
            return logging.ERROR, f"{who} {_what_happened(cause)}; {_replaced(retry_in)}"
        case n.WorkerHung(silent_for=silent_for, kill_in=kill_in):
            follows = f"dumping its stacks and killing it in {_seconds(kill_in)} unless it goes on"
            return logging.ERROR, f"{who} hangs: no heartbeat for {_seconds(silent_for)}; {follows}"
        case n.WorkerBusy(silent_for=silent_for):
            what = f"no heartbeat for {_seconds(silent_for)}, but it makes progress; it is not killed"
            return logging.WARNING, f"{who} is busy: {what}"
        case n.WorkerRecovered():
            return logging.WARNING, f"{who} runs again and is not killed"
        case n.WorkerKilled(cause=n.Hung() as cause):
            return logging.ERROR, f"{who} {_what_happened(cause)} while leaving"
        case n.WorkerKilled(cause=n.Overstayed(seconds=seconds)):
            return logging.ERROR, f"{who} had not left after {_seconds(seconds)}; killed"
        case n.WorkerDiedLeaving(status=ExitCode.LEFT_BEHIND):
            return logging.WARNING, f"{who} left in time: {describe_status(ExitCode.LEFT_BEHIND)}"
        case n.WorkerDiedLeaving(status=status):
            return logging.ERROR, f"{who} died while leaving: {describe_status(status, served=True)}"
        case n.WorkerAbandoned(seconds=seconds):
            return (
                logging.ERROR,
                f"{who} is still there {_seconds(seconds)} after SIGKILL; no longer waiting for it",
            )
        case _:
            raise TypeError(f"no sentence for {notice!r}")


def _of_service(notice: n.OfService, who: str) -> tuple[int, str]:
    match notice:
        case n.ServiceStarted():
            return logging.INFO, f"{who} runs"
        case n.ServiceStopping(why=why):
            return logging.INFO, f"{who} is told to stop: {_SERVICE_STOPPED[why]}"
        case n.ServiceCompleted(ran_for=ran_for):
            return (
                logging.INFO,
                f"{who} returned after {_seconds(ran_for)}: it is completed until the next reload",
            )
        case n.ServiceLost(cause=n.Died(ready_for=float(ran_for)) as cause, retry_in=retry_in):
            return (
                logging.ERROR,
                f"{who} ended after {_seconds(ran_for)}: {_ending(cause)}; {_restarts(retry_in)}",
            )
        case n.ServiceLost(cause=cause, retry_in=retry_in):
            return logging.ERROR, f"{who} {_what_happened(cause)}; {_restarts(retry_in)}"
        case n.ServiceDiedStopping(status=ExitCode.LEFT_BEHIND):
            return logging.WARNING, f"{who} stopped in time: {describe_status(ExitCode.LEFT_BEHIND)}"
        case n.ServiceDiedStopping(status=status):
            return logging.ERROR, f"{who} failed while stopping: {describe_status(status, served=True)}"
        case n.ServiceKilled(seconds=seconds):
            return logging.ERROR, f"{who} had not stopped after {_seconds(seconds)}; killed"
        case n.ServiceAbandoned(seconds=seconds):
            line = f"{who} is still there {_seconds(seconds)} after SIGKILL; no longer waiting for it"
            return logging.ERROR, line
        case _:
            raise TypeError(f"no sentence for {notice!r}")


_SERVICE_STOPPED = {
    n.WhyStopped.REPLACED: "another generation has its own",
    n.WhyStopped.REMOVED: "the settings name it no more",
    n.WhyStopped.TERMINATED: "its process received SIGTERM; it is started again",
}


def _restarts(retry_in: float | None) -> str:
    return "it is not started again" if retry_in is None else f"it starts again {_when(retry_in)}"


def _of_generation(
    notice: n.ReloadStarted
    | n.RollbackStarted
    | n.NothingToRollBackTo
    | n.HeldLetGo
    | n.ReloadSuperseded
    | n.ReloadCommitted
    | n.ReloadFailed
    | n.ZygoteLost
    | n.ZygoteReplaced
    | n.ZygoteNotReplaced,
) -> tuple[int, str]:
    match notice:
        case n.ReloadStarted(generation):
            return logging.INFO, f"starting generation {generation}"
        case n.RollbackStarted(generation, from_generation):
            return logging.INFO, f"rolling back from generation {from_generation} to generation {generation}"
        case n.NothingToRollBackTo(generation):
            stays = "nothing serves yet" if generation is None else f"staying with generation {generation}"
            return logging.WARNING, f"not rolling back: no earlier generation is held; {stays}"
        case n.HeldLetGo(generation, why):
            level = logging.WARNING if why is n.WhyLetGo.DIED else logging.INFO
            return level, f"generation {generation} is no longer kept for a rollback: {_LET_GO[why]}"
        case n.ReloadSuperseded(generation):
            return logging.INFO, f"generation {generation} is dropped for a newer one"
        case n.ReloadCommitted(generation, workers, took, is_rollback):
            how = "rolled back" if is_rollback else "reloaded"
            line = f"{how}: {_workers(workers)} serving generation {generation} after {_seconds(took)}"
            return logging.INFO, line
        case n.ReloadFailed(generation, cause, kept):
            return (
                logging.ERROR,
                f"reload failed: generation {generation}: {_why(cause)}; staying with generation {kept}",
            )
        case n.ZygoteLost(generation, status, retry_in):
            line = (
                f"the zygote of generation {generation} is gone: {describe_status(status)}; its workers stay"
            )
            follows = "the reload brings another" if retry_in is None else f"another starts {_when(retry_in)}"
            return logging.ERROR, f"{line}; {follows}"
        case n.ZygoteReplaced(lost, generation):
            line = f"the zygote of generation {generation} stands in for that of generation {lost}"
            return logging.INFO, f"{line}; workers that are lost from now on are replaced from it"
        case n.ZygoteNotReplaced(generation, cause, retry_in):
            line = f"generation {generation}, to stand in for the lost zygote, did not start: {_why(cause)}"
            return logging.ERROR, f"{line}; the serving workers stay; trying again {_when(retry_in)}"
        case _:
            assert_never(notice)


_LET_GO = {
    n.WhyLetGo.EXPIRED: "the rollback window has passed",
    n.WhyLetGo.RELOADING: "a newer one is about to start",
    n.WhyLetGo.DIED: "its zygote died",
}


def _why(cause: n.Cause) -> str:
    match cause:
        case n.TooManyErrors(failed, answered, kept, kept_failed, kept_answered, broken_off):
            meanwhile = f"generation {kept}: {kept_failed} of {kept_answered}"
            return f"{failed} of {answered} requests {_how_they_failed(failed, broken_off)} ({meanwhile})"
        case n.RollbackAsked():
            return "a rollback was requested"
        case n.ImportFailed(reason):
            return reason
        case n.ImportTimedOut(timeout):
            return f"importing the application took longer than {_seconds(timeout)}"
        case n.ZygoteDied(status):
            return f"its zygote died: {describe_status(status)}"
        case _:
            return f"worker {cause.slot} {_what_happened(cause)}"


def _how_they_failed(failed: int, broken_off: int) -> str:
    if not broken_off:
        return "were answered with 5xx"
    if broken_off == failed:
        return "were broken off by an exception after their response had begun"
    return (
        f"failed, {failed - broken_off} answered with 5xx and {broken_off} broken off by an exception later"
    )


def _what_happened(cause: n.WorkerCause) -> str:
    match cause:
        case n.BootRefused(reason=reason):
            return f"could not start: {reason}"
        case n.BootTimedOut(timeout=timeout):
            return f"was not ready after {_seconds(timeout)} and was killed"
        case n.Died(ready_for=None):
            return f"died before it was ready: {_ending(cause)}"
        case n.Died(ready_for=float(ready_for)):
            return f"died after serving for {_seconds(ready_for)}: {_ending(cause)}"
        case n.Hung(silent_for=silent_for):
            return f"sent no heartbeat for {_seconds(silent_for)} and was killed"
        case n.Left(reason=reason):
            return f"left by itself: {reason}"
        case _:
            raise TypeError(f"no sentence for {cause!r}")


def _ending(death: n.Died) -> str:
    if death.out_of_memory:
        return "killed by SIGKILL (the kernel's OOM killer: the control group counted a kill)"
    return describe_status(death.status, served=death.ready_for is not None)


def _replaced(retry_in: float | None) -> str:
    return "it is not replaced" if retry_in is None else f"a replacement starts {_when(retry_in)}"


def _when(delay: float) -> str:
    return f"in {_seconds(delay)}" if delay else "at once"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
