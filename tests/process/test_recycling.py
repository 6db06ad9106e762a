"""Workers that ask to be replaced are, one by one, and no client notices."""

import os
import signal
from collections import Counter

import httpx
import pytest

from fleet import Fleet, WorkerSeen, wait_until
from traffic import Traffic

CLOSES_DESCRIPTORS = """
import os
import socket


def close_channels():
    closed = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if sock.type == socket.SOCK_SEQPACKET:
            os.close(int(name))
            closed += 1
        sock.close()
    return closed


async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(close_channels()).encode()})
"""

RECYCLED = r"worker (\d+) \(generation 1\) is being replaced: "


def recycled(fleet: Fleet, reason: str = "") -> Counter[int]:
    """How often each slot's worker was replaced, as the log tells."""
    marks = (line.partition(" is being replaced: ") for line in list(fleet.lines))
    return Counter(
        int(before.split("worker ")[1].split()[0]) for before, found, why in marks if found and reason in why
    )


def other_than(pids: set[int]):
    return lambda workers: not pids & {worker.pid for worker in workers}


def pids(workers: list[WorkerSeen]) -> set[int]:
    return {worker.pid for worker in workers}


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_max_requests_under_traffic_fails_no_request(fleet: Fleet, loop: str) -> None:
    fleet.serve("probe:app", "--max-requests", "200", "--loop", loop, workers=2)
    first = pids(fleet.workers())
    with Traffic(fleet) as traffic, fleet.keeping_descriptors():
        fleet.wait_workers(other_than(first), "both of the first workers were replaced")
        wait_until(lambda: recycled(fleet).total() >= 4 or traffic.failures, "four workers were replaced")
        traffic.wait_for_more(50)
    assert traffic.failures == []
    assert set(recycled(fleet, "requests")) == {0, 1}
    assert set(traffic.answers) == {"1"}, "the code stays the same"
    fleet.wait_workers(lambda workers: [w.slot for w in workers] == [0, 1], "two workers in their slots")


def test_max_requests_of_the_only_worker(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--max-requests", "100", workers=1)
    with Traffic(fleet, clients=3) as traffic:
        wait_until(lambda: recycled(fleet).total() >= 3 or traffic.failures, "three workers were replaced")
    assert traffic.failures == []


def test_max_lifetime_replaces_idle_workers_too(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--max-lifetime", "1", workers=2)
    first = pids(fleet.workers())
    fleet.wait_workers(other_than(first), "both were replaced")
    assert set(recycled(fleet, "it served for")) == {0, 1}
    wait_until(
        lambda: all(f"lifespan of {pid} is over" in fleet.output for pid in first), "they ended in order"
    )


def test_a_worker_that_grows_beyond_its_limit_is_replaced(fleet: Fleet) -> None:
    fleet.serve("growing:app", "--max-worker-memory", "64M", workers=2)
    before = fleet.workers()
    with httpx.Client(base_url=fleet.url, timeout=20, trust_env=False) as client:
        grown = client.get("/grow").json()["pid"]
        for _ in range(3):
            assert client.get("/grow").json()["pid"] == grown, "one connection, one worker"

        def replaced() -> bool:
            return client.get("/").json()["pid"] != grown

        wait_until(replaced, "the connection moved on to another worker")
    after = fleet.wait_workers(
        lambda workers: len(workers) == 2 and grown not in pids(workers), "the large worker has gone"
    )
    assert len(pids(before) & pids(after)) == 1, "the small one stays"
    fleet.wait_line(RECYCLED + r"it has \d+ MiB of unshared memory")


def test_a_worker_beyond_the_hard_limit_does_not_wait_for_its_successor(fleet: Fleet) -> None:
    fleet.serve("growing:app", "--max-worker-memory-hard", "64M", workers=2)
    fleet.expect_log("leaves by itself", "leaving: it has")
    with httpx.Client(base_url=fleet.url, timeout=20, trust_env=False) as client:
        grown = client.get("/grow").json()["pid"]
        for _ in range(3):
            client.get("/grow").raise_for_status()
        wait_until(lambda: client.get("/").json()["pid"] != grown, "the connection moved to another worker")
    fleet.wait_line(r"leaving: it has \d+ MiB of unshared memory, above max-worker-memory-hard")
    fleet.wait_workers(
        lambda workers: len(workers) == 2 and grown not in pids(workers), "the large worker was replaced"
    )


def test_sigterm_to_each_worker_in_turn_fails_no_request(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    with Traffic(fleet) as traffic:
        for _ in range(2):
            for slot in (0, 1):
                victim = fleet.workers()[slot]
                os.kill(victim.pid, signal.SIGTERM)
                fleet.wait_workers(
                    lambda workers, gone=victim.pid: len(workers) == 2 and gone not in pids(workers),
                    "the worker was replaced",
                )
                traffic.wait_for_more(20)
    assert traffic.failures == []
    assert recycled(fleet, "SIGTERM") == {0: 2, 1: 2}


def test_the_successor_is_ready_before_a_terminated_worker_leaves(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    (victim,) = fleet.workers()
    mark = len(fleet.lines)
    os.kill(victim.pid, signal.SIGTERM)
    fleet.wait_workers(
        lambda workers: [w.pid for w in workers if w.pid != victim.pid] and len(workers) == 1, "replaced"
    )
    fleet.stop_cleanly()  # then all is read that was written
    told = [line for line in fleet.lines[mark:] if "worker 0 (generation 1)" in line]
    assert "is being replaced: SIGTERM" in told[0]
    assert "is ready" in told[1]


def test_a_second_sigterm_makes_a_worker_leave_at_once(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    fleet.expect_log("WARNING.*leav")
    (victim,) = fleet.workers()
    fleet.send(signal.SIGSTOP)
    try:
        os.kill(victim.pid, signal.SIGTERM)
        fleet.wait_line("SIGTERM: serving until the master has a replacement")
        os.kill(victim.pid, signal.SIGTERM)
        wait_until(lambda: f"lifespan of {victim.pid} is over" in fleet.output, "it left by itself")
    finally:
        fleet.send(signal.SIGCONT)
    fleet.wait_workers(lambda workers: len(workers) == 1 and victim not in workers, "it was replaced")


def test_a_terminated_worker_whose_master_does_not_answer_leaves_by_itself(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    fleet.expect_log("WARNING.*leav")
    (victim,) = fleet.workers()
    fleet.send(signal.SIGSTOP)
    try:
        os.kill(victim.pid, signal.SIGTERM)
        with fleet.client() as client:
            assert client.get("/").status_code == 200, "it serves until it loses its patience"
        wait_until(lambda: f"lifespan of {victim.pid} is over" in fleet.output, "it left by itself")
    finally:
        fleet.send(signal.SIGCONT)
    fleet.wait_workers(lambda workers: len(workers) == 1 and victim not in workers, "it was replaced")


def test_a_worker_whose_application_closed_its_channel_can_still_be_terminated(fleet: Fleet) -> None:
    fleet.serve_source(CLOSES_DESCRIPTORS, workers=1)
    fleet.expect_log("WARNING.*leav", "ERROR.*worker 0 .*exit status 0")
    (victim,) = fleet.workers()
    with httpx.Client(base_url=fleet.url, timeout=20, trust_env=False) as client:
        assert client.get("/").json() > 0
    os.kill(victim.pid, signal.SIGTERM)
    fleet.wait_workers(lambda workers: len(workers) == 1 and victim not in workers, "it was replaced")


def test_the_application_sees_its_slot_and_generation(fleet: Fleet) -> None:
    fleet.serve("growing:app", workers=1)
    with fleet.client() as client:
        assert client.get("/").json()["state"] == {"worker": 0, "generation": 1}
