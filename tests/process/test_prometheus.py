"""The live gauges of prometheus_client's multiprocess mode count those that live."""

import os
import signal
from pathlib import Path

import pytest

from fleet import APPS, SOURCE, Fleet, wait_until

pytestmark = pytest.mark.newest_python

SOURCE_OF_APP = """
import os, probe
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess
hits = Counter("hits", "x")
live = Gauge("live_workers", "x", multiprocess_mode="livesum")
async def hit(scope, receive, send, query):
    live.set(1)
    hits.inc()
    await probe.answer(send, str(os.getpid()).encode())
async def metrics(scope, receive, send, query):
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    await probe.answer(send, generate_latest(registry))
probe.ENDPOINTS |= {"/hit": hit, "/metrics": metrics}
app = probe.app
"""


def files(directory: Path) -> set[int]:
    """The processes that have live gauges."""
    return {int(file.stem.rpartition("_")[2]) for file in directory.glob("gauge_livesum_*.db")}


@pytest.mark.parametrize("preload", ["auto", "off"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_worker_does_not_count(fleet: Fleet, preload: str, signum: signal.Signals) -> None:
    directory = fleet.directory / "metrics"
    directory.mkdir()
    fleet.write("metrics.env", f"PROMETHEUS_MULTIPROC_DIR={directory}\n")
    fleet.expect_log("ERROR.*died after serving")
    fleet.serve_source(
        SOURCE_OF_APP,
        "--preload",
        preload,
        "--env-file",
        "metrics.env",
        env={"PYTHONPATH": f"{SOURCE}:{APPS}"},
    )
    before = {worker.pid for worker in fleet.workers()}

    hit = set()

    def hit_by_all() -> bool:
        with fleet.client() as client:
            hit.add(int(client.get("/hit").text))
        return {worker.pid for worker in fleet.workers()} <= hit

    wait_until(hit_by_all, "each worker has counted")
    killed = min(before)
    os.kill(killed, signum)
    wait_until(lambda: killed not in files(directory), "its live gauges are gone")
    fleet.wait_workers(lambda seen: len(seen) == 2 and killed not in {w.pid for w in seen}, "another")
    wait_until(hit_by_all, "each worker has counted")
    with fleet.client() as client:
        lines = client.get("/metrics").text.splitlines()
    assert "live_workers 2.0" in lines
    assert list(directory.glob(f"counter_{killed}.db")), "what it had counted stays"


def test_nothing_of_them_is_left_after_a_stop(fleet: Fleet) -> None:
    directory = fleet.directory / "metrics"
    directory.mkdir()
    env = {"PYTHONPATH": f"{SOURCE}:{APPS}", "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    fleet.serve_source(SOURCE_OF_APP, "--preload", "off", workers=1, env=env)
    with fleet.client() as client:
        client.get("/hit")
    assert files(directory)
    assert fleet.stop() == 0
    assert not files(directory)
