"""Who gets which connection: the limit per worker, and an even load."""

import json
import os
import select
import signal
import socket
from collections import Counter
from collections.abc import Callable

import pytest

from descriptor_limit import fewer_descriptors
from fleet import PATIENCE, Fleet
from traffic import RawConnection


def test_connections_beyond_the_limit_wait_in_the_kernel(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--max-connections", "2", workers=1)
    with RawConnection(fleet.port) as first, RawConnection(fleet.port) as second:
        first.ask()
        second.ask()
        with socket.create_connection(("127.0.0.1", fleet.port), PATIENCE) as third:
            third.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            for _ in range(20):
                # The worker turns, and still leaves the third where it is.
                first.ask()
                second.ask()
            assert select.select([third], [], [], 0)[0] == []
            second.close()
            assert third.recv(100).startswith(b"HTTP/1.1 200")


def test_by_default_connections_leave_descriptors_to_live_with(fleet: Fleet) -> None:
    """More than the process may have open come, and nothing fails: they wait in the kernel."""
    with fewer_descriptors(128):
        fleet.serve("probe:app", workers=1)
    clients = [socket.create_connection(("127.0.0.1", fleet.port), PATIENCE) for _ in range(150)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    for client in clients:
        with client:
            assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_kept_connections_spread_over_the_workers(fleet: Fleet) -> None:
    fleet.serve(workers=4)
    connections: list[RawConnection] = []
    load: Counter[int] = Counter()
    for _ in range(40):
        # Not all in one burst: on a busy host that may be over before a worker had its turn (ADR 3).
        connections.append(RawConnection(fleet.port))
        load[json.loads(connections[-1].ask())["pid"]] += 1
    for connection in connections:
        connection.close()
    assert len(load) == 4
    assert max(load.values()) <= 2 * (40 / 4), load


def test_a_stalled_worker_does_not_keep_connections_from_the_others(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    fleet.expect_log("WARNING.*the event loop is stuck")
    with RawConnection(fleet.port) as blocking:
        blocking.send(b"GET /block?seconds=3 HTTP/1.1\r\nHost: test\r\n\r\n")
        fleet.wait_blocked()
        connections = [RawConnection(fleet.port) for _ in range(20)]
        pids = {json.loads(connection.ask())["pid"] for connection in connections}
        for connection in connections:
            connection.close()
        assert len(pids) == 1
        assert blocking.read_answer() == b"unblocked\n"


# -- what was served before may be idle for long, in whichever worker ------------------------------------


def reload(fleet: Fleet) -> None:
    fleet.send(signal.SIGHUP)
    fleet.wait_line("reloaded: 3 workers serving")


def scale_down(fleet: Fleet) -> None:
    fleet.send(signal.SIGTTOU)


def recycle(fleet: Fleet) -> None:
    for worker in fleet.workers():
        os.kill(worker.pid, signal.SIGTERM)


def upgrade(fleet: Fleet) -> None:
    fleet.send(signal.SIGUSR2)
    fleet.wait_line("reloaded: 3 workers serving", 2 * PATIENCE)


@pytest.mark.parametrize("move", [reload, scale_down, recycle, upgrade])
def test_a_connection_that_moves_may_be_idle_as_long_as_before(
    fleet: Fleet, move: Callable[[Fleet], None]
) -> None:
    fleet.serve("probe:app", "--header-timeout", "1", "--keep-alive-timeout", "60", workers=3)
    before = {worker.pid for worker in fleet.workers()}
    last = fleet.workers()[-1].pid
    connections = [RawConnection(fleet.port) for _ in range(9)]
    for connection in connections:
        connection.ask()
    move(fleet)
    left = before if move is not scale_down else {last}
    fleet.wait_workers(lambda workers: not left & {worker.pid for worker in workers}, "they have left")
    # As long as an unused one lives, and two looks of the worker.
    assert select.select(connections, [], [], 3.5)[0] == [], "closed though it may be idle"
    pids = {json.loads(connection.ask())["pid"] for connection in connections}
    assert pids <= {worker.pid for worker in fleet.workers()}
    for connection in connections:
        connection.close()
