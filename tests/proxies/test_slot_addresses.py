"""Proxies that know where sessions are, with an address for each slot: the shipped configurations."""

import os
import signal
from collections.abc import Callable

import httpx
import pytest

from fleet import Fleet
from proxies import Proxies


@pytest.mark.parametrize("start", [Proxies.nginx_by_slot, Proxies.haproxy_by_slot])
def test_sessions_stay(fleet: Fleet, proxies: Proxies, start: Callable[[Proxies, list[str]], None]) -> None:
    fleet.expect_log("WARNING.*can be replaced by others")  # as nobody, the proxies write beside the sockets
    fleet.serve(
        "sessions:app",
        *("--bind", f"unix:{proxies.place}/app-{{slot}}.sock", "--uds-mode", "666"),
        *("--forwarded-allow-ips", "unix"),
        workers=4,
    )
    port = proxies.port()
    start(proxies, [f"127.0.0.1:{port}"])
    proxies.wait_listening(port)
    url = f"http://127.0.0.1:{port}"
    visitors = []
    for number in range(12):
        client = httpx.Client(trust_env=False)
        # nginx chooses by the cookie; haproxy sets one.
        client.cookies.set("sid", f"visitor{number}")
        visitors.append((client, client.get(url).json()["pid"]))
    assert len({pid for _client, pid in visitors}) > 1
    fleet.expect_log("died after serving")
    victim = visitors[0][1]
    os.kill(victim, signal.SIGKILL)
    for visit in (2, 3):
        for client, pid in visitors:
            if pid != victim:
                seen = client.get(url).json()
                assert (seen["pid"], seen["visits"]) == (pid, visit)
    fleet.wait_workers(lambda workers: len(workers) == 4, "the successor")
    # The successor serves the same address.
    new = {client.get(url).json()["pid"] for client, pid in visitors if pid == victim}
    assert len(new) == 1
    assert victim not in new
    for client, _pid in visitors:
        client.close()
