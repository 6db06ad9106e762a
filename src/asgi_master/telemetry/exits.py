"""Exit statuses in words."""

import signal

from asgi_master.errors import ExitCode

_MEANINGS: dict[int, str] = {
    ExitCode.BOOT_FAILED: "boot failed",
    ExitCode.BIND_FAILED: "an address could not be bound",
    ExitCode.MASTER_LOST: "its master had ended",
    ExitCode.KILLED: "stopped by force",
    ExitCode.LEFT_BEHIND: "threads of the application or exit handlers had not ended",
}

_OF_WORKERS_THAT_SERVED = frozenset({ExitCode.FAILURE, ExitCode.MASTER_LOST, ExitCode.LEFT_BEHIND})
"""Statuses, besides 0, with which a worker that was ready exits by itself. Other numbers come from the application."""

_HINTS = {
    signal.SIGKILL: "the kernel's OOM killer, or someone's kill -9",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGBUS: "a crash in native code, or a file that shrank while mapped",
    signal.SIGILL: "native code built for another CPU",
    signal.SIGFPE: "a crash in native code",
    signal.SIGABRT: "native code gave up: see the lines before",
    signal.SIGSYS: "a system call that the sandbox forbids",
    signal.SIGXCPU: "the CPU time limit",
}


def describe_status(status: int, *, served: bool = False) -> str:
    """Describe an exit status in `subprocess` form (-N for signal N), for example `killed by SIGSEGV (…)`.

    `served`: the worker had been ready, so the number may be the application's own.
    """
    if status >= 0:
        meaning = _MEANINGS.get(status)
        if served and status not in _OF_WORKERS_THAT_SERVED:
            meaning = "chosen by the application, which ended the process"
        return f"exit status {status}" + (f" ({meaning})" if meaning else "")
    try:
        signum = signal.Signals(-status)
    except ValueError:
        return f"killed by signal {-status}"
    hint = _HINTS.get(signum)
    return f"killed by {signum.name}" + (f" ({hint})" if hint else "")
