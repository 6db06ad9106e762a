"""Bytes that a server must not take: each is answered with the status that names the fault, and the connection closes."""

import pytest

from http_apps import echo, hello, read_body, respond
from http_client import request
from serving import VARIANTS, serve

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"

BAD_HEADS = {
    "no version": (400, b"GET /\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "lower-case version": (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "two spaces": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space in the target": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tab for a space": (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "trailing space": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "leading space": (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two empty lines": (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method is no token": (400, b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "lower-case method": (501, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (501, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    "GET *": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "authority-form": (400, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "fragment": (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "non-ASCII target": (400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "control in the target": (400, b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "DEL in the target": (400, b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute-form of a strange scheme": (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute-form without a host": (400, b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute-form with userinfo": (400, b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "invalid Host": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "Host with userinfo": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "list of Hosts": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "bare LF in the request line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare LF in a field": (400, b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    "bare LF at the end": (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    "bare CR in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n"),
    "NUL in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n"),
    "control in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x0bz\r\n\r\n"),
    "DEL in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n"),
    "obs-fold": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
    "obs-fold with a tab": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n"),
    "space before the first field": (400, b"GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n"),
    "space before the colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "no colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    "empty field name": (400, b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n"),
    "field name is no token": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX(: y\r\n\r\n"),
    "non-ASCII field name": (400, b"GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa9: y\r\n\r\n"),
    "CL and TE": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "TE and CL": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    ),
    "two lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "the same length twice": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    ),
    "list of lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc"),
    "empty length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
    "negative length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    "length with a plus": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
    "length with an underscore": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n"),
    "hexadecimal length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na"),
    "length beyond 2^64": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na",
    ),
    "length near 2^63": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\na"),
    "TE gzip": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
    "TE gzip, chunked": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    "TE chunked, chunked": (
        501,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    ),
    "TE chunked twice": (
        501,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "TE xchunked": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
    "TE identity": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    "TE with a parameter": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n"),
    "empty TE": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
    "TE in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "unknown expectation": (
        417,
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: the worst\r\nContent-Length: 3\r\n\r\n",
    ),
    "a TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32))),
    "long request line": (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "long field": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70000 + b"\r\n\r\n"),
    "many fields": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n"),
}

CHUNKED = b"POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

BAD_BODIES = {
    "size is no number": (400, b"x\r\n"),
    "empty size": (400, b"\r\n"),
    "negative size": (400, b"-1\r\n"),
    "size with a prefix": (400, b"0x3\r\nabc\r\n"),
    "size with an underscore": (400, b"1_0\r\n"),
    "size after a space": (400, b" 3\r\nabc\r\n"),
    "size before a space": (400, b"3 \r\nabc\r\n"),
    "size near 2^64": (400, b"ffffffffffffffff\r\n"),
    "size beyond 2^64": (400, b"10000000000000003\r\nabc\r\n"),
    "bare LF after the size": (400, b"3\nabc\r\n0\r\n\r\n"),
    "bare CR in an extension": (400, b"3;a\rb\r\nabc\r\n"),
    "bare LF in an extension": (400, b"3;a\nabc\r\n"),
    "chunk longer than its size": (400, b"3\r\nabcd\r\n0\r\n\r\n"),
    "LF after the chunk": (400, b"3\r\nabc\n0\r\n\r\n"),
    "no end after the chunk": (400, b"3\r\nabc0\r\n\r\n"),
    "trailer without a colon": (400, b"0\r\nabc\r\n\r\n"),
    "trailer with a space before the colon": (400, b"0\r\nabc : d\r\n\r\n"),
    "folded trailer": (400, b"0\r\na: b\r\n c\r\n\r\n"),
    "bare LF in the trailers": (400, b"0\r\na: b\n\r\n"),
    "bare LF for the end": (400, b"0\r\n\n"),
    "endless extension": (431, b"3;" + b"a" * 100_000),
    "endless trailer": (431, b"0\r\na: " + b"a" * 100_000),
    "many trailers": (431, b"0\r\n" + b"a: b\r\n" * 101 + b"\r\n"),
    "large trailers": (431, b"0\r\n" + (b"a: " + b"b" * 1000 + b"\r\n") * 70 + b"\r\n"),
    "nothing but extensions": (431, (b"1;" + b"a" * 2000 + b"\r\nx\r\n") * 100),
}


@pytest.mark.parametrize(("status", "data"), BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_bad_head(variant, status, data):
    async def app(scope, receive, send):
        called.append(scope["path"])
        await hello(scope, receive, send)

    called = []
    with serve(app, **variant) as server:
        client = server.client()
        client.send(GOOD + data + GOOD)
        assert client.response().body == b"hello"
        response = client.response()
        assert (response.status, response.headers["connection"]) == (status, "close")
        assert client.is_closed()
    assert called == ["/good"], "neither the bad request nor what follows it reaches the application"


@pytest.mark.parametrize(("status", "data"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body(variant, status, data):
    async def app(scope, receive, send):
        if scope["path"] == "/bad":
            with pytest.raises(ConnectionAbortedError):
                await read_body(receive)
            with pytest.raises(OSError):
                await respond(send)
        else:
            await hello(scope, receive, send)

    with serve(app, **variant) as server:
        client = server.client()
        client.send(GOOD + CHUNKED)
        assert client.response().body == b"hello"
        client.send(data + GOOD)
        response = client.response()
        assert (response.status, response.headers["connection"]) == (status, "close")
        assert client.is_closed()
        assert server.context.stats.application_errors == 0


def test_what_is_unusual_but_right_is_served(variant):
    targets = {
        b"GET http://b.example/x?y HTTP/1.1\r\nHost: a\r\n\r\n": b"b.example GET /x y",
        b"GET HTTP://[::1]:80 HTTP/1.1\r\nHost: a\r\n\r\n": b"[::1]:80 GET / ",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n": b"a OPTIONS * ",
        b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n": b"a OPTIONS * ",
        b"\r\nGET / HTTP/1.1\r\nHost:\r\n\r\n": b" GET / ",
        b"GET //x/../y? HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n": b"[::1]:8000 GET //x/../y ",
        b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n": b"a PROPFIND / ",
        b"M!CH / HTTP/1.1\r\nHost: a\r\n\r\n": b"a M!CH / ",
        b"GET /%zz?%zz=#"[:-1] + b" HTTP/1.1\r\nHost: a\r\n\r\n": b"a GET /%zz %zz=",
        b"GET / HTTP/1.1\r\nhOST: \t a\t \r\nX:\r\nY: \xff\r\n\r\n": b"a GET / ",
    }

    async def app(scope, receive, send):
        host = dict(scope["headers"])[b"host"]
        line = b" ".join([host, scope["method"].encode(), scope["raw_path"], scope["query_string"]])
        await respond(send, body=line)

    with serve(app, **variant) as server:
        client = server.client()
        client.send(b"".join(targets))
        for expected in targets.values():
            assert client.response().body == expected


@pytest.mark.parametrize("target", ["/length", "/chunked"])
def test_the_body_limit(variant, target):
    with serve(echo, body_size=1000, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", body=b"x" * 1000))
        assert client.response().status == 200
        if target == "/length":
            client.send(request("POST", "/", body=b"x" * 1001))
        else:
            client.send(CHUNKED + b"200\r\n" + b"x" * 0x200 + b"\r\n200\r\n" + b"x" * 0x200)
        assert client.response().status == 413
        assert client.is_closed()


def test_a_bad_body_after_the_response_began_breaks_the_connection(variant):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        with pytest.raises(OSError):
            await send({"type": "http.response.body", "body": b"y", "more_body": True})

    with serve(app, **variant) as server:
        client = server.client()
        client.send(CHUNKED)
        client.read_until(b"x\r\n")
        client.send(b"nonsense\r\n")
        with pytest.raises((EOFError, ConnectionResetError)):
            client.read_until(b"y")
        server.wait_until(lambda: not server.context.connections)
        assert server.context.stats.application_errors == 0


def test_a_large_upload_that_is_refused_still_reads_the_answer(variant):
    """Closing over unread bytes would reset the connection and destroy the answer on its way."""

    async def app(scope, receive, send):
        await respond(send, 403, b"no")

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("POST", "/", "Content-Length: 100000000"))
        client.send(b"x" * 3_000_000)
        response = client.response()
        assert (response.status, response.body, response.headers["connection"]) == (403, b"no", "close")
        assert client.is_closed()


def test_a_small_body_that_nobody_reads_does_not_cost_the_connection(variant):
    async def app(scope, receive, send):
        await respond(send, body=scope["path"].encode())

    with serve(app, **variant) as server:
        client = server.client()
        client.send(request("POST", "/1", "Content-Length: 100000"))
        assert client.response().body == b"/1"
        client.send(b"x" * 100000 + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + request("GET", "/3"))
        assert client.response().body == b"/bad"
        assert client.response().body == b"/3"
