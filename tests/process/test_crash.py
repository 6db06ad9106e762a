"""A process that dies is replaced, and no other is affected."""

import os
import signal

import httpx
import pytest

from fleet import Fleet, WorkerSeen, wait_until


def crash(fleet: Fleet, how: str) -> int:
    """Have one worker die by a request; returns its pid."""
    with fleet.client() as client:
        pid: int = client.get("/who").json()["pid"]
        with pytest.raises(httpx.TransportError):
            client.get("/crash", params={"how": how})
    return pid


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_crashed_worker_is_replaced_in_its_slot(fleet: Fleet, how: str) -> None:
    fleet.serve(workers=2)
    fleet.expect_log("WARNING.*worker", "ERROR.*worker")
    before = fleet.workers()
    with fleet.keeping_descriptors():
        dead = crash(fleet, how)
        survivor = next(worker for worker in before if worker.pid != dead)

        def replaced(workers: list[WorkerSeen]) -> bool:
            return len(workers) == 2 and dead not in {worker.pid for worker in workers}

        after = fleet.wait_workers(replaced, "the worker was replaced")
        assert survivor in after, "the healthy worker was touched"
        assert [(worker.slot, worker.generation) for worker in after] == [(0, 1), (1, 1)]
        fleet.wait_line(r"worker \d.*(exit status 7|SIGKILL)")
        with fleet.client() as client:
            assert client.get("/").status_code == 200


def test_crashes_in_a_row_are_backed_off_and_come_back(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--backoff-cap", "0.5", workers=1)
    fleet.expect_log("WARNING", "ERROR")
    pids = set()
    for _ in range(4):
        pids.add(crash(fleet, "kill"))
    assert len(pids) == 4
    with fleet.client() as client:
        assert client.get("/").status_code == 200


def test_a_worker_terminated_by_hand_drains_and_is_replaced(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    fleet.expect_log("WARNING")
    victim = fleet.workers()[0]
    os.kill(victim.pid, signal.SIGTERM)
    fleet.wait_workers(
        lambda workers: len(workers) == 2 and victim not in workers and workers[0].slot == 0,
        "worker 0 is new",
    )
    wait_until(lambda: f"lifespan of {victim.pid} is over" in fleet.output, "its lifespan ended in order")


def test_a_dead_zygote_is_replaced_while_its_workers_serve_on(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    fleet.expect_log("WARNING", "ERROR")
    before = fleet.workers()
    (zygote,) = fleet.zygotes()
    zygote.kill()
    fleet.wait_line("zygote")
    wait_until(lambda: [z for z in fleet.zygotes() if z.pid != zygote.pid], "there is a new zygote")
    assert fleet.workers() == before
    crash(fleet, "kill")
    fleet.wait_workers(lambda workers: len(workers) == 2 and workers != before, "crashes are replaced again")


def test_an_application_error_is_a_500_and_no_crash(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    fleet.expect_log("ERROR", "Traceback")
    before = fleet.workers()
    with fleet.client() as client:
        assert client.get("/fail").status_code == 500
        assert client.get("/").status_code == 200
    assert fleet.workers() == before
    fleet.wait_line("RuntimeError: failed on purpose")
    fleet.wait_line("GET /fail")
