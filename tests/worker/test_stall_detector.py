"""What is a stall and what only looks like one, told from stamps alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.telemetry.code_ownership import CodeOwnership
from asgi_master.worker.diagnostics.code_location import CodeLocation
from asgi_master.worker.diagnostics.stall_detector import (
    Sample,
    SampledFrame,
    StallAction,
    StallDetector,
    describe_stall,
    is_busy,
    lasting,
)

THRESHOLD, PERIOD = 1.0, 0.2


class World:
    """A loop, its watcher and a host, by the clock of a test."""

    def __init__(self):
        self.now = 100.0
        self.cpu = 5.0
        self.stamp = self.now
        self.gap = (0.0, 0.0)
        self.detector = StallDetector(threshold=THRESHOLD, period=PERIOD, now=self.now, cpu=self.cpu)
        self.verdicts = []

    def pass_time(self, seconds, *, turning, cpu=0.0):
        """Time passes while the watcher looks punctually."""
        for _ in range(round(seconds / PERIOD)):
            self.now += PERIOD
            self.cpu += cpu * PERIOD
            if turning:
                self.turn()
            self.look()

    def vanish(self, seconds, *, cpu=0.0):
        """Time passes in which neither the loop nor the watcher runs."""
        self.now += seconds
        self.cpu += cpu * seconds
        self.look()

    def turn(self):
        if self.now - self.stamp > 2 * PERIOD:
            self.gap = (self.stamp, self.now)
        self.stamp = self.now

    def look(self):
        action = self.detector.check(self.now, self.stamp, self.cpu, self.gap)
        if action is not StallAction.NONE:
            self.verdicts.append(action)


def test_a_loop_that_turns_is_fine():
    world = World()
    world.pass_time(10, turning=True)
    assert world.verdicts == []


def test_a_stall_is_told_once_and_its_end_too():
    world = World()
    world.pass_time(2, turning=True)
    world.pass_time(5, turning=False)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT]
    world.pass_time(2, turning=True)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT, StallAction.OVER]
    assert world.detector.seconds == pytest.approx(5, abs=2 * PERIOD)


def test_it_is_told_soon_after_the_threshold():
    world = World()
    world.pass_time(THRESHOLD + 3 * PERIOD, turning=False)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT]
    assert THRESHOLD <= world.detector.seconds <= THRESHOLD + 3 * PERIOD


def test_shorter_ones_are_not_told():
    world = World()
    for _ in range(10):
        world.pass_time(THRESHOLD - PERIOD, turning=False)
        world.pass_time(PERIOD, turning=True)
    assert world.verdicts == []


def test_a_stall_that_ends_between_the_samples_is_told_as_past():
    world = World()
    world.pass_time(THRESHOLD + PERIOD, turning=False)
    assert world.verdicts == [StallAction.SAMPLE]
    world.pass_time(1, turning=True)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT_PAST]
    assert world.detector.seconds >= THRESHOLD


def test_each_stall_is_told():
    world = World()
    for _ in range(3):
        world.pass_time(3, turning=False)
        world.pass_time(1, turning=True)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT, StallAction.OVER] * 3


@pytest.mark.parametrize("before", [0.0, PERIOD, 0.8])
def test_a_stopped_process_is_not_stalled(before):
    world = World()
    world.pass_time(2, turning=True)
    world.pass_time(before, turning=False)
    world.vanish(30)
    world.pass_time(5, turning=True)
    assert world.verdicts == []


def test_a_stop_that_ends_with_a_turn_is_not_a_stall_either():
    world = World()
    world.vanish(0.19)
    world.turn()
    world.vanish(30)
    world.turn()
    world.pass_time(1, turning=True)
    assert world.verdicts == []


def test_the_time_of_a_stop_does_not_count_in_a_stall():
    world = World()
    world.pass_time(0.6, turning=False)
    world.vanish(30)
    assert world.verdicts == []
    world.pass_time(2, turning=False)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT]
    world.pass_time(1, turning=True)
    assert world.detector.seconds == pytest.approx(2.8, abs=2 * PERIOD)


def test_a_stall_right_after_a_stop_is_one():
    world = World()
    world.now += 30
    world.turn()
    world.look()
    world.pass_time(2, turning=False)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT]


def test_a_starved_host_is_not_a_stall():
    world = World()
    for _ in range(10):
        world.vanish(0.9, cpu=0.1)
        world.turn()
    assert world.verdicts == []


def test_a_held_gil_is_told_from_a_stop_by_the_cpu():
    world = World()
    world.pass_time(1, turning=True)
    world.vanish(3, cpu=1.0)
    assert world.verdicts == [StallAction.REPORT_HELD]
    assert world.detector.seconds == pytest.approx(3, abs=2 * PERIOD)
    world.turn()
    world.pass_time(1, turning=True)
    assert world.verdicts == [StallAction.REPORT_HELD, StallAction.OVER]


def test_a_busy_loop_on_a_starved_host_is_not_a_held_gil():
    world = World()
    world.vanish(3, cpu=0.6)
    assert world.verdicts == [StallAction.SAMPLE]
    world.vanish(0.5, cpu=0.6)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT]


def test_short_holds_of_the_gil_add_up_to_a_busy_loop():
    world = World()
    for _ in range(6):
        world.vanish(0.5, cpu=1.0)
    assert world.verdicts == [StallAction.SAMPLE, StallAction.REPORT]


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.floats(0.2, 5), st.sampled_from(["turning", "stopped", "stopped turning"])), max_size=20
    )
)
def test_whatever_the_host_does_a_loop_that_turns_when_it_can_is_fine(phases):
    world = World()
    for seconds, what in phases:
        if what == "turning":
            world.pass_time(seconds, turning=True)
        else:
            world.vanish(seconds)
            if what == "stopped turning":
                world.turn()
                world.look()
        world.now += 0.01
        world.turn()
        world.look()
    assert world.verdicts == []


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(["turn", "block", "stop", "compute"]), st.floats(0.2, 4)), max_size=20)
)
def test_verdicts_come_in_order(phases):
    world = World()
    for what, seconds in phases:
        if what in {"turn", "block"}:
            world.pass_time(seconds, turning=what == "turn")
        else:
            world.vanish(seconds, cpu=float(what == "compute"))
    was_reported = {
        StallAction.SAMPLE: {StallAction.REPORT, StallAction.REPORT_PAST},
        StallAction.REPORT: {StallAction.OVER},
        StallAction.REPORT_HELD: {StallAction.OVER},
        StallAction.REPORT_PAST: {StallAction.SAMPLE, StallAction.REPORT_HELD},
        StallAction.OVER: {StallAction.SAMPLE, StallAction.REPORT_HELD},
    }
    for before, after in zip(world.verdicts, world.verdicts[1:], strict=False):
        assert after in was_reported[before]
    assert world.verdicts[:1] in ([], [StallAction.SAMPLE], [StallAction.REPORT_HELD])


# -- what is said of it -----------------------------------------------------------------------------

SLEEP = CodeLocation("/srv/shop/clock.py", 3, "pause")
HANDLER = CodeLocation("/srv/shop/views.py", 20, "checkout")
APP = CodeLocation("/srv/shop/main.py", 5, "app")


def sample(*standings, at=0.0, cpu=0.0, subject="GET /pay"):
    """Of (frame, instruction, place), innermost first."""
    return Sample(tuple(SampledFrame(*sampled) for sampled in standings), subject, at, cpu)


STUCK = sample((3, 7, SLEEP), (2, 4, HANDLER), (1, 1, APP))


def test_the_same_call_in_both_samples_is_stuck():
    later = sample((3, 7, SLEEP), (2, 4, HANDLER), (1, 1, APP), at=0.2)
    assert not is_busy(STUCK, later)
    assert describe_stall(StallAction.REPORT, [STUCK, later], 1.26, CodeOwnership()) == (
        "the event loop is stuck for 1.3 s in GET /pay, at /srv/shop/clock.py:3 in pause"
    )


@pytest.mark.parametrize(
    "later",
    [
        sample((3, 9, SLEEP), (2, 4, HANDLER), (1, 1, APP), at=0.2),
        sample((4, 7, SLEEP), (2, 4, HANDLER), (1, 1, APP), at=0.2),
        sample((2, 4, HANDLER), (1, 1, APP), at=0.2),
        sample((3, 7, SLEEP), (2, 4, HANDLER), (1, 1, APP), at=0.2, cpu=0.15),
    ],
    ids=["another instruction", "another call", "returned", "used CPU"],
)
def test_what_moved_or_computed_is_busy(later):
    assert is_busy(STUCK, later)


def test_busy_names_what_goes_on_rather_than_what_it_just_called():
    later = sample((9, 1, SLEEP), (2, 4, HANDLER), (1, 1, APP), at=0.2, cpu=0.2)
    assert lasting(STUCK, later) == [HANDLER, APP]
    assert describe_stall(StallAction.REPORT, [STUCK, later], 1.2, CodeOwnership()) == (
        "the event loop is busy for 1.2 s in GET /pay, in /srv/shop/views.py:20 in checkout"
    )


def test_another_call_by_the_same_caller_is_not_the_same_call():
    later = sample((3, 7, SLEEP), (2, 5, HANDLER), (1, 1, APP), at=0.2)
    assert lasting(STUCK, later) == [HANDLER, APP]


def test_samples_without_a_common_call_tell_the_later_one():
    later = sample((8, 1, HANDLER), (7, 1, APP), at=0.2)
    assert lasting(STUCK, later) == [HANDLER, APP]


def test_what_has_no_subject_is_told_without():
    silent = sample((1, 1, APP), subject="")
    assert describe_stall(StallAction.REPORT_PAST, [silent], 1.0, CodeOwnership()) == (
        "the event loop was blocked for 1.0 s, at /srv/shop/main.py:5 in app"
    )


def test_a_held_gil_is_told():
    assert describe_stall(StallAction.REPORT_HELD, [STUCK], 3.2, CodeOwnership()) == (
        "the event loop was held for 3.2 s by code that does not release the GIL in GET /pay, "
        "at /srv/shop/clock.py:3 in pause"
    )
