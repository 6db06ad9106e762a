"""A reload whose workers answer with errors is taken back, unless the old code does no better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.supervision import notices
from asgi_master.supervision.error_watch import LEAST_FAILURES, ErrorWatch, Tally
from asgi_master.supervision.events import HeartbeatsRead, ReloadRequested, RollbackRequested
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import Phase
from simulation import Code, Simulation


def steady(world):
    return world.until(lambda: world.supervisor.phase is Phase.STEADY)


def reloading(new, old=None, **policy):
    policy = {"workers": 4, "watch_time": 3.0, **policy}
    world = steady(Simulation(Policy(**policy), codes={1: old or Code(rate=50), 2: new}))
    world.run(5)
    world.tell(ReloadRequested(world.policy))
    return world


def test_new_code_that_fails_requests_is_taken_back():
    world = reloading(Code(rate=50, failing=1.0))
    start = world.now
    steady(world).run(10)
    assert world.generations() == [1] * 4
    (failed,) = world.notices(notices.ReloadFailed)
    assert isinstance(failed.cause, notices.TooManyErrors)
    assert failed.cause.failed == failed.cause.answered >= LEAST_FAILURES
    assert (failed.cause.kept, failed.cause.kept_failed) == (1, 0)
    assert min(ready for moment, ready in world.capacity if moment >= start) == 4


def test_the_canary_alone_is_enough():
    world = reloading(Code(rate=50, failing=0.5))
    steady(world)
    assert len([worker for worker in world.workers.values() if worker.generation == 2]) <= 1
    assert world.notices(notices.ReloadFailed)


@pytest.mark.parametrize(
    ("new", "old", "policy"),
    [
        (Code(rate=50), Code(rate=50), {}),
        (Code(rate=50, failing=0.15), Code(rate=50), {}),
        (Code(rate=50, failing=0.6), Code(rate=50, failing=0.5), {}),
        (Code(rate=50, failing=1.0), Code(rate=50, failing=1.0), {}),
        (Code(rate=50, failing=1.0), Code(rate=50), {"max_error_share": 0.0}),
        (Code(rate=0.3, failing=1.0), Code(rate=50), {}),
        (Code(), Code(), {}),
    ],
)
def test_what_is_tolerated(new, old, policy):
    world = steady(reloading(new, old, **policy))
    assert world.generations() == [2] * 4


def test_an_old_generation_without_requests_counts_as_healthy():
    world = steady(reloading(Code(rate=50, failing=0.3), Code()))
    assert world.generations() == [1] * 4


def test_only_what_happens_meanwhile_counts():
    """The old code failed for a long time before, and is well now."""
    world = steady(Simulation(Policy(workers=1, hang_timeout=0.0), heartbeat_period=1e9))
    world.tell(HeartbeatsRead({}, {1: Tally(1000, 1000)}))
    world.tell(ReloadRequested(world.policy))
    world.until(lambda: len(world.ready()) == 2)
    world.tell(HeartbeatsRead({}, {1: Tally(1010, 1000), 2: Tally(10, 9, 3)}))
    (failed,) = world.notices(notices.ReloadFailed)
    assert failed.cause == notices.TooManyErrors(9, 10, 1, 0, 10, 3)


def test_a_first_boot_has_nothing_to_go_back_to():
    world = Simulation(
        Policy(workers=2), codes={1: Code(rate=500, failing=1.0)}, scripts={2: Code(boot_time=10)}
    )
    steady(world)
    assert world.generations() == [1, 1]


def test_after_the_commit_errors_change_nothing():
    world = steady(reloading(Code(rate=50)))
    world.tell(HeartbeatsRead({}, {w.id: Tally(9000, 9000) for w in world.ready()}))
    assert world.run(5).generations() == [2] * 4


def test_a_rollback_from_code_that_fails_is_not_held_up_by_the_old_code_doing_half_as_bad():
    world = steady(
        Simulation(
            Policy(workers=2, rollback_window=100.0, max_error_share=0.0),
            codes={1: Code(rate=50, failing=0.5), 2: Code(rate=50, failing=1.0)},
        )
    )
    world.tell(ReloadRequested(Policy(workers=2, rollback_window=100.0)))
    world.until(lambda: world.supervisor.phase is Phase.RELOADING)
    world.codes[2] = Code(rate=50)
    steady(world)
    world.codes[2] = Code(rate=50, failing=1.0)
    for worker in world.ready():
        worker.code = world.codes[2]
    world.tell(RollbackRequested())
    steady(world).run(3)
    assert world.generations() == [1, 1]


@given(
    deltas=st.lists(
        st.tuples(st.booleans(), st.integers(0, 50), st.floats(0, 1)).map(
            lambda row: (row[0], row[1], int(row[1] * row[2]))
        ),
        max_size=30,
    ),
    share=st.integers(0, 100),
)
def test_the_verdict_is_what_the_sums_say(deltas, share):
    watch = ErrorWatch()
    totals = {True: Tally(), False: Tally()}
    for is_new, answered, failed in deltas:
        before = totals[is_new]
        after = Tally(before.answered + answered, before.failed + failed)
        watch.note(before, after, is_new=is_new)
        totals[is_new] = after
    new, old = totals[True], totals[False]
    assert (watch.new, watch.old) == (new, old)

    def percent(tally):
        return 100 * tally.failed / tally.answered if tally.answered else 0.0

    guilty = share > 0 and new.failed >= LEAST_FAILURES and percent(new) - percent(old) > share
    verdict = watch.verdict(7, share)
    assert verdict == (
        notices.TooManyErrors(new.failed, new.answered, 7, old.failed, old.answered) if guilty else None
    )


def test_totals_that_go_back_count_nothing():
    assert Tally(3, 1).plus(Tally(10, 5), Tally(0, 0)) == Tally(3, 1)
    assert Tally(0, 2).percent == 100.0
