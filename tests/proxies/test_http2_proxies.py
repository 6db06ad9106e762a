"""asgi-master behind proxies that speak HTTP/2 to it: what passes, whose it is, and that reloads lose nothing."""

import asyncio
import http.client
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from apps import holding
from certificates import Authority
from fleet import PATIENCE, Fleet
from proxies import Proxies

CLIENT = "127.0.0.3"
"""The proxies' own address is 127.0.0.1."""
WORKERS = 2
CLIENTS = 8


@dataclass(frozen=True)
class Way:
    start: Callable[[Proxies, list[str], str], None]
    server: str
    scheme: str = "http"


WAYS = {
    "haproxy": Way(Proxies.haproxy, "127.0.0.1:{port} proto h2"),
    "haproxy-tls": Way(Proxies.haproxy, "127.0.0.1:{port} ssl verify none alpn h2", "https"),
    "nginx": Way(Proxies.nginx_grpc, "127.0.0.1:{port}"),
}


@pytest.fixture(params=WAYS)
def front(request, fleet: Fleet, proxies: Proxies) -> int:
    """The port of the proxy."""
    way = WAYS[request.param]
    tls: tuple[str, ...] = ()
    bind = "127.0.0.1:0"
    if way.scheme == "https":
        Authority().write(fleet.directory, "site")
        bind = f"https://{bind}"
        tls = ("--certfile", "site.pem", "--keyfile", "site.key")
    trust = ("--forwarded-allow-ips", "127.0.0.1", "--access-log")
    fleet.serve("proxied:app", *trust, *tls, workers=WORKERS, bind=bind)
    port = proxies.port()
    way.start(proxies, [f"127.0.0.1:{port}"], way.server.format(port=fleet.port))
    proxies.wait_listening(port)
    return port


def test_what_passes(fleet: Fleet, front: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", front, timeout=PATIENCE, source_address=(CLIENT, 0))
    for _ in range(20):
        connection.request("GET", "/seen", headers={"X-Forwarded-For": "6.6.6.6"})
        seen = json.loads(connection.getresponse().read())
        assert (seen["client"], seen["scheme"]) == ([CLIENT, 0], "http")
    connection.request("POST", "/upload", bytes(4_000_000))
    assert json.loads(connection.getresponse().read())["bytes"] == 4_000_000
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.readline() == b"data: first\n"
    holding.release(fleet.directory, "events")
    assert response.read() == b"\ndata: second\n\n"
    connection.close()
    fleet.stop()
    assert sum("/seen HTTP/2" in line for line in fleet.output) == 20


def test_a_reload_loses_nothing(fleet: Fleet, front: int) -> None:
    stopped, answers = False, 0

    def ask(number: int) -> None:
        nonlocal answers
        connection = http.client.HTTPConnection("127.0.0.1", front, timeout=PATIENCE)
        while not stopped:
            if number % 2:
                connection.request("POST", "/upload", bytes(1000))
            else:
                connection.request("GET", "/seen")
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            answers += 1
        connection.close()

    async def reload() -> None:
        nonlocal stopped
        clients = [asyncio.create_task(asyncio.to_thread(ask, number)) for number in range(CLIENTS)]
        try:
            fleet.send(signal.SIGHUP)
            committed = rf"reloaded: {WORKERS} workers serving generation 2\b"
            await asyncio.to_thread(fleet.wait_line, committed, 2 * PATIENCE)
        finally:
            stopped = True
            await asyncio.gather(*clients)

    asyncio.run(reload())
    assert answers > CLIENTS
