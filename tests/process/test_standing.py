"""An idle connection whose worker leaves keeps what it was: it is closed by its own time-out, no sooner."""

import json
import select
import signal
import time

import pytest

from fleet import PATIENCE, Fleet, wait_until
from traffic import RawConnection

pytestmark = pytest.mark.newest_python

HEADER_TIMEOUT, KEEP_ALIVE_TIMEOUT = 2, 8
SETTINGS = (
    "--header-timeout", str(HEADER_TIMEOUT), "--keep-alive-timeout", str(KEEP_ALIVE_TIMEOUT), "--watch-time", "0",
)  # fmt: skip


class Idle:
    """A connection that was asked once, and stays silent from then on."""

    def __init__(self, port: int) -> None:
        self.connection = RawConnection(port)
        self._asked = time.monotonic()
        self.worker = json.loads(self.connection.ask("/who"))

    def is_open(self) -> bool:
        return not select.select([self.connection], [], [], 0)[0]

    def assert_keeps_its_time(self) -> None:
        """Its client sees no end before the time-out, and one after it."""
        wait_until(lambda: not self.is_open(), "it is closed", KEEP_ALIVE_TIMEOUT + PATIENCE)
        lived = time.monotonic() - self._asked
        assert self.connection._socket.recv(1) == b"", "an orderly end"
        assert lived >= KEEP_ALIVE_TIMEOUT, f"closed after {lived:.1f} s"
        self.connection.close()


@pytest.mark.parametrize("how", ["reload", "upgrade", "recycling"])
def test_all_connections_of_workers_that_are_replaced(fleet: Fleet, how: str) -> None:
    recycling = ("--max-requests", "5", "--max-requests-jitter", "0") if how == "recycling" else ()
    fleet.serve("probe:app", *SETTINGS, *recycling, workers=1)
    (before,) = fleet.workers()
    idle = [Idle(fleet.port) for _ in range(5)]
    if how != "recycling":
        fleet.send(signal.SIGHUP if how == "reload" else signal.SIGUSR2)
    fleet.wait_workers(
        lambda workers: len(workers) == 1 and workers[0].pid != before.pid, "another worker serves"
    )
    for one in idle:
        one.assert_keeps_its_time()


def test_connections_of_a_slot_that_is_given_up(fleet: Fleet) -> None:
    fleet.serve("probe:app", *SETTINGS, workers=2)
    leaving = fleet.workers()[1]
    idle: list[Idle] = []

    def in_the_leaving_one() -> list[Idle]:
        idle.append(Idle(fleet.port))
        return [one for one in idle if one.worker["pid"] == leaving.pid]

    moving = wait_until(in_the_leaving_one, "the worker has a connection")
    fleet.send(signal.SIGTTOU)
    fleet.wait_workers(lambda workers: len(workers) == 1, "one worker is left")
    for one in [*moving, *(one for one in idle if one not in moving)]:
        one.assert_keeps_its_time()
