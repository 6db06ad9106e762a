"""Going back: from a reload under way, and, for a while, from one that was committed."""

import pytest

from asgi_master.supervision import notices
from asgi_master.supervision.actions import RetireZygote, SpawnWorker, StartZygote
from asgi_master.supervision.events import (
    ReloadRequested,
    RollbackRequested,
    ScaleRequested,
    StopRequested,
    TimePassed,
)
from asgi_master.supervision.notices import WhyLetGo
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import Phase
from simulation import NEVER, Code, Simulation


def booted(workers=4, codes=None, **policy):
    world = Simulation(Policy(workers=workers, **{"rollback_window": 300.0, **policy}), codes=codes or {})
    return steady(world)


def steady(world):
    return world.until(lambda: world.supervisor.phase is Phase.STEADY)


def reload(world, **changes):
    world.tell(ReloadRequested(changes.get("policy", world.policy)))
    return world


def reloaded(workers=4, codes=None, **policy):
    return steady(reload(booted(workers, codes, **policy))).run(2)


def roll_back(world):
    world.tell(RollbackRequested())
    return world


def least(world, since):
    return min(ready for moment, ready in world.capacity if moment >= since)


# --- what is held


def test_after_a_commit_the_generation_before_is_held():
    world = reloaded()
    assert sorted(world.zygotes) == [1, 2]
    assert world.supervisor.held_generation == 1
    assert world.supervisor.can_roll_back


def test_without_a_window_nothing_is_held():
    world = reloaded(rollback_window=0.0)
    assert sorted(world.zygotes) == [2]
    assert not world.supervisor.can_roll_back
    roll_back(world).run(5)
    assert world.notices(notices.NothingToRollBackTo) == [notices.NothingToRollBackTo(2)]
    assert world.generations() == [2] * 4


def test_it_is_let_go_when_the_window_has_passed():
    world = reloaded(rollback_window=60.0).run(57)
    assert sorted(world.zygotes) == [1, 2]
    world.run(3)
    assert sorted(world.zygotes) == [2]
    assert world.notices(notices.HeldLetGo) == [notices.HeldLetGo(1, WhyLetGo.EXPIRED)]
    assert world.supervisor.next_deadline() is not None


def test_two_applications_are_in_memory_at_most():
    world = reloaded()
    living = []
    reload(world)
    for _ in range(200):
        world.run(0.05)
        living.append(len(world.zygotes))
    assert max(living) == 2
    assert sorted(world.zygotes) == [2, 3]
    assert world.notices(notices.HeldLetGo) == [notices.HeldLetGo(1, WhyLetGo.RELOADING)]
    assert world.supervisor.held_generation == 2


def test_a_held_zygote_that_dies_is_no_way_back():
    world = reloaded()
    world.zygote_dies(1)
    assert world.notices(notices.HeldLetGo) == [notices.HeldLetGo(1, WhyLetGo.DIED)]
    assert world.notices(notices.ZygoteLost) == []
    assert roll_back(world).run(5).generations() == [2] * 4


def test_a_lost_zygote_is_not_held():
    world = booted()
    world.zygote_dies(1)
    steady(reload(world)).run(2)
    assert sorted(world.zygotes) == [3], "2 was to stand in"
    assert not world.supervisor.can_roll_back


def test_a_stop_lets_everything_go():
    world = reloaded()
    world.tell(StopRequested())
    world.run(10)
    assert world.exit_code == 0
    assert not world.zygotes


# --- going back after the commit


def test_a_rollback_is_an_ordinary_rollout_to_the_held_generation():
    world = reloaded(codes={1: Code(boot_time=1)})
    start = world.now
    roll_back(world)
    assert world.notices(notices.RollbackStarted) == [notices.RollbackStarted(1, 2)]
    assert world.supervisor.phase is Phase.RELOADING
    assert [order.generation for order in world.orders(SpawnWorker)[-1:]] == [1], "the canary"
    world.run(1.9)
    assert len([worker for worker in world.workers.values() if worker.generation == 1]) == 1
    steady(world).run(2)
    assert world.generations() == [1] * 4
    assert least(world, start) == 4
    assert len(world.orders(StartZygote)) == 2
    committed = world.notices(notices.ReloadCommitted)
    assert [(notice.generation, notice.is_rollback) for notice in committed] == [(2, False), (1, True)]
    assert world.supervisor.held_generation == 2


def test_back_and_forth():
    world = reloaded()
    for expected in (1, 2, 1):
        steady(roll_back(world)).run(2)
        assert world.generations() == [expected] * 4
    assert sorted(world.zygotes) == [1, 2]


def test_lost_workers_come_from_the_generation_returned_to():
    world = steady(roll_back(reloaded())).run(2)
    world.die(world.worker(3))
    assert world.orders(SpawnWorker)[-1].generation == 1


def test_the_policy_of_the_held_generation_comes_back():
    world = booted(workers=2)
    reload(world, policy=Policy(workers=5, drain_timeout=7.0, rollback_window=300.0))
    steady(world).run(2)
    steady(roll_back(world)).run(2)
    assert world.generations() == [1] * 2
    assert world.supervisor.policy.drain_timeout == 30.0


def test_what_was_scaled_since_stays():
    world = reloaded(workers=2)
    world.tell(ScaleRequested(3))
    world.run(5)
    roll_back(world).run(0.2)
    world.tell(ScaleRequested(1))
    steady(world).run(2)
    assert world.generations() == [1] * 6


def test_a_second_request_is_the_same_wish():
    world = roll_back(reloaded()).run(1)
    steady(roll_back(world)).run(2)
    assert world.generations() == [1] * 4
    assert world.notices(notices.RollbackStarted) == [notices.RollbackStarted(1, 2)] * 2
    assert world.notices(notices.ReloadFailed) == []


@pytest.mark.parametrize("fault", ["boot", "canary dies", "zygote dies", "boot too long"])
def test_a_rollback_that_fails_changes_nothing_and_may_be_tried_again(fault):
    world = reloaded()
    bad = {
        "boot": Code(boot_error="no database"),
        "canary dies": Code(dies_after=0.3),
        "boot too long": Code(boot_time=NEVER),
    }
    world.codes[1] = bad.get(fault, Code(boot_time=5))
    roll_back(world).run(1)
    if fault == "zygote dies":
        world.zygote_dies(1)
    steady(world).run(70)
    assert world.generations() == [2] * 4
    assert [n.kept for n in world.notices(notices.ReloadFailed)] == [2]
    if fault == "zygote dies":
        assert not world.supervisor.can_roll_back
        return
    world.codes[1] = Code()
    steady(roll_back(world)).run(2)
    assert world.generations() == [1] * 4


def test_a_failed_rollback_does_not_lengthen_the_window():
    world = reloaded(rollback_window=20.0)
    world.codes[1] = Code(boot_time=NEVER)
    roll_back(world).run(70)
    assert world.generations() == [2] * 4
    assert sorted(world.zygotes) == [2]
    assert world.notices(notices.HeldLetGo) == [notices.HeldLetGo(1, WhyLetGo.EXPIRED)]


def test_a_reload_overtakes_a_rollback():
    world = roll_back(reloaded()).run(1.5)
    steady(reload(world)).run(3)
    assert world.generations() == [3] * 4
    assert world.notices(notices.ReloadSuperseded) == [notices.ReloadSuperseded(1)]
    assert sorted(world.zygotes) == [2, 3]


def test_a_worker_that_crashes_during_a_rollback_is_replaced():
    world = roll_back(reloaded()).run(0.5)
    world.die(world.worker(3))
    steady(world).run(2)
    assert world.generations() == [1] * 4


# --- going back before the commit


@pytest.mark.parametrize("after", [0.1, 0.4, 0.8, 1.5, 2.0, 2.6, 3.2])
def test_a_reload_is_called_off_at_any_stage(after):
    world = booted()
    start = world.now
    reload(world).run(after)
    assert world.supervisor.can_roll_back
    roll_back(world)
    assert world.notices(notices.ReloadFailed) == [notices.ReloadFailed(2, notices.RollbackAsked(), 1)]
    steady(world).run(10)
    assert world.generations() == [1] * 4
    assert least(world, start) == 4
    assert sorted(world.zygotes) == [1]
    assert not world.supervisor.can_roll_back


def test_a_reload_that_waits_for_room_is_called_off_under_a_number_of_its_own():
    world = booted(codes={2: Code(import_time=NEVER)})
    reload(world).run(0.2)
    reload(world)
    assert world.notices(notices.ReloadSuperseded) == [notices.ReloadSuperseded(2)]
    roll_back(world)
    assert world.notices(notices.ReloadStarted)[-1] == notices.ReloadStarted(3)
    assert world.notices(notices.ReloadFailed) == [notices.ReloadFailed(3, notices.RollbackAsked(), 1)]
    steady(world).run(10)
    assert len(world.orders(StartZygote)) == 2
    steady(reload(world))
    assert world.generations() == [4] * 4


def test_the_first_boot_cannot_be_called_off():
    world = Simulation(Policy(workers=2)).run(0.1)
    roll_back(world)
    steady(world)
    assert world.notices(notices.NothingToRollBackTo) == [notices.NothingToRollBackTo(None)]
    assert world.generations() == [1, 1]


def test_a_stop_does_not_go_back():
    world = reloaded()
    world.tell(StopRequested())
    said = len(world.notices())
    roll_back(world)
    assert len(world.notices()) == said
    assert world.run(60).exit_code == 0


def test_an_expired_hold_is_not_returned_to_even_if_the_master_slept():
    world = reloaded(rollback_window=60.0)
    world.now += 100
    world.tell(TimePassed())
    assert not world.supervisor.can_roll_back
    assert [order.generation for order in world.orders(RetireZygote)] == [1]
