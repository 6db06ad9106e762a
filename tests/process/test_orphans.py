"""The master is killed: its workers finish and go, and the address is free again."""

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx

from apps import holding
from fleet import PATIENCE, Fleet, wait_until


def bindable(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            return False
    return True


def test_idle_workers_go_at_once(fleet: Fleet) -> None:
    fleet.serve(workers=3)
    fleet.expect_log("WARNING")
    port = fleet.port
    fleet.kill_master()
    wait_until(lambda: bindable(port), "the port can be bound again")


def test_requests_in_flight_are_finished(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    fleet.expect_log("WARNING")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/hold?name=work", timeout=PATIENCE, trust_env=False)
        wait_until(lambda: holding.arrived(fleet.directory, "work"), "the request arrived")
        fleet.kill_master()
        fleet.wait_line("master is gone")
        holding.release(fleet.directory, "work")
        assert asked.result(PATIENCE).status_code == 200


def test_a_blocked_worker_goes_too(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--drain-timeout", "0.5", workers=1)
    fleet.expect_log("WARNING")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/block?seconds=60", timeout=PATIENCE, trust_env=False)
        fleet.wait_blocked()
        fleet.kill_master()
        assert isinstance(asked.exception(PATIENCE), httpx.TransportError)


def test_a_zygote_that_imports_goes_too(fleet: Fleet) -> None:
    fleet.write("slow.py", "import time; print('importing', flush=True); time.sleep(60)\n")
    fleet.start("--bind", "127.0.0.1:0", "slow:app")
    wait_until(lambda: "importing" in fleet.output, "the import began")
    fleet.kill_master()
