"""When a stop begins that was requested, how harsh it is, and with which status it ends."""

import pytest

from asgi_master.errors import ExitCode
from asgi_master.supervision.actions import CloseListeners, DrainWorker, ExitMaster, KillWorker
from asgi_master.supervision.desired import Desired
from asgi_master.supervision.fleet import Fleet, WorkerRecord
from asgi_master.supervision.hang import ClockWatch
from asgi_master.supervision.notices import StopLevel
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.state import ShutdownState, SupervisorState
from asgi_master.supervision.states import Phase, WorkerState
from asgi_master.supervision.stopping import Stopping


class Stop:
    """A fleet that is asked to stop, and what is ordered."""

    def __init__(self, *workers: WorkerRecord, delay: float = 10.0, phase: Phase = Phase.STEADY) -> None:
        policy = Policy(shutdown_delay=delay)
        fleet = Fleet({worker.id: worker for worker in workers})
        self.state = SupervisorState(fleet, Desired(policy, policy, phase), ClockWatch(0.0))
        self.orders = Orders(fleet)
        self.stopping = Stopping(self.state, self.orders)

    @property
    def level(self) -> StopLevel | None:
        return self.state.shutdown.level

    @property
    def phase(self) -> Phase:
        return self.state.desired.phase

    def ordered(self, kind: type) -> list[object]:
        return [action for action in self.orders.take() if isinstance(action, kind)]


def ready(number: int) -> WorkerRecord:
    return WorkerRecord(
        number, number, 1, ordered_at=0.0, deadline=None, state=WorkerState.READY, ready_at=1.0
    )


def test_the_first_stop_waits() -> None:
    stop = Stop()
    stop.stopping.request(100.0)
    assert stop.phase is Phase.TERMINATING
    assert list(stop.stopping.deadlines()) == [110.0]
    stop.stopping.begin_when_due(109.9)
    assert stop.level is None
    stop.stopping.begin_when_due(110.0)
    assert (stop.level, stop.phase) == (StopLevel.GRACEFUL, Phase.STOPPING)
    assert list(stop.stopping.deadlines()) == []


def test_a_second_stop_ends_the_wait() -> None:
    stop = Stop()
    stop.stopping.request(100.0)
    stop.stopping.request(101.0)
    assert stop.level is StopLevel.GRACEFUL
    stop.stopping.begin_when_due(200.0)
    assert stop.level is StopLevel.GRACEFUL


@pytest.mark.parametrize(
    ("quick", "phase", "delay"),
    [(True, Phase.STEADY, 10.0), (False, Phase.BOOTING, 10.0), (False, Phase.STEADY, 0.0)],
)
def test_a_stop_without_a_delay(quick: bool, phase: Phase, delay: float) -> None:
    stop = Stop(delay=delay, phase=phase)
    stop.stopping.request(100.0, quick=quick)
    assert stop.level is (StopLevel.QUICK if quick else StopLevel.GRACEFUL)
    assert stop.phase is Phase.STOPPING


def test_a_quick_stop_ends_the_wait_and_is_quick() -> None:
    stop = Stop()
    stop.stopping.request(100.0)
    stop.stopping.request(101.0, quick=True)
    assert stop.level is StopLevel.QUICK


def test_each_further_stop_is_harsher() -> None:
    stop = Stop(ready(1), delay=0.0)
    timeouts = []
    for _ in range(2):
        stop.stopping.request(100.0)
        stop.stopping.empty(100.0)
        timeouts += [order.timeout for order in stop.ordered(DrainWorker) if isinstance(order, DrainWorker)]
    assert timeouts == [Policy().drain_timeout, 0.0]
    assert not stop.state.shutdown.is_forced
    stop.stopping.request(100.0)
    stop.stopping.empty(100.0)
    assert stop.ordered(KillWorker) == [KillWorker(1)]
    assert stop.state.shutdown.is_forced
    stop.stopping.request(100.0)
    assert stop.orders.take() == [], "there is nothing harsher"


def test_new_connections_are_refused_when_no_worker_accepts() -> None:
    stop = Stop(ready(1), WorkerRecord(2, 1, 1, ordered_at=0.0, deadline=None), delay=0.0)
    stop.stopping.request(100.0)
    stop.stopping.empty(100.0)
    assert stop.ordered(CloseListeners) == []
    assert list(stop.stopping.deadlines()) == [101.0]
    stop.state.shutdown.not_accepting.add(1)
    stop.stopping.empty(100.5)
    assert stop.ordered(CloseListeners) == [CloseListeners()]
    assert list(stop.stopping.deadlines()) == []


def test_a_worker_that_never_reports_that_it_stopped_accepting_is_not_waited_for() -> None:
    stop = Stop(ready(1), delay=0.0)
    stop.stopping.request(100.0)
    stop.stopping.empty(100.0)
    stop.stopping.empty(101.0)
    assert stop.state.shutdown.is_closed


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (ShutdownState(), ExitCode.OK),
        (ShutdownState(is_forced=True), ExitCode.KILLED),
        (ShutdownState(is_boot_failure=True, is_forced=True), ExitCode.BOOT_FAILED),
        (ShutdownState(is_out_of_memory=True, is_forced=True), ExitCode.OUT_OF_MEMORY),
    ],
)
def test_the_status(known: ShutdownState, code: ExitCode) -> None:
    stop = Stop(phase=Phase.STOPPING)
    stop.stopping = Stopping(
        SupervisorState(stop.state.fleet, stop.state.desired, stop.state.clock, known), stop.orders
    )
    stop.stopping.exit_when_empty()
    assert stop.ordered(ExitMaster) == [ExitMaster(code)]
    assert stop.phase is Phase.STOPPED
