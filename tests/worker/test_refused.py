"""What is refused is in the access log, once: who, how, and the beginning of what it said."""

import contextlib
import json

import pytest

from asgi_master.telemetry.access_log import AccessLog
from asgi_master.worker.transport.endpoints import trust_of
from http_apps import echo, hello
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST /p?q HTTP/1.1\r\nHost: a\r\n"
REFUSED = {
    "malformed": (b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "GE(T / HTTP/1.1"),
    "no version": (b"GET /\r\n\r\n", 400, "GET /"),
    "control characters": (b"GET /\x1b[2J\xe2\x80\xae\r\n\r\n", 400, r"GET /\x1b[2J\xe2\x80\xae"),
    "quotes": (b'GET /" "x" \\ HTTP/1.1\r\n\r\n', 400, r"GET /\" \"x\" \\ HTTP/1.1"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\n", 400, r"\x16\x03\x01\x02\x00\x01\x00"),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "GET / HTTP/1.1"),
    "no Host": (b"GET /x?y HTTP/1.1\r\n\r\n", 400, "GET /x?y HTTP/1.1"),
    "a bad field": (HEAD + b"no colon\r\n\r\n", 400, "POST /p?q HTTP/1.1"),
    "too long a body": (HEAD + b"Content-Length: 2000\r\n\r\n", 413, "POST /p?q HTTP/1.1"),
    "too long a body, chunked": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n",
        413,
        "POST /p?q HTTP/1.1",
    ),
    "a bad chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, "POST /p?q HTTP/1.1"),
    "a long line": (b"GET /" + b"a" * 9000, 414, "GET /" + "a" * 1019),
    "a large header": (HEAD + b"X: " + b"a" * 70_000, 431, "POST /p?q HTTP/1.1"),
    "expectation": (HEAD + b"Expect: x\r\n\r\n", 417, "POST /p?q HTTP/1.1"),
    "coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, "POST /p?q HTTP/1.1"),
    "method": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "CONNECT a:1 HTTP/1.1"),
    "version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "GET / HTTP/2.0"),
}


def lines(server):
    """What the access log holds, one line each; it is there once the connections are gone."""
    server.wait_until(lambda: not server.context.connections)
    log = server.context.access_log
    told = log._lines(log.pending)
    log.pending.clear()
    return [line.rstrip("\n") for line in told]


def answered(sock):
    """All that comes, until the end."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("before", [b"", GOOD], ids=["first", "second"])
def test_a_refused_request(variant, what, before):
    sent, status, shown = REFUSED[what]
    log = AccessLog('%(h)s "%(r)s" %(s)s %(B)s %(a)s')
    with serve(echo, access_log=log, body_size=1000, **variant) as server:
        sock = server.connect()
        sock.sendall(before + sent)
        answer = answered(sock)
        head, _, body = answer.rpartition(b"\r\n\r\n")
        assert f"HTTP/1.1 {status} ".encode() in head
        sock.close()
        *earlier, line = lines(server)
        assert len(earlier) == bool(before)
        assert line == f'127.0.0.1 "{shown}" {status} {len(body)} -'


def test_a_request_that_does_not_arrive_in_time(variant):
    log = AccessLog("%(h)s %(s)s %(r)s|%(m)s|%(U)s|%(q)s|%(H)s")
    with serve(hello, access_log=log, header_timeout=0.2, **variant) as server:
        sock, silent = server.connect(), server.connect()
        sock.sendall(b"GET /slow?q HTTP/1.1\r\nHo")
        assert answered(sock).startswith(b"HTTP/1.1 408 ")
        assert answered(silent) == b"", "who said nothing was not refused anything"
        sock.close()
        silent.close()
        assert lines(server) == ["127.0.0.1 408 GET /slow?q HTTP/1.1|GET|/slow|q|HTTP/1.1"]


def test_a_body_that_does_not_arrive_in_time(variant):
    log = AccessLog("%(s)s %(r)s")
    with serve(echo, access_log=log, body_timeout=0.2, **variant) as server:
        sock = server.connect()
        sock.sendall(HEAD + b"Content-Length: 5\r\n\r\nab")
        assert answered(sock).startswith(b"HTTP/1.1 408 ")
        sock.close()
        assert lines(server) == ["408 POST /p?q HTTP/1.1"]


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        (b"GET /x?y HTTP/1.1\r\n\r\n", ("GET", "/x", "y", "HTTP/1.1")),
        (b"\x16\x03\n", (None, "\x16\x03", "", None)),
        (b"GET \r\n\r\n", (None, "GET ", "", None)),
    ],
)
def test_in_json(variant, sent, known):
    log = AccessLog("", form="json")
    with serve(hello, access_log=log, **variant) as server:
        sock = server.connect()
        sock.sendall(sent)
        body = answered(sock).rpartition(b"\r\n\r\n")[2]
        sock.close()
        (line,) = lines(server)
    told = json.loads(line)
    assert (told["client"], told["status"], told["bytes"]) == ("127.0.0.1", 400, len(body))
    assert tuple(told[name] for name in ("method", "path", "query", "protocol")) == known
    assert (told["referer"], told["user_agent"]) == (None, None)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PROXY TCP4 x\r\n"])
def test_a_connection_without_its_proxy_header(variant, sent):
    log = AccessLog('%(h)s "%(r)s" %(s)s %(b)s')
    with serve(hello, access_log=log, proxies=trust_of(["127.0.0.1"]), **variant) as server:
        sock = server.connect()
        sock.sendall(sent)
        assert answered(sock) == b""
        assert lines(server) == ['127.0.0.1 "-" 400 -']


def test_a_stranger_where_proxies_are_expected(variant):
    log = AccessLog('%(h)s "%(r)s" %(s)s')
    with serve(hello, access_log=log, proxies=trust_of(["10.0.0.0/8"]), **variant) as server:
        assert answered(server.connect()) == b""
        assert lines(server) == ['127.0.0.1 "-" 403']
