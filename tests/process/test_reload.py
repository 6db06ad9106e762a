"""SIGHUP: new code takes over without one failed request; broken code changes nothing."""

import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from apps import holding
from fleet import APPS, PATIENCE, SOURCE, Fleet, WorkerSeen, wait_until
from traffic import RawConnection, Traffic

WITH_PROBE = {"PYTHONPATH": f"{SOURCE}:{APPS}"}
GOOD = "import probe\nVERSION = {version}\nprobe.ENDPOINTS['/version'] = lambda s, r, send, q: probe.answer(send, str(VERSION).encode())\napp = probe.app\n"
BROKEN = {
    "does not import": "raise RuntimeError('bad deploy')\n",
    "is not there": "",
    "does not start": """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "bad deploy"})
""",
    "dies on start": """
import os
async def app(scope, receive, send):
    await receive()
    os._exit(11)
""",
}


def all_of(generation: int, count: int = 2):
    def condition(workers: list[WorkerSeen]) -> bool:
        return [worker.generation for worker in workers] == [generation] * count

    return condition


def version(fleet: Fleet) -> str:
    with fleet.client() as client:
        return client.get("/version").text


def test_new_code_without_a_failed_request(fleet: Fleet) -> None:
    fleet.serve_source(GOOD.format(version=1), env=WITH_PROBE)
    with Traffic(fleet) as traffic, fleet.keeping_descriptors():
        for number in (2, 3):
            fleet.write("changing.py", GOOD.format(version=number))
            fleet.send(signal.SIGHUP)
            fleet.wait_workers(all_of(number), f"all workers are of generation {number}")
            traffic.wait_for_more(50)
            assert version(fleet) == str(number)
            # The next reload begins when this one is complete, so that the number of generations is known.
            fleet.wait_settled(2)
    assert traffic.failures == []
    assert set(traffic.answers) == {"1", "2", "3"}


def test_idle_and_silent_connections_survive(fleet: Fleet) -> None:
    fleet.serve_source(GOOD.format(version=1), env=WITH_PROBE)
    with RawConnection(fleet.port) as idle, RawConnection(fleet.port) as silent:
        idle.ask()
        fleet.send(signal.SIGHUP)
        fleet.wait_workers(all_of(2), "all workers are new")
        assert b'"generation": "2"' in idle.ask()
        assert b'"generation": "2"' in silent.ask()


def test_a_request_in_flight_is_finished_by_the_old_code(fleet: Fleet) -> None:
    fleet.serve_source(GOOD.format(version=1), env=WITH_PROBE, workers=1)
    old = fleet.workers()[0]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/hold?name=work", timeout=PATIENCE, trust_env=False)
        wait_until(lambda: holding.arrived(fleet.directory, "work"), "the request arrived")
        fleet.send(signal.SIGHUP)
        fleet.wait_workers(
            lambda workers: old in workers and len(workers) == 2, "the new one is up, the old one drains"
        )
        wait_until(lambda: '"2"' in httpx.get(f"{fleet.url}/who", trust_env=False).text, "the new one serves")
        holding.release(fleet.directory, "work")
        assert asked.result(PATIENCE).text == f"released in {old.pid}\n"
    fleet.wait_workers(all_of(2, 1), "only the new one is left")


def test_a_websocket_of_the_old_code_is_closed_with_1012(fleet: Fleet) -> None:
    fleet.serve_source(GOOD.format(version=1), env=WITH_PROBE, workers=1)
    with connect(f"ws://127.0.0.1:{fleet.port}/", proxy=None) as websocket:
        fleet.send(signal.SIGHUP)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_code_changes_nothing(fleet: Fleet, fault: str) -> None:
    fleet.serve_source(GOOD.format(version=1), env=WITH_PROBE)
    fleet.expect_log("WARNING", "ERROR", "Traceback")
    before = fleet.workers()
    with Traffic(fleet) as traffic, fleet.keeping_descriptors():
        fleet.write("changing.py", BROKEN[fault])
        fleet.send(signal.SIGHUP)
        fleet.wait_line("(?i)reload.*fail|fail.*reload")
        fleet.wait_settled(2)
        traffic.wait_for_more(50)
        assert {worker.pid for worker in before} == {worker.pid for worker in fleet.workers()}
        assert version(fleet) == "1"
        # And the next good deploy works.
        fleet.write("changing.py", GOOD.format(version=2))
        fleet.send(signal.SIGHUP)
        wait_until(lambda: version(fleet) == "2", "the repaired code serves")
        fleet.wait_settled(2)
    assert traffic.failures == []


def test_a_storm_of_signals_ends_with_the_newest_code(fleet: Fleet) -> None:
    fleet.serve_source(GOOD.format(version=1), env=WITH_PROBE)
    fleet.expect_log("WARNING")
    with Traffic(fleet) as traffic, fleet.keeping_descriptors():
        for number in range(2, 12):
            fleet.write("changing.py", GOOD.format(version=number))
            fleet.send(signal.SIGHUP)
            traffic.wait_for_more(5)

        def settled(workers: list[WorkerSeen]) -> bool:
            return len(workers) == 2 and len({worker.generation for worker in workers}) == 1

        wait_until(
            lambda: settled(fleet.workers()) and {version(fleet) for _ in range(8)} == {"11"},
            "version 11 serves",
        )
        fleet.wait_settled(2)
    assert traffic.failures == []


def test_a_stop_during_a_reload_acts_at_once(fleet: Fleet) -> None:
    fleet.serve_source(GOOD.format(version=1), env=WITH_PROBE)
    fleet.expect_log("WARNING")
    fleet.write("changing.py", "import time; print('importing', flush=True); time.sleep(60)\n")
    fleet.send(signal.SIGHUP)
    wait_until(lambda: "importing" in fleet.output, "the reload is under way")
    assert fleet.stop() in (0, 6)


def test_the_settings_file_is_read_again(fleet: Fleet) -> None:
    fleet.write(
        "asgi-master.toml", f'app = "probe:app"\napp-dir = "{APPS}"\nworkers = 1\nbind = ["127.0.0.1:0"]\n'
    )
    fleet.start().wait_ready(1)
    port = fleet.port
    fleet.write(
        "asgi-master.toml", f'app = "probe:app"\napp-dir = "{APPS}"\nworkers = 3\nbind = ["127.0.0.1:0"]\n'
    )
    fleet.send(signal.SIGHUP)
    fleet.wait_workers(all_of(2, 3), "three workers of generation 2")
    with fleet.client() as client:
        assert client.base_url.port == port
        assert client.get("/").status_code == 200


def test_a_bad_settings_file_changes_nothing(fleet: Fleet) -> None:
    fleet.write(
        "asgi-master.toml", f'app = "probe:app"\napp-dir = "{APPS}"\nworkers = 1\nbind = ["127.0.0.1:0"]\n'
    )
    fleet.start().wait_ready(1)
    before = fleet.workers()
    fleet.expect_log("WARNING", "ERROR")
    fleet.write("asgi-master.toml", 'app = "probe:app"\nworkers = "many"\nwrkers = 1\n')
    fleet.send(signal.SIGHUP)
    fleet.wait_line("workers")
    fleet.wait_line("wrkers")
    assert fleet.workers() == before


def test_the_working_directory_is_resolved_anew(fleet: Fleet) -> None:
    """Deploys switch a symbolic link."""
    for number in (1, 2):
        release = fleet.directory / f"release-{number}"
        release.mkdir()
        (release / "changing.py").write_text(GOOD.format(version=number))
    current = fleet.directory / "current"
    current.symlink_to("release-1")
    real = fleet.directory
    fleet.directory = current
    fleet.start(
        "--workers", "2", "--bind", "127.0.0.1:0", "changing:app", env={**WITH_PROBE, "PWD": str(current)}
    )
    fleet.wait_ready(2)
    assert version(fleet) == "1"
    fleet.directory = real
    switched = real / ".current"
    switched.symlink_to("release-2")
    switched.rename(current)
    fleet.send(signal.SIGHUP)
    wait_until(lambda: version(fleet) == "2", "the new release serves")
    fleet.wait_settled(2)
