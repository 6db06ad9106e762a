"""A spare is there at once, and leaves when it is not needed any more."""

import os
import signal

from fleet import APPS, SOURCE, Fleet, WorkerSeen, wait_until
from traffic import RawConnection, Traffic

WITH_PROBE = {"PYTHONPATH": f"{SOURCE}:{APPS}"}
SLOW_START = """
import asyncio, os, pathlib, probe

async def app(scope, receive, send):
    if scope["type"] == "lifespan" and pathlib.Path("slow").exists():
        pathlib.Path("starting").touch()
        while pathlib.Path("slow").exists():
            await asyncio.sleep(0.01)
    await probe.app(scope, receive, send)
"""
STANDS_BY = r"worker {slot} \(generation {generation}\) is ready, as a spare"


def serve(fleet: Fleet, *arguments: str, workers: int) -> Fleet:
    fleet.serve_source(SLOW_START, "--spares", "1", *arguments, workers=workers, env=WITH_PROBE)
    fleet.wait_line(STANDS_BY.format(slot=workers, generation=1))
    return fleet


def slots(workers: list[WorkerSeen]) -> list[int]:
    return [worker.slot for worker in workers]


def test_a_crash_is_made_up_for_without_waiting_for_a_boot(fleet: Fleet) -> None:
    serve(fleet, workers=1)
    fleet.expect_log("ERROR.*SIGKILL")
    first, spare = fleet.workers()
    with fleet.client() as client:
        assert {client.get("/who").json()["pid"] for _ in range(5)} == {first.pid}, "a spare accepts nothing"
    (fleet.directory / "slow").touch()
    with fleet.keeping_descriptors():
        os.kill(first.pid, signal.SIGKILL)
        with RawConnection(fleet.port) as connection:
            assert f'"pid": {spare.pid}' in connection.ask().decode()
            wait_until((fleet.directory / "starting").exists, "the successor is starting")
            assert b'"worker": "1"' in connection.ask()
            # The successor comes, the spare leaves and hands the connection over.
            (fleet.directory / "slow").unlink()
            fleet.wait_line(r"worker 1 .*a spare, is no longer needed")

            def exchanged(workers: list[WorkerSeen]) -> bool:
                return slots(workers) == [0, 1] and spare not in workers

            fleet.wait_workers(exchanged, "a fresh spare stands by")
            assert b'"worker": "0"' in connection.ask()


def test_a_scale_up_takes_the_spare_and_a_reload_takes_them_all(fleet: Fleet) -> None:
    serve(fleet, workers=1)
    _, spare = fleet.workers()
    with Traffic(fleet, clients=4) as traffic:
        fleet.send(signal.SIGTTIN)
        fleet.wait_line("worker 1 .*a spare, serves from now on")
        fleet.wait_line(STANDS_BY.format(slot=2, generation=1))
        assert spare in fleet.workers()
        fleet.send(signal.SIGHUP)
        fleet.wait_line("reloaded: 1 worker serving generation 2")
        fleet.wait_line(STANDS_BY.format(slot=1, generation=2))
        fleet.wait_settled(2)
        assert slots(fleet.workers()) == [0, 1]
        traffic.wait_for_more(20)
    assert traffic.failures == []
