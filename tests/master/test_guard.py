"""Faults that repeat."""

import logging

import pytest

from asgi_master.master.guard import Guard
from asgi_master.telemetry.failure_log import FailureLog


def fail(what: str = "") -> None:
    raise ValueError(what)


def also_fail() -> None:
    raise ValueError


def test_a_repeated_fault_is_logged_once_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgi_master")
    now = 0.0
    failures = FailureLog(lambda: now)
    guarded = Guard(failures)
    for turn in range(1000):
        guarded(fail, str(turn))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "fail(str) failed: ValueError: 0; the master goes on" in caplog.text
    assert caplog.records[0].exc_info
    now = 61.0
    failures.sweep()
    assert "over; it failed 1000 times" in caplog.text
    guarded(fail)
    assert len(caplog.records) == 3


def test_another_work_is_another_fault(caplog: pytest.LogCaptureFixture) -> None:
    guarded = Guard()
    guarded(fail)
    guarded(also_fail)
    assert len(caplog.records) == 2
