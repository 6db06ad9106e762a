"""A blocked event loop is named, then ended."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from fleet import APPS, PATIENCE, Fleet


def line_of(path: Path, text: str) -> int:
    return 1 + next(number for number, line in enumerate(path.read_text().splitlines()) if text in line)


def test_a_blocked_worker_is_named_and_replaced(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--hang-timeout", "1.5", workers=2)
    fleet.expect_log("WARNING", "ERROR")
    before = {worker.pid for worker in fleet.workers()}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/block?seconds=60", timeout=PATIENCE, trust_env=False)
        blocking = line_of(APPS / "probe.py", "time.sleep(float")
        fleet.wait_line(rf"probe\.py.*line {blocking} in block|probe\.py:{blocking}\b")
        assert isinstance(asked.exception(PATIENCE), httpx.TransportError)
    after = fleet.wait_workers(
        lambda workers: len(workers) == 2 and len(before & {worker.pid for worker in workers}) == 1,
        "one is replaced",
    )
    assert {worker.generation for worker in after} == {1}
    assert re.search(r"worker \d", fleet.log)


def test_other_workers_serve_while_one_is_blocked(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    fleet.expect_log("WARNING.*the event loop (is stuck|was blocked)")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/block", timeout=PATIENCE, trust_env=False)
        fleet.wait_blocked()
        for _ in range(20):
            with fleet.client() as client:
                assert client.get("/").status_code == 200
        fleet.unblock()
        assert asked.result(PATIENCE).text == "unblocked\n"


def test_a_worker_that_is_busy_is_not_taken_for_stuck(fleet: Fleet) -> None:
    """Many requests that each hold the loop for less than the time-out, one after the other in one turn of it."""
    fleet.serve("probe:app", "--hang-timeout", "1", "--stall-warn", "0.2", workers=1)
    fleet.expect_log("WARNING.*the event loop", "WARNING.*worker 0 .* is busy: no heartbeat for")
    (worker,) = fleet.workers()
    clients = [fleet.client() for _ in range(7)]
    for client in clients:
        assert client.get("/").status_code == 200
    with ThreadPoolExecutor(len(clients)) as pool:
        first = pool.submit(clients[0].get, "/block?seconds=0.6")
        fleet.wait_blocked()
        asked = [pool.submit(client.get, "/block?seconds=0.6") for client in clients[1:]]
        fleet.wait_line(r"worker 0 .* is busy: no heartbeat for")
        assert all(request.result(PATIENCE).text == "unblocked\n" for request in (first, *asked))
    for client in clients:
        client.close()
    assert [seen.pid for seen in fleet.workers()] == [worker.pid]
