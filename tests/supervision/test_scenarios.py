"""Whole lives of a fleet, in virtual time."""

import pytest

from asgi_master.errors import ExitCode
from asgi_master.supervision import notices
from asgi_master.supervision.actions import (
    CloseListeners,
    DrainWorker,
    DumpStacks,
    ExitMaster,
    KillWorker,
    KillZygote,
    RetireZygote,
    SpawnWorker,
    StartZygote,
)
from asgi_master.supervision.events import (
    HeartbeatsRead,
    ReloadRefused,
    ReloadRequested,
    RollbackRequested,
    ScaleRequested,
    StopRequested,
    TimePassed,
    WorkerExited,
    WorkerLeaving,
    WorkerReady,
    WorkerStoppedAccepting,
    ZygoteExited,
    ZygoteFailed,
    ZygoteReady,
)
from asgi_master.supervision.policy import MOST_WORKERS, Policy
from asgi_master.supervision.states import Phase, WorkerState, ZygoteState
from asgi_master.supervision.supervisor import Supervisor
from simulation import NEVER, Code, Simulation


def booted(workers=4, codes=None, **policy):
    world = Simulation(Policy(workers=workers, **policy), codes=codes or {})
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    return world


def reload(world, **policy):
    world.tell(ReloadRequested(policy.pop("policy", None) or world.policy))
    return world


def steady(world):
    return world.until(lambda: world.supervisor.phase is Phase.STEADY)


# --- boot


def test_the_first_event_starts_the_first_zygote_and_nothing_else():
    supervisor = Supervisor(Policy(workers=2), 0.0, lambda: 0.0)
    assert supervisor.handle(TimePassed(), 0.0) == [StartZygote(1)]
    assert supervisor.handle(TimePassed(), 0.0) == []
    assert supervisor.phase is Phase.BOOTING
    assert supervisor.next_deadline() == Policy().boot_timeout


def test_boot_fills_every_slot_at_once_and_says_ready_once():
    world = booted(workers=3)
    assert [(o.worker, o.slot, o.generation) for o in world.orders(SpawnWorker)] == [
        (1, 0, 1),
        (2, 1, 1),
        (3, 2, 1),
    ]
    assert world.notices(notices.MasterReady) == [notices.MasterReady(3, 1)]
    assert [n.slot for n in world.notices(notices.WorkerBecameReady)] == [0, 1, 2]
    assert world.now < 1002, "no watch time on the first boot"


def test_the_fleet_is_ready_only_when_all_are():
    supervisor = Supervisor(Policy(workers=2), 0.0, lambda: 0.0)
    supervisor.handle(TimePassed(), 0.0)
    supervisor.handle(ZygoteReady(1), 1.0)
    supervisor.handle(WorkerReady(1), 2.0)
    assert supervisor.phase is Phase.BOOTING
    supervisor.handle(WorkerReady(2), 3.0)
    assert supervisor.phase is Phase.STEADY


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (Code(import_error="no module named app"), notices.ImportFailed("no module named app")),
        (Code(import_time=NEVER), notices.ImportTimedOut(60.0)),
        (Code(boot_error="lifespan failed"), notices.BootRefused(0, "lifespan failed")),
        (Code(boot_time=NEVER), notices.BootTimedOut(0, 60.0)),
    ],
)
def test_a_first_boot_that_fails_ends_the_master_and_restarts_nothing(code, cause):
    world = Simulation(codes={1: code}).run(100)
    assert world.exit_code is ExitCode.BOOT_FAILED
    assert world.notices(notices.BootFailed) == [notices.BootFailed(1, cause, waits=False)]
    assert len(world.orders(StartZygote)) == 1
    assert len(world.orders(SpawnWorker)) in {0, 4}
    assert not world.workers
    assert not world.zygotes
    assert world.actions[-1][1] == ExitMaster(ExitCode.BOOT_FAILED)


def test_a_failed_first_boot_ends_soon_even_if_others_are_stuck_in_startup():
    stuck = Code(boot_time=NEVER)
    world = Simulation(codes={1: stuck}, scripts={2: Code(boot_time=0.1, boot_error="no")})
    world.run(100)
    (failed_at,) = [
        m for m, a in world.actions if a == next(a for _, a in world.actions if "BootFailed" in repr(a))
    ]
    assert world.exit_code is ExitCode.BOOT_FAILED
    assert world.now - failed_at <= 1.1


def test_a_worker_that_dies_before_all_were_ready_fails_the_first_boot():
    world = Simulation(scripts={1: Code(boot_time=0.1, dies_after=0.1), 2: Code(boot_time=5)}).run(100)
    assert world.exit_code is ExitCode.BOOT_FAILED
    assert world.notices(notices.BootFailed)[0].cause == notices.Died(0, -11, pytest.approx(0.1))


def test_a_zygote_that_dies_fails_the_first_boot():
    world = Simulation(codes={1: Code(boot_time=5)})
    world.run(1)
    world.zygote_dies(1)
    assert world.run(100).exit_code is ExitCode.BOOT_FAILED
    assert world.notices(notices.BootFailed)[0].cause == notices.ZygoteDied(-9)


def test_development_waits_for_the_next_change():
    world = Simulation(
        Policy(workers=2, exit_on_first_failure=False),
        codes={1: Code(import_error="bad"), 2: Code(boot_error="still bad")},
    ).run(100)
    assert world.supervisor.phase is Phase.WAITING
    assert not world.workers
    assert not world.zygotes
    assert world.supervisor.next_deadline() is None
    reload(world).run(100)
    assert world.supervisor.phase is Phase.WAITING
    reload(world)
    steady(world)
    assert world.generations() == [3, 3]
    assert [n.waits for n in world.notices(notices.BootFailed)] == [True, True]
    assert world.notices(notices.MasterReady) == [notices.MasterReady(2, 3)]


def test_a_reload_during_the_first_boot_replaces_what_is_booting():
    world = Simulation(codes={1: Code(boot_time=20)})
    world.run(2)
    reload(world)
    steady(world)
    assert world.generations() == [2] * 4
    assert world.notices(notices.ReloadSuperseded) == [notices.ReloadSuperseded(1)]
    assert world.run(60).supervisor.phase is Phase.STEADY
    assert len(world.workers) == 4


# --- steady state


def test_a_crashed_worker_is_replaced_at_once_in_its_slot():
    world = booted()
    world.die(world.worker(2))
    assert world.orders(SpawnWorker)[-1] == SpawnWorker(5, 2, 1)
    (lost,) = world.notices(notices.WorkerLost)
    assert (lost.slot, lost.retry_in) == (2, 0.0)
    assert isinstance(lost.cause, notices.Died)
    world.run(10)
    assert world.generations() == [1] * 4


@pytest.mark.parametrize(("status", "named"), [(-9, True), (-11, False)])
def test_only_a_sigkill_is_laid_to_the_want_of_memory(status, named):
    world = booted()
    victim = world.worker(1)
    del world.workers[victim.id]
    world.tell(WorkerExited(victim.id, status, out_of_memory=True))
    assert world.notices(notices.WorkerLost)[0].cause == notices.Died(
        1, status, pytest.approx(0, abs=1), named
    )


def out_of_memory(world, victim):
    del world.workers[victim.id]
    world.tell(WorkerExited(victim.id, -9, out_of_memory=True))


def test_want_of_memory_stops_where_that_is_asked_for():
    world = booted(exit_on_oom=True)
    out_of_memory(world, world.worker(1))
    assert world.supervisor.phase is Phase.STOPPING
    assert world.run(100).exit_code is ExitCode.OUT_OF_MEMORY
    assert world.notices(notices.StoppingForMemory) == [notices.StoppingForMemory()]
    other = booted()
    out_of_memory(other, other.worker(1))
    assert other.run(10).supervisor.phase is Phase.STEADY
    assert not other.notices(notices.StoppingForMemory)


def test_want_of_memory_at_the_first_boot_sets_the_exit_status():
    world = Simulation(Policy(workers=2, exit_on_oom=True), codes={1: Code(boot_time=5)})
    world.until(lambda: world.workers)
    out_of_memory(world, next(iter(world.workers.values())))
    assert world.run(100).exit_code is ExitCode.OUT_OF_MEMORY
    assert [type(n) for n in world.notices(notices.Stopping)] == []


def test_want_of_memory_during_a_delayed_stop_does_not_hasten_it():
    world = booted(exit_on_oom=True, shutdown_delay=10.0)
    world.tell(StopRequested())
    out_of_memory(world, world.worker(1))
    assert world.run(5).supervisor.phase is Phase.TERMINATING
    assert world.run(100).exit_code is ExitCode.OUT_OF_MEMORY


def test_a_delayed_stop_lets_all_serve_on():
    world = booted(shutdown_delay=10.0)
    world.tell(StopRequested())
    assert world.supervisor.phase is Phase.TERMINATING
    assert world.supervisor.stops_at == pytest.approx(world.now + 10.0)
    world.die(world.worker(2))
    world.run(5)
    assert len(world.ready()) == 4, "a lost worker is replaced"
    before = len(world.orders(StartZygote))
    reload(world)
    assert len(world.orders(StartZygote)) == before, "no reload begins"
    assert not world.supervisor.can_roll_back
    assert world.supervisor.phase is Phase.TERMINATING
    assert world.run(4.9).supervisor.phase is Phase.TERMINATING
    assert not world.notices(notices.Stopping)
    world.run(0.2)
    assert [n.how for n in world.notices(notices.Stopping)] == [notices.StopLevel.GRACEFUL]
    assert world.run(100).exit_code is ExitCode.OK
    assert world.notices(notices.StopDelayed) == [notices.StopDelayed(10.0)]


def test_a_delayed_stop_during_a_reload_lets_that_go_on():
    world = booted(shutdown_delay=100.0)
    reload(world)
    world.tell(StopRequested())
    assert world.supervisor.phase is Phase.TERMINATING
    world.run(50)
    assert world.generations() == [2] * 4
    assert [n.generation for n in world.notices(notices.ReloadCommitted)] == [2]
    assert world.supervisor.phase is Phase.TERMINATING
    assert world.run(100).exit_code is ExitCode.OK


def test_repeated_crashes_back_off_in_their_slot_only():
    world = booted(backoff_cap=4.0)
    world.scripts = {n: Code(dies_after=0.1) for n in range(5, 500)}
    survivors = {w.id for w in world.ready() if w.slot != 1}
    world.die(world.worker(1))
    world.run(40)
    delays = [n.retry_in for n in world.notices(notices.WorkerLost)]
    assert delays[:6] == [0.0, 0.5, 1.0, 2.0, 4.0, 4.0]
    assert survivors <= {w.id for w in world.ready()}
    assert {o.slot for o in world.orders(SpawnWorker)[4:]} == {1}


def test_a_stable_worker_resets_the_back_off():
    world = booted(stable_after=10.0)
    for _ in range(3):
        world.die(world.worker(0))
        world.until(lambda: len(world.ready()) == 4)
    world.run(11)
    world.die(world.worker(0))
    assert [n.retry_in for n in world.notices(notices.WorkerLost)] == [0.0, 0.5, 1.0, 0.0]


def test_a_worker_that_cannot_boot_is_retried_with_back_off():
    world = booted()
    world.scripts = {5: Code(boot_error="database is down"), 6: Code(boot_error="database is down")}
    world.die(world.worker(3))
    world.run(5)
    causes = [n.cause for n in world.notices(notices.WorkerLost)]
    assert causes[1:] == [notices.BootRefused(3, "database is down")] * 2
    assert world.generations() == [1] * 4


def test_a_worker_that_does_not_boot_in_time_is_killed_and_replaced():
    world = booted(boot_timeout=5)
    world.scripts = {5: Code(boot_time=NEVER)}
    world.die(world.worker(0))
    world.run(10)
    assert world.orders(KillWorker) == [KillWorker(5)]
    assert world.notices(notices.WorkerLost)[1].cause == notices.BootTimedOut(0, 5.0)
    assert world.generations() == [1] * 4


def test_a_worker_that_leaves_unasked_is_replaced_while_it_drains():
    world = booted(workers=2)
    leaver = world.worker(1)
    world.tell(WorkerLeaving(leaver.id, "SIGTERM"))
    assert world.orders(SpawnWorker)[-1] == SpawnWorker(3, 1, 1)
    assert world.notices(notices.WorkerLost) == [
        notices.WorkerLost(2, 1, 1, notices.Left(1, "SIGTERM"), 0.0),
    ]
    assert world.orders(DrainWorker) == []
    world.run(1)
    world.die(leaver, 0)
    assert len(world.notices(notices.WorkerLost)) == 1
    assert world.generations() == [1, 1]


def test_sessions_have_their_time_before_the_drain_and_a_stop_ends_it():
    policy = Policy(workers=2, drain_timeout=5, sticky_drain=600)
    world = booted(workers=2, codes={1: Code(drain_time=300), 2: Code(drain_time=NEVER)})
    old = world.worker(0)
    reload(world, policy=policy)
    world.until(lambda: world.generations() == [2, 2])
    orders = world.orders(DrainWorker)
    assert {(o.timeout, o.sessions) for o in orders} == {(5.0, 600.0)}
    world.run(250)
    assert old.id in world.workers, "it goes on with its sessions"
    assert world.supervisor.phase is Phase.STEADY, "the reload is committed all the same"
    world.run(100)
    assert old.id not in world.workers
    assert world.orders(KillWorker) == []
    reload(world, policy=policy)
    world.until(lambda: world.generations() == [3, 3])
    world.tell(StopRequested())
    assert world.orders(DrainWorker)[-1].sessions == 0.0
    world.run(10)
    assert world.exit_code is ExitCode.OK, "those of the second generation are killed with the others"


def test_a_worker_that_leaves_and_stays_is_killed():
    world = booted(workers=2, drain_timeout=5)
    leaver = world.worker(0)
    world.tell(WorkerLeaving(leaver.id, "SIGTERM"))
    world.run(10)
    assert world.orders(KillWorker) == [KillWorker(leaver.id)]
    assert world.notices(notices.WorkerKilled) == [notices.WorkerKilled(1, 0, 1, notices.Overstayed(0, 6.0))]


def test_an_unkillable_worker_is_given_up():
    world = booted(workers=1, hang_timeout=2)
    stuck = world.worker(0)
    stuck.code, stuck.beats_until = Code(unkillable=True), world.now
    world.run(30)
    assert [n.worker for n in world.notices(notices.WorkerAbandoned)] == [stuck.id]
    assert world.supervisor.fleet.workers[stuck.id].state is WorkerState.ABANDONED
    assert len(world.ready()) == 2, "its replacement serves beside it"
    world.tell(StopRequested())
    assert world.run(60).exit_code is ExitCode.OK


# --- scaling


def test_scaling_adds_the_next_slot_and_drains_the_highest():
    world = booted(workers=2)
    world.tell(ScaleRequested(+2))
    world.run(1)
    assert [w.slot for w in world.ready()] == [0, 1, 2, 3]
    world.tell(ScaleRequested(-3))
    assert [world.workers[o.worker].slot for o in world.orders(DrainWorker)] == [3, 2, 1]
    assert all(o.hand_off for o in world.orders(DrainWorker))
    world.run(1)
    assert [w.slot for w in world.ready()] == [0]
    assert world.notices(notices.ScaledTo) == [notices.ScaledTo(4, 2), notices.ScaledTo(1, 4)]


def test_one_worker_is_the_least_and_there_is_a_most():
    world = booted(workers=1)
    world.tell(ScaleRequested(-1))
    assert world.notices(notices.ScaledTo) == [notices.ScaledTo(1, 1)]
    supervisor = Supervisor(Policy(workers=1), 0.0, lambda: 0.0)
    supervisor.handle(ScaleRequested(10**6), 0.0)
    assert supervisor.policy.workers == MOST_WORKERS


# --- reload


def test_a_reload_replaces_one_by_one_and_never_loses_capacity():
    world = booted(rollback_window=0.0)
    start = world.now
    reload(world)
    steady(world)
    assert world.generations() == [2] * 4
    assert min(n for moment, n in world.capacity if moment >= start) == 4
    assert [o.slot for o in world.orders(SpawnWorker)[4:]] == [0, 1, 2, 3]
    assert [o.worker for o in world.orders(DrainWorker)] == [1, 2, 3, 4]
    assert world.orders(RetireZygote) == [RetireZygote(1)]
    (committed,) = world.notices(notices.ReloadCommitted)
    assert (committed.generation, committed.workers) == (2, 4)


def test_the_canary_is_watched_before_any_other_follows():
    world = booted(watch_time=5.0)
    reload(world)
    world.until(lambda: len(world.ready()) == 5)
    ready_at = world.now
    world.run(4.8)
    assert world.generations().count(2) == 1
    assert world.orders(DrainWorker) == []
    world.until(lambda: world.orders(DrainWorker))
    assert world.now - ready_at == pytest.approx(5.0, abs=0.2)


def test_the_last_one_is_watched_before_the_commit():
    world = booted(watch_time=5.0, rollback_window=0.0)
    reload(world)
    world.until(lambda: world.generations() == [2] * 4)
    ready_at = max(w.ready_at for w in world.ready())
    assert RetireZygote(1) not in world.orders(RetireZygote)
    steady(world)
    assert world.times(RetireZygote)[0] == pytest.approx(ready_at + 5.0)


@pytest.mark.parametrize("surge", [1, 2, 4])
def test_surge_bounds_how_many_live_at_once(surge):
    world = booted(max_surge=surge)
    reload(world)
    most = 0
    while world.supervisor.phase is not Phase.STEADY:
        world.run(0.05)
        most = max(most, sum(w.draining is None for w in world.workers.values()))
    assert most == min(4 + surge, 7), "the canary's predecessor has left before the others come"


def test_without_surge_an_old_worker_makes_room():
    world = booted(max_surge=0, max_unavailable=1)
    start = world.now
    reload(world)
    steady(world)
    assert world.generations() == [2] * 4
    assert min(n for moment, n in world.capacity if moment >= start) == 3
    assert max(n for moment, n in world.capacity if moment >= start) <= 4


def test_with_neither_surge_nor_unavailability_one_more_is_used():
    world = booted(max_surge=0, max_unavailable=0)
    start = world.now
    reload(world)
    steady(world)
    assert min(n for moment, n in world.capacity if moment >= start) == 4


def test_old_workers_that_never_drain_do_not_hold_the_rollout_up():
    world = booted(codes={1: Code(drain_time=NEVER)}, drain_timeout=20)
    start = world.now
    reload(world)
    steady(world)
    assert world.now - start < 10
    world.run(30)
    assert len(world.workers) == 4
    assert len(world.notices(notices.WorkerKilled)) == 0, "the drain timeout ends it in the worker itself"


def test_old_workers_that_ignore_the_drain_are_killed_after_the_grace():
    world = booted(workers=1, drain_timeout=20, kill_grace=1)
    world.worker(0).beats_until = world.now  # stuck: it does not even read the order
    reload(world, policy=Policy(workers=1, drain_timeout=20, kill_grace=1, hang_timeout=0))
    steady(world)
    world.run(30)
    (drained_at,), (killed_at,) = world.times(DrainWorker), world.times(KillWorker)
    assert killed_at - drained_at == pytest.approx(21)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code(import_error="bad"), notices.ImportFailed),
        (Code(import_time=NEVER), notices.ImportTimedOut),
        (Code(boot_error="bad"), notices.BootRefused),
        (Code(boot_time=NEVER), notices.BootTimedOut),
        (Code(dies_after=0.5), notices.Died),
        (Code(dies_after=1.5), notices.Died),
        (Code(dies_after=3.0), notices.Died),
        (Code(hangs_after=0.5), notices.Hung),
    ],
)
def test_a_bad_generation_is_rolled_back_whole(code, kind):
    world = booted(boot_timeout=20, hang_timeout=2, watch_time=6 if kind is notices.Hung else 1.6)
    world.codes[2] = code
    start = world.now
    reload(world)
    steady(world)
    (failed,) = world.notices(notices.ReloadFailed)
    assert isinstance(failed.cause, kind)
    assert (failed.generation, failed.kept) == (2, 1)
    world.run(60)
    assert world.generations() == [1] * 4
    assert set(world.zygotes) == {1}
    assert len(world.workers) == 4
    deaths = 1 if kind in {notices.Died, notices.Hung} else 0
    assert min(n for moment, n in world.capacity if moment >= start) >= 4 - deaths - (code.dies_after == 3.0)
    assert world.notices(notices.ReloadCommitted) == []


def test_a_zygote_that_dies_during_the_rollout_fails_it():
    world = booted()
    reload(world)
    world.until(lambda: 2 in world.generations())
    world.zygote_dies(2)
    steady(world)
    world.run(20)
    assert world.generations() == [1] * 4
    assert world.notices(notices.ReloadFailed)[0].cause == notices.ZygoteDied(-9)


def test_rollback_refills_drained_slots_before_the_new_ones_leave():
    world = booted()
    reload(world)
    world.until(lambda: world.generations().count(2) == 3)
    start = world.now
    world.die(world.worker(0))
    world.run(30)
    assert world.generations() == [1] * 4
    assert min(n for moment, n in world.capacity if moment > start) >= 3
    assert {o.generation for o in world.orders(SpawnWorker)[-3:]} == {1}


def test_a_crash_of_an_old_worker_does_not_fail_the_rollout():
    world = booted()
    reload(world)
    world.until(lambda: 2 in world.generations())
    world.die(next(w for w in world.ready() if w.generation == 1))
    assert world.orders(SpawnWorker)[-1].generation == 1, "before the canary is proven, old code fills in"
    world.until(lambda: world.generations().count(2) >= 2)
    world.die(next(w for w in world.ready() if w.generation == 1))
    steady(world)
    assert world.generations() == [2] * 4
    assert {o.generation for o in world.orders(SpawnWorker)[-2:]} == {2}


def test_a_candidate_that_someone_signals_is_replaced_and_fails_nothing():
    world = booted(workers=2)
    reload(world)
    world.until(lambda: len(world.ready()) == 3)
    canary = next(w for w in world.ready() if w.generation == 2)
    world.tell(WorkerLeaving(canary.id, "SIGTERM"))
    world.die(canary, 0)
    steady(world)
    assert world.generations() == [2, 2]


def test_a_crash_loop_of_the_old_code_does_not_delay_the_new():
    world = booted(backoff_cap=200.0, backoff_base=100.0)
    world.scripts = {5: Code(dies_after=0.1)}
    world.die(world.worker(2))
    world.until(lambda: [n.retry_in for n in world.notices(notices.WorkerLost)][-1] == 100.0)
    reload(world)
    world.until(lambda: 2 in world.generations(), within=5)
    assert world.orders(SpawnWorker)[-1].slot == 2, "the canary takes the empty slot"
    steady(world)
    assert world.generations() == [2] * 4


def test_a_new_request_drops_the_rollout_for_the_newest():
    world = booted()
    start = world.now
    reload(world)
    world.until(lambda: world.generations().count(2) == 2)
    reload(world)
    steady(world)
    assert world.generations() == [3] * 4
    assert world.notices(notices.ReloadSuperseded) == [notices.ReloadSuperseded(2)]
    assert [n.generation for n in world.notices(notices.ReloadCommitted)] == [3]
    assert min(n for moment, n in world.capacity if moment >= start) == 4


@pytest.mark.parametrize("missing", [0, 1])
def test_while_the_newest_is_unproven_whatever_serves_stays(missing):
    world = booted(codes={3: Code(import_time=20)})
    reload(world)
    world.until(lambda: world.generations().count(2) == 2 and len(world.ready()) == 4)
    before = len(world.orders(SpawnWorker)), world.generations()
    reload(world, policy=Policy(workers=4, max_unavailable=missing))
    world.run(15)
    assert (len(world.orders(SpawnWorker)), world.generations()) == before


def test_a_superseded_rollout_whose_successor_fails_returns_to_the_committed_code():
    world = booted(codes={3: Code(import_error="bad")})
    reload(world)
    world.until(lambda: world.generations().count(2) == 2)
    reload(world)
    steady(world)
    world.run(20)
    assert world.generations() == [1] * 4


def test_a_storm_of_requests_melts_into_few_generations():
    world = booted()
    for _ in range(200):
        reload(world)
        world.run(0.005)
        assert len(world.zygotes) <= 2
    steady(world)
    assert len(world.notices(notices.ReloadCommitted)) == 1
    assert len(set(world.generations())) == 1
    assert len(world.orders(StartZygote)) < 110


def test_two_hundred_reloads_in_a_row_keep_capacity():
    world = booted(workers=3, watch_time=0.0)
    start = world.now
    for _ in range(200):
        reload(world)
        steady(world)
    assert world.generations() == [201] * 3
    assert min(n for moment, n in world.capacity if moment >= start) == 3
    assert len(world.zygotes) <= 2


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (1, 5), (5, 1)])
def test_a_reload_can_change_the_number_of_workers(before, after):
    world = booted(workers=before)
    start = world.now
    reload(world, policy=Policy(workers=after))
    steady(world)
    assert [(w.slot, w.generation) for w in sorted(world.ready(), key=lambda w: w.slot)] == [
        (slot, 2) for slot in range(after)
    ]
    assert min(n for moment, n in world.capacity if moment >= start) >= min(before, after)
    assert world.supervisor.policy.workers == after


def test_a_failed_reload_brings_the_old_policy_back():
    world = booted(codes={2: Code(boot_error="bad")})
    new = Policy(workers=2, drain_timeout=7)
    reload(world, policy=new)
    assert world.supervisor.policy == new
    steady(world)
    assert world.supervisor.policy == world.policy
    world.run(20)
    assert world.generations() == [1] * 4


def test_scaling_during_a_rollout_outlives_a_rollback():
    world = booted()
    world.codes[2] = Code(dies_after=1.2)
    reload(world, policy=Policy(workers=4, watch_time=2.0))
    world.until(lambda: 2 in world.generations())
    world.tell(ScaleRequested(-1))
    world.run(60)
    assert world.generations() == [1] * 3
    assert world.supervisor.policy.workers == 3


def test_scaling_up_during_a_rollout():
    world = booted(workers=2)
    reload(world)
    world.tell(ScaleRequested(+2))
    steady(world)
    assert world.generations() == [2] * 4


# --- the zygote


def test_a_dead_zygote_is_replaced_and_its_workers_stay():
    world = booted()
    before = {w.id for w in world.ready()}
    world.zygote_dies(1)
    assert world.notices(notices.ZygoteLost) == [notices.ZygoteLost(1, -9, 0.0)]
    assert world.orders(StartZygote)[-1] == StartZygote(2)
    world.run(5)
    assert {w.id for w in world.ready()} == before
    assert world.notices(notices.ZygoteReplaced) == [notices.ZygoteReplaced(1, 2)]
    world.die(world.worker(2))
    world.run(5)
    assert world.generations() == [1, 1, 2, 1]
    assert world.supervisor.phase is Phase.STEADY


def test_code_that_does_not_import_any_more_leaves_what_lives_alone():
    world = booted(codes={n: Code(import_error="bad") for n in range(2, 7)}, backoff_cap=2.0)
    world.zygote_dies(1)
    world.die(world.worker(0))
    world.until(lambda: len(world.ready()) == 4)
    assert world.generations() == [7, 1, 1, 1]
    assert [n.retry_in for n in world.notices(notices.ZygoteNotReplaced)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert world.notices(notices.ReloadFailed) == []


def test_a_stand_in_that_does_not_import_in_time_is_killed_and_retried():
    world = booted(codes={2: Code(import_time=NEVER)}, boot_timeout=5)
    world.zygote_dies(1)
    world.until(lambda: world.notices(notices.ZygoteReplaced))
    assert world.orders(KillZygote) == [KillZygote(2)]
    assert world.notices(notices.ZygoteNotReplaced)[0].cause == notices.ImportTimedOut(5)


def test_a_reload_after_the_zygote_died_replaces_all_settled_generations():
    world = booted()
    world.zygote_dies(1)
    world.die(world.worker(2))
    world.until(lambda: world.generations() == [1, 1, 2, 1])
    reload(world)
    steady(world)
    assert world.generations() == [3] * 4


def test_a_reload_takes_over_from_a_stand_in_that_is_still_importing():
    world = booted(codes={2: Code(import_time=30)})
    world.zygote_dies(1)
    world.run(1)
    reload(world)
    assert world.orders(RetireZygote) == [RetireZygote(2)]
    steady(world)
    assert world.generations() == [3] * 4
    assert world.notices(notices.ZygoteReplaced) == []


def test_reloads_that_are_called_off_leave_no_pile_of_stand_ins():
    world = booted(codes={2: Code(import_time=NEVER)})
    world.zygote_dies(1)
    for _ in range(5):
        reload(world)
        world.tell(RollbackRequested())
    assert world.orders(StartZygote) == [StartZygote(1), StartZygote(2)], "2 is still to leave"
    world.until(lambda: world.notices(notices.ZygoteReplaced))
    assert len(world.zygotes) == 1
    assert world.generations() == [1] * 4


def test_a_rollback_without_the_old_zygote_keeps_the_new_workers_until_there_is_one():
    world = booted(codes={3: Code(import_error="bad")})
    reload(world)
    world.until(lambda: world.generations().count(2) == 3)
    world.zygote_dies(1)
    assert world.notices(notices.ZygoteLost) == [notices.ZygoteLost(1, -9, None)]
    world.die(world.worker(0))
    start = world.now
    world.run(60)
    assert min(n for moment, n in world.capacity if moment > start) >= 3
    assert set(world.generations()) <= {1, 4}
    assert len(world.generations()) == 4


# --- hangs


def test_a_hung_worker_is_dumped_twice_and_then_killed_and_replaced():
    world = booted(hang_timeout=10, dump_interval=1)
    stuck = world.worker(1)
    stuck.beats_until = world.now
    world.run(20)
    dumps, (killed,) = world.times(DumpStacks), world.times(KillWorker)
    assert dumps[0] - stuck.beats_until == pytest.approx(10, abs=1.1)
    assert dumps[1] - dumps[0] == pytest.approx(1, abs=0.6)
    assert killed - dumps[1] == pytest.approx(1, abs=0.6)
    (hung,) = world.notices(notices.WorkerHung)
    assert (hung.slot, hung.kill_in) == (1, 2.0)
    (lost,) = world.notices(notices.WorkerLost)
    assert isinstance(lost.cause, notices.Hung)
    assert world.generations() == [1] * 4


def test_a_worker_that_goes_on_after_a_dump_is_left_alone():
    world = booted(hang_timeout=10, dump_interval=5)
    stuck = world.worker(1)
    stuck.beats_until = world.now
    world.until(lambda: world.orders(DumpStacks))
    stuck.beats_until = NEVER
    world.run(30)
    assert world.orders(KillWorker) == []
    assert world.notices(notices.WorkerRecovered) == [notices.WorkerRecovered(2, 1, 1)]


def test_a_worker_that_gets_on_without_a_heartbeat_is_busy_and_left_alone():
    world = booted(hang_timeout=10, dump_interval=1)
    busy = world.worker(1)
    busy.beats_until, busy.moves_until = world.now, NEVER
    world.run(300)
    assert world.orders(DumpStacks) == world.orders(KillWorker) == []
    (said,) = world.notices(notices.WorkerBusy)
    assert said.slot == 1
    assert said.silent_for == pytest.approx(10, abs=1.1)


def test_each_time_that_a_worker_is_busy_is_said_once():
    world = booted(hang_timeout=10)
    busy = world.worker(1)
    busy.moves_until = NEVER
    for count in (1, 2):
        busy.beats_until = world.now
        world.run(60)
        busy.beats_until = NEVER
        world.run(5)
        assert len(world.notices(notices.WorkerBusy)) == count
    assert world.orders(DumpStacks) == []


def test_a_busy_worker_that_gets_stuck_is_killed():
    world = booted(hang_timeout=10, dump_interval=1)
    stuck = world.worker(1)
    stuck.beats_until, stuck.moves_until = world.now, world.now + 30
    world.until(lambda: world.orders(KillWorker))
    assert world.times(DumpStacks)[0] - stuck.moves_until == pytest.approx(10, abs=1.1)
    (lost,) = world.notices(notices.WorkerLost)
    assert lost.cause.silent_for > 40


def test_a_worker_that_gets_on_after_a_dump_is_not_killed():
    world = booted(hang_timeout=10, dump_interval=5)
    slow = world.worker(1)
    slow.beats_until = world.now
    world.until(lambda: world.orders(DumpStacks))
    slow.moves_until = NEVER
    world.run(30)
    assert world.orders(KillWorker) == []
    assert len(world.notices(notices.WorkerRecovered)) == 1
    assert len(world.notices(notices.WorkerBusy)) == 1


def test_progress_in_the_future_does_not_protect_for_ever():
    world = booted(hang_timeout=10)
    world.worker(1).beats_until = world.now
    for _ in range(200):
        world.run(0.5)
        if world.orders(KillWorker):
            break
        world.tell(HeartbeatsRead({}, {}, {2: 1e9}))
    assert len(world.orders(KillWorker)) == 1


def test_busy_workers_are_not_blamed_for_a_master_that_was_stopped():
    world = booted(hang_timeout=5)
    for worker in world.ready():
        worker.beats_until = worker.moves_until = world.now
    world.sleep_through(100).run(3)
    for worker in world.ready():
        worker.moves_until = NEVER
    world.run(20)
    assert world.orders(DumpStacks) == []


def test_a_worker_that_never_beats_counts_from_ready():
    world = booted(workers=1, codes={1: Code(hangs_after=0.0)}, hang_timeout=3)
    ready_at = world.worker(0).ready_at
    world.until(lambda: world.orders(KillWorker))
    assert world.times(DumpStacks)[0] - ready_at == pytest.approx(3, abs=1.1)


def test_a_draining_worker_that_hangs_is_killed_before_its_drain_ends():
    world = booted(workers=2, hang_timeout=3, drain_timeout=60)
    stuck = world.worker(1)
    stuck.beats_until = world.now
    world.tell(ScaleRequested(-1))
    world.run(10)
    (killed,) = world.notices(notices.WorkerKilled)
    assert isinstance(killed.cause, notices.Hung)
    assert len(world.ready()) == 1
    assert world.notices(notices.WorkerLost) == []


def test_hang_timeout_zero_never_judges():
    world = booted(hang_timeout=0)
    world.worker(1).beats_until = world.now
    world.run(200)
    assert world.orders(DumpStacks) == []


def test_a_master_that_was_stopped_blames_no_worker():
    world = booted(hang_timeout=5, boot_timeout=20)
    world.tell(ScaleRequested(+1))
    world.sleep_through(100)
    world.run(30)
    assert world.orders(DumpStacks) == []
    assert world.orders(KillWorker) == []
    assert world.generations() == [1] * 5


def test_workers_that_are_slow_to_come_back_with_the_master_are_not_blamed():
    world = booted(hang_timeout=5)
    for worker in world.ready():
        worker.beats_until = world.now
    world.sleep_through(100).run(3)
    for worker in world.ready():
        worker.beats_until = NEVER
    world.run(10)
    assert world.orders(DumpStacks) == []


def test_a_master_that_was_stopped_still_finds_a_hang_later():
    world = booted(hang_timeout=5)
    world.sleep_through(100)
    world.worker(1).beats_until = world.now
    world.until(lambda: world.orders(KillWorker), within=15)


def test_a_master_that_is_always_late_still_enforces_deadlines():
    supervisor = Supervisor(Policy(workers=1, boot_timeout=10), 0.0, lambda: 0.0)
    now = 0.0
    while supervisor.phase is not Phase.STOPPED:
        supervisor.handle(TimePassed(), now)
        now = (supervisor.next_deadline() or now) + 50.0
        assert now < 1000.0


def test_time_never_goes_back():
    world = booted()
    world.now -= 500
    world.tell(HeartbeatsRead({}))
    world.tell(TimePassed())
    world.now += 500
    assert world.orders(KillWorker) == []
    world.run(5)
    assert world.generations() == [1] * 4


# --- stop


def test_a_graceful_stop_drains_everybody_without_hand_off():
    world = booted(drain_timeout=30)
    world.tell(StopRequested())
    assert [(o.timeout, o.hand_off) for o in world.orders(DrainWorker)] == [(30.0, False)] * 4
    assert world.orders(RetireZygote) == [RetireZygote(1)]
    assert world.run(60).exit_code is ExitCode.OK
    assert world.notices(notices.Stopping) == [notices.Stopping(notices.StopLevel.GRACEFUL, 4)]
    assert world.notices(notices.Stopped) == [notices.Stopped(ExitCode.OK)]


def test_new_connections_are_refused_once_no_worker_accepts():
    world = booted(codes={1: Code(drain_time=NEVER)}, drain_timeout=30)
    first, *others, last = world.ready()
    world.tell(StopRequested())
    for worker in (first, *others):
        world.tell(WorkerStoppedAccepting(worker.id))
    assert world.orders(CloseListeners) == []
    world.tell(WorkerStoppedAccepting(last.id))
    assert world.orders(CloseListeners) == [CloseListeners()]
    world.run(60)
    assert world.orders(CloseListeners) == [CloseListeners()]


def test_who_does_not_say_that_it_accepts_no_more_is_waited_for_shortly():
    world = booted(codes={1: Code(drain_time=NEVER)}, drain_timeout=30)
    world.tell(StopRequested())
    world.run(0.9)
    assert world.orders(CloseListeners) == []
    world.run(0.2)
    assert world.orders(CloseListeners) == [CloseListeners()]


def test_a_reload_closes_no_listener():
    world = booted()
    for worker in world.ready():
        world.tell(WorkerStoppedAccepting(worker.id))
    world.tell(ReloadRequested(world.policy))
    world.run(60)
    assert world.orders(CloseListeners) == []


def test_each_further_stop_is_harsher():
    world = booted(codes={1: Code(drain_time=NEVER)})
    for worker in world.ready():
        worker.beats_until = world.now  # none of them listens
    world.tell(StopRequested())
    world.run(1)
    world.tell(StopRequested())
    assert [o.timeout for o in world.orders(DrainWorker)] == [30.0] * 4 + [0.0] * 4
    world.run(1)
    assert world.orders(KillWorker) == []
    world.tell(StopRequested())
    assert len(world.orders(KillWorker)) == 4
    assert world.run(5).exit_code is ExitCode.KILLED
    assert [n.how for n in world.notices(notices.Stopping)] == list(notices.StopLevel)


def test_a_quick_stop_leaves_the_lifespan_its_time_and_then_kills():
    world = booted(shutdown_timeout=5, kill_grace=1)
    for worker in world.ready():
        worker.beats_until = world.now
    world.tell(StopRequested(quick=True))
    assert [o.timeout for o in world.orders(DrainWorker)] == [0.0] * 4
    start = world.now
    assert world.run(60).exit_code is ExitCode.KILLED
    assert world.times(KillWorker)[0] - start == pytest.approx(6)


def test_a_further_stop_is_harsher_even_if_it_only_says_quick():
    world = booted(codes={1: Code(drain_time=NEVER)})
    for worker in world.ready():
        worker.beats_until = world.now
    world.tell(StopRequested(quick=True))
    world.tell(StopRequested(quick=True))
    assert len(world.orders(KillWorker)) == 4
    world.tell(StopRequested())
    assert len(world.orders(KillWorker)) == 4
    assert len(world.notices(notices.Stopping)) == 2


def test_a_stop_that_has_to_kill_says_so_in_the_exit_status():
    world = booted(drain_timeout=5)
    world.worker(2).beats_until = world.now
    world.tell(StopRequested())
    assert world.run(60).exit_code is ExitCode.KILLED


def test_a_stop_before_anything_lives_exits_at_once():
    supervisor = Supervisor(Policy(), 0.0, lambda: 0.0)
    assert supervisor.handle(StopRequested(), 0.0)[-1] == ExitMaster(ExitCode.OK)
    assert supervisor.handle(TimePassed(), 1.0) == []
    assert supervisor.next_deadline() is None


@pytest.mark.parametrize("after", [0.0, 0.3, 0.6, 1.5, 2.0, 2.8, 4.0])
def test_a_stop_acts_at_once_in_the_middle_of_a_reload(after):
    world = booted()
    reload(world)
    world.run(after)
    spawned = len(world.orders(SpawnWorker))
    world.tell(StopRequested())
    start = world.now
    assert world.run(60).exit_code is ExitCode.OK
    assert world.now - start < 1.5
    assert len(world.orders(SpawnWorker)) == spawned


def test_a_stop_takes_hand_off_back_from_those_that_drain_already():
    world = booted(codes={1: Code(drain_time=20)}, drain_timeout=30)
    world.tell(ScaleRequested(-1))
    world.run(10)
    world.tell(StopRequested())
    again = next(o for o in world.orders(DrainWorker)[1:] if o.worker == 4)
    assert not again.hand_off
    assert again.timeout == pytest.approx(20)


def test_a_stop_kills_a_zygote_that_does_not_leave():
    world = Simulation(codes={1: Code(import_time=NEVER)})
    world.run(5)
    world.tell(StopRequested())
    assert world.run(5).exit_code is ExitCode.OK
    assert world.orders(KillZygote) == [KillZygote(1)]


def test_a_stop_while_development_waits():
    world = Simulation(Policy(exit_on_first_failure=False), codes={1: Code(import_error="bad")}).run(10)
    world.tell(StopRequested())
    assert world.exit_code is ExitCode.OK


def test_nothing_but_the_stop_counts_once_it_began():
    world = booted(codes={1: Code(drain_time=5)})
    world.tell(StopRequested())
    reload(world)
    world.tell(ScaleRequested(+3))
    world.die(next(iter(world.workers.values())))
    assert len(world.orders(SpawnWorker)) == 4
    assert world.run(60).exit_code is ExitCode.OK


def test_a_worker_that_crashes_while_leaving_is_named():
    world = booted(codes={1: Code(drain_time=5)}, workers=2)
    leaver = world.worker(1)
    world.tell(ScaleRequested(-1))
    world.die(leaver, -11)
    assert world.notices(notices.WorkerDiedLeaving) == [notices.WorkerDiedLeaving(2, 1, 1, -11)]


def test_a_worker_that_could_not_start_either_is_no_news():
    """All of a first generation fail alike, and the first of them has been told of."""
    world = Simulation(Policy(workers=3), codes={1: Code(boot_error="no database")}).run(30)
    assert world.exit_code is ExitCode.BOOT_FAILED
    assert len(world.notices(notices.BootFailed)) == 1
    assert world.notices(notices.WorkerDiedLeaving) == []


# --- facts from nowhere


def test_facts_about_strangers_mean_nothing():
    world = booted(workers=1)
    before = len(world.actions)
    for event in (WorkerReady(99), WorkerExited(99, 1), ZygoteReady(99), HeartbeatsRead({99: 5.0})):
        assert world.tell(event) == []
    assert world.tell(WorkerReady(1)) == []
    assert world.tell(ZygoteReady(1)) == []
    assert len(world.actions) == before


def test_a_refused_reload_is_announced() -> None:
    world = booted(workers=1)
    world.tell(ReloadRefused("SIGHUP", ("workers: no",)))
    assert world.notices(notices.ReloadRefused) == [notices.ReloadRefused("SIGHUP", ("workers: no",))]
    assert world.supervisor.phase is Phase.STEADY


def test_events_of_the_unknown_mean_nothing() -> None:
    world = booted(workers=1)
    assert world.tell(WorkerStoppedAccepting(99)) == []


def test_a_second_worker_without_memory_changes_nothing() -> None:
    world = booted(workers=2, exit_on_oom=True, shutdown_delay=10.0)
    first, second = world.worker(0), world.worker(1)
    out_of_memory(world, first)
    out_of_memory(world, second)
    assert world.notices(notices.StoppingForMemory) == [notices.StoppingForMemory()]
    assert len(world.notices(notices.StopDelayed)) == 1


def test_a_worker_that_leaves_is_lost_once() -> None:
    world = booted(workers=1, codes={1: Code(drain_time=5)})
    worker = world.worker(0)
    for reason in ("SIGTERM", "SIGINT"):
        world.tell(WorkerLeaving(worker.id, reason))
    assert [notice.cause for notice in world.notices(notices.WorkerLost)] == [notices.Left(0, "SIGTERM")]


def test_a_zygote_that_fails_when_it_is_not_wanted_any_more() -> None:
    world = booted(workers=1, codes={2: Code(import_time=NEVER)})
    reload(world)
    world.tell(RollbackRequested())
    assert world.supervisor.fleet.zygotes[2].state is not ZygoteState.IMPORTING
    announced = len(world.notices())
    world.tell(ZygoteFailed(2, "too late"))
    assert len(world.notices()) == announced


def test_a_way_back_to_a_generation_that_crashed_waits_for_its_back_off() -> None:
    world = booted(workers=1, rollback_window=100.0, watch_time=0.0, backoff_cap=60.0)
    for _ in range(5):
        world.until(world.ready)
        world.die(world.worker(0))
    waits_until = world.supervisor.fleet.backoff(0).until
    steady(reload(world))
    assert world.now < waits_until
    before = len(world.orders(SpawnWorker))
    world.tell(RollbackRequested())
    assert len(world.orders(SpawnWorker)) == before
    world.until(lambda: world.generations() == [1])
    assert world.now >= waits_until


def test_an_import_that_times_out_when_the_stop_begins_is_no_failed_reload() -> None:
    world = booted(workers=1, boot_timeout=10.0, shutdown_delay=10.0, codes={2: Code(import_time=NEVER)})
    reload(world)
    world.tell(StopRequested())
    world.run(20)
    assert world.exit_code == ExitCode.OK
    assert world.orders(KillZygote) == [KillZygote(2)]
    assert world.notices(notices.ReloadFailed) == []


def test_a_stand_in_that_times_out_when_a_reload_is_requested_is_not_retried() -> None:
    world = booted(workers=1, boot_timeout=10.0, codes={2: Code(import_time=NEVER)})
    world.zygote_dies(1)
    world.at(10.0, lambda: reload(world))
    world.run(10)
    assert world.orders(KillZygote) == [KillZygote(2)]
    assert world.notices(notices.ZygoteNotReplaced) == []
    assert steady(world).generations() == [3]


def test_the_canary_waits_while_the_surge_is_in_use() -> None:
    """The reload is superseded at a moment when slot 1 has two workers that are ready, and slot 3 has none."""
    world = booted(codes={1: Code(boot_time=5)})
    world.scripts[7] = Code(boot_time=NEVER)
    reload(world)
    world.until(lambda: world.orders(SpawnWorker)[-1] == SpawnWorker(6, 1, 2))
    world.die(world.worker(3))
    assert world.orders(SpawnWorker)[-1] == SpawnWorker(7, 3, 2)
    world.until(lambda: world.generations() == [2, 1, 2, 1])
    reload(world)
    assert world.orders(SpawnWorker)[-1] == SpawnWorker(8, 3, 1)
    world.until(lambda: world.supervisor.fleet.can_fork(3))
    world.run(1)
    assert world.orders(SpawnWorker)[-1] == SpawnWorker(8, 3, 1)
    assert steady(world).generations() == [3] * 4


def test_a_rollout_that_starts_late_takes_its_plan_at_once() -> None:
    """A reload of the first boot wants fewer workers; its zygote waits until the one before it is gone."""
    world = Simulation(Policy(workers=4), scripts={3: Code(boot_time=NEVER), 4: Code(boot_time=NEVER)})
    world.until(lambda: len(world.ready()) == 2)
    reload(world, policy=Policy(workers=1))
    del world.zygotes[1]
    orders = world.tell(ZygoteExited(1, 0))
    assert StartZygote(2) in orders
    assert DrainWorker(2, Policy().drain_timeout, hand_off=True) in orders
