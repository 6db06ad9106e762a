"""A WSGI application: who answers, and a request that is held until the test releases it."""

import json
import os
import time
from pathlib import Path


def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        _hold(environ["QUERY_STRING"])
    body = json.dumps({"generation": os.environ["ASGI_MASTER_GENERATION"], "by": "wsgi"}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _hold(name):
    (Path.cwd() / f"{name}.arrived").touch()
    ends = time.monotonic() + 30
    while not (Path.cwd() / f"{name}.released").exists() and time.monotonic() < ends:
        time.sleep(0.01)
