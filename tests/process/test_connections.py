"""Who gets which connection: the limit per worker, and an even load."""

import json
import select
import socket
import sys
from collections import Counter

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
    few = ("sh", "-c", 'ulimit -n 128 && exec "$@"', "sh")
    fleet.serve("probe:app", workers=1, program=(*few, sys.executable, "-m", "asgi_master"))
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
    fleet.expect_log("WARNING.*the event loop (is stuck|was blocked)")
    with RawConnection(fleet.port) as blocking:
        blocking.send(b"GET /block HTTP/1.1\r\nHost: test\r\n\r\n")
        fleet.wait_blocked()
        connections = [RawConnection(fleet.port) for _ in range(20)]
        pids = {json.loads(connection.ask())["pid"] for connection in connections}
        for connection in connections:
            connection.close()
        assert len(pids) == 1
        fleet.unblock()
        assert blocking.read_answer() == b"unblocked\n"
