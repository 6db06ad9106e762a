"""What a peer reads when its TLS handshake fails, byte for byte, and what is told of it."""

import datetime as dt
import logging
import os
import socket
import ssl
import struct

import pytest

from asgi_master.settings.model import TlsSettings
from asgi_master.telemetry.access_log import AccessLog
from asgi_master.tls.bundle import read_bundle
from asgi_master.worker.transport.tls import TlsServer
from certificates import Authority, put
from http_apps import hello
from http_client import Client, request
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS[:2])  # no parser comes in here

AUTHORITY = Authority()
REQUEST = request("GET", "/")

FATAL = 2
UNEXPECTED_MESSAGE, HANDSHAKE_FAILURE, CERTIFICATE_EXPIRED, UNKNOWN_CA = 10, 40, 45, 48
DECODE_ERROR, PROTOCOL_VERSION, CERTIFICATE_REQUIRED = 50, 70, 116
"""RFC 8446 §6."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    AUTHORITY.write(directory, "site", "localhost")
    put(directory / "ca.pem", AUTHORITY.pem)
    return directory


def tls_of(directory, **changes):
    settings = TlsSettings(certfile=("site.pem",), keyfile=("site.key",), **changes)
    fd = read_bundle(settings, directory).to_memory()
    try:
        return TlsServer(settings, fd)
    finally:
        os.close(fd)


def mutual(directory, **changes):
    return tls_of(directory, client_cert="required", ca_certs="ca.pem", **changes)


def until_the_end(sock):
    """All that comes, up to an orderly end: a reset fails the test."""
    received = b""
    while data := sock.recv(65536):
        received += data
    return received


def alert_in(data):
    """The code of the alert that ends what a server sent in the clear."""
    while data:
        kind, _version, length = struct.unpack("!BHH", data[:5])
        body, data = data[5 : 5 + length], data[5 + length :]
        if kind == 21:
            assert data == b"", "nothing follows it"
            assert body[0] == FATAL
            return body[1]
    return None


def refused_with(server, context):
    """What OpenSSL makes of the alert that a client gets, which asks at once as soon as it may."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    sock = server.connect()
    has_asked = False
    while True:
        try:
            if not has_asked:
                tls.do_handshake()
                tls.write(REQUEST)
                has_asked = True
            sock.sendall(outgoing.read())
            return tls.read(1000)
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            data = sock.recv(65536)
            assert data, "the connection ended without an alert"
            incoming.write(data)
        except ssl.SSLError as error:
            sock.sendall(outgoing.read())
            assert until_the_end(sock) == b""
            return error.reason


def expired():
    now = dt.datetime.now(dt.UTC)
    return AUTHORITY._ca.issue_cert(
        "client.example", not_before=now - dt.timedelta(days=9), not_after=now - dt.timedelta(days=2)
    )


CLIENTS = {
    "of another authority": (lambda: Authority().issue("client.example"), "UNKNOWN_CA", "unable to get"),
    "expired": (expired, "CERTIFICATE_EXPIRED", "certificate has expired"),
    "none": (lambda: None, "CERTIFICATE_REQUIRED", "it gave no certificate"),
}


@pytest.mark.parametrize("what", CLIENTS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
def test_a_client_learns_what_is_wrong_with_its_certificate(variant, directory, what, version, caplog):
    make, alert, told = CLIENTS[what]
    caplog.set_level(logging.WARNING, "asgi_master")
    with serve(hello, tls=mutual(directory), **variant) as server:
        context = AUTHORITY.client(make())
        context.minimum_version = context.maximum_version = version
        for _ in range(3):
            reason = refused_with(server, context)
            assert alert in reason or (alert == "CERTIFICATE_REQUIRED" and "HANDSHAKE_FAILURE" in reason)
        server.wait_until(lambda: server.context.stats.tls_failures == 3)
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith("refused a connection from 127.0.0.1: ")
        assert told in line
        good = server.connect_tls(AUTHORITY.client(AUTHORITY.issue("client.example")), "localhost")
        assert Client(good).get().status == 200
        good.close()
        server.wait_until(lambda: not server.context.connections)


def old_client():
    context = AUTHORITY.client()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def strange_client():
    context = AUTHORITY.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")
    return context


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("client", "alert"), [(old_client, "PROTOCOL_VERSION"), (strange_client, "HANDSHAKE_FAILURE")]
)
def test_a_client_learns_that_nothing_is_in_common(variant, directory, client, alert, caplog):
    caplog.set_level(logging.INFO, "asgi_master")
    with serve(hello, tls=tls_of(directory), **variant) as server:
        assert alert in refused_with(server, client())
        server.wait_until(lambda: server.context.stats.tls_failures == 1)
        assert not caplog.records, "anybody can cause it, and nobody here can mend it"


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize(
    ("garbage", "alert"),
    [
        (b"\x16\x03\x01\x00\x10" + b"\xff" * 16, UNEXPECTED_MESSAGE),
        (b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", DECODE_ERROR),
        (b"\x17\x03\x03\x00\x02ab", UNEXPECTED_MESSAGE),
    ],
)
def test_garbage_in_records_is_answered_with_an_alert(variant, directory, garbage, alert, pieces):
    with serve(hello, tls=tls_of(directory), **variant) as server:
        sock = server.connect()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(garbage) // pieces)
        for start in range(0, len(garbage), size):
            sock.sendall(garbage[start : start + size])
        assert alert_in(until_the_end(sock)) == alert
        sock.close()
        server.wait_until(lambda: not server.context.connections)


def test_what_is_in_no_records_is_not_answered(variant, directory):
    with serve(hello, tls=tls_of(directory), **variant) as server:
        sock = server.connect()
        sock.sendall(b"\x00" * 5)
        assert sock.recv(100) == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "get", "OPTIONS", "PROPFIND", "M-SEARCH", "X"])
def test_plain_http_is_answered_in_words(variant, directory, method):
    log = AccessLog('%(h)s "%(r)s" %(s)s')
    with serve(hello, tls=tls_of(directory), access_log=log, **variant) as server:
        sock = server.connect()
        sock.sendall(request(method, "/", "content-length: 100000") + b"x" * 100_000)
        head, _, body = until_the_end(sock).partition(b"\r\n\r\n")
        sock.close()
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nconnection: close" in head
        assert b"\r\ndate: " in head
        assert (b"this port speaks HTTPS" in body) == (method != "HEAD")
        if body:
            assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.tls_failures == 1
        assert log._lines(log.pending) == ['127.0.0.1 "-" 400\n']
        log.pending.clear()


def test_plain_http_that_comes_in_pieces(variant, directory):
    with serve(hello, tls=tls_of(directory), **variant) as server:
        sock = server.connect()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"H")
        server.wait_until(lambda: server.context.connections)
        sock.sendall(b"EAD / HTTP/1.1\r\n")
        assert until_the_end(sock).endswith(b"\r\n\r\n")


def test_who_never_leaves_after_a_refusal_is_left(variant, directory):
    """An answer is no reason to be held by who got it."""
    with serve(hello, tls=tls_of(directory), **variant) as server:
        sock = server.connect()
        sock.sendall(REQUEST)
        assert until_the_end(sock).startswith(b"HTTP/1.1 400 ")
        server.wait_until(lambda: not server.context.connections)


def test_a_worker_that_leaves_does_not_wait_for_the_refused(variant, directory):
    with serve(hello, tls=tls_of(directory), **variant) as server:
        sock = server.connect()
        sock.sendall(REQUEST)
        assert until_the_end(sock)
        for connection in tuple(server.context.connections):
            server.run(connection.cancel)
        server.wait_until(lambda: not server.context.connections)
