"""Each traceback is shown once, below the line that says what followed."""

from asgi_master.ipc import messages
from asgi_master.master.tracebacks import Tracebacks
from asgi_master.supervision.notices import (
    BootFailed,
    BootRefused,
    ImportFailed,
    MasterReady,
    ReloadFailed,
    WorkerLost,
    ZygoteNotReplaced,
)

REASON = "importing app failed: ValueError: no"
TRACEBACK = "Traceback (most recent call last):\n  ...\nValueError: no"
FAILED = messages.ApplicationImportFailed(REASON, TRACEBACK, {"type": "ValueError"})
BELOW = {"detail": TRACEBACK, "failure": {"type": "ValueError"}}


def _told() -> Tracebacks:
    tracebacks = Tracebacks()
    tracebacks.keep(FAILED)
    return tracebacks


def test_it_belongs_to_the_notice_of_that_reason() -> None:
    assert _told().of(BootFailed(1, ImportFailed(REASON), waits=False)) == BELOW
    assert _told().of(WorkerLost(1, 0, 1, BootRefused(0, REASON), 1.0)) == BELOW
    assert _told().of(BootFailed(1, ImportFailed("another"), waits=False)) == {}
    assert _told().of(MasterReady(1, 1)) == {}


def test_workers_that_fail_alike_show_it_once() -> None:
    tracebacks = _told()
    tracebacks.keep(FAILED)
    lost = WorkerLost(1, 0, 1, BootRefused(0, REASON), 1.0)
    assert tracebacks.of(lost) == BELOW
    tracebacks.keep(FAILED)
    assert tracebacks.of(lost) == {}
    tracebacks.keep(FAILED)
    assert tracebacks.of(ZygoteNotReplaced(2, ImportFailed(REASON), 1.0)) == {}


def test_each_reload_that_fails_shows_it_again() -> None:
    tracebacks = Tracebacks()
    for generation in range(2, 5):
        tracebacks.forget()
        tracebacks.keep(FAILED)
        assert tracebacks.of(ReloadFailed(generation, ImportFailed(REASON), 1)) == BELOW


def test_unrequested_tracebacks_are_dropped() -> None:
    tracebacks = _told()
    tracebacks.forget()
    assert tracebacks.of(ReloadFailed(2, ImportFailed(REASON), 1)) == {}


def test_what_waits_is_bounded() -> None:
    tracebacks = Tracebacks()
    for number in range(1000):
        tracebacks.keep(messages.WorkerBootFailed(f"reason {number}", TRACEBACK))
    assert tracebacks.of(ReloadFailed(2, ImportFailed("reason 999"), 1)) == {}


def test_what_was_shown_is_not_remembered_for_ever() -> None:
    tracebacks = Tracebacks()
    for number in range(1000):
        tracebacks.keep(messages.WorkerBootFailed(REASON, f"traceback {number}"))
        assert tracebacks.of(WorkerLost(1, 0, 1, BootRefused(0, REASON), 1.0))
    assert len(tracebacks._shown) <= 64
