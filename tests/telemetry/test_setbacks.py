import errno
import logging

import pytest

from asgi_master.telemetry.setbacks import Setbacks

ENOMEM = OSError(errno.ENOMEM, "Cannot allocate memory")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(caplog):
    caplog.set_level(logging.INFO, "asgi_master")
    return Clock()


def told(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_kind_is_told_once_and_its_end_with_their_number(clock, caplog):
    setbacks = Setbacks(clock)
    for _ in range(100):
        setbacks.note("reading", ENOMEM, "it is tried again")
        clock.now += 0.1
        setbacks.sweep()
    assert told(caplog) == [("WARNING", "reading failed: Cannot allocate memory; it is tried again")]
    assert setbacks.count == 100
    clock.now += 5.0
    setbacks.sweep()
    setbacks.sweep()
    assert told(caplog)[1:] == [("INFO", "reading: over; it failed 100 times in 9.9 s")]


def test_what_happened_once_has_no_end(clock, caplog):
    setbacks = Setbacks(clock)
    setbacks.note("reading", ENOMEM, "it is tried again")
    clock.now += 60.0
    setbacks.sweep()
    assert len(told(caplog)) == 1


def test_what_comes_back_is_told_again(clock, caplog):
    setbacks = Setbacks(clock)
    for _ in range(2):
        setbacks.note("reading", ENOMEM, "it is tried again")
        clock.now += 60.0
        setbacks.sweep()
    assert len(told(caplog)) == 2


def test_other_work_and_another_reason_are_other_kinds(clock, caplog):
    setbacks = Setbacks(clock)
    setbacks.note("reading", ENOMEM, "on")
    setbacks.note("writing", ENOMEM, "on")
    setbacks.note("reading", OSError(errno.EIO, "Input/output error"), "on")
    setbacks.note("reading", MemoryError(), "on")
    assert [line for _level, line in told(caplog)] == [
        "reading failed: Cannot allocate memory; on",
        "writing failed: Cannot allocate memory; on",
        "reading failed: Input/output error; on",
        "reading failed: no memory is left; on",
    ]


def test_a_fault_of_ours_has_its_traceback_the_first_time(clock, caplog):
    setbacks = Setbacks(clock)
    for _ in range(2):
        setbacks.note("judging", KeyError("x"), "on")
        clock.now += 60.0
        setbacks.sweep()
    setbacks.note("reading", ENOMEM, "on")
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False]


def test_kinds_without_end_do_not_fill_the_memory(clock, caplog):
    setbacks = Setbacks(clock)
    for number in range(10_000):
        setbacks.note(f"work {number}", ENOMEM, "on")
    assert len(told(caplog)) == 256


def test_it_raises_nothing_where_the_log_does(clock, monkeypatch):
    def fails(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr(logging.Logger, "log", fails)
    Setbacks(clock).note("reading", ENOMEM, "on")
