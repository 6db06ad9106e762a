"""The results of health checks, for states of the fleet."""

from dataclasses import replace

import pytest

from asgi_master.control.health import (
    FRESH,
    HealthState,
    WorkerHealth,
    check_live,
    check_ready,
    check_started,
)

WELL = WorkerHealth(slot=0, generation=3, state="ready", heartbeat_age=0.1)
BLOCKED = WorkerHealth(slot=1, generation=3, state="ready", heartbeat_age=7.25)
BOOTING = WorkerHealth(slot=2, generation=4, state="booting", heartbeat_age=None)
SILENT = WorkerHealth(slot=3, generation=4, state="ready", heartbeat_age=None)
GOOD = HealthState(started=True, leaving="", quorum=1, workers=(WELL,))


def test_every_master_that_responds_is_live():
    assert check_live().passes
    assert check_live().text() == "ok\n"
    assert check_live().text(verbose=True) == "[+] master\nlivez check passed\n"


def test_started():
    assert check_started(GOOD).text() == "ok\n"
    result = check_started(replace(GOOD, started=False))
    assert not result.passes
    assert result.text() == "the first workers are not ready yet\n"


def test_ready():
    result = check_ready(GOOD)
    assert result.passes
    assert result.text() == "ok\n"
    assert result.text(verbose=True) == "[+] started\n[+] staying\n[+] workers\nreadyz check passed\n"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (replace(GOOD, started=False), "the first workers are not ready yet"),
        (replace(GOOD, leaving="the master is stopping"), "the master is stopping"),
        (replace(GOOD, workers=()), "0 of 0 workers serve, 1 must"),
        (
            replace(GOOD, workers=(BLOCKED,)),
            "worker 1 (generation 3) is blocked: its event loop has not turned for 7.2 s",
        ),
        (replace(GOOD, workers=(BOOTING,)), "worker 2 (generation 4) is booting"),
        (replace(GOOD, workers=(SILENT,)), "worker 3 (generation 4) has sent no heartbeat yet"),
        (replace(GOOD, workers=(WELL, BLOCKED), quorum=2), "1 of 2 workers serve, 2 must"),
    ],
)
def test_not_ready(state, reason):
    result = check_ready(state)
    assert not result.passes
    assert reason in result.text().splitlines()
    assert f"    {reason}" in result.text(verbose=True).splitlines()
    assert result.text(verbose=True).endswith("readyz check failed\n")


def test_some_may_be_missing_above_the_quorum():
    assert check_ready(replace(GOOD, workers=(WELL, BLOCKED, BOOTING))).passes


def test_all_reasons_are_reported_at_once():
    state = HealthState(
        started=False, leaving="the master stops in 3.0 s", quorum=1, workers=(BLOCKED, BOOTING)
    )
    assert len(check_ready(state).text().splitlines()) == 5


@pytest.mark.parametrize(("age", "serves"), [(0.0, True), (FRESH, True), (FRESH + 0.01, False)])
def test_how_fresh_a_heartbeat_must_be(age, serves):
    assert replace(WELL, heartbeat_age=age).serves is serves
