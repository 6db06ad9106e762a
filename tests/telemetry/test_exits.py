import signal
import subprocess
import sys

import pytest

from asgi_master.errors import ExitCode
from asgi_master.telemetry.exits import describe_status


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (1, "exit status 1"),
        (3, "exit status 3 (boot failed)"),
        (42, "exit status 42"),
        (-11, "killed by SIGSEGV (a crash in native code)"),
        (-9, "killed by SIGKILL (the kernel's OOM killer, or someone's kill -9)"),
        (-15, "killed by SIGTERM"),
        (-40, "killed by signal 40"),
    ],
)
def test_words(status, words):
    assert describe_status(status) == words


@pytest.mark.parametrize("status", [0, 2, 3, 4, 6, 7, 42])
def test_a_worker_that_served_ends_with_no_such_status_of_ours(status):
    words = f"exit status {status} (chosen by the application, which ended the process)"
    assert describe_status(status, served=True) == words


@pytest.mark.parametrize("status", [1, 5, -9])
def test_a_worker_that_served_may_end_so(status):
    assert describe_status(status, served=True) == describe_status(status)


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_status_of_ours_has_words(code):
    assert describe_status(code).startswith(f"exit status {code.value}")


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGKILL, signal.SIGUSR1])
def test_the_status_that_subprocess_tells(signum):
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.kill(os.getpid(), {signum.value})"], timeout=30
    )
    assert describe_status(done.returncode).startswith(f"killed by {signum.name}")
