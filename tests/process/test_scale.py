"""TTIN and TTOU change the number of workers while they serve."""

import signal

from fleet import Fleet
from traffic import Traffic


def test_more_and_fewer_workers(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    with Traffic(fleet, clients=3) as traffic, fleet.keeping_descriptors():
        fleet.send(signal.SIGTTIN)
        fleet.wait_workers(lambda workers: [w.slot for w in workers] == [0, 1], "two workers")
        fleet.send(signal.SIGTTIN)
        fleet.wait_workers(lambda workers: [w.slot for w in workers] == [0, 1, 2], "three workers")
        traffic.wait_for_more(30)
        for left in (2, 1):
            fleet.send(signal.SIGTTOU)
            fleet.wait_workers(lambda workers, left=left: len(workers) == left, f"{left} workers")
        traffic.wait_for_more(30)
    assert traffic.failures == []


def test_never_below_one(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    before = fleet.workers()
    fleet.expect_log("WARNING.*staying at 1 worker")
    fleet.send(signal.SIGTTOU)
    # Of two signals that wait, the kernel delivers the lower number first, and that is TTIN.
    fleet.wait_line("staying at 1 worker")
    fleet.send(signal.SIGTTIN)
    fleet.wait_workers(lambda workers: len(workers) == 2, "two workers")
    assert before[0] in fleet.workers()
