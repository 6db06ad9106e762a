"""TLS on a worker's connections: what clients and applications see of it, on both loops and parsers."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import ssl
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_websocket

from asgi_master.settings.model import TlsSettings
from asgi_master.telemetry.access_log import AccessLog
from asgi_master.tls.bundle import read_bundle
from asgi_master.worker.diagnostics.task_dump import dump_tasks
from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.transport.endpoints import trust_of
from asgi_master.worker.transport.tls import TlsServer
from blocking_apps import BlockingApp, is_answered_while_another_holds_the_loop
from certificates import Authority, chain_of, parsed, put
from http_apps import hello, respond
from http_client import Client, request
from serving import TIMEOUT, VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

AUTHORITY = Authority()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    AUTHORITY.write(directory, "site", "localhost")
    AUTHORITY.write(directory, "other", "other.example")
    put(directory / "ca.pem", AUTHORITY.pem)
    return directory


def tls_of(directory, *names, **changes):
    """What a worker has from the master."""
    names = names or ("site",)
    settings = TlsSettings(
        certfile=tuple(f"{name}.pem" for name in names),
        keyfile=tuple(f"{name}.key" for name in names),
        **changes,
    )
    with in_memory(settings, directory) as fd:
        return TlsServer(settings, fd)


@contextlib.contextmanager
def in_memory(settings, directory):
    """The bundle of the settings' files, as the master gives it to a worker."""
    fd = read_bundle(settings, directory).to_memory()
    yield fd
    os.close(fd)


def secured(server, *, context=None, name="localhost"):
    """A client's connection after its handshake; what ends without an end of TLS is an error to it."""
    return server.connect_tls(context or AUTHORITY.client(), name)


async def tell_scope(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        told = {"scheme": scope["scheme"], "extensions": scope["extensions"]}
        await send({"type": "websocket.send", "text": json.dumps(told)})
        return
    told = {
        "scheme": scope["scheme"],
        "tls": scope.get("extensions", {}).get("tls"),
        "client": scope["client"],
    }
    await respond(send, body=json.dumps(told).encode())


def test_the_application_sees_https(variant, directory):
    with serve(tell_scope, tls=tls_of(directory), **variant) as server:
        sock = secured(server)
        told = json.loads(Client(sock).get().body)
        assert told["scheme"] == "https"
        assert told["client"] == list(sock.getsockname())
        assert told["tls"] == {
            "server_cert": chain_of_site(directory),
            "client_cert_chain": [],
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": 0x0304,
            "cipher_suite": {"TLS_AES_256_GCM_SHA384": 0x1302, "TLS_AES_128_GCM_SHA256": 0x1301}[
                sock.cipher()[0]
            ],
        }
        assert server.context.stats.connections == 1


def chain_of_site(directory):
    return (directory / "site.pem").read_text()


def test_what_one_request_changes_another_does_not_see(variant, directory):
    seen = []

    async def app(scope, receive, send):
        seen.append(dict(scope["extensions"]["tls"]))
        scope["extensions"]["tls"]["tls_version"] = "changed"
        await hello(scope, receive, send)

    with serve(app, tls=tls_of(directory), **variant) as server:
        client = Client(secured(server))
        client.get()
        client.get()
        assert seen[0] == seen[1]


def test_what_is_complete_does_not_wait_for_requests_that_hold_the_loop(variant, directory):
    with serve(app := BlockingApp(), tls=tls_of(directory), **variant) as server:
        assert is_answered_while_another_holds_the_loop(app, server, lambda: secured(server))


def test_a_handshake_that_fails_is_in_the_access_log(variant, directory):
    log = AccessLog('%(h)s "%(r)s" %(s)s')
    with serve(hello, tls=tls_of(directory), access_log=log, **variant) as server:
        leaver, plain = server.connect(), server.connect()
        leaver.close()  # as health checks do
        plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(1000):
                pass
        server.wait_until(lambda: not server.context.connections)
        assert log._lines(log.pending) == ['127.0.0.1 "-" 400\n']
        log.pending.clear()


def test_tls_1_2(variant, directory):
    context = AUTHORITY.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serve(tell_scope, tls=tls_of(directory, ciphers="ECDHE+AESGCM"), **variant) as server:
        sock = secured(server, context=context)
        tls = json.loads(Client(sock).get().body)["tls"]
        assert tls["tls_version"] == 0x0303
        assert tls["cipher_suite"] in {0xC02B, 0xC02C}


def test_http_1_1_is_agreed_on_and_http_2_is_not_offered(variant, directory):
    with serve(hello, tls=tls_of(directory), **variant) as server:
        for offered, agreed in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
            context = AUTHORITY.client()
            context.set_alpn_protocols(offered)
            sock = secured(server, context=context)
            assert sock.selected_alpn_protocol() == agreed
            assert Client(sock).get().status == 200


def test_the_certificate_follows_the_name(variant, directory):
    with serve(tell_scope, tls=tls_of(directory, "site", "other"), **variant) as server:
        for name, file in (("other.example", "other.pem"), ("localhost", "site.pem")):
            sock = secured(server, name=name)
            assert json.loads(Client(sock).get().body)["tls"]["server_cert"] == (directory / file).read_text()


def test_certificates_are_exchanged_for_those_who_come_after(variant, directory, tmp_path):
    with serve(tell_scope, tls=(tls := tls_of(directory)), **variant) as server:
        before = Client(secured(server))
        first = json.loads(before.get().body)["tls"]["server_cert"]
        renewed = Authority()
        settings = renewed.write(tmp_path, "site", "localhost")
        with in_memory(settings, tmp_path) as fd:
            server.run(lambda: tls.renew(fd))
        after = Client(secured(server, context=renewed.client()))
        assert json.loads(after.get().body)["tls"]["server_cert"] == (tmp_path / "site.pem").read_text()
        assert json.loads(before.get().body)["tls"]["server_cert"] == first


class TestClientCertificates:
    def test_required(self, variant, directory):
        leaf = AUTHORITY.issue("user@example.com", common_name="Ümit, the user")
        tls = tls_of(directory, client_cert="required", ca_certs="ca.pem")
        with serve(tell_scope, tls=tls, **variant) as server:
            told = json.loads(Client(secured(server, context=AUTHORITY.client(leaf))).get().body)["tls"]
            assert told["client_cert_chain"][0] == chain_of(leaf)
            assert told["client_cert_name"] == parsed(leaf).subject.rfc4514_string()
            assert told["client_cert_error"] is None

    def test_a_chain(self, variant, directory):
        leaf = AUTHORITY.child().issue("user@example.com")
        tls = tls_of(directory, client_cert="required", ca_certs="ca.pem")
        with serve(tell_scope, tls=tls, **variant) as server:
            told = json.loads(Client(secured(server, context=AUTHORITY.client(leaf))).get().body)["tls"]
            sent = [pem.bytes().decode() for pem in leaf.cert_chain_pems]
            assert told["client_cert_chain"] == (sent if sys.version_info >= (3, 13) else sent[:1])

    @pytest.mark.parametrize("kind", ["nobody", "a stranger"])
    def test_who_has_none_that_can_be_verified_is_refused(self, variant, directory, kind):
        stranger = Authority().issue("user@example.com")
        context = AUTHORITY.client(stranger if kind == "a stranger" else None)
        tls = tls_of(directory, client_cert="required", ca_certs="ca.pem")
        with serve(hello, tls=tls, **variant) as server:
            with pytest.raises(OSError):
                # In TLS 1.3 a client learns of it with the first byte it reads.
                Client(secured(server, context=context)).get()
            server.wait_until(lambda: server.context.stats.tls_failures == 1)
            assert server.context.stats.requests == 0

    def test_optional(self, variant, directory):
        leaf = AUTHORITY.issue("user@example.com")
        tls = tls_of(directory, client_cert="optional", ca_certs="ca.pem")
        with serve(tell_scope, tls=tls, **variant) as server:
            without = json.loads(Client(secured(server)).get().body)["tls"]
            assert (without["client_cert_chain"], without["client_cert_name"]) == ([], None)
            told = json.loads(Client(secured(server, context=AUTHORITY.client(leaf))).get().body)["tls"]
            assert told["client_cert_name"] == parsed(leaf).subject.rfc4514_string()
            with pytest.raises(OSError):
                stranger = Authority().issue("user@example.com")
                Client(secured(server, context=AUTHORITY.client(stranger))).get()


def test_websockets(variant, directory):
    with serve(tell_scope, tls=tls_of(directory), **variant) as server:
        # Not the client with threads: two of them on one `SSLSocket` lose what they wait for now and then.
        async def ask() -> Any:
            url = f"wss://localhost:{server.port}/"
            async with connect_websocket(url, ssl=AUTHORITY.client(), proxy=None) as websocket:
                return json.loads(await websocket.recv())

        told = asyncio.run(asyncio.wait_for(ask(), TIMEOUT))
        assert told["scheme"] == "wss"
        assert told["extensions"]["tls"]["tls_version"] == 0x0304
        assert told["extensions"]["websocket.http.response"] == {}


def test_for_whom_its_tasks_run_is_known(variant, directory):
    """As without TLS, of which the loop's callbacks know nothing of ours."""
    begun = []

    async def helper():
        begun.append(True)
        await asyncio.Event().wait()

    async def app(scope, receive, send):
        helping = asyncio.ensure_future(helper())
        try:
            await helping
        finally:
            helping.cancel()

    with serve(app, tls=tls_of(directory), **variant) as server:
        secured(server).sendall(request("GET", "/cart?user=7"))
        server.wait_until(lambda: begun)
        _total, groups = server.run(lambda: dump_tasks(server.loop, 10_000))
    (serves,) = [group.serves for group in groups if group.coroutine.endswith("helper")]
    assert serves == ["GET /cart?user=7"]


def test_large_bodies_both_ways(variant, directory):
    async def echo(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            await send(
                {"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]}
            )
            if not message["more_body"]:
                return

    body = b"0123456789abcdef" * 65536
    with serve(echo, tls=tls_of(directory), **variant) as server:
        client = Client(secured(server))
        client.send(request("POST", "/", f"content-length: {len(body)}"))
        # The server answers while it is asked: a client that does not read would stop it.
        received = b""
        for start in range(0, len(body), 32768):
            client.send(body[start : start + 32768])
        received = client.response().body
        assert received == body


@pytest.mark.parametrize(
    "opening",
    [
        request("GET", "/"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 600,
        b"\x00" * 100,
        b"\x80\x2e\x01\x00\x02",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"\x16\x03\x01\xff\xff" + b"x" * 70000,
    ],
)
def test_what_is_no_handshake_ends_the_connection_alone(variant, directory, opening):
    with serve(hello, tls=tls_of(directory), **variant) as server:
        hostile = server.connect()
        hostile.sendall(opening)
        hostile.shutdown(socket.SHUT_WR)
        try:
            while hostile.recv(4096):
                pass
        except ConnectionResetError:
            pass
        server.wait_until(lambda: server.context.stats.tls_failures == 1)
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.connections == 0
        assert Client(secured(server)).get().status == 200


def test_who_leaves_in_the_handshake_leaves_nothing(variant, directory):
    with serve(hello, tls=tls_of(directory), **variant) as server:
        for _ in range(5):
            server.connect().close()
        server.wait_until(lambda: server.context.stats.tls_failures == 5)
        assert not server.context.connections
        assert server.context.stats.connections == 0


def test_a_slow_handshake_times_out_and_others_do_not_wait_for_it(variant, directory):
    with serve(hello, tls=tls_of(directory, tls_handshake_timeout=0.3), **variant) as server:
        silent, slow = server.connect(), server.connect()
        slow.sendall(b"\x16\x03\x01")
        assert Client(secured(server)).get().status == 200
        for sock in (silent, slow):
            assert sock.recv(1) == b""
        server.wait_until(lambda: server.context.stats.tls_failures == 2)


def test_damaged_records_end_the_connection_alone(variant, directory):
    with serve(hello, tls=tls_of(directory), **variant) as server:
        raw = server.connect()
        sock = AUTHORITY.client().wrap_socket(raw, server_hostname="localhost")
        assert Client(sock).get().status == 200
        with socket.socket(fileno=sock.detach()) as plain:
            plain.settimeout(TIMEOUT)
            plain.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            try:
                while plain.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        server.wait_until(lambda: not server.context.connections)
        assert Client(secured(server)).get().status == 200


class TestEnds:
    def test_a_last_response_is_followed_by_an_end_of_tls(self, variant, directory):
        with serve(hello, tls=tls_of(directory), **variant) as server:
            client = Client(secured(server))
            response = client.get("/", "connection: close")
            assert response.headers["connection"] == "close"
            assert client.sock.recv(1) == b"", "close_notify, not an end of file"

    def test_a_client_that_ends_tls(self, variant, directory):
        with serve(hello, tls=tls_of(directory), **variant) as server:
            sock = secured(server)
            assert Client(sock).get().status == 200
            sock.unwrap().close()
            server.wait_until(lambda: not server.context.connections)

    def test_a_request_and_the_end_of_tls_in_one_segment(self, variant, directory):
        """Each direction has an end of its own. This client, that of OpenSSL, cannot read what comes: it is counted."""

        def received_after(*sent: bytes) -> int:
            raw, received = server.connect(), 0
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = AUTHORITY.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    incoming.write(raw.recv(65536))
            raw.sendall(outgoing.read())
            server.wait_until(lambda: any(isinstance(c, H1Connection) for c in server.context.connections))
            for data in sent:
                tls.write(data)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.unwrap()
            raw.sendall(outgoing.read())
            while piece := raw.recv(65536):
                received += len(piece)
            return received

        with serve(hello, tls=tls_of(directory), **variant) as server:
            assert received_after(request("GET", "/")) > received_after() + 100

    def test_a_client_that_ends_tls_within_a_request(self, variant, directory):
        ended = []

        async def app(scope, receive, send):
            await receive()
            ended.append((await receive())["type"])

        with serve(app, tls=tls_of(directory), **variant) as server:
            sock = secured(server)
            sock.sendall(request("GET", "/"))
            server.wait_until(lambda: server.context.stats.in_flight)
            sock.settimeout(1)
            try:
                sock.unwrap()
            except OSError:
                sock.close()
            server.wait_until(lambda: ended == ["http.disconnect"])

    def test_an_answer_to_a_body_nobody_wants_is_read_to_its_end(self, variant, directory):
        with serve(hello, tls=tls_of(directory), body_size=1000, **variant) as server:
            sock = secured(server)
            client = Client(sock)
            client.send(request("POST", "/", "content-length: 3000000"))
            for _ in range(30):
                client.send(b"x" * 100_000)
            response = client.response()
            assert response.status == 413
            assert response.headers["connection"] == "close"
            assert sock.recv(1) == b""


def _open_sockets() -> int:
    """Of this process. Loops have other descriptors of their own, and open them when they like."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the listing
            found += str(file.readlink()).startswith("socket:")
    return found


class TestSlowReaders:
    """What they have yet to take waits in both transports, that of TLS and the one below."""

    BODY = bytes(range(256)) * 5_000 + b"the end"
    _STEP = 200_000
    """More than both kernels hold: who has read as much again was given some of it since."""

    async def whole(self, scope, receive, send):
        await respond(send, body=self.BODY)

    async def streamed(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for start in range(0, len(self.BODY), 4096):
            part = self.BODY[start : start + 4096]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def serve(self, kind, directory, **options):
        return serve(getattr(self, kind), tls=tls_of(directory), send_buffer=16384, sweeps=False, **options)

    def read_slowly(self, server, *fields):
        """Read a response bit by bit, in two thirds of a time-out of 30 s for each `_STEP`."""
        sock = server.connect_tls(AUTHORITY.client(), receive_buffer=32768)
        sock.sendall(request("GET", "/", *fields))
        received, looks = b"", 0
        while not received.endswith((b"the end", b"\r\n0\r\n\r\n")):
            received += sock.recv(32768)
            if len(received) // self._STEP > looks:
                looks += 1
                server.sweep(looks * 20.0)
        assert looks > 3
        return received, sock

    @pytest.mark.parametrize("kind", ["whole", "streamed"])
    def test_a_last_response_is_sent_to_its_end(self, variant, directory, kind):
        with self.serve(kind, directory, **variant) as server:
            received, sock = self.read_slowly(server, "Connection: close")
            assert len(received) > len(self.BODY)
            assert sock.recv(1) == b"", "and then TLS is"

    @pytest.mark.parametrize("kind", ["whole", "streamed"])
    def test_time_outs_look_at_what_the_peer_takes(self, variant, directory, kind):
        with self.serve(kind, directory, keep_alive_timeout=30.0, write_timeout=30.0, **variant) as server:
            received, _sock = self.read_slowly(server)
            assert len(received) > len(self.BODY)

    @pytest.mark.parametrize("fields", [(), ("Connection: close",)])
    def test_who_stops_reading_is_cut_off(self, variant, directory, fields):
        async def large(scope, receive, send):
            await respond(send, body=b"x" * 20_000_000)

        with serve(large, tls=tls_of(directory), write_timeout=0.3, **variant) as server:
            sock = server.connect_tls(AUTHORITY.client(), receive_buffer=8192)
            sock.sendall(request("GET", "/", *fields))
            server.wait_until(lambda: server.context.stats.requests)
            server.wait_until(lambda: not server.context.connections)

    def test_a_large_message_is_encrypted_as_it_is_taken(self, variant, directory):
        """Encrypted at once, it would be held twice."""
        size = 20_000_000

        async def large(scope, receive, send):
            await respond(send, body=b"x" * size)

        with serve(large, tls=tls_of(directory), **variant) as server:
            sock = server.connect_tls(AUTHORITY.client())
            sock.sendall(request("GET", "/", "connection: close"))
            server.wait_until(lambda: server.context.stats.requests)
            (connection,) = server.context.connections
            transport = connection._transport
            server.wait_until(lambda: transport.get_write_buffer_size() > size / 2)
            assert transport._transport.get_write_buffer_size() < 1_000_000
            received = 0
            while data := sock.recv(262144):
                received += len(data)
            assert received > size


class TestBehindAProxy:
    """A PROXY header comes first, in the clear; then TLS is spoken with the client."""

    V1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n"
    _ADDRESSES = bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack("!HH", 1000, 443)
    V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", len(_ADDRESSES)) + _ADDRESSES
    LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

    @pytest.fixture
    def proxied(self, variant, directory):
        with serve(
            tell_scope,
            tls=tls_of(directory),
            proxies=trust_of(["127.0.0.0/8"]),
            header_timeout=0.5,
            **variant,
        ) as server:
            yield server

    @pytest.mark.parametrize("header", [V1, V2])
    @pytest.mark.parametrize("step", [1, 1000])
    def test_the_application_sees_the_client_and_its_tls(self, variant, directory, proxied, header, step):
        raw = proxied.connect()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(header), step):
            raw.sendall(header[start : start + step])
        with AUTHORITY.client().wrap_socket(raw, server_hostname="localhost") as sock:
            told = json.loads(Client(sock).get().body)
        assert (told["client"], told["scheme"]) == (["1.2.3.4", 1000], "https")
        assert told["tls"]["server_cert"] == chain_of_site(directory)

    def test_header_and_hello_in_one_segment(self, variant, directory, proxied):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = AUTHORITY.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
        raw, first = proxied.connect(), self.V2
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(first + outgoing.read())
                first = b""
                incoming.write(raw.recv(65536))
        tls.write(request("GET", "/"))
        raw.sendall(outgoing.read())
        proxied.wait_until(lambda: proxied.context.stats.responses[2] == 1)

    def test_the_proxy_may_speak_for_itself(self, variant, directory, proxied):
        raw = proxied.connect()
        raw.sendall(self.LOCAL)
        with AUTHORITY.client().wrap_socket(raw, server_hostname="localhost") as sock:
            told = json.loads(Client(sock).get().body)
            assert told["client"] == list(sock.getsockname())

    @pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", V1[:9]])
    def test_without_a_header_no_tls_is_spoken(self, variant, directory, proxied, caplog, sent):
        raw = proxied.connect()
        raw.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(100) == b""
        proxied.wait_until(lambda: not proxied.context.connections)
        (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert line.getMessage().startswith("refused a connection from 127.0.0.1: ")
        assert "PROXY header" in line.getMessage()
        assert (proxied.context.stats.tls_failures, proxied.context.stats.connections) == (0, 0)

    @pytest.mark.parametrize("sent", [b"", V1[:9]])
    def test_who_leaves_before_it_is_not_worth_a_word(self, variant, directory, proxied, caplog, sent):
        with proxied.connect() as raw:
            raw.sendall(sent)
        proxied.wait_until(lambda: proxied.context.stats.connections == 0)
        assert not caplog.records

    def test_resets_leave_no_descriptor_and_are_no_failed_handshakes(self, variant, directory, proxied):
        gc.collect()  # what is left of other tests goes now, not meanwhile
        before = _open_sockets()
        gc.disable()
        try:
            for sent in (b"", self.V1[:9], self.LOCAL):
                for _ in range(5):
                    raw = proxied.connect()
                    raw.sendall(sent)
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    raw.close()
            proxied.wait_until(lambda: not proxied.context.connections)
            proxied.wait_until(lambda: _open_sockets() <= before)
        finally:
            gc.enable()
        assert proxied.context.stats.tls_failures == 0

    def test_who_says_nothing_is_closed_in_time(self, variant, directory, proxied, caplog):
        assert proxied.connect().recv(1) == b""
        assert not caplog.records

    def test_others_than_the_proxies_are_refused(self, variant, directory, caplog):
        with serve(tell_scope, tls=tls_of(directory), proxies=trust_of(["10.0.0.0/8"]), **variant) as server:
            assert server.connect().recv(1) == b""
            server.wait_until(lambda: not server.context.connections)
        assert "127.0.0.1: its address is not in proxy-protocol-allow-ips" in caplog.text

    def test_one_that_waits_for_its_header_does_not_hold_up_a_stop(self, variant, directory, proxied):
        raw = proxied.connect()
        proxied.wait_until(lambda: proxied.context.connections)
        proxied.run(lambda: [connection.cancel() for connection in list(proxied.context.connections)])
        assert raw.recv(1) == b""
        proxied.wait_until(lambda: not proxied.context.connections)


class TestDrain:
    """What a worker that leaves does to TLS connections, which cannot move."""

    @staticmethod
    def nobody_takes(_sock, _note):
        raise AssertionError("a TLS connection was offered to another worker")

    def tell(self, server, transfer):
        def drain():
            server.context.draining = True
            for connection in list(server.context.connections):
                connection.drain(transfer)

        server.run(drain)

    def idle(self, server):
        client = Client(secured(server))
        assert client.get().status == 200
        return client

    def test_an_idle_one_stays_while_others_take_over_and_is_told_with_its_next_response(
        self, variant, directory
    ):
        with serve(hello, tls=tls_of(directory), **variant) as server:
            client = self.idle(server)
            self.tell(server, self.nobody_takes)
            self.tell(server, self.nobody_takes)
            response = client.get()
            assert response.status == 200
            assert response.headers["connection"] == "close"
            assert client.sock.recv(1) == b""

    def test_one_that_does_not_ask_again_is_closed_in_the_second_half(self, variant, directory):
        with serve(hello, tls=tls_of(directory), **variant) as server:
            client = self.idle(server)
            self.tell(server, self.nobody_takes)
            sweeps = 3 * 1.0
            client.sock.settimeout(sweeps / 2)
            with pytest.raises(TimeoutError):
                client.sock.recv(1)
            client.sock.settimeout(TIMEOUT)
            self.tell(server, None)
            assert client.sock.recv(1) == b""

    def test_where_nobody_takes_over_it_is_closed_at_once(self, variant, directory):
        with serve(hello, tls=tls_of(directory), **variant) as server:
            client = self.idle(server)
            self.tell(server, None)
            assert client.sock.recv(1) == b""

    def test_a_handshake_is_finished_and_its_request_served(self, variant, directory):
        with serve(hello, tls=tls_of(directory), **variant) as server:
            raw = server.connect()
            (handshake,) = server.wait_until(lambda: list(server.context.connections))
            assert not isinstance(handshake, H1Connection)
            self.tell(server, self.nobody_takes)
            with AUTHORITY.client().wrap_socket(raw, server_hostname="localhost") as sock:
                response = Client(sock).get()
                assert response.status == 200
                assert response.headers["connection"] == "close"

    def test_a_silent_one_does_not_hold_up_a_stop(self, variant, directory):
        with serve(hello, tls=tls_of(directory), **variant) as server:
            raw = server.connect()
            server.wait_until(lambda: server.context.connections)

            def gone():
                for connection in list(server.context.connections):
                    connection.drain(None)
                return not server.context.connections

            server.wait_until(gone)
            assert raw.recv(1) == b""
            assert server.context.stats.tls_failures == 0
            assert server.context.stats.connections == 0
