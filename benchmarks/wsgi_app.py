"""The WSGI applications that every server serves: a bare callable, and Flask's."""

import time

from flask import Flask, request

_TINY = b"Hello, World!"
_HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(_TINY)))]
WAIT = 0.05
"""Seconds that `/wait` waits, as for a database."""

flask = Flask(__name__)


def bare(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        time.sleep(WAIT)
    start_response("200 OK", _HEADERS)
    return [_TINY]


@flask.get("/")
def hello():
    return "Hello, World!"


@flask.post("/post")
def post():
    return str(len(request.get_data()))


@flask.get("/wait")
def wait():
    time.sleep(WAIT)
    return "Hello, World!"
