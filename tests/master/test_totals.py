"""What the master counts by the notices, and what of it survives a live upgrade."""

import json

import pytest

from asgi_master import codec
from asgi_master.master.totals import Totals
from asgi_master.supervision import notices as n

W = (7, 2, 3)


def totals():
    return Totals(started_at=10.0, started_on=1_795_458_113.25)


@pytest.mark.parametrize(
    ("notice", "reason"),
    [
        (n.WorkerLost(*W, n.Died(2, -11, 5.0), 0.0), "crashed"),
        (n.WorkerLost(*W, n.Died(2, -9, 5.0, out_of_memory=True), 0.0), "out_of_memory"),
        (n.WorkerLost(*W, n.Hung(2, 30.0), 0.5), "hung"),
        (n.WorkerLost(*W, n.BootRefused(2, "no"), 1.0), "boot_failed"),
        (n.WorkerLost(*W, n.BootTimedOut(2, 60.0), 1.0), "boot_failed"),
        (n.WorkerLost(*W, n.Left(2, "SIGTERM"), 0.0), "left"),
        (n.WorkerReplacementStarted(*W, "1000 requests"), "recycled"),
    ],
)
def test_restarts(notice, reason):
    counted = totals()
    counted.note(notice)
    assert {word: count for word, count in counted.restarts.items() if count} == {reason: 1}


def test_a_worker_that_is_not_replaced_is_no_restart():
    counted = totals()
    counted.note(n.WorkerLost(*W, n.Died(2, -11, 5.0), None))
    assert not any(counted.restarts.values())


def test_services_are_counted_by_themselves():
    counted = totals()
    beat = (7, "beat", 3)
    counted.note(n.ServiceLost(*beat, n.Died(-1, -9, 5.0, out_of_memory=True), 0.0))
    counted.note(n.ServiceLost(*beat, n.BootTimedOut(-1, 60.0), 0.5))
    counted.note(n.ServiceLost(*beat, n.Died(-1, 1, 5.0), None))
    counted.note(n.ServiceStopping(*beat, n.WhyStopped.TERMINATED))
    counted.note(n.ServiceStopping(*beat, n.WhyStopped.REPLACED))
    assert counted.restarts_of("beat") == {"crashed": 0, "out_of_memory": 1, "boot_failed": 1, "left": 1}
    assert not any(counted.restarts_of("other").values())
    assert not any(counted.restarts.values())
    again = Totals.load(json.loads(json.dumps(codec.dump(counted))), 0.0, 0.0)
    assert again.restarts_of("beat") == counted.restarts_of("beat")


def test_reloads_and_the_generation():
    counted = totals()
    assert counted.generation == 0
    counted.note(n.MasterReady(workers=2, generation=1))
    assert (counted.generation, counted.reloads["committed"]) == (1, 0)
    counted.note(n.ReloadCommitted(generation=3, workers=2, took=1.0))
    assert (counted.generation, counted.reloads["committed"]) == (3, 1)
    counted.note(n.ReloadFailed(generation=4, cause=n.ImportFailed("no"), kept=3))
    counted.note(n.ReloadSuperseded(generation=5))
    counted.note(n.ReloadRefused("SIGHUP", ("no",)))
    assert counted.generation == 3
    assert counted.reloads == {"committed": 1, "failed": 1, "superseded": 1, "refused": 1}
    counted.note(n.ZygoteReplaced(lost=3, generation=6))
    assert counted.generation == 6


def test_all_of_it_is_remembered():
    counted = totals()
    counted.note(n.ReloadCommitted(generation=3, workers=2, took=1.0))
    counted.note(n.WorkerReplacementStarted(*W, "age"))
    known = json.loads(json.dumps(codec.dump(counted)))
    assert Totals.load(known, now=99.0, today=1e9) == counted


def test_another_version_may_know_more_or_less():
    recalled = Totals.load({"reloads": {"committed": 4, "postponed": 2}, "moon": 1}, now=99.0, today=1e9)
    assert (recalled.started_at, recalled.started_on, recalled.generation) == (99.0, 1e9, 0)
    assert recalled.reloads == {"committed": 4, "failed": 0, "superseded": 0, "refused": 0}
