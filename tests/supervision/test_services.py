"""Services: when they start, restart, are replaced and stop. Never twice, and never by a reload that fails."""

from dataclasses import replace
from itertools import pairwise

import pytest

from asgi_master.errors import ExitCode
from asgi_master.supervision.actions import KillWorker, SpawnService, StopService
from asgi_master.supervision.events import (
    ReloadRequested,
    RollbackRequested,
    StopRequested,
    WorkerExited,
    WorkerFailed,
    WorkerLeaving,
    WorkerReady,
    WorkerReplacementRequested,
)
from asgi_master.supervision.notices import (
    BootRefused,
    BootTimedOut,
    Died,
    MasterReady,
    ReloadCommitted,
    ReloadFailed,
    ServiceAbandoned,
    ServiceCompleted,
    ServiceDiedStopping,
    ServiceKilled,
    ServiceLost,
    ServiceStarted,
    ServiceStopping,
    WhyStopped,
    ZygoteReplaced,
)
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.service_view import ServiceState, view_services
from asgi_master.supervision.services import GROUP_SIGNALLED
from asgi_master.supervision.states import Phase
from simulation import NEVER, Code, FakeWorker, Simulation

POLICY = Policy(workers=2, services=("beat",), service_stop_timeout=4.0)


def world(policy: Policy = POLICY, **services: Code) -> Simulation:
    """A fleet that serves, whose services have begun."""
    made = Simulation(policy, services=services)
    return made.until(lambda: len(made.notices(ServiceStarted)) >= len(policy.services))


def service(w: Simulation, name: str = "beat") -> FakeWorker:
    (process,) = w.running(name)
    return process


def reload(w: Simulation, policy: Policy = POLICY, code: Code | None = None) -> Simulation:
    w.codes[w.supervisor.fleet.last_generation + 1] = code or Code()
    w.tell(ReloadRequested(policy))
    return w


def states(w: Simulation) -> list[tuple[str, ServiceState]]:
    return [(view.name, view.state) for view in view_services(w.supervisor.state, w.now)]


# --- start


def test_a_service_starts_once_the_generation_is_committed() -> None:
    w = Simulation(POLICY)
    assert states(w) == []
    w.until(lambda: w.notices(MasterReady))
    assert w.orders(SpawnService) == [SpawnService(3, "beat", 1)]
    assert states(w) == [("beat", ServiceState.STARTING)]
    w.until(lambda: w.running("beat"))
    assert states(w) == [("beat", ServiceState.RUNNING)]


def test_a_first_boot_that_fails_starts_none() -> None:
    w = Simulation(POLICY, codes={1: Code(boot_error="no database")})
    w.run(30)
    assert w.exit_code is ExitCode.BOOT_FAILED
    assert w.orders(SpawnService) == []


# --- failures


def test_one_that_dies_is_started_again_after_a_growing_time() -> None:
    w = world(beat=Code(dies_after=0.1))
    w.run(20)
    lost = [notice for notice in w.notices(ServiceLost) if isinstance(notice, ServiceLost)]
    delays = [notice.retry_in for notice in lost]
    assert delays[:5] == [0.0, 0.5, 1.0, 2.0, 4.0]
    gaps = [after - before for before, after in pairwise(w.times(SpawnService))]
    assert gaps[:4] == pytest.approx([0.3, 0.8, 1.3, 2.3], abs=0.01)
    assert len(w.ready()) == 2
    assert w.supervisor.phase is Phase.STEADY
    assert w.notices(ServiceLost)[0] == ServiceLost(3, "beat", 1, Died(-1, -11, pytest.approx(0.1)), 0.0)


def test_one_that_waits_says_so() -> None:
    w = world(beat=Code(dies_after=0.1))
    w.until(lambda: len(w.notices(ServiceLost)) == 2)
    (view,) = view_services(w.supervisor.state, w.now)
    assert (view.state, view.process, view.failures) == (ServiceState.WAITING, None, 2)
    assert view.retry_in == pytest.approx(0.5, abs=0.1)


def test_one_that_cannot_start_is_tried_again() -> None:
    w = Simulation(POLICY, services={"beat": Code(boot_error="no module")})
    w.until(lambda: len(w.notices(ServiceLost)) == 3)
    assert w.notices(ServiceLost)[0] == ServiceLost(3, "beat", 1, BootRefused(-1, "no module"), 0.0)


def test_one_that_does_not_start_in_time_is_killed_and_tried_again() -> None:
    w = Simulation(POLICY, services={"beat": Code(boot_time=NEVER)})
    w.until(lambda: len(w.orders(SpawnService)) == 2)
    assert w.notices(ServiceLost) == [ServiceLost(3, "beat", 1, BootTimedOut(-1, 60.0), 0.0)]


def test_one_that_ends_before_it_runs_has_not_completed() -> None:
    w = Simulation(POLICY, services={"beat": Code(boot_time=NEVER)})
    w.until(lambda: w.orders(SpawnService))
    w.die(w.workers[3], 0)
    assert w.notices(ServiceLost) == [ServiceLost(3, "beat", 1, Died(-1, 0, None), 0.0)]


def test_a_kill_for_lack_of_memory_is_named_and_stops_nothing_else() -> None:
    w = world(replace(POLICY, exit_on_oom=True))
    process = w.workers.pop(service(w).id)
    w.tell(WorkerExited(process.id, -9, out_of_memory=True))
    (lost,) = w.notices(ServiceLost)
    assert isinstance(lost, ServiceLost)
    assert isinstance(lost.cause, Died)
    assert lost.cause.out_of_memory
    assert w.supervisor.phase is Phase.STEADY


def test_without_a_zygote_it_waits_for_the_one_that_stands_in() -> None:
    w = world()
    w.zygote_dies(1)
    w.die(service(w))
    assert states(w) == [("beat", ServiceState.WAITING)]
    w.until(lambda: w.running("beat"))
    assert w.notices(ZygoteReplaced) == [ZygoteReplaced(1, 2)]
    assert service(w).generation == 2


def test_events_that_do_not_fit_change_nothing() -> None:
    w = world()
    process = service(w)
    before = len(w.actions)
    w.tell(WorkerReady(process.id))
    w.tell(WorkerLeaving(process.id, "why"))
    w.tell(WorkerFailed(process.id, "late"))
    assert len(w.actions) == before
    assert service(w) is process


# --- completion


@pytest.mark.parametrize("status", [ExitCode.OK, ExitCode.LEFT_BEHIND])
def test_one_that_returns_is_completed_until_the_next_commit(status: ExitCode) -> None:
    w = world()
    w.die(service(w), status)
    w.run(60)
    assert len(w.notices(ServiceCompleted)) == len(w.orders(SpawnService)) == 1
    assert states(w) == [("beat", ServiceState.COMPLETED)]
    w.zygote_dies(1)
    w.until(lambda: w.notices(ZygoteReplaced)).run(5)
    assert len(w.orders(SpawnService)) == 1, "a zygote that stands in is no new generation of the application"
    reload(w).until(lambda: w.running("beat"))
    assert service(w).generation == 3


# --- SIGTERM from others


def test_one_that_received_a_signal_is_stopped_and_started_again() -> None:
    w = world()
    first = service(w)
    w.tell(WorkerReplacementRequested(first.id, "SIGTERM"))
    assert w.orders(StopService) == []
    w.until(lambda: w.orders(StopService), within=GROUP_SIGNALLED + 0.1)
    assert w.notices(ServiceStopping) == [ServiceStopping(first.id, "beat", 1, WhyStopped.TERMINATED)]
    w.until(lambda: w.running("beat"))
    assert service(w).id != first.id
    assert w.notices(ServiceLost) == w.notices(ServiceCompleted) == []


def test_a_signal_to_the_whole_group_stops_the_workers_first() -> None:
    w = world()
    w.tell(WorkerReplacementRequested(service(w).id, "SIGTERM"))
    w.tell(StopRequested())
    w.run(0.05)
    assert w.orders(StopService) == []
    w.run(5)
    assert w.exit_code is ExitCode.OK


# --- reload


def test_a_reload_ends_the_old_one_before_the_new_one_begins() -> None:
    w = world(beat=Code(drain_time=1.5))
    reload(w).until(lambda: w.notices(ReloadCommitted))
    assert w.orders(StopService) == [StopService(3, 4.0)]
    assert w.notices(ServiceStopping) == [ServiceStopping(3, "beat", 1, WhyStopped.REPLACED)]
    assert states(w) == [("beat", ServiceState.STOPPING)]
    w.until(lambda: w.running("beat"))
    assert service(w).generation == 2
    assert w.times(SpawnService)[1] >= w.times(StopService)[0] + 1.5


@pytest.mark.parametrize(
    "code",
    [
        Code(import_error="syntax"),
        Code(boot_error="no database"),
        Code(dies_after=0.5),
        Code(rate=100.0, failing=1.0),
    ],
    ids=["import", "boot", "watch", "errors"],
)
@pytest.mark.parametrize("overlap", [False, True])
def test_a_reload_that_fails_changes_nothing(code: Code, overlap: bool) -> None:
    policy = replace(POLICY, service_overlap=overlap)
    w = world(policy)
    first = service(w)
    reload(w, policy, code).until(lambda: w.notices(ReloadFailed)).run(60)
    assert service(w) is first
    assert len(w.orders(SpawnService)) == 1
    assert w.orders(StopService) == []


def test_a_generation_that_answers_with_the_error_of_its_import_changes_nothing() -> None:
    w = world()
    first = service(w)
    reload(w, code=Code(answers_with_error=True)).until(lambda: w.notices(ReloadCommitted)).run(10)
    assert service(w) is first
    w.die(first)
    assert states(w.run(10)) == [("beat", ServiceState.WAITING)]
    reload(w).until(lambda: w.running("beat"))
    assert service(w).generation == 3


def test_one_that_dies_while_a_reload_is_under_way_is_started_from_the_committed_generation() -> None:
    w = world()
    reload(w, code=Code(boot_time=30.0)).run(5)
    w.die(service(w))
    w.until(lambda: w.running("beat"), within=1)
    assert service(w).generation == 1
    w.until(lambda: w.notices(ReloadCommitted)).until(lambda: w.running("beat"))
    assert service(w).generation == 2


def test_a_rollback_replaces_it_too() -> None:
    w = world()
    reload(w).until(lambda: w.running("beat") and service(w).generation == 2)
    w.tell(RollbackRequested())
    w.until(lambda: w.running("beat") and service(w).generation == 1)
    assert len(w.running("beat")) == 1


def test_names_come_and_go_with_the_settings() -> None:
    w = world()
    policy = replace(POLICY, services=("once", "more"))
    reload(w, policy).until(lambda: w.notices(ReloadCommitted))
    assert [notice.why for notice in w.notices(ServiceStopping) if isinstance(notice, ServiceStopping)] == [
        WhyStopped.REMOVED
    ]
    assert [name for name, _ in states(w)] == ["once", "more", "beat"]
    assert ("beat", ServiceState.STOPPING) in states(w)
    w.until(lambda: not [x for x in w.workers.values() if x.service == "beat"])
    w.until(lambda: w.running("once") and w.running("more"))
    assert len(w.running("once")) == len(w.running("more")) == 1


def test_one_that_fails_as_its_name_is_removed_is_not_started_again() -> None:
    w = world(beat=Code(drain_time=NEVER))
    reload(w, replace(POLICY, services=())).until(lambda: w.notices(ReloadCommitted))
    w.die(w.workers[3], 1)
    assert w.notices(ServiceDiedStopping) == [ServiceDiedStopping(3, "beat", 1, 1)]
    assert w.run(10).orders(SpawnService) == [SpawnService(3, "beat", 1)]


def test_one_that_does_not_stop_is_killed_and_then_followed() -> None:
    w = world(beat=Code(drain_time=NEVER))
    reload(w).until(lambda: w.notices(ServiceKilled), within=60)
    (killed,) = w.notices(ServiceKilled)
    assert killed == ServiceKilled(3, "beat", 1, pytest.approx(5.0, abs=0.1))
    w.until(lambda: w.running("beat"), within=1)


def test_one_that_cannot_be_killed_is_followed_once_it_runs_no_code() -> None:
    w = world(beat=Code(drain_time=NEVER, unkillable=True))
    first = service(w)
    reload(w).until(lambda: w.notices(ServiceKilled), within=60)
    assert states(w) == [("beat", ServiceState.KILLED)]
    w.until(lambda: w.notices(ServiceAbandoned), within=60)
    w.until(lambda: w.running("beat"))
    assert service(w).id != first.id
    assert first.id in w.workers
    w.die(first)
    assert w.notices(ServiceLost) == []


# --- overlap

OVERLAP = replace(POLICY, service_overlap=True)


def test_with_overlap_the_new_one_begins_first() -> None:
    w = world(OVERLAP)
    reload(w, OVERLAP).until(lambda: len(w.running("beat")) == 2)
    assert w.orders(StopService) == []
    assert sorted(states(w)) == [("beat", ServiceState.RUNNING)] * 2
    w.until(lambda: len(w.running("beat")) == 1)
    assert service(w).generation == 2
    assert w.times(StopService)[0] >= w.times(SpawnService)[1] + OVERLAP.watch_time


def test_with_overlap_the_old_one_stays_while_the_new_one_cannot_start() -> None:
    w = world(OVERLAP)
    w.services["beat"] = Code(boot_error="no module")
    reload(w, OVERLAP).until(lambda: len(w.notices(ServiceLost)) == 4)
    assert [process.generation for process in w.running("beat")] == [1]
    w.services["beat"] = Code()
    w.until(lambda: [process.generation for process in w.running("beat")] == [2])


def test_with_overlap_a_new_one_that_returns_ends_the_old_one() -> None:
    w = world(OVERLAP)
    w.services["beat"] = Code(returns_after=0.0)
    reload(w, OVERLAP).until(lambda: w.notices(ServiceCompleted))
    w.until(lambda: states(w) == [("beat", ServiceState.COMPLETED)])


def test_with_overlap_a_third_waits() -> None:
    w = world(OVERLAP, beat=Code(drain_time=3.0))
    for _ in range(2):
        generation = w.supervisor.fleet.last_generation + 1
        reload(w, OVERLAP).until(lambda g=generation: any(p.generation == g for p in w.running("beat")))
        assert len([p for p in w.workers.values() if p.service]) <= 2
    w.until(lambda: [p.generation for p in w.workers.values() if p.service] == [3])


# --- stop


def test_a_stop_stops_services_after_the_last_worker() -> None:
    w = Simulation(POLICY, codes={1: Code(drain_time=3.0)}, services={"beat": Code(drain_time=2.0)})
    w.until(lambda: w.running("beat"))
    w.tell(StopRequested())
    w.run(2.9)
    assert w.orders(StopService) == []
    assert service(w)
    w.until(lambda: w.orders(StopService))
    assert w.orders(StopService) == [StopService(3, 4.0)]
    assert [x for x in w.workers.values() if not x.service] == []
    w.run(5)
    assert w.exit_code is ExitCode.OK


def test_one_that_dies_during_a_stop_is_not_started_again() -> None:
    w = Simulation(POLICY, codes={1: Code(drain_time=3.0)})
    w.until(lambda: w.running("beat"))
    w.tell(StopRequested())
    w.die(service(w))
    (lost,) = w.notices(ServiceLost)
    assert isinstance(lost, ServiceLost)
    assert lost.retry_in is None
    w.run(5)
    assert w.exit_code is ExitCode.OK


def test_a_quick_stop_leaves_it_the_time_of_a_lifespan() -> None:
    w = world(replace(POLICY, service_stop_timeout=60.0))
    w.tell(StopRequested(quick=True))
    w.until(lambda: w.orders(StopService))
    assert w.orders(StopService) == [StopService(3, POLICY.shutdown_timeout)]


def test_a_harsher_stop_shortens_its_time_without_a_second_signal() -> None:
    policy = replace(POLICY, service_stop_timeout=60.0)
    w = world(policy, beat=Code(drain_time=NEVER))
    w.tell(StopRequested())
    w.until(lambda: w.orders(StopService))
    w.tell(StopRequested())
    w.run(POLICY.shutdown_timeout + POLICY.kill_grace + 0.1)
    assert len(w.orders(StopService)) == 1
    assert w.orders(KillWorker) == [KillWorker(3)]
    assert w.exit_code is ExitCode.KILLED


def test_a_stop_by_force_kills_it_at_once() -> None:
    w = world(beat=Code(drain_time=NEVER))
    for _ in range(3):
        w.tell(StopRequested())
    assert KillWorker(3) in w.orders(KillWorker)
    w.run(1)
    assert w.exit_code is ExitCode.KILLED


def test_one_that_fails_to_start_during_a_stop_gets_no_more_time() -> None:
    w = Simulation(POLICY, services={"beat": Code(boot_time=NEVER)})
    w.until(lambda: w.orders(SpawnService))
    w.tell(WorkerFailed(3, "no module"))
    for _ in range(2):
        w.tell(StopRequested())
    w.run(60)
    assert w.orders(StopService) == []
    assert w.exit_code is ExitCode.KILLED
