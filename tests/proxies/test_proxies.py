"""asgi-master behind nginx and haproxy: what passes, whose it is, and that reloads lose nothing."""

import asyncio
import hashlib
import http.client
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from websockets.sync.client import connect

from apps import holding
from certificates import Authority
from fleet import PATIENCE, Fleet, wait_until
from mixed_clients import MixedClients
from proxies import Proxies, TwoHosts, find, run

CLIENT = "127.0.0.3"
"""The proxies' own address is 127.0.0.1."""
FORGED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=6.6.6.6;proto=https",
    "X-Forwarded-Host": "forged.example",
    "X-Forwarded-Port": "6666",
    "X-Forwarded-Prefix": "/forged",
    "X-Forwarded-Scheme": "https",
    "X-Forwarded-Ssl": "on",
    "X-Real-IP": "6.6.6.6",
}
WORKERS = 2
RELOADS = int(os.environ.get("DRILL_RELOADS", "1"))
TCP = ("--forwarded-allow-ips", "127.0.0.1")
UNIX = ("--forwarded-allow-ips", "unix")
PROXY = ("--proxy-protocol", "--proxy-protocol-allow-ips", "127.0.0.1")
PROXY_UNIX = ("--proxy-protocol", "--proxy-protocol-allow-ips", "unix")


@dataclass(frozen=True)
class Way:
    """One way to stand behind a proxy."""

    start: Callable[[Proxies, list[str], str], None]
    arguments: tuple[str, ...]
    """Of asgi-master."""
    server: str
    """The application, as the proxy names it."""

    @property
    def passes_through(self) -> bool:
        return self.start is Proxies.passthrough


WAYS = {
    "nginx": Way(Proxies.nginx, TCP, "127.0.0.1:{port}"),
    "nginx-unix": Way(Proxies.nginx, UNIX, "unix:{place}/app.sock"),
    "haproxy": Way(Proxies.haproxy, TCP, "127.0.0.1:{port}"),
    "haproxy-unix": Way(Proxies.haproxy, UNIX, "unix@{place}/app.sock"),
    "proxy-v1": Way(Proxies.passthrough, PROXY, "127.0.0.1:{port} send-proxy check inter 50ms"),
    "proxy-v2": Way(Proxies.passthrough, PROXY, "127.0.0.1:{port} send-proxy-v2 check inter 50ms"),
    "proxy-v2-unix": Way(Proxies.passthrough, PROXY_UNIX, "unix@{place}/app.sock send-proxy-v2"),
}


@pytest.fixture(params=WAYS)
def way(request) -> Way:
    return WAYS[request.param]


OTHERS_DIRECTORY = "can be replaced by others"
"""What root is warned of: the proxies' user owns the directory of the socket."""


def serve(fleet: Fleet, proxies: Proxies, way: Way, *arguments: str) -> int:
    """Serve behind the proxy; returns its port."""
    bind, port = "127.0.0.1:0", 0
    if "unix" in way.server:
        bind = f"unix:{proxies.place}/app.sock"
        fleet.expect_log(OTHERS_DIRECTORY)
        arguments += ("--uds-mode", "666")
    fleet.serve("proxied:app", *way.arguments, *arguments, workers=WORKERS, bind=bind)
    if "unix" not in way.server:
        port = fleet.port
    front = proxies.port()
    way.start(proxies, [f"127.0.0.1:{front}"], way.server.format(port=port, place=proxies.place))
    proxies.wait_listening(front)
    return front


def ask(connection: http.client.HTTPConnection, path: str, headers=None) -> dict:
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    assert response.status == 200
    return json.loads(response.read())


def forged(seen: dict) -> set[tuple[str, str]]:
    """The fields that the application saw just as the client sent them; of a list, its entries."""
    sent = {(name.lower(), value) for name, value in FORGED.items()}
    return sent & {(name, entry.strip()) for name, value in seen["headers"] for entry in value.split(",")}


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(CLIENT, 0))


def test_what_passes(fleet: Fleet, proxies: Proxies, way: Way) -> None:
    port = serve(fleet, proxies, way, "--access-log")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE, source_address=(CLIENT, 0))
    connection.connect()
    source_port = connection.sock.getsockname()[1]

    # Whose it is, whatever the client says; again on the same connection.
    for headers in (FORGED, {}):
        seen = ask(connection, "/seen", headers)
        assert seen["client"] == [CLIENT, source_port if way.passes_through else 0]
        assert seen["scheme"] == "http"
        if way.passes_through:
            assert seen["server"] == ["127.0.0.1", port]
        else:
            assert forged(seen) <= {("x-forwarded-for", "6.6.6.6")}, "where it counts for nothing"
    wait_until(lambda: [line for line in fleet.output if line.startswith(f"{CLIENT} ")], "the access log")

    # A stream, as it is written.
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.readline() == b"data: first\n"
    holding.release(fleet.directory, "events")
    assert response.read() == b"\ndata: second\n\n"

    # A large body.
    body = bytes(range(256)) * 64 * 1024
    connection.request("POST", "/upload", body)
    uploaded = json.loads(connection.getresponse().read())
    assert uploaded == {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
    connection.close()

    _ask_without_a_host(port)
    _ask_for_permission(port)
    _talk_by_websocket(port)


def _ask_without_a_host(port: int) -> None:
    """As HTTP/1.0 allows, and some health checks still do."""
    with connected(port) as sock, sock.makefile("rb") as file:
        sock.sendall(b"GET /seen HTTP/1.0\r\n\r\n")
        assert file.readline().split()[1] == b"200"


def _ask_for_permission(port: int) -> None:
    with connected(port) as sock, sock.makefile("rb") as file:
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert file.readline().startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"hello")
        answer = file.read()
        assert b"HTTP/1.1 200 " in answer
        assert b"hello" in answer


def _talk_by_websocket(port: int) -> None:
    headers = {"X-Forwarded-For": "6.6.6.6"}
    with connect(
        f"ws://127.0.0.1:{port}/whose", sock=connected(port), additional_headers=headers
    ) as websocket:
        (address, _port), scheme = json.loads(websocket.recv(PATIENCE))
        assert (address, scheme) == (CLIENT, "ws")
        for message in ("hello", bytes(200_000)):
            websocket.send(message)
            assert websocket.recv(PATIENCE) == message


def test_nginx_limits_bodies(fleet: Fleet, proxies: Proxies) -> None:
    port = serve(fleet, proxies, WAYS["nginx"])
    with connected(port) as sock, sock.makefile("rb") as file:
        sock.sendall(
            b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (32 * 1024 * 1024 + 1)
        )
        assert file.readline().startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_no_client_spoils_the_connection_for_the_next(fleet: Fleet, proxies: Proxies, name: str) -> None:
    """The proxy's connections to us are shared by its clients, whatever those say of their own."""
    port = serve(fleet, proxies, WAYS[name])
    for value in ("close", "upgrade", "keep-alive, close"):
        for headers in ({"Proxy-Connection": value}, {"Proxy-Connection": value, "Upgrade": "x"}, {}):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            assert ask(connection, "/seen", headers)["scheme"] == "http"
            connection.close()


@pytest.mark.timeout(60 + 20 * RELOADS)
@pytest.mark.parametrize("name", ["nginx", "haproxy", "proxy-v2"])
def test_a_reload_behind_a_proxy_loses_nothing(fleet: Fleet, proxies: Proxies, name: str) -> None:
    way = WAYS[name]
    port = serve(fleet, proxies, way)
    # What nginx listens on here speaks HTTP/1.1 alone.
    clients = MixedClients(port, http2=name != "nginx", silence=1.5, pause=0.01)
    silent = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE, source_address=(CLIENT, 0))
    before = ask(silent, "/seen")["client"]

    async def reload() -> None:
        for number in range(RELOADS):
            fleet.send(signal.SIGHUP)
            committed = rf"reloaded: {WORKERS} workers serving generation {number + 2}\b"
            await asyncio.to_thread(fleet.wait_line, committed, 2 * PATIENCE)
            assert not clients.failures, clients.failures

    asyncio.run(clients.run_while(reload()))
    assert not clients.failures
    assert len(clients.answers) >= 6, f"some kind of client had no answer: {clients.answers}"
    # Behind the PROXY protocol this is the same connection, in another worker.
    assert ask(silent, "/seen")["client"] == before
    silent.close()
    print(f"{RELOADS} reload(s) behind {name}, no failure: {dict(clients.answers)}")


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_tls_passes_through_to_us(fleet: Fleet, proxies: Proxies, version: str) -> None:
    """The proxy ends no TLS; its checks, which speak none, are not worth a word."""
    authority = Authority()
    authority.write(fleet.directory, "site")
    fleet.serve(
        "proxied:app", *PROXY, "--certfile", "site.pem", "--keyfile", "site.key", bind="https://127.0.0.1:0"
    )
    front = proxies.port()
    proxies.passthrough([f"127.0.0.1:{front}"], f"127.0.0.1:{fleet.port} {version} check inter 20ms")
    proxies.wait_listening(front)
    raw = connected(front)
    client = list(raw.getsockname())
    connection = http.client.HTTPSConnection("localhost", front, timeout=PATIENCE)
    connection.sock = authority.client().wrap_socket(raw, server_hostname="localhost")
    seen = ask(connection, "/seen", FORGED)
    assert (seen["client"], seen["server"], seen["scheme"]) == (client, ["127.0.0.1", front], "https")
    connection.close()


def test_haproxy_asks_the_master_whether_it_is_ready(fleet: Fleet, proxies: Proxies) -> None:
    port, admin, front = proxies.port(), proxies.port(), proxies.port()
    proxies.haproxy([f"127.0.0.1:{front}"], f"127.0.0.1:{port} check port {admin} inter 50ms fall 3 rise 1")
    wait_until(lambda: "Server asgi_master/app is DOWN" in proxies.log, "haproxy finds nobody")
    fleet.serve("proxied:app", *TCP, "--admin-bind", f"127.0.0.1:{admin}", bind=f"127.0.0.1:{port}")
    wait_until(lambda: "Server asgi_master/app is UP" in proxies.log, "haproxy finds the application")
    connection = http.client.HTTPConnection("127.0.0.1", front, timeout=PATIENCE, source_address=(CLIENT, 0))
    assert ask(connection, "/seen")["client"] == [CLIENT, 0]
    connection.close()
    fleet.stop()
    wait_until(lambda: "is DOWN" in proxies.log.rpartition("is UP")[2], "haproxy sees that it left")


@pytest.mark.parametrize("name", ["nginx-unix", "haproxy-unix", "proxy-v2-unix"])
def test_clients_on_another_host(fleet: Fleet, proxies: Proxies, two_hosts: TwoHosts, name: str) -> None:
    """The proxy on one host of a private network, a client on the other; IPv4 and IPv6."""
    way = WAYS[name]
    fleet.expect_log(OTHERS_DIRECTORY)
    fleet.serve(
        "proxied:app", *way.arguments, "--uds-mode", "666", bind=f"unix:{proxies.place}/app.sock", workers=1
    )
    proxies.into = two_hosts.on_front
    listen = [f"{two_hosts.FRONT}:8080", f"[{two_hosts.FRONT_6}]:8080"]
    way.start(proxies, listen, way.server.format(place=proxies.place))
    for front, client in (
        (two_hosts.FRONT, two_hosts.CLIENT),
        (f"[{two_hosts.FRONT_6}]", two_hosts.CLIENT_6),
    ):
        ask = [*two_hosts.on_client, find("curl"), "-sfS", "-m", "5", "-H", "X-Forwarded-For: 6.6.6.6"]
        answer = wait_until(
            lambda ask=ask, front=front: run(*ask, f"http://{front}:8080/seen"), "an answer from the proxy"
        )
        assert json.loads(answer)["client"][0] == client
