"""PEP 3333 to the letter, over real sockets: one server for each version of HTTP, and an application for each rule."""

import contextvars
import itertools
import sys
import threading
import time
from wsgiref.validate import validator

import pytest

from h2_client import H2Client
from http_client import request
from serving import serve

PLAIN = [("Content-Type", "text/plain")]
APPS = {}
EVENTS = {}
"""What an application did, by its name."""


def app(function):
    APPS["/" + function.__name__] = function
    return function


def event(environ, name):
    EVENTS.setdefault(environ["PATH_INFO"] + environ["QUERY_STRING"], []).append(name)


def dispatch(environ, start_response):
    return APPS[environ["PATH_INFO"]](environ, start_response)


class Closing:
    """An iterable that notes that it was closed."""

    def __init__(self, environ, pieces):
        self._environ, self._pieces = environ, iter(pieces)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._pieces)

    def close(self):
        event(self._environ, "closed")


class Way:
    """Clients of one version of HTTP, and their server."""

    def __init__(self, server, is_2):
        self.server, self.is_2 = server, is_2
        self.stats = server.context.stats

    def client(self):
        return H2Client(self.server.connect()) if self.is_2 else self.server.client()

    def fetch(self, path, *, method="GET", body=b"", fields=(), client=None):
        client = client or self.client()
        if self.is_2:
            return client.response(client.request(method, path, fields, body=body))
        client.send(request(method, path, *(f"{name}: {value}" for name, value in fields), body=body))
        return client.response(method)

    def idle(self):
        self.server.wait_until(lambda: self.stats.in_flight == 0)

    def wait_for(self, name, key):
        self.server.wait_until(lambda: name in EVENTS.get(key, ()))

    def breaks_off(self, path):
        """Whether the response ends before it is complete."""
        client = self.client()
        if self.is_2:
            stream = client.request("GET", path)
            client.read_until(
                lambda: stream in client.responses and client.responses[stream].reset is not None
            )
            return True
        client.send(request("GET", path))
        try:
            client.response()
        except (EOFError, ConnectionError, AssertionError):
            return True
        return False


@pytest.fixture(scope="module", params=["1.1-uvloop", "1.1-asyncio", "2-uvloop"])
def way(request):
    version, loop = request.param.split("-")
    with serve(dispatch, threads=4, loop=loop) as server:
        yield Way(server, version == "2")


@pytest.fixture(autouse=True)
def events():
    EVENTS.clear()


def field(response, name):
    return {key.lower(): value for key, value in response.fields}.get(name)


# -- what is well-formed ---------------------------------------------------------------------------------


@app
def in_pieces(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing(environ, [b"", b"a", b"", b"bc", b""])


@app
def generated(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"a"
    yield b"bc"
    event(environ, "came to its end")


@app
def lazily(environ, start_response):
    yield b""
    start_response("200 OK", PLAIN)
    yield b"abc"


@app
def written(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"a")
    write(b"")
    write(b"b")
    return [b"c"]


@app
def nothing(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "0")])
    return []


@app
def nothing_generated(environ, start_response):
    start_response("200 OK", PLAIN)
    return
    yield


@app
def tuples(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "3")])
    return (b"ab", b"c")


@app
def too_much(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "3")])
    return Closing(environ, (b"ab", b"cd", b"ef"))


@app
def endless(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "3")])
    return Closing(environ, itertools.repeat(b"abc"))


@app
def after_the_length(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "3")])
    yield b"abc"
    event(environ, "went on")


class Class:
    """A class is an application too."""

    def __init__(self, environ, start_response):
        self._start_response = start_response

    def __iter__(self):
        self._start_response("200 OK", PLAIN)
        return iter([b"abc"])


APPS["/class"] = Class


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/in_pieces", b"abc"),
        ("/generated", b"abc"),
        ("/lazily", b"abc"),
        ("/written", b"abc"),
        ("/nothing", b""),
        ("/nothing_generated", b""),
        ("/tuples", b"abc"),
        ("/too_much", b"abc"),
        ("/endless", b"abc"),
        ("/after_the_length", b"abc"),
        ("/class", b"abc"),
    ],
)
def test_bodies(way, path, body):
    client = way.client()
    for _ in range(2):
        response = way.fetch(path, client=client)
        assert (response.status, response.body) == (200, body)
    way.idle()


@pytest.mark.parametrize("path", ["/in_pieces", "/too_much", "/endless"])
def test_what_has_a_close_is_closed(way, path):
    way.fetch(path)
    way.wait_for("closed", path)


def test_generators_run_to_their_end(way):
    for path, name in (("/generated", "came to its end"), ("/after_the_length", "went on")):
        way.fetch(path)
        way.wait_for(name, path)


def test_a_response_of_unknown_length_says_its_length_if_it_is_all_there(way):
    assert field(way.fetch("/in_pieces"), "content-length") == "3"


# -- responses without a body ----------------------------------------------------------------------------


@app
def no_content(environ, start_response):
    start_response("204 No Content", [])
    return Closing(environ, [b"not sent"])


@app
def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    return [b"not sent"]


@app
def streams_for_ever(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing(environ, (b"x" for _ in iter(lambda: time.sleep(0.01), 1)))


@pytest.mark.parametrize(
    ("path", "method", "status", "length"),
    [
        ("/no_content", "GET", 204, None),
        ("/not_modified", "GET", 304, None),
        ("/tuples", "HEAD", 200, "3"),
        ("/in_pieces", "HEAD", 200, "3"),
        ("/generated", "HEAD", 200, "3"),
        ("/nothing", "HEAD", 200, "0"),
        ("/no_content", "HEAD", 204, None),
    ],
)
def test_without_a_body(way, path, method, status, length):
    client = way.client()
    response = way.fetch(path, method=method, client=client)
    assert (response.status, response.body, field(response, "content-length")) == (status, b"", length)
    assert way.fetch("/tuples", client=client).body == b"abc"


def test_the_head_of_a_stream_without_an_end(way):
    response = way.fetch("/streams_for_ever", method="HEAD")
    assert (response.status, response.body, field(response, "content-length")) == (200, b"", None)
    way.wait_for("closed", "/streams_for_ever")


# -- what is wrong ---------------------------------------------------------------------------------------


WRONG = []


def wrong(name, *, status="200 OK", headers=PLAIN, body=(b"abc",), calls=1):
    def application(environ, start_response):
        for _ in range(calls):
            start_response(status, headers)
        return Closing(environ, body)

    APPS["/" + name] = application
    WRONG.append("/" + name)


wrong("twice", calls=2)
wrong("never", calls=0)
wrong("never_empty", calls=0, body=())
wrong("str", body=("text",))
wrong("number", body=(5,))
wrong("bad_status", status="OK")
wrong("informational", status="103 Early Hints")
wrong("tuple_headers", headers=tuple(PLAIN))
wrong("bytes_headers", headers=[(b"a", b"b")])
wrong("split_headers", headers=[("a", "b\r\nx: y")])
wrong("euro_header", headers=[("a", "\u20ac")])
wrong("hop_by_hop", headers=[("Connection", "close")])
wrong("chunked", headers=[("Transfer-Encoding", "chunked")])
wrong("nothing_of_three", headers=[("Content-Length", "3")], body=())


@app
def not_iterable(environ, start_response):
    start_response("200 OK", PLAIN)


@app
def raises(environ, start_response):
    start_response("200 OK", PLAIN)
    raise RuntimeError("broken")


@app
def raises_at_once(environ, start_response):
    raise SystemExit(3)


@app
def raises_in_next(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b""
    raise KeyboardInterrupt


@app
def writes_too_much(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])(b"ab")
    return []


WRONG += ["/not_iterable", "/raises", "/raises_at_once", "/raises_in_next", "/writes_too_much"]


@pytest.mark.parametrize("path", WRONG)
def test_what_is_wrong_before_anything_was_sent_is_500(way, path, caplog):
    client = way.client()
    errors = way.stats.application_errors
    response = way.fetch(path, client=client)
    assert (response.status, response.body) == (500, b"Internal Server Error")
    way.idle()
    way.server.wait_until(lambda: way.stats.application_errors == errors + 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].getMessage().startswith(f"GET {path}: the application raised ")
    assert way.fetch("/tuples", client=client).body == b"abc"


def test_iterables_are_closed_whatever_happens(way):
    for path in ("/str", "/never"):
        way.fetch(path)
        way.wait_for("closed", path)


@app
def breaks(environ, start_response):
    start_response("200 OK", PLAIN)

    def pieces():
        yield b"x" * 100_000
        raise RuntimeError("in the middle")

    return Closing(environ, pieces())


@app
def too_short(environ, start_response):
    start_response("200 OK", [("Content-Length", "200000")])
    return Closing(environ, [b"x" * 100_000])


@pytest.mark.parametrize("path", ["/breaks", "/too_short"])
def test_what_breaks_in_the_middle_is_not_complete(way, path, caplog):
    assert way.breaks_off(path)
    way.idle()
    way.wait_for("closed", path)
    assert "the application raised" in caplog.text


@app
def close_raises(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])

    class Bad(Closing):
        def close(self):
            super().close()
            raise RuntimeError("while it was closed")

    return Bad(environ, [b"abc"])


def test_close_that_raises_is_logged(way, caplog):
    assert way.fetch("/close_raises").body == b"abc"
    way.idle()
    assert "the application raised RuntimeError: while it was closed" in caplog.text


# -- exc_info --------------------------------------------------------------------------------------------


@app
def recovers(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        raise KeyError("x")
    except KeyError:
        start_response("503 Sorry", [("X-Error", "1")], sys.exc_info())
    return [b"sorry"]


@app
def recovers_too_late(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"x" * 100_000
    try:
        raise KeyError("the first error")
    except KeyError:
        start_response("503 Sorry", [], sys.exc_info())
    yield b"never"


def test_an_error_response_in_place_of_what_was_not_sent(way):
    response = way.fetch("/recovers")
    assert (response.status, field(response, "x-error"), response.body) == (503, "1", b"sorry")


def test_an_error_after_the_head_is_raised_again(way, caplog):
    assert way.breaks_off("/recovers_too_late")
    way.idle()
    assert "the application raised KeyError: 'the first error'" in caplog.text


# -- wsgi.input ------------------------------------------------------------------------------------------


@app
def reads(environ, start_response):
    stream, how = environ["wsgi.input"], environ["QUERY_STRING"]
    read = {
        "read": lambda: [stream.read()],
        "all": lambda: [stream.read(-1)],
        "sized": lambda: iter(lambda: stream.read(10_000), b""),
        "line": lambda: iter(stream.readline, b""),
        "short-line": lambda: iter(lambda: stream.readline(7), b""),
        "lines": stream.readlines,
        "some-lines": lambda: [*stream.readlines(5), stream.read()],
        "iterate": lambda: stream,
        "none": list,
        "part": lambda: [stream.read(3)],
    }[how]
    pieces = [bytes(piece) for piece in read()]
    after = b"" if how in ("none", "part") else stream.read(1) + stream.readline()
    body = b"|".join(pieces) if how in ("line", "short-line") else b"".join(pieces)
    start_response("200 OK", [("X-After", str(len(after))), ("X-Pieces", str(len(pieces)))])
    return [body]


BODIES = {
    "short": b"one\ntwo\nthree",
    "empty": b"",
    "long": b"".join(b"line %d\n" % n for n in range(30_000)),
}


@pytest.mark.parametrize("size", BODIES)
@pytest.mark.parametrize("how", ["read", "all", "sized", "lines", "some-lines", "iterate"])
def test_input_by_every_method(way, how, size):
    response = way.fetch(f"/reads?{how}", method="POST", body=BODIES[size])
    assert (response.status, response.body) == (200, BODIES[size])
    assert field(response, "x-after") == "0"


@pytest.mark.parametrize("size", BODIES)
def test_input_by_lines(way, size):
    lines = BODIES[size].splitlines(keepends=True)
    assert way.fetch("/reads?line", method="POST", body=BODIES[size]).body == b"|".join(lines)
    if size != "long":
        parts = [line[i : i + 7] for line in lines for i in range(0, len(line), 7)]
        assert way.fetch("/reads?short-line", method="POST", body=BODIES[size]).body == b"|".join(parts)


@pytest.mark.parametrize(("how", "body"), [("none", b""), ("part", b"lin")])
def test_input_that_is_not_read(way, how, body):
    client = way.client()
    sent = BODIES["long"][:200_000]
    assert way.fetch(f"/reads?{how}", method="POST", body=sent, client=client).body == body
    assert way.fetch("/tuples", client=way.client() if not way.is_2 else client).body == b"abc"
    way.idle()


# -- wsgi.errors and the rest ----------------------------------------------------------------------------


@app
def complains(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("one\ntw")
    errors.writelines(["o\n", "\n", "thr"])
    print("ee", "and", "four", file=errors)
    errors.write("five")
    errors.flush()
    errors.write("six")
    start_response("200 OK", PLAIN)
    return [b"abc"]


def test_what_is_written_to_errors_is_logged_with_its_request(way, caplog):
    way.fetch("/complains?x")
    way.idle()
    lines = ["one", "two", "three and four", "five", "six"]
    assert [r.getMessage() for r in caplog.records] == [f"GET /complains?x: {line}" for line in lines]
    assert all(record.request["client"].startswith("127.0.0.1:") for record in caplog.records)


@app
def shows_a_traceback(environ, start_response):
    environ["wsgi.errors"].write("failed\nTraceback:\n  line 1\n")
    start_response("200 OK", PLAIN)
    return [b"abc"]


def test_what_is_written_at_once_is_one_record(way, caplog):
    way.fetch("/shows_a_traceback")
    way.idle()
    assert [(r.getMessage(), r.detail) for r in caplog.records] == [
        ("GET /shows_a_traceback: failed", "Traceback:\n  line 1")
    ]


def test_errors_take_text(way, caplog):
    APPS["/bytes_errors"] = lambda environ, start_response: environ["wsgi.errors"].write(b"x")
    assert way.fetch("/bytes_errors").status == 500


VARIABLE = contextvars.ContextVar("variable", default=0)


@app
def has_context(environ, start_response):
    seen = VARIABLE.get()
    VARIABLE.set(1)
    start_response("200 OK", PLAIN)

    def pieces():
        yield b"%d%d" % (seen, VARIABLE.get())

    return pieces()


def test_each_request_has_a_context_of_its_own(way):
    for _ in range(10):
        assert way.fetch("/has_context").body == b"01"


@app
def threads(environ, start_response):
    start_response("200 OK", PLAIN)
    return [threading.current_thread().name.encode()]


def test_threads_have_names(way):
    assert way.fetch("/threads").body.startswith(b"wsgi-")


# -- files -----------------------------------------------------------------------------------------------

SIZE = 300_000
CONTENT = bytes(range(250)) * (SIZE // 250)


@pytest.fixture(scope="module", autouse=True)
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(CONTENT)

    @app
    def sends_file(environ, start_response):
        options = dict(pair.split("=") for pair in environ["QUERY_STRING"].split("&") if pair)
        opened = path.open("rb")
        opened.seek(int(options.get("at", 0)))
        close = opened.close

        class File:
            def close(self):
                event(environ, "closed")
                close()

            read = opened.read
            tell = opened.tell
            seek = opened.seek
            if "opaque" not in options:
                fileno = opened.fileno

        headers = [("Content-Length", options["length"])] if "length" in options else []
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](File(), 1000)

    return path


@pytest.mark.parametrize("opaque", ["", "&opaque=1"])
@pytest.mark.parametrize(
    ("query", "content"),
    [
        ("", CONTENT),
        ("at=5", CONTENT[5:]),
        (f"length={SIZE}", CONTENT),
        ("at=5&length=10", CONTENT[5:15]),
        (f"at={SIZE}", b""),
        (f"at=0&length={SIZE - 1}", CONTENT[:-1]),
    ],
)
def test_files(way, query, content, opaque):
    response = way.fetch(f"/sends_file?{query}{opaque}")
    assert (response.status, response.body) == (200, content)
    way.wait_for("closed", f"/sends_file{query}{opaque}")
    way.idle()


def test_the_head_of_a_file(way):
    response = way.fetch("/sends_file?", method="HEAD")
    assert (response.status, response.body) == (200, b"")
    way.wait_for("closed", "/sends_file")


def test_a_file_that_is_too_short(way, caplog):
    response = way.fetch(f"/sends_file?length={SIZE + 1}")
    assert response.status == 500
    way.wait_for("closed", f"/sends_filelength={SIZE + 1}")


# -- the validator of the standard library ---------------------------------------------------------------


@app
def valid(environ, start_response):
    @validator
    def application(environ, start_response):
        body = environ["wsgi.input"].read(1000)
        environ["wsgi.errors"].flush()
        write = start_response("200 OK", PLAIN)
        write(b"<")
        return [body, b">"]

    return application(environ, start_response)


@pytest.mark.parametrize("fields", [(), (("x", "1"), ("x", "2"), ("x_y", "3"), ("cookie", "a=1"))])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_the_validator_finds_nothing(way, method, fields, caplog):
    body = b"data" if method in ("POST", "PUT", "PATCH") else b""
    response = way.fetch("/valid?a=b", method=method, body=body, fields=fields)
    assert (response.status, response.body) == (200, b"<" + body + b">"), caplog.text
