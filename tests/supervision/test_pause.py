"""A reload in development: nothing serves the old code meanwhile, and clients wait for the new one."""

from asgi_master.supervision.events import ReloadRequested
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import Phase
from simulation import Code, Simulation


def reloading(**codes):
    """A reload is asked for, to generation 2; `two` is how that behaves."""
    policy = Policy(workers=2, watch_time=0.0, rollback_window=0.0, pause_on_reload=5.0)
    world = Simulation(policy, codes={2: codes["two"]})
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    world.tell(ReloadRequested(policy))
    return world


def serving(world):
    return sorted(worker.generation for worker in world.supervisor.fleet.serving())


def test_the_old_workers_leave_at_once_and_the_new_ones_come():
    world = reloading(two=Code(import_time=0.5))
    assert serving(world) == []
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    assert serving(world) == [2, 2]


def test_after_some_time_the_old_code_serves_again():
    world = reloading(two=Code(import_time=20.0))
    world.run(4.9)
    assert serving(world) == []
    world.run(1.0)
    assert serving(world) == [1, 1]
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    assert serving(world) == [2, 2]


def test_if_the_new_code_fails_the_old_one_serves_again():
    world = reloading(two=Code(import_time=0.5, import_error="broken"))
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    world.run(1.0)
    assert serving(world) == [1, 1]


def test_another_save_begins_the_time_anew():
    world = reloading(two=Code(import_time=4.0))
    world.run(3.0)
    world.tell(ReloadRequested(world.policy))
    world.run(3.0)
    assert serving(world) in ([], [3], [3, 3])
    world.until(lambda: world.supervisor.phase is Phase.STEADY)
    assert serving(world) == [3, 3]
