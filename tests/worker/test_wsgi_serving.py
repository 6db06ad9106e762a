"""WSGI over real sockets: what every client and every application may rely on, judged by `wsgiref.validate`."""

import json
import threading
from wsgiref.validate import validator

import pytest

from h2_client import H2Client
from http_client import request
from serving import H2_VARIANTS, VARIANTS, serve

WAYS = [pytest.param(("1.1", variant.values[0]), id=f"1.1-{variant.id}") for variant in VARIANTS] + [
    pytest.param(("2", variant.values[0]), id=f"2-{variant.id}") for variant in H2_VARIANTS
]
pytestmark = pytest.mark.parametrize("way", WAYS)

PLAIN = [("Content-Type", "text/plain")]


class Client:
    """One client of either version of HTTP."""

    def __init__(self, server, way):
        self.is_2 = way[0] == "2"
        self.client = H2Client(server.connect()) if self.is_2 else server.client()

    def get(self, path="/", fields=(), method="GET", body=b""):
        if self.is_2:
            response = self.client.response(self.client.request(method, path, fields, body=body))
        else:
            self.client.send(request(method, path, *(f"{n}: {v}" for n, v in fields), body=body))
            response = self.client.response(method)
        return response

    @staticmethod
    def field(response, name):
        return {n.lower(): v for n, v in response.fields}.get(name)


def serving(app, way, *, threads=4, **options):
    return serve(app, threads=threads, **way[1], **options)


def hello(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "5")])
    return [b"hello"]


def mirror(environ, start_response):
    body = environ["wsgi.input"].read(100)
    shown = {name: value for name, value in environ.items() if isinstance(value, str | bool | int)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**shown, "body": body.decode("latin-1")}).encode()]


def test_a_small_response(way):
    with serving(validator(hello), way) as server:
        client = Client(server, way)
        for _ in range(20):
            response = client.get("/")
            assert (response.status, response.body) == (200, b"hello")
        server.wait_until(lambda: server.context.stats.in_flight == 0)
        assert (server.context.stats.requests, server.context.stats.responses[2]) == (20, 20)


def test_the_environ(way):
    with serving(validator(mirror), way, root_path="/mount") as server:
        fields = [
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("x_twice", "3"),
            ("proxy", "x"),
            ("content-type", "a/b"),
        ]
        response = Client(server, way).get("/a%20b/%C3%A9?x=%201&y", fields, method="POST", body=b"data")
        seen = json.loads(response.body)
        assert seen.pop("REMOTE_PORT").isdigit()
        expected = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "/mount",
            "PATH_INFO": "/a b/\xc3\xa9",
            "QUERY_STRING": "x=%201&y",
            "REQUEST_URI": "/a%20b/%C3%A9?x=%201&y",
            "RAW_URI": "/a%20b/%C3%A9?x=%201&y",
            "SERVER_PROTOCOL": "HTTP/2.0" if way[0] == "2" else "HTTP/1.1",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(server.port),
            "SERVER_SOFTWARE": "asgi-master",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "HTTP_X_TWICE": "1,2",
            "CONTENT_TYPE": "a/b",
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "body": "data",
        }
        if way[0] != "2":
            expected["CONTENT_LENGTH"] = "4"
        assert seen == expected


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3_000_000])
def test_a_body_of_any_size_goes_there_and_back(way, size):
    def echo(environ, start_response):
        start_response("200 OK", PLAIN)
        while data := environ["wsgi.input"].read(50_000):
            yield data

    sent = bytes(range(251)) * (size // 251 + 1)
    with serving(validator(echo), way) as server:
        assert Client(server, way).get("/", method="POST", body=sent[:size]).body == sent[:size]
        server.wait_until(lambda: server.context.stats.in_flight == 0)


def test_each_thread_runs_one_request_at_a_time(way):
    released, entered = threading.Event(), threading.Semaphore(0)

    def wait(environ, start_response):
        entered.release()
        released.wait(10)
        start_response("200 OK", PLAIN)
        return [threading.current_thread().name.encode()]

    with serving(wait, way, threads=2) as server:
        clients = [Client(server, way).client for _ in range(3)]
        for client in clients:
            if way[0] == "2":
                client.request("GET", "/")
            else:
                client.send(request("GET", "/"))
        assert entered.acquire(timeout=10)
        assert entered.acquire(timeout=10)
        server.wait_until(lambda: server.context.stats.in_flight == 3)
        assert not entered.acquire(blocking=False)
        released.set()
        names = {(c.response(1) if way[0] == "2" else c.response()).body for c in clients}
        assert names <= {b"wsgi-0", b"wsgi-1"}


def test_a_failure_is_500_and_logged(way, caplog):
    def fail(environ, start_response):
        raise RuntimeError("broken")

    with serving(fail, way) as server:
        assert Client(server, way).get("/here?x=1").status == 500
        server.wait_until(lambda: server.context.stats.application_errors == 1)
    (record,) = caplog.records
    assert record.getMessage() == "GET /here?x=1: the application raised RuntimeError: broken"
    assert record.exc_info
