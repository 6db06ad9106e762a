"""Whatever an application is told is made of ASGI's own types, and of none that is derived from them."""

import asyncio

import pytest

from asgi_master.http.forwarded import Forwarded
from asgi_master.http.limits import WebSocketLimits
from asgi_master.settings.model import TlsSettings
from asgi_master.tls.bundle import read_bundle
from asgi_master.worker.lifespan import Lifespan
from asgi_master.worker.transport.endpoints import trust_of
from asgi_master.worker.transport.tls import TlsServer
from certificates import Authority, put
from http_apps import respond
from http_client import Client, request
from serving import VARIANTS, serve
from websocket_peer import BINARY, FIN, TEXT, Peer, close_frame, frame

AUTHORITY = Authority()

SCALARS = {str, bytes, int, float, bool, type(None)}


def odd(value, where):
    """Where there is a value of another type."""
    if type(value) is dict:
        return [
            found for key, each in value.items() for found in odd(key, where) + odd(each, f"{where}.{key}")
        ]
    if type(value) in (list, tuple):
        return [found for index, each in enumerate(value) for found in odd(each, f"{where}[{index}]")]
    return [] if type(value) in SCALARS else [f"{where}: {type(value).__name__} {value!r}"]


class Told:
    """An application that keeps what it is told, until there is no more to hear."""

    def __init__(self, *, closes=None):
        self.all = []
        self._closes = closes

    async def __call__(self, scope, receive, send):
        self.all.append({key: value for key, value in scope.items() if key != "state"})
        assert type(scope["state"]) is dict
        if scope["type"] == "http":
            await self._hear(receive, lambda message: message.get("more_body"))
            await respond(send)
            await self._hear(receive, lambda _message: False)
            return
        await self._hear(receive, lambda _message: False)
        if self._closes == "refuse":
            await send({"type": "websocket.close"})
        else:
            await send({"type": "websocket.accept"})
        if self._closes == "close":
            await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        await self._hear(receive, lambda message: message["type"] == "websocket.receive")

    async def _hear(self, receive, goes_on):
        self.all.append(await receive())
        while goes_on(self.all[-1]):
            self.all.append(await receive())

    def odd(self):
        assert self.all
        return [found for told in self.all for found in odd(told, told["type"])]


def ask(client):
    client.send(request("POST", "/a%20b?q", "Content-Length: 5") + b"hello")
    assert client.response().status == 200
    client.send(request("POST", "/", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n")
    assert client.response().status == 200
    client.send(request("OPTIONS", "*", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"))
    assert client.response().status == 200
    client.send(request("GET", "/", "Connection: close"))
    assert client.response().status == 200


@pytest.mark.parametrize("over", ["tcp", "unix", "forwarded", "tls"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_requests(variant, over, tmp_path):
    options = {}
    if over == "unix":
        options["path"] = str(tmp_path / "socket")
    elif over == "forwarded":
        options["forwarded"] = Forwarded(trust_of(["127.0.0.1"]), prefix=True)
    elif over == "tls":
        AUTHORITY.write(tmp_path, "site", "localhost")
        put(tmp_path / "ca.pem", AUTHORITY.pem)
        settings = TlsSettings(
            certfile=("site.pem",), keyfile=("site.key",), ca_certs="ca.pem", client_cert="required"
        )
        options["tls"] = TlsServer(settings, read_bundle(settings, tmp_path).to_memory())
    told = Told()
    with serve(told, root_path="/mount", **options, **variant) as server:
        if over == "tls":
            ask(Client(server.connect_tls(AUTHORITY.client(AUTHORITY.issue("client")))))
        else:
            ask(server.client())
        server.wait_until(lambda: not server.context.connections)
    assert told.odd() == []


@pytest.mark.parametrize("ends", ["close", "refuse", "code", "no code", "reset", "error", "drain", "silence"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_websockets(variant, ends):
    told = Told(closes=ends)
    pings = {"ping_interval": 0.05, "ping_timeout": 0.05} if ends == "silence" else {}
    with serve(told, websocket=WebSocketLimits(close_timeout=0.1, **pings), **variant) as server:
        with Peer(server.connect()) as peer:
            if ends == "refuse":
                peer.send(b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n")
                peer.send(b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nsec-websocket-version: 13\r\n\r\n")
                peer.read_head()
            else:
                peer.open(b"sec-websocket-protocol: chat, soap")
                peer.send(frame(FIN | TEXT, b"text") + frame(FIN | BINARY, b"bytes"))
            match ends:
                case "code":
                    peer.send(close_frame(1001, "going"))
                case "no code":
                    peer.send(b"\x88\x80\0\0\0\0")
                case "reset":
                    server.wait_until(lambda: told.all[-1].get("bytes"))
                    peer.reset()
                case "error":
                    peer.send(b"\x81\x01x")
                case "drain":
                    server.run(lambda: [each.drain() for each in list(server.context.connections)])
            if ends != "reset":
                peer.read_to_end()
        server.wait_until(lambda: not server.context.connections)
    assert told.odd() == []


def test_lifespan():
    told = []

    async def app(scope, receive, send):
        told.append({key: value for key, value in scope.items() if key != "state"})
        for phase in ("startup", "shutdown"):
            told.append(await receive())
            await send({"type": f"lifespan.{phase}.complete"})

    async def live():
        lifespan = Lifespan(app, mode="on", startup_timeout=10, shutdown_timeout=10)
        await lifespan.start()
        await lifespan.stop()

    asyncio.run(live())
    assert [message["type"] for message in told] == ["lifespan", "lifespan.startup", "lifespan.shutdown"]
    assert [found for each in told for found in odd(each, each["type"])] == []
