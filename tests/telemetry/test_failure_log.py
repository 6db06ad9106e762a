import errno
import logging

import pytest

from asgi_master.telemetry.failure_log import FailureLog

ENOMEM = OSError(errno.ENOMEM, "Cannot allocate memory")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(caplog):
    caplog.set_level(logging.INFO, "asgi_master")
    return Clock()


def logged(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_kind_is_logged_once_and_its_end_with_the_number(clock, caplog):
    failures = FailureLog(clock)
    for _ in range(100):
        failures.failed("reading", ENOMEM, "it is retried")
        clock.now += 0.1
        failures.sweep()
    assert logged(caplog) == [("WARNING", "reading failed: Cannot allocate memory; it is retried")]
    assert failures.count == 100
    clock.now += 5.0
    failures.sweep()
    failures.sweep()
    assert logged(caplog)[1:] == [("INFO", "reading: over; it failed 100 times in 9.9 s")]


def test_what_happened_once_has_no_end(clock, caplog):
    failures = FailureLog(clock)
    failures.failed("reading", ENOMEM, "it is retried")
    clock.now += 60.0
    failures.sweep()
    assert len(logged(caplog)) == 1


def test_what_comes_back_is_logged_again(clock, caplog):
    failures = FailureLog(clock)
    for _ in range(2):
        failures.failed("reading", ENOMEM, "it is retried")
        clock.now += 60.0
        failures.sweep()
    assert len(logged(caplog)) == 2


def test_what_goes_on_failing_is_logged_once_a_minute_with_a_count(clock, caplog):
    failures = FailureLog(clock)
    for _ in range(121):
        for source in ("one listener", "another"):
            failures.failed("accept", ENOMEM, "on", source=source)
        clock.now += 1.0
    assert [line for _level, line in logged(caplog)] == [
        "accept failed: Cannot allocate memory; on",
        "accept failed (120 times since the last such line): Cannot allocate memory; on",
        "accept failed (120 times since the last such line): Cannot allocate memory; on",
    ]
    failures.recovered("another")
    failures.recovered("one listener")
    assert logged(caplog)[-1] == ("INFO", "accept: over; it failed 121 times in 120.0 s")
    failures.failed("accept", ENOMEM, "on", source="one listener")
    assert len(logged(caplog)) == 4, "within a minute of the last line"


def test_other_work_and_another_reason_are_other_kinds(clock, caplog):
    failures = FailureLog(clock)
    failures.failed("reading", ENOMEM, "on")
    failures.failed("writing", ENOMEM, "on")
    failures.failed("reading", OSError(errno.EIO, "Input/output error"), "on")
    failures.failed("reading", MemoryError(), "on")
    assert [line for _level, line in logged(caplog)] == [
        "reading failed: Cannot allocate memory; on",
        "writing failed: Cannot allocate memory; on",
        "reading failed: Input/output error; on",
        "reading failed: no memory is left; on",
    ]


def test_a_fault_of_ours_has_its_traceback_the_first_time(clock, caplog):
    failures = FailureLog(clock)
    for _ in range(2):
        failures.failed("judging", KeyError("x"), "on")
        clock.now += 60.0
        failures.sweep()
    failures.failed("reading", ENOMEM, "on")
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False]


def test_kinds_without_end_do_not_fill_the_memory(clock, caplog):
    failures = FailureLog(clock)
    for number in range(10_000):
        failures.failed(f"work {number}", ENOMEM, "on")
    assert len(logged(caplog)) == 256


def test_it_raises_nothing_where_the_log_does(clock, monkeypatch):
    def fails(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr(logging.Logger, "log", fails)
    FailureLog(clock).failed("reading", ENOMEM, "on")
