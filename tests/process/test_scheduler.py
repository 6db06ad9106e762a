"""The how-to page's scheduler, as it stands there: one process runs it at a time, whatever replaces the workers."""

import contextlib
import itertools
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import PATIENCE, Fleet, wait_until
from traffic import Traffic

pytestmark = pytest.mark.newest_python

PAGE = Path(__file__).parents[2] / "docs/howto/scheduler.md"
APP = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def do_what_is_due():
    with open("ticks", "a") as ticks:
        ticks.write(f"{os.getpid()}\\n")

async def who(request):
    return JSONResponse({"generation": os.environ["ASGI_MASTER_GENERATION"]})

async def held(request):
    await request.body()
    return JSONResponse({})

app = Starlette(lifespan=lifespan, routes=[Route("/who", who), Route("/held", held, methods=["POST"])])
"""
ARGUMENTS = ("--watch-time", "0", "--drain-timeout", "20")


def serve(fleet: Fleet, *arguments: str, workers: int = 2) -> Fleet:
    pytest.importorskip("starlette")
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    env = {"SCHEDULER_LOCK": str(fleet.directory / "lock"), "SCHEDULER_PERIOD": "0.01"}
    return fleet.serve_source(example + APP, *ARGUMENTS, *arguments, workers=workers, env=env)


def ticks(fleet: Fleet) -> list[int]:
    """Who ticked, in that order."""
    path = fleet.directory / "ticks"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_for_ticks_of(fleet: Fleet, pids: set[int]) -> int:
    """Until the last tick is of one of these; returns whose."""

    def last() -> int | None:
        seen = ticks(fleet)
        return seen[-1] if seen and seen[-1] in pids else None

    return wait_until(last, "one of the workers schedules")


def assert_one_at_a_time(fleet: Fleet) -> list[int]:
    """Who ticked has done so without a break by another; returns each once."""
    holders = [pid for pid, _ in itertools.groupby(ticks(fleet))]
    assert len(holders) == len(set(holders)), "two ticked at a time"
    return holders


@contextlib.contextmanager
def asking(fleet: Fleet) -> Iterator[None]:
    """A request that lasts as long as this: the rest of its body comes then."""
    with socket.create_connection(("127.0.0.1", fleet.port), PATIENCE) as sock:
        sock.sendall(b"POST /held HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 "), "the application waits for it"
        yield
        sock.sendall(b"x")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_reloads_with_a_slow_request_in_flight(fleet: Fleet) -> None:
    serve(fleet)
    wait_for_ticks_of(fleet, {worker.pid for worker in fleet.workers()})
    for generation in range(2, 5):
        with contextlib.ExitStack() as held:
            for _ in range(6):
                held.enter_context(asking(fleet))
            fleet.send(signal.SIGHUP)
            new = fleet.wait_workers(
                lambda seen, g=generation: sum(w.generation == g for w in seen) == 2, "two successors"
            )
            before = len(ticks(fleet))
            wait_until(lambda before=before: len(ticks(fleet)) > before + 20, "it goes on meanwhile")
        wait_for_ticks_of(fleet, {worker.pid for worker in new if worker.generation == generation})
        fleet.wait_settled(2)
    assert len(assert_one_at_a_time(fleet)) >= 4
    fleet.stop_cleanly()


def test_recycling_under_traffic(fleet: Fleet) -> None:
    serve(fleet, "--max-requests", "100")
    first = wait_for_ticks_of(fleet, {worker.pid for worker in fleet.workers()})
    with Traffic(fleet, clients=2) as traffic:
        wait_until(
            lambda: len(set(ticks(fleet))) >= 3 and ticks(fleet)[-1] != first, "three workers had their turn"
        )
    assert traffic.failures == []
    assert_one_at_a_time(fleet)


def test_a_killed_worker_is_followed(fleet: Fleet) -> None:
    serve(fleet)
    workers = {worker.pid for worker in fleet.workers()}
    holder = wait_for_ticks_of(fleet, workers)
    fleet.expect_log(r"died|killed")
    os.kill(holder, signal.SIGKILL)
    wait_until(lambda: ticks(fleet)[-1] != holder, "another goes on")
    assert_one_at_a_time(fleet)
