"""Faults of ours that repeat."""

import logging

import pytest

from asgi_master.master.outlive import Outlive


def fail(what: str = "") -> None:
    raise ValueError(what)


def also_fail() -> None:
    raise ValueError


def test_the_same_fault_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outlive = Outlive(lambda: now)
    for turn in range(1000):
        outlive(fail, str(turn))
    assert len(caplog.records) == 1
    assert "fail('0',) failed; the master goes on" in caplog.text
    assert caplog.records[0].exc_info
    now = 61.0
    outlive(fail)
    assert "failed, for the 1000th time in a while" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_another_place_is_another_fault(caplog: pytest.LogCaptureFixture) -> None:
    outlive = Outlive(lambda: 0.0)
    outlive(fail)
    outlive(also_fail)
    assert len(caplog.records) == 2
