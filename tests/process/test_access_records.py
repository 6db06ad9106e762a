"""The access log where somebody configures logging for it: its records, in every worker, by the real program."""

import json

import pytest

from fleet import SOURCE, Fleet

CONFIG = {
    "formatters": {
        "fields": {
            "format": "%(levelname)s worker=%(worker)s %(method)s %(path)s %(status)s id=%(request_id)s "
            "%(request_headers)s %(response_headers)s %(mark)s"
        }
    },
    "filters": {"mark": {"()": "marking.Mark"}},
    "handlers": {
        "access": {
            "class": "logging.FileHandler",
            "filename": "access.txt",
            "formatter": "fields",
            "filters": ["mark"],
        }
    },
    "loggers": {"asgi_master.access": {"handlers": ["access"], "propagate": False}},
}
MARKING = """
import contextvars
current = contextvars.ContextVar("current", default="-")
class Mark:
    def filter(self, record):
        record.mark = current.get()
        return record.path != "/healthz"
"""
APP = """
from marking import current
async def app(scope, receive, send):
    if scope["type"] == "http":
        current.set("in its context")
        await send({"type": "http.response.start", "status": 503, "headers": [(b"x-cache", b"MISS")]})
        await send({"type": "http.response.body"})
"""


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_log_config_that_names_the_logger_has_the_records(fleet: Fleet, preload: str) -> None:
    fleet.write("logging.json", json.dumps(CONFIG))
    fleet.write("marking.py", MARKING)
    settings = ("--log-config", "logging.json", "--access-log", "--preload", preload, "--lifespan", "off")
    settings += ("--access-log-header", "x-tenant", "--access-log-header", "response:x-cache")
    settings += ("--request-id-header", "x-mine")
    path = {"PYTHONPATH": f"{SOURCE}:{fleet.directory}"}
    fleet.serve_source(APP, *settings, workers=1, env=path)
    with fleet.client() as client:
        client.get("/healthz")
        client.get("/a", headers={"x-tenant": "acme", "x-mine": "7", "x-request-id": "8"})
    fleet.stop()
    assert fleet.output == []
    assert (fleet.directory / "access.txt").read_text().splitlines() == [
        "ERROR worker=0 GET /a 503 id=7 {'x-tenant': 'acme'} {'x-cache': 'MISS'} in its context"
    ]


def test_an_application_that_asks_for_the_logger_has_the_records(fleet: Fleet) -> None:
    source = """
import logging
logging.getLogger("asgi_master.access").addFilter(lambda record: record.path != "/healthz")
"""
    answer = APP.replace("from marking import current", "").replace('current.set("in its context")', "pass")
    fleet.serve_source(source + answer.replace("503", "200"), "--access-log", "--lifespan", "off", workers=1)
    with fleet.client() as client:
        client.get("/healthz")
        client.get("/a")
    fleet.stop()
    assert fleet.output == []
    (line,) = (line for line in fleet.lines if "asgi_master.access: " in line)
    assert " INFO    worker 0 gen 1 " in line
    assert '"GET /a HTTP/1.1" 200 - "-" "' in line
