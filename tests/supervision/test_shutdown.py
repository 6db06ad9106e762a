"""When a stop begins that was requested, how harsh it is, and with which status it ends."""

import pytest

from asgi_master.errors import ExitCode
from asgi_master.supervision.fleet import Fleet, Urgency, Worker
from asgi_master.supervision.notices import StopLevel
from asgi_master.supervision.orders import Orders
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.shutdown import Shutdown, ShutdownState

DELAYED = Policy(shutdown_delay=10.0)


@pytest.fixture
def shutdown() -> Shutdown:
    return Shutdown(ShutdownState(), Orders(Fleet()))


def request(
    shutdown: Shutdown,
    policy: Policy = DELAYED,
    *,
    quick: bool = False,
    serves: bool = True,
    now: float = 100.0,
) -> bool:
    return shutdown.request(policy, now, quick=quick, serves=serves)


def test_the_first_stop_waits(shutdown: Shutdown) -> None:
    assert not shutdown.is_delayed
    assert not request(shutdown)
    assert shutdown.is_delayed
    assert shutdown.deadlines() == [110.0]
    assert not shutdown.is_due(109.9)
    assert shutdown.is_due(110.0)
    assert request(shutdown, now=110.0)
    assert not shutdown.is_delayed
    assert not shutdown.is_due(200.0)
    assert shutdown.state.level is StopLevel.GRACEFUL


def test_a_second_stop_ends_the_wait(shutdown: Shutdown) -> None:
    request(shutdown)
    assert request(shutdown, now=101.0)
    assert shutdown.state.level is StopLevel.GRACEFUL
    assert not shutdown.is_due(200.0)


@pytest.mark.parametrize(
    ("quick", "serves", "delay"), [(True, True, 10.0), (False, False, 10.0), (False, True, 0.0)]
)
def test_who_does_not_wait(shutdown: Shutdown, quick: bool, serves: bool, delay: float) -> None:
    assert request(shutdown, Policy(shutdown_delay=delay), quick=quick, serves=serves)
    assert shutdown.state.level is (StopLevel.QUICK if quick else StopLevel.GRACEFUL)


def test_a_quick_stop_ends_the_wait_and_is_quick(shutdown: Shutdown) -> None:
    request(shutdown)
    assert request(shutdown, quick=True, now=101.0)
    assert shutdown.urgency is Urgency.QUICK


def test_each_further_stop_is_harsher(shutdown: Shutdown) -> None:
    urgencies = []
    for _ in range(3):
        assert request(shutdown, Policy())
        urgencies.append(shutdown.urgency)
    assert urgencies == [Urgency.GRACEFUL, Urgency.QUICK, Urgency.KILL]
    assert not request(shutdown, Policy()), "there is nothing harsher"


def test_new_connections_are_refused_when_no_worker_accepts(shutdown: Shutdown) -> None:
    worker = Worker(1, 0, 1, ordered_at=0.0, deadline=None, ready_at=1.0)
    booting = Worker(2, 1, 1, ordered_at=0.0, deadline=None)
    shutdown.refuse_new_connections([worker, booting], 100.0)
    assert not shutdown.state.is_closed
    assert shutdown.deadlines() == [101.0]
    shutdown.state.not_accepting.add(1)
    shutdown.refuse_new_connections([worker, booting], 100.5)
    assert shutdown.state.is_closed
    assert shutdown.deadlines() == []


def test_who_does_not_report_that_it_accepts_no_more_is_not_waited_for(shutdown: Shutdown) -> None:
    worker = Worker(1, 0, 1, ordered_at=0.0, deadline=None, ready_at=1.0)
    shutdown.refuse_new_connections([worker], 100.0)
    shutdown.refuse_new_connections([worker], 101.0)
    assert shutdown.state.is_closed


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (ShutdownState(), ExitCode.OK),
        (ShutdownState(is_forced=True), ExitCode.KILLED),
        (ShutdownState(is_boot_failure=True, is_forced=True), ExitCode.BOOT_FAILED),
        (ShutdownState(is_out_of_memory=True, is_forced=True), ExitCode.OUT_OF_MEMORY),
    ],
)
def test_the_status(state: ShutdownState, code: ExitCode) -> None:
    assert Shutdown(state, Orders(Fleet())).exit_code() is code
